import asyncio
import socket as sockets
from collections.abc import AsyncIterator
from typing import Any

import pytest
import websockets

from agentcom.testing.waiting import PATIENCE_S
from agentcom.transport import socket_fallback, socket_picows
from agentcom.transport.socket import (
    Accept,
    Head,
    Message,
    PortLimits,
    Socket,
    reason_bytes,
)
from tests.transport.wire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    QUICK,
    TEXT,
    Listener,
    Serve,
    Site,
    framed,
    serving,
)


@pytest.fixture(params=[socket_picows, socket_fallback], ids=["picows", "fallback"])
async def serve(request: pytest.FixtureRequest) -> AsyncIterator[Serve]:
    async with serving() as start:

        async def with_codec(*args: Any, **options: Any) -> Site:
            return await start(*args, open_socket=request.param.open_socket, **options)

        yield with_codec


async def test_a_text_is_delivered_and_answered(serve: Serve) -> None:
    wire, listener = await (await serve()).socket()

    await wire.send(framed("grüße".encode()))

    assert await wire.frame() == (TEXT, "grüße".encode())
    assert listener.texts == ["grüße".encode()]


async def test_large_messages_sent_in_one_turn_arrive_whole_and_in_order(serve: Serve) -> None:
    sizes = [10, 9_000, 20_000, 125, 126, 70_000, 200_000]
    wire, listener = await (await serve()).socket()

    for number, size in enumerate(sizes):
        listener.live.send_text(bytes([65 + number]) * size)

    for number, size in enumerate(sizes):
        assert await wire.frame() == (TEXT, bytes([65 + number]) * size)


async def test_queued_messages_are_not_mixed_up(serve: Serve) -> None:
    sizes = [60_000, 9_000, 20_000, 70_000] * 40
    site = await serve(limits=PortLimits(send_bytes_max=16_777_216))
    wire, listener = await site.socket()

    for number, size in enumerate(sizes):
        listener.live.send_text(bytes([65 + number % 50]) * size)
    assert listener.live.buffered_bytes > 0

    for number, size in enumerate(sizes):
        assert await wire.frame() == (TEXT, bytes([65 + number % 50]) * size)


async def test_fragments_are_joined_even_inside_a_character(serve: Serve) -> None:
    wire, listener = await (await serve()).socket()
    text = "né".encode()

    await wire.send(framed(text[:2], fin=False) + framed(b"x", PING))
    await wire.send(framed(text[2:], CONTINUATION))

    assert await wire.frame() == (PONG, b"x")
    assert await wire.frame() == (TEXT, text)
    assert listener.texts == [text]


async def test_a_ping_is_answered(serve: Serve) -> None:
    wire, _ = await (await serve()).socket()

    await wire.send(framed(b"there?", PING))

    assert await wire.frame() == (PONG, b"there?")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (framed(b"\xff\xfe"), 1007),
        (framed(b"\xc3", fin=False) + framed(b"\x28", CONTINUATION), 1007),
        (framed(b"bytes", BINARY), 1003),
        (framed(b"x", masked=False), 1002),
        (framed(b"x", rsv=4), 1002),
        (framed(b"x", CONTINUATION), 1002),
        (framed(b"x", fin=False) + framed(b"y"), 1002),
        (framed(b"x", 3), 1002),
        (framed(b"x" * 126, PING), 1002),
        (framed(b"x" * 262_145), 1009),
        (framed(b"x" * 200_000, fin=False) + framed(b"x" * 70_000, CONTINUATION), 1009),
    ],
    ids=[
        "bad text",
        "bad text in fragments",
        "binary",
        "unmasked",
        "reserved bit",
        "continuation of nothing",
        "text inside a text",
        "unknown opcode",
        "long ping",
        "too big",
        "too big in fragments",
    ],
)
async def test_a_violation_closes_with_its_code(serve: Serve, data: bytes, code: int) -> None:
    wire, listener = await (await serve()).socket()

    wire.writer.write(data)

    assert await wire.close_code() == code
    wire.writer.transport.abort()
    assert await listener.closed() == code
    assert not listener.texts


