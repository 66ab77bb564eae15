"""A WebSocket of the hub's door, cut to what holding thousands of them in one process needs.

Frames go out with a mask of zeros and come in unmasked; nothing is made for a frame but its bytes.
Whoever wants the comfort of the real client has `agentcom.client`.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from agentcom.client import dialling
from agentcom.client.link import Lost
from agentcom.model.errors import AgentComError
from agentcom.protocol import frames

SOCKET_OPTIONS: Final = (
    (socket.SOL_SOCKET, socket.SO_RCVBUF, 131_072),
    (socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1_448),
)
"""A network's segments, and a receive buffer that does not grow: on a loopback the kernels would
hold megabytes of what a stalled reader was sent, and the hub little."""
_SHORT_MAX: Final = 125  # RFC 6455 5.2: longer frames say their size in another way
_MEDIUM: Final = 126
_LONG: Final = 127
_TWO_BYTES: Final = 1 << 16
_OPCODE: Final = 0x0F
_CLOSE: Final = 8
_PING: Final = 9
_UPGRADED: Final = 101


class LightSocket(asyncio.Protocol):
    """One socket; `heard` gets each text message, `ended` why it is over (once, also if refused).

    `opened` is called when the hub has taken the upgrade.
    """

    __slots__ = ("_buffer", "_ended", "_heard", "_opened", "_said", "_token", "_transport", "is_up")

    def __init__(
        self,
        token: str,
        *,
        heard: Callable[[bytes], None],
        ended: Callable[[Lost | AgentComError], None],
        opened: Callable[[], None] = lambda: None,
    ) -> None:
        self._token = token
        self._heard = heard
        self._ended = ended
        self._opened = opened
        self._buffer = bytearray()
        self._said: Lost | None = None
        self._transport: asyncio.Transport | None = None
        self.is_up = False

    async def dial(self, url: str) -> None:
        """Connect and ask for the upgrade.

        Raises:
            OSError: nobody listens there.
        """
        raw = await connected(url)
        try:
            await asyncio.get_running_loop().create_connection(lambda: self, sock=raw)
        except BaseException:
            raw.close()
            raise

    def send(self, payload: bytes) -> None:
        """Send a text message; nothing happens when the socket is over."""
        if self._transport is not None:
            self._transport.write(_framed(0x81, payload))

    def abort(self) -> None:
        """Cut the connection without a goodbye."""
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        """Stop reading, as a program that hangs."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(
            b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            b"Sec-WebSocket-Protocol: " + frames.SUBPROTOCOL.encode() + b"\r\n"
            b"Authorization: Bearer " + self._token.encode() + b"\r\n\r\n"
        )

    def data_received(self, data: bytes) -> None:
        """Take the head, then frames."""
        self._buffer += data
        if not self.is_up and not self._upgrade():
            return
        self._read()

    def connection_lost(self, error: Exception | None) -> None:
        """Say why it ended: the hub's word, or that there was none."""
        self._transport = None
        if self.is_up:
            self._ended(self._said or Lost(f"the connection broke: {error}"))
        else:
            self._ended(_refusal(bytes(self._buffer)))

    def _upgrade(self) -> bool:
        """Return whether the hub has taken the upgrade; a refusal is read to its end."""
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0 or _status(self._buffer) != _UPGRADED:
            return False
        del self._buffer[: head + 4]
        self.is_up = True
        self._opened()
        return True

    def _read(self) -> None:
        buffer, at = self._buffer, 0
        while len(buffer) - at >= 2:  # noqa: PLR2004 - the least a frame has
            size, start = buffer[at + 1], at + 2
            if size == _MEDIUM:
                size, start = int.from_bytes(buffer[at + 2 : at + 4]), at + 4
            elif size == _LONG:
                size, start = int.from_bytes(buffer[at + 2 : at + 10]), at + 10
            if len(buffer) < start + size:
                break
            opcode, payload = buffer[at] & _OPCODE, bytes(buffer[start : start + size])
            at = start + size
            if opcode == 1:
                self._heard(payload)
            else:
                self._control(opcode, payload)
        del buffer[:at]

    def _control(self, opcode: int, payload: bytes) -> None:
        if opcode == _CLOSE:
            code = int.from_bytes(payload[:2])
            self._said = Lost(payload[2:].decode() or f"closed with {code}", code)
            if self._transport is not None:
                self._transport.write(_framed(0x88, payload[:2]))
                self._transport.close()
        elif opcode == _PING and self._transport is not None:
            self._transport.write(_framed(0x8A, payload))


async def connected(url: str) -> socket.socket:
    """Return a socket that is connected to the host of `url`, with `SOCKET_OPTIONS`.

    Raises:
        OSError: nobody listens there.
    """
    address = urlsplit(url)
    raw = socket.socket()
    try:
        raw.setblocking(False)
        for option in SOCKET_OPTIONS:
            raw.setsockopt(*option)
        host = (address.hostname or "", address.port or 0)
        await asyncio.get_running_loop().sock_connect(raw, host)
    except BaseException:
        raw.close()
        raise
    return raw


def _status(head: bytes | bytearray) -> int:
    words = bytes(head[:32]).split(b" ")
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0


def _refusal(answer: bytes) -> AgentComError:
    """Return what a refused upgrade means, by the client's own rule."""
    head, _, body = answer.partition(b"\r\n\r\n")
    after = ""
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"retry-after":
            after = value.strip().decode("latin-1")
    if not answer:
        return dialling.NotReached("the hub ended the connection")
    return dialling.refusal("the hub", _status(head), body, after)


def _framed(first: int, payload: bytes) -> bytes:
    """Return a frame; a mask of zeros is a mask, and leaves the payload as it is."""
    size = len(payload)
    if size <= _SHORT_MAX:
        head = bytes((first, 0x80 | size))
    elif size < _TWO_BYTES:
        head = bytes((first, 0x80 | _MEDIUM)) + size.to_bytes(2)
    else:
        head = bytes((first, 0x80 | _LONG)) + size.to_bytes(8)
    return head + b"\0\0\0\0" + payload
