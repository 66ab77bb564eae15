"""The agents' sockets on websockets' sans-IO core, where picows has no wheel.

Same interface and same behaviour as `socket_picows.py` at about 1.7 times its CPU per message.
"""

import asyncio
import base64
import hashlib
import logging
import socket as sockets
from collections.abc import Sequence
from typing import Final

from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from agentcom.transport.socket import (
    CLOSE_FAULT,
    CLOSE_LOST,
    CLOSE_NORMAL,
    CLOSE_SLOW,
    SOCKET_RECEIVE_BYTES,
    Message,
    Opening,
    Socket,
    SocketListener,
    address,
    reason_bytes,
)

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 1.3
_QUIET: Final = logging.getLogger("agentcom.transport.socket.codec")
_LOG: Final = logging.getLogger("agentcom.transport.socket")
_NOTHING: Final = asyncio.Protocol()


def open_socket(transport: asyncio.Transport, opening: Opening) -> None:
    """Give an accepted connection to the sans-IO codec and tell the listener."""
    transport.set_write_buffer_limits(high=opening.limits.send_bytes_max)
    raw = transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)
        raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, SOCKET_RECEIVE_BYTES)
    transport.write(_switching(opening))
    socket = FallbackSocket(transport, opening)
    transport.set_protocol(_NOTHING)
    transport.set_protocol(socket)
    socket.start(opening)


class FallbackSocket(asyncio.Protocol):
    """One socket: an asyncio protocol on one side, our `Socket` on the other."""

    __slots__ = (
        "_code",
        "_codec",
        "_deadline",
        "_limits",
        "_listener",
        "_message",
        "_paused",
        "_registry",
        "_transport",
        "_trusted",
    )

    def __init__(self, transport: asyncio.Transport, opening: Opening) -> None:
        self._transport = transport
        self._limits = opening.limits
        self._listener: SocketListener = opening.listener
        self._registry = opening.registry
        self._trusted = opening.trusted
        self._codec = ServerProtocol(
            state=OPEN, max_size=opening.limits.message_bytes_max, logger=_QUIET
        )
        self._message: Message | None = None
        self._code = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._paused = False

    def start(self, opening: Opening) -> None:
        """Say hello to the listener, then read what came with the head."""
        self._registry.opened(self, peer=opening.head.peer, trusted=self._trusted)
        try:
            self._listener.on_open(self, opening.head)
        except Exception:  # noqa: BLE001  # this socket is the unit that fails
            self._fault()
        if opening.early:
            self.data_received(opening.early)

    @property
    def peer(self) -> str:
        """The address of the other side."""
        return address(self._transport.get_extra_info("peername"))

    @property
    def buffered_bytes(self) -> int:
        """What was sent but not yet taken by the kernel."""
        return self._transport.get_write_buffer_size()

    def send_text(self, payload: bytes) -> None:
        """Send one text message; nothing happens when the socket is closing."""
        if not self._closing:
            self._codec.send_text(payload)
            self._flush()

    def send_texts(self, payloads: Sequence[bytes]) -> None:
        """Send several text messages in one write."""
        if not self._closing:
            for payload in payloads:
                self._codec.send_text(payload)
            self._flush()

    def close(self, code: int, reason: str = "") -> None:
        """Start the closing handshake and arm its deadline."""
        if not self._closing:
            self._code = code
            self._codec.send_close(code, reason_bytes(reason).decode())
            self._flush(eof=False)
            self.resume_reading()
        self._arm()

    def abort(self) -> None:
        """End the connection now and drop what is queued."""
        self._transport.abort()

    def pause_reading(self) -> None:
        """Stop reading from the peer."""
        if not self._paused and not self._closing:
            self._paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read from the peer again."""
        if self._paused:
            self._paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def trust(self) -> None:
        """Lift the limits for strangers."""
        if not self._trusted:
            self._trusted = True
            self._registry.trusted(self)

    def data_received(self, data: bytes) -> None:
        """Feed the codec and act on what comes out."""
        if self._transport.is_closing():
            return
        self._codec.receive_data(data)
        for event in self._codec.events_received():
            if isinstance(event, Frame):
                self._frame(event)
        if not self._code and self._codec.close_expected():
            self._code = self._codec.close_sent.code if self._codec.close_sent else CLOSE_NORMAL
            self._arm()
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's name
        """Say goodbye to the listener."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._registry.closed(self)
        self._listener.on_close(self._code or CLOSE_LOST)

    def pause_writing(self) -> None:
        """Drop a peer that does not read; it resumes from what is stored."""
        self._code = self._code or CLOSE_SLOW
        self.abort()

    def _frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            if not self._code:
                self._code = int.from_bytes(frame.data[:2]) or CLOSE_NORMAL
            self._flush()
            self._transport.close()
            self._arm()
        elif not self._closing and frame.opcode not in {Opcode.PING, Opcode.PONG}:
            self._content(frame)

    def _content(self, frame: Frame) -> None:
        limits = self._limits
        maximum = limits.message_bytes_max if self._trusted else limits.message_bytes_max_untrusted
        message = self._message or Message()
        whole = message.add(frame.opcode, bytes(frame.data), fin=frame.fin, bytes_max=maximum)
        self._message = message if whole is None else None
        if isinstance(whole, int):
            self.close(whole)
        elif whole is not None:
            try:
                self._listener.on_text(whole)
            except Exception:  # noqa: BLE001  # this socket is the unit that fails
                self._fault()

    def _fault(self) -> None:
        _LOG.exception("socket.listener_failed")
        self.close(CLOSE_FAULT)

    def _flush(self, *, eof: bool = True) -> None:
        for data in self._codec.data_to_send():
            if data:
                self._transport.write(data)
            elif eof and self._code:
                self._transport.close()

    def _arm(self) -> None:
        if self._deadline is None:
            loop = asyncio.get_running_loop()
            self._deadline = loop.call_later(self._limits.close_ms / 1000, self.abort)

    @property
    def _closing(self) -> bool:
        return self._code != 0 or self._transport.is_closing()


def _switching(opening: Opening) -> bytes:
    accept = base64.b64encode(hashlib.sha1(opening.key + _GUID).digest())  # noqa: S324  # RFC 6455
    lines = [
        b"HTTP/1.1 101 Switching Protocols",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: " + accept,
    ]
    if opening.subprotocol is not None:
        lines.append(b"Sec-WebSocket-Protocol: " + opening.subprotocol.encode("latin-1"))
    return b"\r\n".join([*lines, b"", b""])


def _conforms(socket: FallbackSocket) -> Socket:
    return socket
