"""One request of an agent, on its way to the hub and back.

What goes on is listed here: paths, methods and headers. An agent's own words never become a
header that says who it is.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any, ClassVar, Final

import httpx
import msgspec

from agentcom.client.problems import Problem
from agentcom.model import errors

BODY_BYTES_MAX: Final = 1 << 20
"""As the hub itself takes."""
ANSWER_BYTES_MAX: Final = 8 << 20
"""Of an answer that is no stream; a page of the largest messages has 6.5 MB."""
ANSWER_S_MAX: Final = 60.0
"""Longer than any call waits; a stream may be silent for as long as its attempt lives."""
CONNECT_S_MAX: Final = 10.0

_PATHS: Final = (
    (re.compile(r"/mcp"), frozenset({"GET", "POST", "DELETE"})),
    (re.compile(r"/api/v1/calls/[a-z_]{1,64}"), frozenset({"POST"})),
    (re.compile(r"/api/v1/blobs"), frozenset({"POST"})),
    (re.compile(r"/api/v1/blobs/[0-9a-f]{64}"), frozenset({"GET"})),
)
_ASKED: Final = frozenset(
    {"accept", "content-type", "idempotency-key", "last-event-id", "traceparent", "x-request-id"}
)
_TOLD: Final = frozenset(
    {"cache-control", "content-disposition", "content-type", "retry-after", "x-request-id"}
)
_MCP: Final = "mcp-"
_STREAM: Final = "text/event-stream"

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class NotForwarded(errors.AgentComError):
    """Only calls, files and MCP go from an agent to the hub."""

    code: ClassVar[str] = "not_found"
    status: ClassVar[int] = 404


class Answer:
    """The answer to one request; it begins once and is ended once."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.begun = False
        self._ended = False

    async def begin(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        """Send status and headers."""
        self.begun = True
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})

    async def add(self, part: bytes) -> None:
        """Send a part of the body."""
        await self._send({"type": "http.response.body", "body": part, "more_body": True})

    async def end(self, rest: bytes = b"") -> None:
        """Send the rest of the body."""
        if not self._ended:
            self._ended = True
            await self._send({"type": "http.response.body", "body": rest, "more_body": False})

    async def whole(self, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> None:
        """Send everything at once."""
        await self.begin(status, [*headers, ("content-length", str(len(body)))])
        await self.end(body)

    async def refuse(self, error: errors.AgentComError) -> None:
        """Say no, as the hub does; an answer that has begun only ends."""
        if self.begun:
            await self.end()
            return
        later = error.retry_after_ms if isinstance(error, errors.RateLimited) else None
        problem = Problem(
            title=type(error).__name__,
            status=error.status,
            detail=error.message,
            code=error.code,
            retry_after=None if later is None else -(-later // 1_000),
        )
        headers = [("content-type", "application/problem+json")]
        await self.whole(error.status, headers, msgspec.json.encode(problem))


async def body_of(receive: Receive) -> bytes:
    """Return the body of a request.

    Raises:
        TooLarge: it is over the limit.
    """
    body = bytearray()
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            return bytes(body)
        body += event.get("body", b"")
        if len(body) > BODY_BYTES_MAX:
            raise errors.TooLarge(f"at most {BODY_BYTES_MAX} bytes")
        if not event.get("more_body", False):
            return bytes(body)


def target(scope: Scope) -> str:
    """Return where at the hub a request goes.

    Raises:
        NotForwarded: nowhere.
    """
    path, method = str(scope["path"]), str(scope["method"])
    if not any(each.fullmatch(path) and method in methods for each, methods in _PATHS):
        raise NotForwarded("only calls, files and MCP go from an agent to the hub")
    query = bytes(scope["query_string"]).decode("latin-1")
    return f"{path}?{query}" if query else path


async def forward(
    hub: httpx.AsyncClient,
    scope: Scope,
    body: bytes,
    answer: Answer,
    *,
    headers: Mapping[str, str],
) -> None:
    """Bring a request to the hub, with `headers` that say whose it is, and its answer back.

    Raises:
        Unavailable: there is no hub, or its answer broke off before it was begun here.
        Timeout: the hub does not answer in time.
    """
    url = target(scope)
    silent = None if url.startswith("/mcp") else ANSWER_S_MAX
    try:
        async with hub.stream(
            str(scope["method"]),
            url,
            content=body,
            headers={**_kept(scope), "accept-encoding": "identity", **headers},
            timeout=httpx.Timeout(ANSWER_S_MAX, connect=CONNECT_S_MAX, read=silent),
        ) as response:
            await _bring_back(response, answer)
    except httpx.ReadTimeout:
        raise errors.Timeout("the hub did not answer in time; ask again") from None
    except httpx.TransportError as error:
        reason = str(error) or type(error).__name__
        raise errors.Unavailable(f"this machine cannot reach its hub: {reason}") from error


async def _bring_back(response: httpx.Response, answer: Answer) -> None:
    headers = [pair for pair in response.headers.items() if _passes(pair[0], _TOLD)]
    if response.headers.get("content-type", "").startswith(_STREAM):
        await answer.begin(response.status_code, headers)
        async for part in response.aiter_bytes():
            await answer.add(part)
        await answer.end()
        return
    whole = bytearray()
    async for part in response.aiter_bytes():
        whole += part
        if len(whole) > ANSWER_BYTES_MAX:
            raise errors.TooLarge(f"the hub's answer has over {ANSWER_BYTES_MAX} bytes: ask less")
    await answer.whole(response.status_code, headers, bytes(whole))


def _kept(scope: Scope) -> dict[str, str]:
    pairs = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
    return {name: value for name, value in pairs if _passes(name, _ASKED)}


def _passes(name: str, allowed: frozenset[str]) -> bool:
    return name in allowed or name.startswith(_MCP)