async def test_a_message_of_exactly_the_limit_passes(serve: Serve) -> None:
    wire, listener = await (await serve(lambda: Listener(echo=False))).socket()

    await wire.send(framed(b"x" * 262_144))

    await listener.until(lambda it: it.texts)
    assert len(listener.texts[0]) == 262_144


async def test_a_stranger_may_send_only_small_messages(serve: Serve) -> None:
    wire, listener = await (await serve(lambda: Listener(trust=False))).socket()

    await wire.send(framed(b"x" * 4_096))
    assert (await wire.frame())[0] == TEXT
    await wire.send(framed(b"x" * 4_097))

    assert await wire.close_code() == 1009
    assert len(listener.texts) == 1


async def test_the_peers_close_is_echoed_and_told_once(serve: Serve) -> None:
    wire, listener = await (await serve()).socket()

    await wire.send(framed((4_001).to_bytes(2) + b"bye", CLOSE))

    assert await wire.close_code() == 4_001
    assert await wire.closed() == b""
    assert await listener.closed() == 4_001
    assert listener.codes == [4_001]


async def test_a_peer_that_vanishes_is_1006_and_half_a_frame_is_no_message(serve: Serve) -> None:
    wire, listener = await (await serve()).socket()

    await wire.send(framed(b"half of this")[:-3])
    wire.writer.close()

    assert await listener.closed() == 1006
    assert not listener.texts


async def test_frames_after_our_close_are_ignored(serve: Serve) -> None:
    wire, listener = await (await serve()).socket()

    listener.live.close(4_401, "token revoked")
    await wire.send(framed(b"still here") + framed((4_401).to_bytes(2), CLOSE))

    assert await wire.frame() == (CLOSE, (4_401).to_bytes(2) + b"token revoked")
    assert await wire.closed() == b""
    assert await listener.closed() == 4_401
    assert not listener.texts


async def test_a_peer_that_never_answers_a_close_is_cut_off(serve: Serve) -> None:
    wire, listener = await (await serve(limits=QUICK)).socket()

    listener.live.close(4_403)

    assert await listener.closed() == 4_403
    assert await wire.close_code() == 4_403
    assert await wire.closed() == b""


async def test_a_reader_that_stops_is_dropped_as_slow(serve: Serve) -> None:
    site = await serve(limits=PortLimits(send_bytes_max=65_536))
    _, listener = await site.socket()  # its client reads only on demand

    async with asyncio.timeout(PATIENCE_S):
        while not listener.codes:
            listener.live.send_text(b"x" * 60_000)
            assert listener.live.buffered_bytes <= 200_000
            await asyncio.sleep(0)

    assert listener.codes == [4408]
    assert site.port.socket_count == 0


async def test_a_paused_socket_delivers_when_it_is_resumed(serve: Serve) -> None:
    wire, listener = await (await serve()).socket()

    listener.live.pause_reading()
    listener.live.pause_reading()
    await wire.send(framed(b"wait"))
    listener.live.send_text(b"paused")
    assert await wire.frame() == (TEXT, b"paused")
    assert not listener.texts
    listener.live.resume_reading()

    assert await wire.frame() == (TEXT, b"wait")


async def test_a_paused_socket_can_still_close(serve: Serve) -> None:
    wire, listener = await (await serve()).socket()
    listener.live.pause_reading()

    listener.live.close(1012, "the hub restarts")
    await wire.send(framed((1012).to_bytes(2), CLOSE))

    assert await listener.closed() == 1012


