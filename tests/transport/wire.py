"""A client that sends exactly the bytes it is told to, and the servers it talks to."""

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from agentcom.testing.waiting import PATIENCE_S
from agentcom.transport.guard import Receive, Scope, Send
from agentcom.transport.port import Port
from agentcom.transport.socket import Head, PortLimits, Socket

MASK = b"\x01\x02\x03\x04"
TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION = 1, 2, 8, 9, 10, 0
QUICK = PortLimits(
    head_ms=60, body_ms=60, idle_ms=60, stall_ms=60, close_ms=60, linger_ms=200, probation_max=4
)

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
UPGRADE_LINES = (
    b"Host: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
UPGRADE = b"GET /ws HTTP/1.1\r\n" + UPGRADE_LINES + b"\r\n"


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the method, path and body of the request."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    await answer(send, f"{scope['method']} {scope['path']} ".encode() + body)


async def answer(send: Send, body: bytes) -> None:
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@dataclass
class Listener:
    """Echoes, and remembers what it was told."""

    trust: bool = True
    echo: bool = True
    texts: list[bytes] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    head: Head | None = None
    socket: Socket | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)
    on_message: Callable[[bytes], None] | None = None

    def on_open(self, socket: Socket, head: Head) -> None:
        self.socket, self.head = socket, head
        if self.trust:
            socket.trust()
        self.news.set()

    def on_text(self, payload: bytes) -> None:
        self.texts.append(payload)
        if self.on_message is not None:
            self.on_message(payload)
        elif self.echo:
            self.live.send_text(payload)
        self.news.set()

    def on_close(self, code: int) -> None:
        self.codes.append(code)
        self.news.set()

    @property
    def live(self) -> Socket:
        assert self.socket is not None
        return self.socket

    async def until(self, what: Callable[["Listener"], Any]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not what(self):
                self.news.clear()
                await self.news.wait()

    async def closed(self) -> int:
        await self.until(lambda it: it.codes)
        return self.codes[0]


class Answer:
    """One HTTP response."""

    def __init__(self, head: bytes, body: bytes) -> None:
        lines = head.split(b"\r\n")
        self.status = int(lines[0].split(b" ")[1])
        pairs = (line.split(b": ", 1) for line in lines[1:] if line)
        self.headers = {name.lower().decode(): value.decode() for name, value in pairs}
        self.body = body


class Wire:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> Answer:
        async with asyncio.timeout(PATIENCE_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
            answer = Answer(head, b"")
            size = int(answer.headers.get("content-length", "0"))
            answer.body = await self.reader.readexactly(size)
        return answer

    async def ask(self, data: bytes) -> Answer:
        await self.send(data)
        return await self.answer()

    async def closed(self) -> bytes:
        """Return what is left to read once the other side has closed."""
        rest = b""
        async with asyncio.timeout(PATIENCE_S):
            try:
                while data := await self.reader.read(65_536):
                    rest += data
            except (ConnectionError, ssl.SSLError):
                pass
        return rest

    async def upgrade(self, early: bytes = b"", head: bytes = UPGRADE) -> Answer:
        return await self.ask(head + early)

    async def frame(self) -> tuple[int, bytes]:
        async with asyncio.timeout(PATIENCE_S):
            first, size = await self.reader.readexactly(2)
            if size == 126:
                (size,) = struct.unpack("!H", await self.reader.readexactly(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
            return first & 15, await self.reader.readexactly(size)

    async def close_code(self) -> int:
        """Return the code of the next close frame; anything else is a failure."""
        opcode, payload = await self.frame()
        assert opcode == CLOSE
        return int.from_bytes(payload[:2])


def framed(
    payload: bytes, opcode: int = TEXT, *, fin: bool = True, masked: bool = True, rsv: int = 0
) -> bytes:
    """Return one frame as a client sends it."""
    size, bit = len(payload), 0x80 if masked else 0
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    if size < 126:
        head += bytes([bit | size])
    elif size < 65_536:
        head += bytes([bit | 126]) + struct.pack("!H", size)
    else:
        head += bytes([bit | 127]) + struct.pack("!Q", size)
    if not masked:
        return head + payload
    key = (MASK * (size // 4 + 1))[:size]
    hidden = (int.from_bytes(payload) ^ int.from_bytes(key)).to_bytes(size)
    return head + MASK + hidden


@dataclass
class Site:
    """A running port, its listeners, and clients that are closed at the end."""

    port: Port
    number: int
    listeners: list[Listener]
    wires: list[Wire] = field(default_factory=list)
    stopped: bool = False

    async def connect(self, **options: Any) -> Wire:
        wire = Wire(*await asyncio.open_connection("127.0.0.1", self.number, **options))
        self.wires.append(wire)
        return wire

    async def socket(self, head: bytes = UPGRADE) -> tuple[Wire, Listener]:
        wire = await self.connect()
        assert (await wire.upgrade(head=head)).status == 101
        return wire, self.listeners[-1]


Serve = Callable[..., Awaitable[Site]]


@asynccontextmanager
async def serving() -> AsyncIterator[Serve]:
    """Start ports and stop them with their clients."""
    sites: list[Site] = []

    async def serve(
        make: Callable[[], Listener] = Listener, *, answers: Any = app, **options: Any
    ) -> Site:
        listeners: list[Listener] = []

        def route(_head: Head) -> Listener:
            listeners.append(make())
            return listeners[-1]

        options.setdefault("limits", PortLimits())
        port = Port(answers, {b"/ws": route, **options.pop("routes", {})}, **options)
        site = Site(port, await port.start("127.0.0.1", 0), listeners)
        sites.append(site)
        return site

    try:
        yield serve
    finally:
        for site in sites:
            for wire in site.wires:
                wire.writer.transport.abort()
            await site.port.stop(1.0)
