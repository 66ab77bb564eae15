"""The way to the hub, step by step: who answers there, by which certificate, and to which token."""

import asyncio
import email.utils
import hashlib
import shlex
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx
import msgspec

from agentcom.cli import context
from agentcom.cli.errors import CommandFailed
from agentcom.cli.findings import NONE, OK, Found, bad, odd
from agentcom.client import dialling
from agentcom.client.dialling import Dial
from agentcom.client.http import http_client
from agentcom.client.problems import Problem
from agentcom.model import errors, token_text
from agentcom.protocol.shown import Whoami

REACH_S: Final = 5.0
"""A hub on the other side of the world answers in less."""
SKEW_S: Final = 30.0
"""Times of tokens and schedules are off by as much; leases do not care."""
_PORTS: Final = {"http": 80, "https": 443}
_EXPIRED, _NAME = 10, 62  # OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED, X509_V_ERR_HOSTNAME_MISMATCH
_LISTENS: Final = "0A"


def look() -> list[Found]:
    """Look at the hub of this context; the first thing that is wrong hides what is behind it."""
    try:
        known = context.load()
    except CommandFailed as error:
        if error.label == "no_hub":
            return [odd("hub.unknown", error.message, "agentcom up")]
        if error.label == "not_authenticated":
            return [bad("token.malformed", error.message, error.hint)]
        return [Found(NONE, "see the file with the hubs that are known")]
    steps: tuple[Callable[[context.Context], Found | None], ...] = (
        _answers,
        _certificate,
        _is_hub,
        _lets_in,
        _websocket,
    )
    for step in steps:
        found = step(known)
        if found is not None:
            return [found]
    skew = _clock(known)
    return [Found(OK, known.url)] if skew is None else [skew]


def reached() -> bool:
    """Return whether the hub of this context takes our requests."""
    return look()[0].state == OK


def _answers(known: context.Context) -> Found | None:
    host, port = _place(known.url)
    try:
        socket.create_connection((host, port), timeout=REACH_S).close()
    except OSError as error:
        why = error.strerror or str(error) or type(error).__name__
        what = f"{known.url}: {why}"
        if known.home is not None:
            return bad("hub.unreachable", what, "agentcom up")
        return bad(
            "hub.unreachable", what, "agentcom context ls, and start that hub where it lives"
        )
    return None


def _certificate(known: context.Context) -> Found | None:
    parts = urlsplit(known.url)
    tls = dialling.tls_context(dialling.check_url(known.url, insecure=True), known.fingerprint)
    if tls is None:
        return None
    host, port = _place(known.url)
    quoted = shlex.quote(known.url)
    try:
        with (
            socket.create_connection((host, port), timeout=REACH_S) as plain,
            tls.wrap_socket(plain, server_hostname=host) as secured,
        ):
            shown = secured.getpeercert(binary_form=True) or b""
    except ssl.SSLCertVerificationError as error:
        if error.verify_code == _EXPIRED:
            what = f"the certificate of {parts.netloc} has expired"
            return bad("tls.expired", what, "renew it at the hub, and start the hub anew")
        if error.verify_code == _NAME or "match" in error.verify_message:
            return bad("tls.name", error.verify_message, "agentcom context add https://RIGHT-NAME")
        what = f"{parts.netloc}: {error.verify_message}"
        fix = f"agentcom context add {quoted} --replace --fingerprint {_shown(host, port)}"
        return bad("tls.unknown", f"{what}; compare its SHA-256 first", fix)
    except (OSError, ssl.SSLError) as error:
        what = f"{parts.netloc} speaks no TLS: {error}"
        return bad("hub.other_program", what, _elsewhere(known))
    pinned = known.fingerprint
    if pinned is not None and hashlib.sha256(shown).digest() != dialling.parse_fingerprint(pinned):
        what = f"{parts.netloc} shows another certificate than the one that you joined with"
        return bad("tls.pin", what, "ask who runs the hub; if it is new: agentcom join again")
    return None


