"""The contract with uvicorn's and picows' private parts: run it whenever a pin moves."""

import asyncio
import gc
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import websockets

from agentcom.hub.certificate import ensure_certificate, server_context
from agentcom.model.errors import Conflict
from agentcom.transport.door import Door
from agentcom.transport.guard import Receive, Rules, Scope, Send
from agentcom.transport.port import Port, PortUnavailable
from agentcom.transport.problem import refusal
from agentcom.transport.socket import Head, PortLimits
from tests.transport.wire import (
    CLOSE,
    GET,
    QUICK,
    TEXT,
    UPGRADE,
    UPGRADE_LINES,
    Listener,
    Serve,
    answer,
    app,
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


# What passes


async def test_a_kept_connection_answers_and_then_upgrades(serve: Serve) -> None:
    wire = await (await serve()).connect()

    for _ in range(3):
        assert (await wire.ask(GET)).body == b"GET / "
    assert (await wire.upgrade()).status == 101
    await wire.send(framed(b"hello"))

    assert await wire.frame() == (TEXT, b"hello")


async def test_pipelined_requests_are_answered_in_order(serve: Serve) -> None:
    wire = await (await serve()).connect()

    await wire.send(post(b"one") + post(b"two") + post(b"three"))

    bodies = [(await wire.answer()).body for _ in range(3)]
    assert bodies == [b"POST /x one", b"POST /x two", b"POST /x three"]


@pytest.mark.parametrize("request_head", [UPGRADE, GET])
async def test_a_head_may_come_in_pieces(serve: Serve, request_head: bytes) -> None:
    wire = await (await serve()).connect()
    padded = request_head[:-2] + b"Cookie: " + b"c" * 300 + b"\r\nAuthorization: Bearer x\r\n\r\n"

    for start in range(0, len(padded), 40):
        await wire.send(padded[start : start + 40])
        await asyncio.sleep(0)

    assert (await wire.answer()).status in {101, 200}


async def test_frames_in_the_same_packet_as_the_upgrade_are_read(serve: Serve) -> None:
    wire = await (await serve()).connect()
    long = b"y" * 5_000

    await wire.upgrade(framed(b"early") + framed(long))

    assert await wire.frame() == (TEXT, b"early")
    assert await wire.frame() == (TEXT, long)


async def test_the_upgrade_header_may_share_its_line_as_in_firefox(serve: Serve) -> None:
    wire = await (await serve()).connect()

    head = UPGRADE.replace(b"Connection: Upgrade", b"Connection: keep-alive, Upgrade")

    assert (await wire.upgrade(head=head)).status == 101


async def test_a_cookie_of_7_kib_fits_into_an_upgrade(serve: Serve) -> None:
    wire = await (await serve()).connect()
    cookie = b"Cookie: " + b"c" * 7_168 + b"\r\nAuthorization: Bearer x\r\n\r\n"

    assert (await wire.upgrade(head=UPGRADE[:-2] + cookie)).status == 101


async def test_an_h2c_offer_is_served_as_http_1(serve: Serve) -> None:
    wire = await (await serve()).connect()

    offer = GET[:-2] + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n"

    assert (await wire.ask(offer)).status == 200


async def test_answers_carry_a_date_and_no_server_name(serve: Serve) -> None:
    answered = await (await (await serve()).connect()).ask(GET)

    assert "date" in answered.headers
    assert "server" not in answered.headers


async def test_a_door_does_not_outlive_the_upgrade(serve: Serve) -> None:
    site = await serve()

    wires = [await site.socket() for _ in range(3)]

    assert site.port.socket_count == len(wires)
    gc.collect()
    assert not [it for it in gc.get_objects() if isinstance(it, Door)]


# What is refused


@pytest.mark.parametrize(
    "garbage", [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02", b"GET\r\n\r\n"]
)
async def test_what_is_not_http_1_is_400(serve: Serve, garbage: bytes) -> None:
    wire = await (await serve()).connect()

    answered = await wire.ask(garbage)

    assert (answered.status, code_of(answered.body)) == (400, "malformed")
    assert await wire.closed() == b""


async def test_an_unknown_socket_path_is_404(serve: Serve) -> None:
    wire = await (await serve()).connect()

    answered = await wire.upgrade(head=UPGRADE.replace(b"/ws", b"/nowhere"))

    assert (answered.status, code_of(answered.body)) == (404, "not_found")
    assert answered.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        (b"GET", b"POST", 400),
        (b"Version: 13", b"Version: 8", 426),
        (b"Key: dGhl", b"Key: ", 400),
        (b"Key: dGhl", b"Key: \xff", 400),
        (b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\nabc", 400),
        (b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ],
)
async def test_a_bad_handshake_is_refused(
    serve: Serve, old: bytes, new: bytes, status: int
) -> None:
    wire = await (await serve()).connect()

    answered = await wire.upgrade(head=UPGRADE.replace(old, new))

    assert answered.status == status
    assert (answered.headers.get("sec-websocket-version") == "13") == (status == 426)


@pytest.mark.parametrize("raises", [True, False])
async def test_a_route_refuses_with_its_own_problem(serve: Serve, *, raises: bool) -> None:
    def route(_head: Head) -> object:
        if raises:
            raise Conflict("taken")
        return refusal(Conflict("taken"))

    wire = await (await serve(routes={b"/no": route})).connect()

    answered = await wire.upgrade(head=UPGRADE.replace(b"/ws", b"/no"))

    assert answered.status == 409
    assert msgspec.json.decode(answered.body) == {
        "type": "about:blank",
        "title": "Conflict",
        "status": 409,
        "detail": "taken",
        "code": "conflict",
    }


@pytest.mark.parametrize("pieces", [1, 50])
@pytest.mark.parametrize(
    "head",
    [
        GET[:-2] + b"Cookie: " + b"c" * 40_960 + b"\r\n\r\n",
        GET[:-2] + b"a: " + b"b" * 20 + (b"\r\na: " + b"b" * 20) * 2_000 + b"\r\n\r\n",
        b"GET /" + b"u" * 41_000 + b" HTTP/1.1\r\n\r\n",
        UPGRADE[:-2] + b"Cookie: " + b"c" * 40_960 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nt: "
        + b"t" * 400_000,
    ],
    ids=["one header", "many headers", "path", "upgrade", "trailer"],
)
async def test_a_head_over_40_kib_is_431(serve: Serve, head: bytes, pieces: int) -> None:
    wire = await (await serve()).connect()
    size = len(head) // pieces

    for start in range(0, len(head), size):
        wire.writer.write(head[start : start + size])
        await asyncio.sleep(0)
    answered = await wire.answer()

    assert (answered.status, code_of(answered.body)) == (431, "head_too_large")


async def test_a_trailer_does_not_become_a_header(serve: Serve) -> None:
    async def headers(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "path": str(len(scope["headers"]))}, receive, send)

    wire = await (await serve(answers=headers)).connect()
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"

    assert (await wire.ask(head + b"0\r\nx: 1\r\n\r\n")).body == b"POST 2 "


async def test_an_upgrade_behind_an_unanswered_request_is_not_taken(serve: Serve) -> None:
    wire = await (await serve()).connect()

    answered = await wire.ask(GET + UPGRADE)

    assert answered.body == b"GET / "
    assert await wire.closed() == b""


async def test_garbage_behind_a_request_does_not_spoil_its_answer(serve: Serve) -> None:
    wire = await (await serve()).connect()

    answered = await wire.ask(GET + b"\x00garbage")

    assert answered.body == b"GET / "
    assert await wire.closed() == b""


async def test_a_broken_body_is_400(serve: Serve) -> None:
    wire = await (await serve()).connect()
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"

    assert (await wire.ask(head + b"no size\r\n")).status == 400


async def test_a_failing_app_is_500_without_details(serve: Serve) -> None:
    async def fail(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise ZeroDivisionError("secret")

    answered = await (await (await serve(answers=fail)).connect()).ask(GET)

    assert (answered.status, answered.body) == (500, b"Internal Server Error")


async def test_a_port_in_use_says_what_to_do(serve: Serve) -> None:
    site = await serve()

    with pytest.raises(PortUnavailable, match=f"port {site.number}: .*--port"):
        await Port(app, {}).start("127.0.0.1", site.number)


# Clients that are slow


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

    async def drip() -> None:
        while True:
            await wire.send(drop)
            await asyncio.sleep(0.01)

    with pytest.raises((ConnectionError, RuntimeError)):  # uvloop's own word for a closed one
        await asyncio.wait_for(drip(), 2)


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

    async with asyncio.timeout(5):
        await shout.ended.wait()


# Strangers


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


# TLS


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    made = ensure_certificate(Path(tmp_path_factory.mktemp("tls")), [])
    client = ssl.create_default_context(cafile=str(made.certificate))
    client.set_alpn_protocols(["h2", "http/1.1"])
    return server_context(made), client


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
    site = await serve(tls=tls[0], limits=QUICK)

    slow, big = await site.connect(ssl=tls[1]), await site.connect(ssl=tls[1])
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

    async with asyncio.timeout(5):
        while not listener.codes:
            listener.live.send_text(b"x" * 60_000)
            await asyncio.sleep(0)

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


def test_the_upgrade_lines_end_where_a_header_may_follow() -> None:
    assert UPGRADE_LINES.endswith(b"\r\n")
