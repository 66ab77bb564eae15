"""Slow, greedy and unknown clients, and TLS: the second half of the contract of the port."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import websockets

from agentcom.client import keepalive
from agentcom.hub.certificate import ensure_certificate, server_context
from agentcom.testing.waiting import PATIENCE_S, until
from agentcom.transport.guard import Receive, Rules, Scope, Send
from agentcom.transport.socket import PortLimits
from tests.transport.wire import (
    CLOSE,
    GET,
    QUICK,
    TEXT,
    UPGRADE,
    Listener,
    Serve,
    answer,
    framed,
    serving,
)


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    async with serving() as start:
        yield start


def post(body: bytes) -> bytes:
    head = b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
    return head + str(len(body)).encode() + b"\r\n\r\n" + body


def code_of(body: bytes) -> str:
    return str(msgspec.json.decode(body)["code"])


class Shout:
    """An app that sends until nobody reads, and remembers that it ended."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            for _ in range(1_000):
                chunk = {"type": "http.response.body", "body": b"x" * 65_536, "more_body": True}
                await send(chunk)
        finally:
            self.ended.set()


@pytest.mark.parametrize(
    "start",
    [b"", b"GET / HT", GET + b"GET /", GET, GET + b"\r\n", UPGRADE[:-2]],
    ids=["silent", "half a head", "half a second head", "idle", "stray line", "half an upgrade"],
)
async def test_a_connection_without_a_whole_request_is_closed(serve: Serve, start: bytes) -> None:
    wire = await (await serve(limits=QUICK)).connect()

    await wire.send(start)
    rest = await wire.closed()

    assert rest.count(b"HTTP/1.1 200 OK") == start.count(GET)


@pytest.mark.parametrize("prefix", [b"GET / HTTP/1.1\r\nx: ", GET + b"GET / HTTP/1.1\r\nx: ", GET])
async def test_dripping_does_not_extend_the_deadline(serve: Serve, prefix: bytes) -> None:
    wire = await (await serve(limits=QUICK)).connect()
    drop = b"\r\n" if prefix == GET else b"x"

    await wire.send(prefix)

    with pytest.raises((ConnectionError, RuntimeError)):  # uvloop's own word for a closed one
        await until(lambda: False, patience_s=5, each=lambda: wire.send(drop))


async def test_a_body_that_stops_is_408(serve: Serve) -> None:
    wire = await (await serve(limits=QUICK)).connect()

    answered = await wire.ask(post(b"12345")[:-1])

    assert (answered.status, code_of(answered.body)) == (408, "body_too_slow")
    await wire.closed()


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_body_over_the_limit_is_413(serve: Serve, *, chunked: bool) -> None:
    wire = await (await serve(limits=PortLimits(body_bytes_max=1_000))).connect()
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"300\r\n" + b"x" * 0x300 + b"\r\n"

    answered = await wire.ask(head + chunk * 2 if chunked else post(b"x" * 1_001))

    assert (answered.status, code_of(answered.body)) == (413, "too_large")


async def test_a_path_may_take_a_larger_body(serve: Serve) -> None:
    rules = Rules(body_bytes_max_by_prefix={"/x": 2_000})
    wire = await (await serve(limits=PortLimits(body_bytes_max=1_000), rules=rules)).connect()

    assert (await wire.ask(post(b"x" * 2_000))).status == 200
    assert (await wire.ask(post(b"x" * 2_001))).status == 413


async def test_a_reader_that_stops_ends_the_response(serve: Serve) -> None:
    shout = Shout()
    wire = await (await serve(answers=shout, limits=QUICK)).connect(limit=1_024)

    await wire.send(GET)

    async with asyncio.timeout(PATIENCE_S):
        await shout.ended.wait()


async def test_strangers_are_capped_per_address_and_the_fleet_is_not(serve: Serve) -> None:
    limits = PortLimits(untrusted_per_address_max=2)
    site = await serve(
        lambda: Listener(trust=False),
        limits=limits,
        is_trusted=lambda head: head.bearer == "good",
    )
    for _ in range(2):
        await site.socket()
    good = b"Authorization: Bearer good\r\n\r\n"

    refused = await (await site.connect()).upgrade()
    over_http = await (await site.connect()).ask(GET)
    fleet = [await (await site.connect()).upgrade(head=UPGRADE[:-2] + good) for _ in range(3)]
    trusted_http = await (await site.connect()).ask(GET[:-2] + good)

    assert (refused.status, code_of(refused.body)) == (429, "too_many_connections")
    assert refused.headers["retry-after"] == "1"
    assert over_http.status == 429
    assert [it.status for it in fleet] == [101, 101, 101]
    assert trusted_http.status == 200
    assert site.port.stranger_count == 2


