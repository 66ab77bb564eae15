"""Where the agents of this machine reach the hub: HTTP on loopback, with a token per attempt.

An agent never holds the machine's own token. Its requests go on with that token and with the name
of its attempt, so the hub answers the agent and nobody else. A token ends with its attempt; a
sidecar that starts again takes the same port and the same tokens, since its agents have gone on.
"""

import asyncio
import contextlib
import hashlib
import os
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import httpx
import msgspec
import structlog
from uvicorn.config import Config as ServerConfig
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from agentcom.client.dialling import Dial
from agentcom.client.http import API, http_client
from agentcom.client.problems import error_of_response
from agentcom.model import errors
from agentcom.protocol import caller
from agentcom.protocol.calls import Call, name_of
from agentcom.sidecar import forwarding, repositories
from agentcom.sidecar.config import Config
from agentcom.sidecar.forwarding import Answer, Receive, Scope, Send
from agentcom.sidecar.lifetime import cancel
from agentcom.sidecar.machine_values import Key
from agentcom.sidecar.runtime.base import Access

HOST: Final = "127.0.0.1"
PATH: Final = "/mcp"
REQUESTS_MAX: Final = 16
"""Of one attempt at once: an MCP client keeps one stream open and makes a few calls."""
CONNECTIONS_MAX: Final = 1_024
"""Of all agents of this machine."""
TOOLS_S_MAX: Final = 20.0
"""A hub that just started takes some seconds for its first answer by MCP."""
END_S_MAX: Final = 1.0
"""For requests that are told of the end; who does not read it is cut off."""
_PING: Final = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
_MCP_HEADERS: Final = {
    "accept": "application/json, text/event-stream",
    "content-type": "application/json",
    "mcp-protocol-version": "2025-06-18",
}
_BUSY_MS: Final = 1_000
_TOKEN: Final = "hub.token"  # noqa: S105 - the name of a file
_TOKEN_BYTES: Final = 32
_TOKEN_CHARS: Final = 43  # of so many bytes
_PORT_MAX: Final = 65_535
_BEARER: Final = b"bearer "

T = TypeVar("T")

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Caller:
    """An attempt that may call now."""

    key: Key
    running: set[asyncio.Task[None]] = field(default_factory=set)


