"""The contract with uvicorn's and picows' private parts: run it whenever a pin moves."""

import asyncio
import gc
from collections.abc import AsyncIterator

import msgspec
import pytest

from agentcom.model.errors import Conflict
from agentcom.transport.door import Door
from agentcom.transport.guard import Receive, Scope, Send
from agentcom.transport.port import Port, PortUnavailable
from agentcom.transport.problem import refusal
from agentcom.transport.socket import Head
from tests.transport.wire import (
    GET,
    TEXT,
    UPGRADE,
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


async def test_blanks_around_a_header_are_not_part_of_its_value(serve: Serve) -> None:
    async def shows(scope: Scope, _receive: Receive, send: Send) -> None:
        await answer(send, dict(scope["headers"])[b"x-name"])

    wire = await (await serve(answers=shows)).connect()

    told = await wire.ask(GET[:-2] + b"X-Name: \t a b \t \r\n\r\n")

    assert told.body == b"a b"


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