async def test_a_place_is_free_again_after_trust_or_departure(serve: Serve) -> None:
    site = await serve(
        lambda: Listener(trust=False), limits=PortLimits(untrusted_per_address_max=2)
    )
    first, second = (await site.socket())[1], await site.socket()

    first.live.trust()
    second[0].writer.close()
    await second[1].closed()

    assert site.port.stranger_count == 0
    await site.socket()
    await site.socket()
    assert (await (await site.connect()).upgrade()).status == 429


async def test_beyond_the_probation_bound_nothing_is_accepted(serve: Serve) -> None:
    site = await serve(limits=PortLimits(untrusted_max=1, probation_max=1))
    silent = [await site.connect() for _ in range(2)]

    assert await (await site.connect()).closed() == b""
    assert not any(wire.reader.at_eof() for wire in silent)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    made = ensure_certificate(Path(tmp_path_factory.mktemp("tls")), [])
    client = ssl.create_default_context(cafile=str(made.certificate))
    client.set_alpn_protocols(["h2", "http/1.1"])
    return server_context(made), client


@pytest.mark.parametrize("secret", [True, False], ids=["tls", "clear"])
async def test_the_kernel_watches_whoever_is_connected(
    serve: Serve, tls: tuple[ssl.SSLContext, ssl.SSLContext], *, secret: bool
) -> None:
    site = await serve(tls=tls[0] if secret else None)
    await (await site.connect(ssl=tls[1] if secret else None)).ask(GET)

    (door,) = site.port._state.connections

    raw = door.transport.get_extra_info("socket")
    assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == keepalive.PROBES


async def test_both_doors_speak_tls(
    serve: Serve, tls: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    site = await serve(tls=tls[0])
    wire = await site.connect(ssl=tls[1])

    assert (await wire.ask(GET)).status == 200
    assert wire.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
    assert (await wire.upgrade(framed(b"early"))).status == 101
    assert await wire.frame() == (TEXT, b"early")
    for size in (100, 60_000, 200_000):
        await wire.send(framed(b"x" * size))
        assert await wire.frame() == (TEXT, b"x" * size)
    await wire.send(framed((1000).to_bytes(2), CLOSE))
    assert await wire.close_code() == 1000
    assert await site.listeners[0].closed() == 1000
    assert site.listeners[0].head is not None
    assert site.listeners[0].head.secure
    async with websockets.connect(f"wss://localhost:{site.number}/ws", ssl=tls[1]) as client:
        await client.send("hello")
        assert await client.recv() == "hello"


@pytest.mark.parametrize("start", [b"", b"\x16\x03\x01\x02\x00", GET])
async def test_a_handshake_that_stalls_or_is_none_is_closed(
    serve: Serve, tls: tuple[ssl.SSLContext, ssl.SSLContext], start: bytes
) -> None:
    wire = await (await serve(tls=tls[0], limits=QUICK)).connect()

    await wire.send(start)

    assert b"HTTP" not in await wire.closed()


async def test_slow_and_oversize_heads_are_bounded_under_tls(
    serve: Serve, tls: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    big = await (await serve(tls=tls[0])).connect(ssl=tls[1])
    # The handshake has this time, too, and computes.
    site = await serve(tls=tls[0], limits=PortLimits(head_ms=1_500))
    slow = await site.connect(ssl=tls[1])

    await slow.send(b"GET /")

    assert (await big.ask(GET[:-2] + b"c: " + b"c" * 41_000 + b"\r\n\r\n")).status == 431
    assert await slow.closed() == b""


async def test_a_slow_reader_under_tls_is_dropped(
    serve: Serve, tls: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    site = await serve(tls=tls[0], limits=PortLimits(send_bytes_max=65_536))
    wire = await site.connect(ssl=tls[1])
    await wire.upgrade()
    listener = site.listeners[0]

    async def send() -> None:
        listener.live.send_text(b"x" * 60_000)

    await until(lambda: listener.codes, each=send)

    assert listener.codes == [4408]


async def test_an_answer_may_follow_a_long_wait(serve: Serve) -> None:
    go = asyncio.Event()

    async def late(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await go.wait()
        await answer(send, b"late")

    wire = await (await serve(answers=late, limits=QUICK)).connect()
    await wire.send(post(b"body"))

    asyncio.get_running_loop().call_later(0.2, go.set)

    assert (await wire.answer()).body == b"late"
