"""A stand-in's server ends with all its connections, and says what went wrong in them."""

import asyncio
import gc

import pytest

from agentcom.testing.listening import hanging_up, listening
from agentcom.testing.waiting import PATIENCE_S

Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def dialled(port: int) -> Line:
    return await asyncio.open_connection("127.0.0.1", port)


async def test_the_end_ends_every_connection_also_one_that_was_just_taken() -> None:
    async with listening(silent) as door:
        old = await dialled(door.port)
        await asyncio.sleep(0)
        new = await dialled(door.port)

    for reader, writer in (old, new):
        async with hanging_up(writer), asyncio.timeout(PATIENCE_S):
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
    del old, new, reader, writer
    gc.collect()  # an open connection among the garbage is a warning, which is an error


async def test_what_is_not_read_does_not_hold_the_end() -> None:
    async def shouting(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(bytes(32 * 1_024 * 1_024))

    async with asyncio.timeout(PATIENCE_S):
        async with listening(shouting) as door:
            reader, writer = await dialled(door.port)
            await reader.readexactly(1)
        writer.transport.abort()


async def test_a_failure_in_a_connection_is_raised_at_the_end() -> None:
    asked = asyncio.Event()

    async def failing(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        asked.set()
        raise AssertionError("not as documented")

    async def asked_for() -> None:
        async with listening(failing) as door:
            _, writer = await dialled(door.port)
            async with hanging_up(writer):
                await asked.wait()

    with pytest.raises(AssertionError, match="not as documented"):
        await asked_for()


async def test_who_goes_away_is_no_failure() -> None:
    heard = asyncio.Event()

    async def asking(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        try:
            await reader.readexactly(2)
        finally:
            heard.set()

    async with listening(asking) as door:
        _, writer = await dialled(door.port)
        async with hanging_up(writer):
            writer.write(b"1")
        await heard.wait()


async def test_a_door_that_refuses_opens_again_where_it_was() -> None:
    async with listening(silent) as door:
        port = door.port
        door.refuse()
        with pytest.raises(ConnectionError):
            await dialled(port)

        door.open()

        async with hanging_up((await dialled(port))[1]):
            assert (door.port, door.is_open) == (port, True)
