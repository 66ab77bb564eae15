"""A loopback server for stand-ins, which leaves no connection open when it ends.

    async with listening(serve) as door:
        ...  # connect to door.port

`asyncio.Server` closes its port only: connections outlive it, and each is found as garbage later,
in the middle of something else. Here each connection has a task, and the end waits for all.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

LOOPBACK: Final = "127.0.0.1"
BACKLOG: Final = 128
"""A fleet of agents connects at once."""

_LINE_BYTES_MAX: Final = 65_536

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Door:
    """Takes connections on one address; when one was served, it is closed."""

    def __init__(
        self,
        serve: Serve,
        *,
        host: str = LOOPBACK,
        tls: ssl.SSLContext | None = None,
        line_bytes_max: int = _LINE_BYTES_MAX,
    ) -> None:
        self.port = 0
        self._serve = serve
        self._host = host
        self._tls = tls
        self._line_bytes_max = line_bytes_max
        self._listening: socket.socket | None = None
        self._served: set[asyncio.Task[None]] = set()
        self._failed: list[BaseException] = []

    def open(self, port: int = 0) -> None:
        """Take connections: on `port`, else on the one it had, else on a free one."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        address = (self._host, port or self.port)
        made = socket.create_server(address, family=family, backlog=BACKLOG)
        made.setblocking(False)
        self.port = int(made.getsockname()[1])
        self._listening = made
        asyncio.get_running_loop().add_reader(made, self._accept, made)

    @property
    def is_open(self) -> bool:
        """Whether it takes connections."""
        return self._listening is not None

    def refuse(self) -> None:
        """Take no more connections; those that are there go on."""
        made, self._listening = self._listening, None
        if made is not None:
            asyncio.get_running_loop().remove_reader(made)
            made.close()

    async def close(self) -> None:
        """Take no more connections, end those that are there, and raise what one failed with."""
        self.refuse()
        await asyncio.sleep(0)  # a task that never began would leave its connection open
        for task in self._served:
            task.cancel()
        await asyncio.gather(*self._served, return_exceptions=True)
        await asyncio.sleep(0)  # what was aborted in its handshake is closed in the next turn
        for error in self._failed:
            raise error

    def _accept(self, made: socket.socket) -> None:
        try:
            connection, _ = made.accept()
        except (BlockingIOError, ConnectionError):
            return  # it left before its turn came
        connection.setblocking(False)
        task = asyncio.create_task(self._talk(connection))
        self._served.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._served.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._failed.append(error)

    async def _talk(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=self._line_bytes_max)
        writers: list[asyncio.StreamWriter] = []
        protocol = asyncio.StreamReaderProtocol(reader, lambda _, made: writers.append(made))
        try:
            await loop.connect_accepted_socket(lambda: protocol, connection, ssl=self._tls)
        except OSError:
            return  # a handshake that failed
        (writer,) = writers
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):  # whoever asked went away
            async with hanging_up(writer):
                await self._serve(reader, writer)


@asynccontextmanager
async def hanging_up(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    """Close a connection at the end and wait until it is gone; cut it if there is an error."""
    try:
        yield
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)  # the socket is closed in the next turn


@asynccontextmanager
async def listening(
    serve: Serve, *, tls: ssl.SSLContext | None = None, line_bytes_max: int = _LINE_BYTES_MAX
) -> AsyncIterator[Door]:
    """Serve on a free port of the loopback until the context ends."""
    door = Door(serve, tls=tls, line_bytes_max=line_bytes_max)
    door.open()
    try:
        yield door
    finally:
        await door.close()
