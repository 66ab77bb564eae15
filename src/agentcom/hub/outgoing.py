"""The one client for what the hub sends to addresses that somebody gave it.

A name is looked up once, and the connection goes to the address that was checked: what the name
leads to a moment later does not matter. No redirect is followed, no proxy is used but the one of
the settings, nothing is decompressed, size and time are bounded. Rules: `core/outgoing.py`.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import httpcore

from agentcom.core import outgoing as rules
from agentcom.core.outgoing import AddressRefused, Allowed, IpAddress, Target
from agentcom.hub.tunnel import Tunnel

TOTAL_S: Final = 10.0
"""For a whole request: look-up, connection, TLS, answer."""
ANSWER_BYTES: Final = 65_536
"""Of an answer; what is longer is cut off."""
_LOOK_UP_S: Final = 5.0
_TIMES: Final = dict.fromkeys(("connect", "read", "write", "pool"), 60.0)
"""Of each step; what counts is the bound of the whole request."""
_HEADERS: Final = {"accept-encoding": "identity", "user-agent": "agentcom"}
_FAILED: Final = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.TimeoutException,
)

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns the addresses of a name."""


class Unreachable(Exception):
    """There was no answer; the message has nothing of the address but its host."""


class Reply(NamedTuple):
    """An answer, as far as anybody reads it."""

    status: int
    body: bytes
    retry_after: str = ""


class Outgoing:
    """Sends requests to checked addresses."""

    def __init__(
        self,
        allow: Sequence[str] = (),
        *,
        certificates: Path | None = None,
        proxy: str = "",
        resolve: Resolve | None = None,
    ) -> None:
        self._allowed: tuple[Allowed, ...] = tuple(map(rules.parse_allowed, allow))
        self._certificates = certificates
        self._tunnel = Tunnel(rules.parse(proxy)) if proxy else None
        self._resolve = resolve or look_up
        self._tls: ssl.SSLContext | None = None

    def set_allowed(self, allowed: Sequence[Allowed]) -> None:
        """Connect from now on to these addresses inside, and to no others there."""
        self._allowed = tuple(allowed)

    @property
    def tls(self) -> ssl.SSLContext:
        """How certificates are checked: by the system's authorities, and the operator's own."""
        if self._tls is None:
            self._tls = ssl.create_default_context()
            if self._certificates is not None:
                self._tls.load_verify_locations(self._certificates)
        return self._tls

    async def checked(self, host: str, port: int, *, secure: bool) -> str:
        """Return the address to connect to for a name.

        Raises:
            AddressRefused: one of its addresses is not to be connected to.
            Unreachable: it has none.
        """
        try:
            async with asyncio.timeout(_LOOK_UP_S):
                texts = await self._resolve(host, port)
        except (OSError, TimeoutError) as error:
            raise Unreachable(f"{host}: the name is not found") from error
        found: list[IpAddress] = [ipaddress.ip_address(text.partition("%")[0]) for text in texts]
        for address in found:
            why = rules.refusal(host, address, port, self._allowed, secure=secure)
            if why is not None:
                raise AddressRefused(
                    f"the hub does not send to {host}: {why}; an operator can allow it in hub.toml:"
                    f' [outgoing] allow = ["{host}:{port}"]'
                )
        if not found:
            raise Unreachable(f"{host}: the name has no address")
        return str(found[0])

    async def post(
        self,
        url: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        total_s: float = TOTAL_S,
        answer_bytes: int = ANSWER_BYTES,
    ) -> Reply:
        """Send a body, and return the answer.

        Raises:
            InvalidInput: the address cannot be used as it is written.
            AddressRefused: it leads where the hub does not send to.
            Unreachable: there was no answer in time.
        """
        target = rules.parse(url)
        try:
            async with asyncio.timeout(total_s):
                address = await self.checked(
                    target.host, target.port, secure=target.scheme == "https"
                )
                return await self._post(target, address, body, headers, answer_bytes)
        except TimeoutError:
            raise Unreachable(f"{target.host}: no answer in time") from None
        except _FAILED as error:
            raise Unreachable(f"{target.host}: {_said(error)}") from None

    async def _post(
        self,
        target: Target,
        address: str,
        body: bytes,
        headers: Mapping[str, str],
        answer_bytes: int,
    ) -> Reply:
        written = f"[{address}]" if ":" in address else address
        host = target.shown.partition("://")[2]
        # Not by a client: that one logs addresses, which are secrets here. A connection of its own
        # for each request: none is used for another name by mistake.
        sent = {**headers, "host": host, **_HEADERS}
        way = None if self._is_inside(target, address) else self._tunnel
        async with (
            httpcore.AsyncConnectionPool(ssl_context=self.tls, network_backend=way) as pool,
            pool.stream(
                "POST",
                f"{target.scheme}://{written}:{target.port}{target.path}",
                content=body,
                headers=[(name.encode(), value.encode()) for name, value in sent.items()],
                extensions={"sni_hostname": target.host, "timeout": _TIMES},
            ) as reply,
        ):
            found = bytearray()
            async for chunk in reply.aiter_stream():
                found += chunk
                if len(found) >= answer_bytes:
                    break
        after = (value for name, value in reply.headers if name.lower() == b"retry-after")
        return Reply(reply.status, bytes(found[:answer_bytes]), next(after, b"").decode("latin-1"))

    def _is_inside(self, target: Target, address: str) -> bool:
        """Return whether a connection is one that the operator allowed: no proxy leads there."""
        place = ipaddress.ip_address(address)
        return any(one.covers(target.host, place, target.port) for one in self._allowed)


async def look_up(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a name, as the system finds them."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(place[4][0]) for place in found]


def _said(error: Exception) -> str:
    """Return what went wrong without an address, which may hold a secret."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted: {cause.verify_message}"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        if isinstance(cause, httpcore.ProxyError):
            return str(cause)
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__
