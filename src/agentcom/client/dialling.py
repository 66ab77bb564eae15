"""Dialling a hub: its address, its pinned certificate, and what a refused upgrade means.

One way for every client: the machine's link, the Python client, and calls over HTTP.
"""

import hashlib
import hmac
import ipaddress
import ssl
from typing import ClassVar, Final, Literal
from urllib.parse import urlsplit

import msgspec
from websockets import Subprotocol
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from agentcom.client.keepalive import keep_alive
from agentcom.client.problems import Problem, error_of_response
from agentcom.model import errors, limits
from agentcom.model.numerals import whole
from agentcom.protocol import frames

OPEN_TIMEOUT_S: Final = 10.0
"""TCP, TLS and upgrade together; beyond it the next attempt has better odds."""
CLOSE_TIMEOUT_S: Final = 2.0
"""How long the hub may take to answer our goodbye."""
FRAMES_MAX: Final = 128
"""Frames that may wait to be read, before the hub is made to wait."""
_TRY_LATER: Final = frozenset({429, 503})
_FINAL: Final = frozenset({errors.NotAuthenticated.code, errors.NotAllowed.code})
_SECONDS_MAX: Final = 86_400  # a day


class NotReached(errors.AgentComError):
    """The hub did not take the connection; it is tried again."""

    code: ClassVar[str] = "unavailable"
    status: ClassVar[int] = 503
    retryable: ClassVar[bool] = True

    def __init__(self, message: str, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


class Dial(msgspec.Struct, frozen=True, kw_only=True):
    """Where the hub is, and how to get in."""

    url: str
    token: str
    fingerprint: str | None = None
    insecure: bool = False
    proxy: str | bool = True
    """True: as the environment says; False: none; else the proxy's address."""
    software: str = "agentcom"
    keepalive_s: float | None = None
    """How long the line may be silent before the hub is asked whether it is there, and how long
    its answer may take; None: never, for who has heartbeats."""


async def dial(asked: Dial) -> ClientConnection:
    """Open a WebSocket to the hub; a proxy is never used for this computer's own addresses.

    Raises:
        NotReached: there is no hub, it wants us later, or something before it said no.
        NotAuthenticated: the hub itself does not know the token.
        NotAllowed: the hub itself does not let this token in.
        InvalidInput: the address is none, or would send the token in clear.
    """
    url = check_url(asked.url, insecure=asked.insecure)
    try:
        connection = await _Connect(
            url,
            ssl=tls_context(url, asked.fingerprint),
            proxy=_proxy(url, asked.proxy),
            subprotocols=[Subprotocol(frames.SUBPROTOCOL)],
            additional_headers={"Authorization": f"Bearer {asked.token}"},
            user_agent_header=asked.software,
            compression=None,
            max_size=limits.FRAME_BYTES,
            max_queue=FRAMES_MAX,
            ping_interval=asked.keepalive_s,
            ping_timeout=asked.keepalive_s,
            open_timeout=OPEN_TIMEOUT_S,
            close_timeout=CLOSE_TIMEOUT_S,
        )
        keep_alive(connection.transport.get_extra_info("socket"))
    except InvalidStatus as error:
        response = error.response
        after = response.headers.get("Retry-After", "")
        body = bytes(response.body or b"")
        raise refusal(url, response.status_code, body, after) from None
    except (OSError, TimeoutError, WebSocketException, EOFError) as error:
        raise unreached(url, error) from error
    return connection


def unreached(url: str, error: Exception) -> NotReached:
    """Return what to say of a hub that cannot be talked to."""
    reason = str(error) or type(error).__name__
    if _STRANGE in reason:
        reason = (
            "nobody here vouches for its certificate; name the authority's own by SSL_CERT_FILE,"
            " or join by a code"
        )
    return NotReached(f"cannot reach the hub at {url}: {reason}")


_STRANGE: Final = "CERTIFICATE_VERIFY_FAILED"


class _Connect(connect):
    def process_redirect(self, exc: Exception) -> Exception | str:
        # A redirect would carry the token to wherever it points.
        return exc


class _PinnedObject(ssl.SSLObject):
    """Compares the peer's certificate at the end of the handshake, before a byte is sent."""

    fingerprint: ClassVar[bytes]

    def do_handshake(self) -> None:
        super().do_handshake()
        certificate = self.getpeercert(binary_form=True) or b""
        if not hmac.compare_digest(hashlib.sha256(certificate).digest(), self.fingerprint):
            raise ssl.SSLCertVerificationError(
                "the hub's certificate is not the one that the join code named"
            )


def check_url(url: str, *, insecure: bool = False) -> str:
    """Return `url` as a WebSocket address with the path of the hub's door.

    Raises:
        InvalidInput: another scheme, no host, credentials, or clear text off this computer.
    """
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    if scheme not in ("ws", "wss") or not parts.hostname or "@" in parts.netloc:
        raise errors.InvalidInput("hub", "use https://HOST[:PORT] or http://127.0.0.1[:PORT]")
    if scheme == "ws" and not insecure and not is_loopback(parts.hostname):
        raise errors.InvalidInput("hub", "off this computer the token needs https")
    path = parts.path if parts.path not in ("", "/") else "/ws"
    return f"{scheme}://{parts.netloc}{path}"


def parse_fingerprint(text: str) -> bytes:
    """Return the 32 bytes of a SHA-256 in hexadecimal, with or without colons and `sha256:`.

    Raises:
        InvalidInput: it is no SHA-256.
    """
    try:
        digest = bytes.fromhex(text.removeprefix("sha256:").replace(":", ""))
    except ValueError:
        digest = b""
    if len(digest) != hashlib.sha256().digest_size:
        raise errors.InvalidInput("fingerprint", "it must be a SHA-256 in hexadecimal")
    return digest


def is_loopback(host: str | None) -> bool:
    """Return whether a host is this computer itself."""
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return host == "localhost"


def tls_context(url: str, fingerprint: str | None) -> ssl.SSLContext | None:
    """Return how to speak TLS with `url`, pinned if there is a fingerprint; None: in clear."""
    if not url.startswith("wss:"):
        return None
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if fingerprint is None:
        return context
    # The pin is stricter than any name or authority, so neither is asked.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    digest = parse_fingerprint(fingerprint)
    context.sslobject_class = type("PinnedObject", (_PinnedObject,), {"fingerprint": digest})
    return context


def refusal(url: str, status: int, body: bytes, retry_after: str = "") -> errors.AgentComError:
    """Return what a refused upgrade means.

    Only the hub's own word is final, and it comes as a problem document with its code: a proxy, a
    firewall or a starting load balancer says 401 and 403 too, and means nothing by it.
    """
    error = error_of_response(status, body)
    if _code(body) == error.code in _FINAL:
        return error
    after_ms = error.retry_after_ms if isinstance(error, errors.RateLimited) else None
    if after_ms is None and status in _TRY_LATER:
        after_ms = _seconds_ms(retry_after)
    return NotReached(f"{url} answered {status}: {error.message}", after_ms)


def _code(body: bytes) -> str | None:
    try:
        return msgspec.json.decode(body, type=Problem).code
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _seconds_ms(text: str) -> int | None:
    seconds = whole(text, _SECONDS_MAX)
    return None if seconds is None else seconds * 1_000


def _proxy(url: str, asked: str | bool) -> Literal[True] | str | None:
    if asked is False or (asked is True and is_loopback(urlsplit(url).hostname)):
        return None  # a proxy elsewhere cannot reach this computer's loopback
    return asked
