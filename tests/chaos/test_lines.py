"""What is done to a line is over when it says so, or when it is called off."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from agentcom.testing.chaos.lines import LineFault, heal, hurt
from agentcom.testing.listening import hanging_up, listening
from agentcom.testing.proxy import FaultProxy, fault_proxy
from agentcom.testing.waiting import PATIENCE_S


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while said := await reader.read(100):
        writer.write(said)


@asynccontextmanager
async def line() -> AsyncIterator[FaultProxy]:
    async with listening(_echo) as door, fault_proxy("127.0.0.1", door.port) as proxy:
        yield proxy


async def answered(proxy: FaultProxy) -> bytes:
    """Return what a new connection hears of its own word."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    async with hanging_up(writer), asyncio.timeout(PATIENCE_S):
        writer.write(b"hello")
        return await reader.readexactly(5)


@pytest.mark.parametrize("kind", list(LineFault))
async def test_a_line_is_sound_after_each_fault(kind: LineFault) -> None:
    async with line() as proxy:
        await answered(proxy)

        await hurt(proxy, kind, lasts_s=0.01)

        assert await answered(proxy) == b"hello"


@pytest.mark.parametrize("kind", [LineFault.DEAD, LineFault.STALLED, LineFault.SLOW])
async def test_a_line_whose_fault_was_called_off_can_be_healed(kind: LineFault) -> None:
    async with line() as proxy:
        hurting = asyncio.create_task(hurt(proxy, kind, lasts_s=3_600))
        await asyncio.sleep(0)
        hurting.cancel()
        await asyncio.gather(hurting, return_exceptions=True)

        heal(proxy)

        assert await answered(proxy) == b"hello"


async def test_a_half_open_line_says_nothing_to_those_who_were_on_it() -> None:
    async with line() as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        async with hanging_up(writer):
            writer.write(b"one")
            await reader.readexactly(3)

            await hurt(proxy, LineFault.HALF_OPEN, lasts_s=0)
            writer.write(b"two")
            await answered(proxy)

            assert not reader.at_eof()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await reader.read(1)