async def test_a_failing_listener_closes_its_socket_only(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_payload: bytes) -> None:
        raise ZeroDivisionError

    site = await serve(lambda: Listener(on_message=fail))
    wire, _ = await site.socket()
    other, _ = await site.socket()

    await wire.send(framed(b"boom"))
    await other.send(framed(b"x", PING))

    assert await wire.close_code() == 1011
    assert await other.frame() == (PONG, b"x")
    assert any(record.exc_info for record in caplog.records)


async def test_what_the_peer_did_wrong_is_not_logged_as_our_error(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    wire, listener = await (await serve()).socket()

    await wire.send(framed(b"x", masked=False))
    await listener.closed()

    assert not [record for record in caplog.records if record.levelname in {"ERROR", "WARNING"}]


async def test_compression_is_refused_and_our_subprotocol_is_chosen(serve: Serve) -> None:
    site = await serve()
    address = f"ws://127.0.0.1:{site.number}/ws"

    async with websockets.connect(address, subprotocols=["other", "agentcom.v1"]) as client:  # type: ignore[list-item]  # NewType
        await client.send("hello")

        assert await client.recv() == "hello"
        assert client.subprotocol == "agentcom.v1"
        assert not client.protocol.extensions


@pytest.mark.parametrize("subprotocol", [None, "original"])
async def test_a_route_may_choose_another_subprotocol(
    serve: Serve, subprotocol: str | None
) -> None:
    site = await serve(routes={b"/old": lambda _head: Accept(Listener(), subprotocol)})
    wire = await site.connect()
    head = b"GET /old HTTP/1.1\r\nSec-WebSocket-Protocol: agentcom.v1\r\n"
    lines = (
        b"Host: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )

    accepted = await wire.ask(head + lines)

    assert accepted.status == 101
    assert accepted.headers.get("sec-websocket-protocol") == subprotocol
    assert accepted.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


async def test_the_listener_sees_the_head(serve: Serve) -> None:
    site = await serve()
    wire = await site.connect()
    lines = (
        b"Host: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13"
        b"\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer abc\r\n\r\n"
    )

    await wire.ask(b"GET /ws?resume=7 HTTP/1.1\r\n" + lines)

    listener = site.listeners[0]
    assert listener.head is not None
    assert listener.head.bearer == "abc"
    assert (listener.head.path, listener.head.query) == (b"/ws", b"resume=7")
    assert listener.head.peer == listener.live.peer == "127.0.0.1"


async def test_a_listener_may_speak_and_close_while_it_opens(serve: Serve) -> None:
    class Brief(Listener):
        def on_open(self, socket: Socket, head: Head) -> None:
            super().on_open(socket, head)
            socket.send_text(b"no room")
            socket.close(1013, "try later")

    site = await serve(Brief)
    wire = await site.connect()

    assert (await wire.upgrade(framed(b"early"))).status == 101
    assert await wire.frame() == (TEXT, b"no room")
    assert await wire.close_code() == 1013
    await wire.send(framed((1013).to_bytes(2), CLOSE))
    assert await site.listeners[0].closed() == 1013
    assert not site.listeners[0].texts


async def test_small_writes_leave_at_once(serve: Serve) -> None:
    _, listener = await (await serve()).socket()

    raw: sockets.socket = getattr(listener.live, "_raw", None) or listener.live._transport  # type: ignore[attr-defined]  # either codec
    option = raw.get_extra_info("socket").getsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY)  # type: ignore[attr-defined]  # a transport

    assert option


def test_a_message_counts_its_fragments() -> None:
    message = Message()

    assert message.add(TEXT, b"ab", fin=False, bytes_max=4) is None
    assert message.add(CONTINUATION, b"", fin=False, bytes_max=4) is None
    assert message.add(CONTINUATION, b"cd", fin=True, bytes_max=4) == b"abcd"
    assert message.add(CONTINUATION, b"cd", fin=True, bytes_max=4) == 1002


def test_a_reason_is_cut_between_characters() -> None:
    assert reason_bytes("é" * 100) == ("é" * 61).encode()
