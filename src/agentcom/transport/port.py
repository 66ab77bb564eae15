"""One port for all doors: HTTP and the agents' WebSockets, plain or TLS.

`Port` listens, keeps the list of open sockets, and stops in order. What happens on one connection
is in `door.py`, on one socket in `socket_picows.py`, what every request is checked for in
`guard.py`. It installs no signal handlers and writes no access log: both belong to the caller.
"""

import asyncio
import importlib
import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from uvicorn.config import Config
from uvicorn.server import ServerState

from agentcom.client.keepalive import keep_alive
from agentcom.model.errors import AgentComError
from agentcom.transport.census import Admission, Census
from agentcom.transport.door import Door, House
from agentcom.transport.guard import App, Guard, Rules
from agentcom.transport.socket import CLOSE_RESTART, Head, OpenSocket, PortLimits, Route, Socket

BACKLOG: Final = 2_048  # connections that the kernel holds while a whole fleet reconnects
FORCED_STOP_MS: Final = 1_000  # for cancelled requests, after the grace is over


class PortUnavailable(AgentComError):
    """The address cannot be listened on."""

    code = "port_unavailable"
    status = 500


def best_socket() -> OpenSocket:
    """Return the fastest socket codec that is installed."""
    try:
        module = importlib.import_module("agentcom.transport.socket_picows")
    except ImportError:  # no wheel for this platform
        module = importlib.import_module("agentcom.transport.socket_fallback")
    return cast("OpenSocket", module.open_socket)


def _nobody(_head: Head) -> bool:
    return False


class Port:
    """Listens on one address for an ASGI app and for socket routes."""

    def __init__(
        self,
        app: App,
        routes: Mapping[bytes, Route],
        *,
        limits: PortLimits | None = None,
        tls: ssl.SSLContext | None = None,
        rules: Rules | None = None,
        is_trusted: Callable[[Head], bool] = _nobody,
        open_socket: OpenSocket | None = None,
        arriving: Callable[[], None] = lambda: None,
    ) -> None:
        """`arriving` is called with each connection, before anything is read or encrypted."""
        self.stopping = asyncio.Event()
        """Set when the port stops: endless responses end then."""
        limits = limits or PortLimits()
        rules = rules or Rules()
        self._tls = tls
        self._arriving = arriving
        self._limits = limits
        self._server: asyncio.AbstractServer | None = None
        self._empty = asyncio.Event()
        self._state = ServerState()
        self._census = Census(limits)
        self._sockets: dict[Socket, _Ticket | None] = {}
        self._guard = Guard(app, rules, limits)
        self._house = House(
            config=_config(self._guard),
            state=self._state,
            limits=limits,
            rules=rules,
            census=self._census,
            routes=routes,
            is_trusted=is_trusted,
            open_socket=open_socket or best_socket(),
            registry=self,
            stopping=self.stopping,
            left=self._left,
        )

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the port number that was bound.

        Raises:
            PortUnavailable: the address is in use, foreign, or not allowed.
        """
        listen = _listener(self._tls)
        options: dict[str, Any] = {}
        if self._tls is not None:
            options = {"ssl": self._tls, "ssl_handshake_timeout": self._limits.head_ms / 1000}
        try:
            server = await listen(self._door, host, port, backlog=BACKLOG, **options)
        except OSError as error:
            reason = error.strerror or str(error)
            message = f"cannot listen on {host} port {port}: {reason}; choose another with --port"
            raise PortUnavailable(message) from error
        self._server = server
        for listening in server.sockets:
            keep_alive(listening)
        return int(server.sockets[0].getsockname()[1])

    async def stop(self, grace_s: float) -> None:
        """Stop accepting, let requests finish for at most `grace_s`, close every socket (1012)."""
        self.stopping.set()
        if self._server is not None:
            self._server.close()
        for door in list(self._state.connections):
            door.shutdown()
        for socket in list(self._sockets):
            socket.close(CLOSE_RESTART, "the hub restarts")
        self._left()
        try:
            async with asyncio.timeout(grace_s):
                await self._empty.wait()
        except TimeoutError:
            await self._force()

    def set_rules(self, rules: Rules) -> None:
        """Check requests from now on by other rules; open sockets stay."""
        self._guard.rules = self._house.rules = rules

    @property
    def socket_count(self) -> int:
        """How many sockets are open."""
        return len(self._sockets)

    @property
    def stranger_count(self) -> int:
        """How many connections have shown no good bearer, within the caps."""
        return self._census.counted

    def opened(self, socket: Socket, *, peer: str, trusted: bool) -> None:
        """Take note of a new socket."""
        self._sockets[socket] = None if trusted else (peer, self._census.enter(peer))
        if self.stopping.is_set():
            socket.close(CLOSE_RESTART, "the hub restarts")

    def trusted(self, socket: Socket) -> None:
        """Take the socket out of the caps."""
        ticket = self._sockets.get(socket)
        if ticket is not None:
            self._census.leave(*ticket)
            self._sockets[socket] = None

    def closed(self, socket: Socket) -> None:
        """Forget the socket."""
        ticket = self._sockets.pop(socket, None)
        if ticket is not None:
            self._census.leave(*ticket)
        self._left()

    def _door(self) -> Door:
        self._arriving()
        return Door(self._house)

    def _left(self) -> None:
        if self.stopping.is_set() and not self._sockets and not self._state.connections:
            self._empty.set()

    async def _force(self) -> None:
        tasks = list(self._state.tasks)
        for task in tasks:
            task.cancel("the port stops")
        for socket in list(self._sockets):
            socket.abort()
        if tasks:
            await asyncio.wait(tasks, timeout=FORCED_STOP_MS / 1000)
        for door in list(self._state.connections):
            door.transport.abort()
        await asyncio.sleep(0)  # the aborted connections are reported in the next turn


_Ticket = tuple[str, Admission]


def _config(app: App) -> Config:
    config = Config(
        cast("Any", app),
        http=Door,
        ws="none",
        lifespan="off",
        interface="asgi3",
        loop="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )
    config.load()
    return config


def _listener(tls: ssl.SSLContext | None) -> Callable[..., Any]:
    """The stdlib's TLS takes 286 KiB for an idle connection, uvloop and aiofastnet about 35."""
    loop = asyncio.get_running_loop()
    if tls is None or not isinstance(loop, asyncio.BaseEventLoop):
        return loop.create_server
    try:
        fast = importlib.import_module("aiofastnet")
    except ImportError:
        return loop.create_server
    return lambda *args, **options: fast.create_server(loop, *args, **options)
