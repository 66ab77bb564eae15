"""A TCP proxy that misbehaves on purpose: cuts, resets, stalls, delays, and leaves half-open.

    async with fault_proxy("127.0.0.1", hub_port) as proxy:
        ...            # connect to proxy.port instead
        proxy.freeze() # those connected now hear nothing more, and are not told

It knows nothing of what it carries.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from agentcom.testing.listening import Door, hanging_up

CHUNK_BYTES: Final = 65_536
_LINGER_NONE: Final = struct.pack("ii", 1, 0)


class FaultProxy:
    """Forwards connections to one address, until it is told not to."""

    def __init__(self, host: str, port: int) -> None:
        self.latency_ms = 0
        """Added to every chunk, in both directions."""
        self.chunk_bytes = CHUNK_BYTES
        """The most that is forwarded at once; 1 tears frames into bytes."""
        self.accepted = 0
        """Connections that were ever taken."""
        self._target = (host, port)
        self._door = Door(self._serve)
        self._pairs: set[_Pair] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()

    @property
    def port(self) -> int:
        """Where it takes connections, or took them."""
        return self._door.port

    def open(self) -> None:
        """Take connections: on a new port, or on the one it had; nothing if it does already."""
        if not self._door.is_open:
            self._door.open()

    def refuse(self) -> None:
        """Take no more connections; those that are there go on."""
        self._door.refuse()

    def cut(self) -> None:
        """End all connections, as a peer that says goodbye."""
        for pair in list(self._pairs):
            pair.close()

    def reset(self) -> None:
        """End all connections with a TCP reset."""
        for pair in list(self._pairs):
            pair.reset()

    def stall(self) -> None:
        """Forward nothing, new connections included, until `resume`; nothing is lost."""
        self._flowing.clear()

    def resume(self) -> None:
        """Forward again."""
        self._flowing.set()

    def freeze(self) -> None:
        """Leave all present connections half-open for good: silent, and neither end is told."""
        for pair in self._pairs:
            pair.frozen = True

    async def down_for(self, duration_ms: int) -> None:
        """Be a line that is dead for a while: all are reset, nobody gets through."""
        self.refuse()
        self.reset()
        await asyncio.sleep(duration_ms / 1_000)  # the fault itself is this long
        self.open()

    async def close(self) -> None:
        """End everything."""
        await self._door.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            _reset(writer)
            return
        pair = _Pair(writer, far_writer)
        self._pairs.add(pair)
        there = asyncio.create_task(self._pump(pair, reader, far_writer))
        back = asyncio.create_task(self._pump(pair, far_reader, writer))
        pair.pumps = (there, back)
        async with hanging_up(far_writer):
            try:
                await asyncio.wait(pair.pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self._pairs.discard(pair)
                pair.close()
                await asyncio.gather(there, back, return_exceptions=True)

    async def _pump(
        self, pair: "_Pair", reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while chunk := await reader.read(self.chunk_bytes):
                await self._flowing.wait()
                if self.latency_ms:
                    await asyncio.sleep(self.latency_ms / 1_000)
                if not pair.frozen:
                    writer.write(chunk)
                    await writer.drain()
        if pair.frozen:
            await asyncio.Event().wait()  # the other end must not learn of it


class _Pair:
    """Both halves of one connection."""

    def __init__(self, near: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self.frozen = False
        self.pumps: tuple[asyncio.Task[None], ...] = ()
        self._ends = (near, far)

    def close(self) -> None:
        for pump in self.pumps:
            pump.cancel()
        for end in self._ends:
            end.close()

    def reset(self) -> None:
        for end in self._ends:
            _reset(end)
        for pump in self.pumps:
            pump.cancel()


def _reset(end: asyncio.StreamWriter) -> None:
    connection = end.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
    end.transport.abort()


@asynccontextmanager
async def fault_proxy(host: str, port: int) -> AsyncIterator[FaultProxy]:
    """Run a proxy before `host`:`port`, and end it with all its connections."""
    proxy = FaultProxy(host, port)
    proxy.open()
    try:
        yield proxy
    finally:
        await proxy.close()