def _is_hub(known: context.Context) -> Found | None:
    try:
        response = _get(known, "/readyz", bearer=False)
        document = response.json() if response.content else None
    except (httpx.HTTPError, ValueError):
        document, response = None, None
    told = document if isinstance(document, dict) else {}
    if response is not None and response.status_code == httpx.codes.OK and "detail" in told:
        return None
    if told.get("code") == errors.Unavailable.code:
        return odd("hub.not_ready", f"{known.url} starts or stops", "agentcom status, in a moment")
    who = _who_listens(_place(known.url)[1]) if _is_here(known) else ""
    what = f"{known.url} is answered by {who or 'a program'} that is no hub"
    return bad("hub.other_program", what, _elsewhere(known))


def _lets_in(known: context.Context) -> Found | None:
    if token_text.parse(known.token) is None:
        return bad("token.malformed", "the token was not copied whole", _another(known))
    try:
        response = _get(known, "/api/v1/whoami")
    except httpx.HTTPError as error:
        return bad("hub.unreachable", f"{known.url}: {error}", "agentcom status")
    if response.status_code == httpx.codes.OK:
        msgspec.json.decode(response.content, type=Whoami)
        return None
    problem = msgspec.json.decode(response.content, type=Problem)
    if "expired" in problem.detail:
        return bad("token.over", problem.detail, _another(known))
    if problem.code == errors.NotAuthenticated.code:
        what = f"{known.url} does not know this token; it may be that of another hub"
        return bad("token.unknown", what, _another(known))
    return bad("hub.unreachable", f"{known.url}: {problem.detail}", "agentcom status")


def _websocket(known: context.Context) -> Found | None:
    async def dial() -> None:
        connection = await dialling.dial(
            Dial(url=known.url, token=known.token, fingerprint=known.fingerprint)
        )
        await connection.close()

    try:
        asyncio.run(dial())
    except errors.AgentComError as error:
        what = f"requests pass, a WebSocket does not: {error.message}"
        host = urlsplit(known.url).hostname
        fix = f"export NO_PROXY={host}, or let the proxy pass `Upgrade: websocket`"
        return bad("websocket.blocked", what, fix)
    return None


def _clock(known: context.Context) -> Found | None:
    before = time.time()
    response = _get(known, "/healthz", bearer=False)
    date = email.utils.parsedate_tz(response.headers.get("date", ""))
    if date is None:
        return None
    told = email.utils.mktime_tz(date)
    apart = (before + time.time()) / 2 - told
    if abs(apart) <= SKEW_S:
        return None
    which = "ahead of" if apart > 0 else "behind"
    what = f"this clock is {abs(apart):.0f} s {which} the hub's"
    return odd("clock.skew", what, "timedatectl set-ntp true")


def _get(known: context.Context, path: str, *, bearer: bool = True) -> httpx.Response:
    async def ask() -> httpx.Response:
        asked = Dial(url=known.url, token=known.token, fingerprint=known.fingerprint, insecure=True)
        async with http_client(asked) as client:
            if not bearer:
                client.headers.pop("Authorization")
            return await client.get(path, timeout=REACH_S)

    return asyncio.run(ask())


def _place(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)


def _is_here(known: context.Context) -> bool:
    return dialling.is_loopback(urlsplit(known.url).hostname)


def _elsewhere(known: context.Context) -> str:
    """Return what to do if the address is another program's."""
    if known.home is None:
        return "agentcom context ls, and use the right address: agentcom context use URL"
    return "agentcom down && agentcom up --port 0"


def _another(known: context.Context) -> str:
    """Return how to get a token that works."""
    if known.home is not None:
        return "agentcom down && agentcom hub admin-token && agentcom up"
    return "agentcom join with the line that `agentcom user invite NAME` prints at the hub"


def _shown(host: str, port: int) -> str:
    pem = ssl.get_server_certificate((host, port), timeout=REACH_S)
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


def _who_listens(port: int) -> str:
    """Return the program that listens on a port here, as far as the system tells (Linux)."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text("ascii").splitlines()[1:]
        except OSError:
            return ""
        for fields in map(str.split, lines):
            if fields[3] == _LISTENS and int(fields[1].rpartition(":")[2], 16) == port:
                return _owner(f"socket:[{fields[9]}]")
    return ""


def _owner(link: str) -> str:
    for handle in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if str(handle.readlink()) == link:
                pid = handle.parts[2]
                return f"{Path('/proc', pid, 'comm').read_text().strip()} (pid {pid})"
        except OSError:
            continue
    return ""
