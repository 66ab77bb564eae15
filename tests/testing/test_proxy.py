"""The fault proxy does to a connection what it says."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from agentcom.testing.listening import hanging_up, listening
from agentcom.testing.proxy import FaultProxy, fault_proxy
from agentcom.testing.waiting import PATIENCE_S

Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def echo() -> AsyncIterator[FaultProxy]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)

    async with listening(serve) as door, fault_proxy("127.0.0.1", door.port) as proxy:
        yield proxy


@asynccontextmanager
async def dialled(proxy: FaultProxy) -> AsyncIterator[Line]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    async with hanging_up(writer):
        yield reader, writer


async def ask(line: Line, data: bytes = b"hello") -> bytes:
    reader, writer = line
    writer.write(data)
    async with asyncio.timeout(PATIENCE_S):
        return await reader.readexactly(len(data))


async def test_it_forwards() -> None:
    async with echo() as proxy, dialled(proxy) as line:
        assert await ask(line) == b"hello"


async def test_chunks_are_torn_and_arrive_in_order() -> None:
    async with echo() as proxy, dialled(proxy) as line:
        proxy.chunk_bytes = 1

        assert await ask(line, b"in order") == b"in order"


async def test_a_cut_is_an_end() -> None:
    async with echo() as proxy, dialled(proxy) as line:
        await ask(line)

        proxy.cut()

        assert await line[0].read() == b""


async def test_a_reset_is_an_error() -> None:
    async with echo() as proxy, dialled(proxy) as line:
        await ask(line)

        proxy.reset()

        with pytest.raises(ConnectionError):
            await line[0].readexactly(1)


async def test_a_stalled_line_delivers_later() -> None:
    async with echo() as proxy, dialled(proxy) as line:
        proxy.stall()
        asked = asyncio.create_task(ask(line))
        line[1].write(b"")
        proxy.resume()

        assert await asked == b"hello"


async def test_a_frozen_line_is_silent_and_new_ones_work() -> None:
    async with echo() as proxy, dialled(proxy) as old:
        await ask(old)

        proxy.freeze()
        old[1].write(b"anyone?")
        async with dialled(proxy) as new:
            assert await ask(new) == b"hello"

        assert not old[0].at_eof()


async def test_a_line_that_is_down_takes_nobody_and_comes_back_on_its_port() -> None:
    async with echo() as proxy:
        proxy.refuse()
        with pytest.raises(ConnectionError):
            await asyncio.open_connection("127.0.0.1", proxy.port)
        proxy.open()

        async with dialled(proxy) as line:
            assert await ask(line) == b"hello"
