"""What every request is checked for before a route sees it, on sockets and HTTP alike.

The host allow-list is the shield of a local hub against DNS rebinding, the origin rule against
foreign web pages. `Guard` is the ASGI side and also bounds request bodies.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Final

from agentcom.model.errors import AgentComError, MalformedInput, RateLimited, TooLarge
from agentcom.transport.forwarded import Network, client_of
from agentcom.transport.problem import Refusal, refusal
from agentcom.transport.socket import Head, PortLimits

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_TOKEN_FIELDS: Final = (b"token=", b"access_token=")
_MIB: Final = 1_048_576


class WrongHost(AgentComError):
    """The Host header names another server; add the name to the hub's host names if it is ours."""

    code = "wrong_host"
    status = 421


class WrongOrigin(AgentComError):
    """A web page from elsewhere may not call this hub; list its origin if it is yours."""

    code = "wrong_origin"
    status = 403


class TokenInQuery(AgentComError):
    """Tokens belong in the Authorization header: addresses end up in logs. Rotate this one."""

    code = "token_in_query"


class HeadTooLarge(AgentComError):
    """The request's headers are over the limit; a cookie is the usual cause."""

    code = "head_too_large"
    status = 431


class BodyTooSlow(AgentComError):
    """The request's body did not arrive in time; send it again."""

    code = "body_too_slow"
    status = 408
    retryable = True


class BodyTooLarge(TooLarge):
    """The request's body is over the limit of this path; send it in parts or as an artefact."""


class TooManyConnections(RateLimited):
    """Too many connections without a token; close some, or send the bearer with the upgrade."""

    code = "too_many_connections"

    def __init__(self) -> None:
        super().__init__(str(self.__doc__), retry_after_ms=1_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Which names and pages may reach the port, beside the loopback names."""

    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()
    proxies: tuple[Network, ...] = ()
    """Who is believed about the address of a client."""
    body_bytes_max_by_prefix: Mapping[str, int] = field(default_factory=dict)
    """Paths that take more than the common limit, such as artefact uploads."""


def check_head(head: Head, rules: Rules, *, origin: bool) -> None:
    """Raise unless `head` keeps the rules; `origin` says whether its origin matters."""
    check_query(head)
    check_host(head, rules.hosts)
    if origin:
        check_origin(head, rules.origins)


def check_host(head: Head, allowed: Collection[str]) -> None:
    """Raise `WrongHost` unless the Host header is a loopback name or one of `allowed`."""
    values = head.header_all(b"host")
    if len(values) != 1:
        raise MalformedInput("a request has exactly one Host header")
    name = _host_name(values[0].decode("latin-1"))
    if name not in LOOPBACK_NAMES and name not in allowed:
        raise WrongHost


def check_origin(head: Head, allowed: Collection[str]) -> None:
    """Raise `WrongOrigin` unless the page that asks is our own or one of `allowed`.

    Programs send no Origin. Without one, a cookie alone proves nothing, so it needs a bearer.
    """
    origin = head.header(b"origin")
    if origin is None:
        if head.header(b"cookie") is not None and head.bearer is None:
            raise WrongOrigin("a request with a cookie needs its Origin, or a bearer token")
        return
    host = (head.header(b"host") or b"").decode("latin-1").lower()
    own = f"{'https' if head.secure else 'http'}://{host}"
    text = origin.decode("latin-1").lower()
    if text != own and text not in allowed:
        raise WrongOrigin


def check_query(head: Head) -> None:
    """Raise `TokenInQuery` if the query carries a token; its value is never repeated."""
    if not head.query:
        return
    for part in head.query.lower().replace(b"%5f", b"_").split(b"&"):
        if part.startswith(_TOKEN_FIELDS):
            raise TokenInQuery


class Guard:
    """ASGI middleware: the rules for heads, and bounds on the size and time of bodies."""

    def __init__(self, app: App, rules: Rules, limits: PortLimits) -> None:
        self._app = app
        self.rules = rules
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what breaks a rule; pass on the rest."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self.rules.proxies:
            _see_through(scope, self.rules.proxies)
        head = head_of(scope)
        try:
            check_head(head, self.rules, origin=head.method not in _SAFE_METHODS)
            body = self._body(scope, head, receive)
        except AgentComError as error:
            await send_refusal(send, refusal(error))
            return
        if body is None:
            await self._app(scope, receive, send)
        else:
            await self._bounded(scope, body, send)

    def _body(self, scope: Scope, head: Head, receive: Receive) -> "_Body | None":
        length = head.header(b"content-length")
        if length is None and head.header(b"transfer-encoding") is None:
            return None
        maximum = self._bytes_max(scope["path"])
        if length is not None and int(length) > maximum:
            raise BodyTooLarge
        return _Body(receive, maximum, self._limits.body_ms * max(1, maximum // _MIB))

    async def _bounded(self, scope: Scope, body: "_Body", send: Send) -> None:
        started = False

        async def tracked(message: MutableMapping[str, Any]) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, body.receive, tracked)
        except (BodyTooLarge, BodyTooSlow) as error:
            if started:
                raise
            await send_refusal(send, refusal(error))

    def _bytes_max(self, path: str) -> int:
        for prefix, maximum in self.rules.body_bytes_max_by_prefix.items():
            if path.startswith(prefix):
                return maximum
        return self._limits.body_bytes_max


async def send_refusal(send: Send, answer: Refusal) -> None:
    """Send a refusal as an ASGI response."""
    start = {"type": "http.response.start", "status": answer.status, "headers": [*answer.headers]}
    await send(start)
    await send({"type": "http.response.body", "body": answer.body})


def head_of(scope: Scope) -> Head:
    """Return the head of an ASGI request."""
    client = scope.get("client")
    return Head(
        method=scope["method"],
        path=scope["raw_path"],
        query=scope["query_string"],
        headers=scope["headers"],
        peer=client[0] if client else "",
        secure=scope["scheme"] == "https",
    )


def _see_through(scope: Scope, proxies: tuple[Network, ...]) -> None:
    """Put the client in the place of the proxy that it came by."""
    peer = scope["client"][0] if scope.get("client") else ""
    found = client_of(proxies, peer, scope["headers"], secure=scope["scheme"] == "https")
    scope["client"] = (found.address, 0)
    scope["scheme"] = "https" if found.secure else "http"


class _Body:
    """An ASGI receive that ends a body which is too long or too slow."""

    def __init__(self, receive: Receive, bytes_max: int, deadline_ms: int) -> None:
        self._receive = receive
        self._room = bytes_max
        self._deadline_ms = deadline_ms
        self._until: float | None = None
        self._whole = False

    async def receive(self) -> MutableMapping[str, Any]:
        """Return the next event of the request."""
        if self._whole:
            return await self._receive()
        if self._until is None:
            self._until = asyncio.get_running_loop().time() + self._deadline_ms / 1000
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            raise BodyTooSlow from None
        self._room -= len(message.get("body", b""))
        if self._room < 0:
            raise BodyTooLarge
        self._whole = not message.get("more_body", False)
        return message


def _host_name(host: str) -> str:
    name, colon, port = host.strip().lower().rpartition(":")
    if not colon or not port.isdigit():
        name = host.strip().lower()
    return name.removesuffix(".")
