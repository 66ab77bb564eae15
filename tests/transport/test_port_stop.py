import asyncio
from collections.abc import AsyncIterator

import pytest

from agentcom.testing.waiting import PATIENCE_S
from agentcom.transport.guard import Receive, Scope, Send
from agentcom.transport.socket import PortLimits
from tests.transport.wire import CLOSE, GET, Serve, Site, answer, framed, serving


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    async with serving() as start:
        yield start


class Slow:
    """An app whose answer waits for a word."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.go = asyncio.Event()

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        self.started.set()
        await self.go.wait()
        await answer(send, b"done")


def stop(site: Site, grace_s: float = 5.0) -> "asyncio.Task[None]":
    return asyncio.get_running_loop().create_task(site.port.stop(grace_s))


async def test_open_connections_end_each_in_its_way(serve: Serve) -> None:
    slow = Slow()
    site = await serve(answers=slow)
    silent, half, asking = [await site.connect() for _ in range(3)]
    await half.send(b"GET / HT")
    await asking.send(GET)
    await slow.started.wait()
    wire, listener = await site.socket()

    stopping = stop(site)

    assert await wire.close_code() == 1012
    await wire.send(framed((1012).to_bytes(2), CLOSE))
    assert await listener.closed() == 1012
    assert await silent.closed() == b""
    assert await half.closed() == b""
    with pytest.raises(OSError, match=r".*"):
        await site.connect()
    slow.go.set()
    answered = await asking.answer()
    assert (answered.body, answered.headers["connection"]) == (b"done", "close")
    await stopping


async def test_an_idle_kept_connection_closes_at_once(serve: Serve) -> None:
    async def quick(_scope: Scope, _receive: Receive, send: Send) -> None:
        await answer(send, b"x")

    site = await serve(answers=quick)
    wire = await site.connect()
    await wire.ask(GET)

    await site.port.stop(5.0)

    assert await wire.closed() == b""


async def test_an_endless_stream_ends_when_it_watches_the_port(serve: Serve) -> None:
    ports: list[Site] = []

    async def stream(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await ports[0].port.stopping.wait()
        await send({"type": "http.response.body", "body": b""})

    ports.append(await serve(answers=stream))
    wire = await ports[0].connect()
    await wire.ask(GET)

    await ports[0].port.stop(5.0)

    assert b"data: 1" in await wire.closed()


async def test_a_request_that_does_not_end_is_cut_after_the_grace(serve: Serve) -> None:
    slow = Slow()
    site = await serve(answers=slow)
    wire = await site.connect()
    await wire.send(GET)
    await slow.started.wait()

    async with asyncio.timeout(PATIENCE_S):
        await site.port.stop(0.05)

    assert b"done" not in await wire.closed()


async def test_a_socket_whose_peer_is_silent_does_not_hold_the_stop(serve: Serve) -> None:
    site = await serve(limits=PortLimits(close_ms=600_000))
    _, listener = await site.socket()

    async with asyncio.timeout(PATIENCE_S):
        await site.port.stop(0.05)

    assert await listener.closed() == 1012
    assert site.port.socket_count == 0


async def test_stopping_twice_is_harmless(serve: Serve) -> None:
    site = await serve()

    await site.port.stop(1.0)
    await site.port.stop(1.0)

    assert site.port.stopping.is_set()