class Endpoint:
    """The one server of a sidecar."""

    def __init__(self, config: Config) -> None:
        machine = config.machine
        self._home = config.home
        self._dial = Dial(
            url=machine.hub,
            token=config.token,
            fingerprint=machine.fingerprint,
            insecure=machine.insecure,
        )
        self._hub: httpx.AsyncClient | None = None
        self._port = 0
        self._callers: dict[bytes, _Caller] = {}

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Serve while the context lasts."""
        state = ServerState()
        config = ServerConfig(
            cast("Any", self._app),
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=CONNECTIONS_MAX,
        )
        config.load()
        async with http_client(self._dial, connections_max=None) as self._hub:
            server = await self._listen(lambda: _Connection(config, state, {}))
            try:
                yield
            finally:
                server.close()
                for known in self._callers.values():
                    await cancel(known.running)
                if state.tasks:  # they say why they end
                    await asyncio.wait(state.tasks, timeout=END_S_MAX)
                for connection in list(state.connections):
                    connection.transport.abort()
                await cancel(state.tasks)

    @contextlib.asynccontextmanager
    async def serving(self, key: Key, folder: Path) -> AsyncIterator[Access]:
        """Let the agent of an attempt call while the context lasts; `folder` keeps its token."""
        token = await asyncio.to_thread(_token_of, folder)
        place = _digest(token.encode())
        known = _Caller(key)
        self._callers.setdefault(place, known)
        try:
            yield Access(
                url=f"http://{HOST}:{self._port}{PATH}",
                token=token,
                file=str(folder / _TOKEN),
            )
        finally:
            if self._callers.get(place) is known:
                del self._callers[place]
            for request in known.running:
                request.cancel()

    async def has_tools(self, key: Key) -> bool:
        """Ask the hub whether it speaks MCP; a hub that was just started gets ready by that."""
        assert self._hub is not None
        headers = {**_MCP_HEADERS, **caller.headers(key.task, key.fence)}
        try:
            answer = await self._hub.post(PATH, content=_PING, headers=headers, timeout=TOOLS_S_MAX)
        except httpx.HTTPError as error:
            log.info("endpoint.no_tools", reason=str(error) or type(error).__name__)
            return False
        return answer.is_success

    async def do(self, key: Key, call: Call, kind: type[T], request: str | None = None) -> T:
        """Make a call in the name of an attempt's agent and return its answer, a `kind`.

        Raises:
            Unavailable: there is no hub now.
            AgentComError: what the hub refused it with.
        """
        assert self._hub is not None
        headers = caller.headers(key.task, key.fence)
        if request is not None:
            headers["idempotency-key"] = request
        url, content = f"{API}/calls/{name_of(type(call))}", msgspec.json.encode(call)
        headers["content-type"] = "application/json"
        try:
            answer = await self._hub.post(
                url, content=content, headers=headers, timeout=forwarding.ANSWER_S_MAX
            )
        except httpx.HTTPError as error:
            raise errors.Unavailable(str(error) or type(error).__name__) from error
        if not answer.is_success:
            raise error_of_response(answer.status_code, answer.content)
        return msgspec.json.decode(answer.content, type=kind)

    async def _listen(self, connection: Any) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        path = self._home.endpoint
        before = await asyncio.to_thread(_port_in, path)
        try:
            server = await loop.create_server(connection, HOST, before)
        except OSError as error:  # others took the port meanwhile
            log.warning("endpoint.moved", port=before, reason=str(error))
            server = await loop.create_server(connection, HOST, 0)
        self._port = int(server.sockets[0].getsockname()[1])
        await asyncio.to_thread(repositories.write, path, f"{self._port}\n")
        return server

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = Answer(send)
        try:
            known = self._caller(scope)
            forwarding.target(scope)
            if len(known.running) >= REQUESTS_MAX:
                raise errors.RateLimited(f"at most {REQUESTS_MAX} requests at once", _BUSY_MS)
            await self._forward(known, scope, receive, answer)
        except errors.AgentComError as error:
            await answer.refuse(error)

    def _caller(self, scope: Scope) -> _Caller:
        for name, value in scope["headers"]:
            if name == b"authorization" and value[: len(_BEARER)].lower() == _BEARER:
                known = self._callers.get(_digest(value[len(_BEARER) :].strip()))
                if known is not None:
                    return known
        raise errors.NotAuthenticated("this token is of no attempt that runs here now")

    async def _forward(
        self, known: _Caller, scope: Scope, receive: Receive, answer: Answer
    ) -> None:
        headers = caller.headers(known.key.task, known.key.fence)
        request = asyncio.create_task(self._request(scope, receive, answer, headers))
        known.running.add(request)
        try:
            await asyncio.wait([request])
        finally:
            known.running.discard(request)
            await cancel([request])
        if request.cancelled():
            raise errors.NotAuthenticated("this attempt is over")
        request.result()

    async def _request(
        self, scope: Scope, receive: Receive, answer: Answer, headers: dict[str, str]
    ) -> None:
        """Forward a request, unless whoever made it goes away meanwhile."""
        assert self._hub is not None
        body = await forwarding.body_of(receive)
        forwarded = asyncio.create_task(
            forwarding.forward(self._hub, scope, body, answer, headers=headers)
        )
        gone = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait({forwarded, gone}, return_when=asyncio.FIRST_COMPLETED)
            if forwarded.done():
                forwarded.result()
        finally:
            await cancel([forwarded, gone])


class _Connection(HttpToolsProtocol):
    """uvicorn's HTTP connection; it writes no log of its requests."""

    def __init__(self, config: ServerConfig, state: ServerState, app_state: dict[str, Any]) -> None:
        super().__init__(config, state, app_state)
        self.access_log = False


def _token_of(folder: Path) -> str:
    """Return the token of the attempt in `folder`; it is drawn when it is first asked for."""
    path = folder / _TOKEN
    with contextlib.suppress(OSError, ValueError):
        # The folder is the agent's to write to: what it put there is neither followed nor read far.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            kept = file.read(_TOKEN_CHARS + 1).decode("ascii")
            if len(kept) == _TOKEN_CHARS:
                return kept
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(token)
    return token


def _port_in(path: Path) -> int:
    """Return the port that was used before; 0: any."""
    try:
        port = int(path.read_text("ascii"))
    except (OSError, ValueError):
        return 0
    return port if 0 < port <= _PORT_MAX else 0


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
