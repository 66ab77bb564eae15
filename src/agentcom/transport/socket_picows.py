"""The agents' sockets on picows: about a third of the CPU per message of an ASGI server's.

picows parses and writes frames; this file gives it a connection that is already open, joins
fragments, and bounds what a slow or silent peer can hold. It leans on `WSProtocol`, which is not
public API: the versions are pinned and `tests/transport/test_port.py` is the contract.
"""

import asyncio
import logging
import socket as sockets
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

from picows import (
    WSAutoPingStrategy,
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)
from picows.picows import WSProtocol  # type: ignore[attr-defined]  # missing from picows' stubs

from agentcom.transport.framing import text_frames
from agentcom.transport.socket import (
    CLOSE_LOST,
    CLOSE_NORMAL,
    CLOSE_PROTOCOL,
    CLOSE_SLOW,
    CLOSE_TOO_BIG,
    SOCKET_RECEIVE_BYTES,
    Head,
    Message,
    Opening,
    PortLimits,
    Socket,
    SocketListener,
    address,
    reason_bytes,
)

READ_BUFFER_BYTES: Final = 2_048  # picows' minimum; its default costs 14 KiB more per idle agent
COPY_SEND_BYTES_MIN: Final = 8_192  # above it picows' send() queues a view of its own buffer
FRAME_HEAD_BYTES: Final = 14  # room that picows wants before a payload it sends in place
_PEER_FAULTS: Final = ("WS parser error", "on_ws_frame raised WSProtocolError")
_NOTHING: Final = asyncio.Protocol()
_TEXT: Final = WSMsgType.TEXT
_CLOSE: Final = WSMsgType.CLOSE
_PONG: Final = WSMsgType.PONG


class _Log(logging.LoggerAdapter[logging.Logger]):
    """picows makes a child per socket of a plain logger, and reports the peer's faults as ours."""

    def error(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log at ERROR what is ours, at DEBUG what the peer did wrong."""
        theirs = str(msg).startswith(_PEER_FAULTS)
        self.log(logging.DEBUG if theirs else logging.ERROR, msg, *args, **kwargs)

    def info(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log at DEBUG: one connection is no news."""
        self.log(logging.DEBUG, msg, *args, **kwargs)


_LOG: Final = _Log(logging.getLogger("agentcom.transport.socket"), {})


class _Codec(WSProtocol):  # type: ignore[misc]  # untyped extension class
    """picows' protocol for a head that was read by someone else."""

    __slots__ = ()

    def replay(self, data: bytes) -> None:
        """Hand over bytes that were read already."""
        while data:
            room = self.get_buffer(-1)
            count = min(len(room), len(data))
            room[:count], data = data[:count], data[count:]
            self.buffer_updated(count)


def open_socket(transport: asyncio.Transport, opening: Opening) -> None:
    """Give an accepted connection to picows and tell the listener."""
    limits = opening.limits
    transport.set_write_buffer_limits(high=limits.send_bytes_max)
    _bound_receive_buffer(transport)
    codec = _Codec(
        None,
        None,
        False,  # picows takes its fifteen settings by position only
        _answer(opening, PicowsSocket(opening)),
        _LOG,
        True,  # close with 1011 when the listener fails
        None,
        False,  # no task per socket: the application has its own heartbeat
        1,
        1,
        WSAutoPingStrategy.PING_WHEN_IDLE,
        True,  # answer pings
        limits.message_bytes_max,
        None,
        READ_BUFFER_BYTES,
    )
    codec.connection_made(transport)
    transport.set_protocol(_NOTHING)  # uvloop keeps the old protocol alive across a direct switch
    transport.set_protocol(codec)
    # Only what picows looks at: it keeps the request as long as the socket lives.
    codec.replay(
        b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + opening.key + b"\r\n\r\n"
    )
    if opening.early:
        codec.replay(opening.early)


class PicowsSocket(WSListener):
    """One socket: picows' listener on one side, our `Socket` on the other."""

    __slots__ = (
        "_bytes_max",
        "_code",
        "_deadline",
        "_head",
        "_limits",
        "_listener",
        "_message",
        "_paused",
        "_registry",
        "_transport",
        "_trusted",
    )

    def __init__(self, opening: Opening) -> None:
        self._head: Head | None = opening.head
        self._limits = opening.limits
        self._listener: SocketListener = opening.listener
        self._registry = opening.registry
        self._trusted = opening.trusted
        self._bytes_max = _bytes_max(opening.limits, trusted=opening.trusted)
        self._message: Message | None = None
        self._transport: WSTransport | None = None
        self._code = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._paused = False

    @property
    def peer(self) -> str:
        """The address of the other side."""
        return address(self._raw.get_extra_info("peername"))

    @property
    def buffered_bytes(self) -> int:
        """What was sent but not yet taken by the kernel."""
        return self._raw.get_write_buffer_size()

    def send_text(self, payload: bytes) -> None:
        """Send one text message; nothing happens when the socket is closing."""
        transport = self._transport
        if transport is None or self._code:
            return
        if len(payload) <= COPY_SEND_BYTES_MIN:
            transport.send(_TEXT, payload)
            return
        # picows would queue a view of its header buffer, which the next send overwrites.
        framed = bytearray(FRAME_HEAD_BYTES) + payload
        transport.send_reuse_external_bytearray(_TEXT, framed, FRAME_HEAD_BYTES)

    def send_texts(self, payloads: Sequence[bytes]) -> None:
        """Send several text messages in one write."""
        if len(payloads) == 1:
            self.send_text(payloads[0])
        elif self._transport is not None and not self._code and not self._raw.is_closing():
            self._raw.write(text_frames(payloads))

    def close(self, code: int, reason: str = "") -> None:
        """Start the closing handshake and arm its deadline."""
        if self._transport is None or self._raw.is_closing() or self._code:
            self._arm()
            return
        self._code = code
        self._transport.send_close(_code(code), reason_bytes(reason))
        self.resume_reading()
        self._arm()

    def abort(self) -> None:
        """End the connection now and drop what is queued."""
        if self._transport is not None:
            self._transport.disconnect(graceful=False)

    def pause_reading(self) -> None:
        """Stop reading from the peer."""
        if not self._paused and not self._code and not self._raw.is_closing():
            self._paused = True
            self._raw.pause_reading()

    def resume_reading(self) -> None:
        """Read from the peer again."""
        if self._paused:
            self._paused = False
            if not self._raw.is_closing():
                self._raw.resume_reading()

    def trust(self) -> None:
        """Lift the limits for strangers."""
        if not self._trusted:
            self._trusted = True
            self._bytes_max = _bytes_max(self._limits, trusted=True)
            self._registry.trusted(self)

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Say hello to the listener."""
        self._transport = transport
        head, self._head = self._head, None
        assert head is not None
        self._registry.opened(self, peer=head.peer, trusted=self._trusted)
        self._listener.on_open(self, head)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Pass on a whole message; answer what is not one."""
        kind = frame.msg_type  # picows looks up its enum at each access
        if self._code and kind is not _CLOSE:
            return
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            self.close(CLOSE_PROTOCOL, "reserved bits are set")
            return
        payload = frame.get_payload_as_bytes()
        if kind is _TEXT and frame.fin and self._message is None and payload.isascii():
            if len(payload) <= self._bytes_max:  # nearly every frame
                self._listener.on_text(payload)
            else:
                self.close(CLOSE_TOO_BIG)
        elif kind is _CLOSE:
            self._closed_by_peer(transport, payload)
        elif kind is not _PONG:
            self._content(kind, payload, fin=bool(frame.fin))

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Say goodbye to the listener."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._registry.closed(self)
        self._listener.on_close(self._code or _code_sent(transport) or CLOSE_LOST)

    def pause_writing(self) -> None:
        """Drop a peer that does not read; it resumes from what is stored."""
        if not self._code:
            self._code = CLOSE_SLOW
        self.abort()

    def resume_writing(self) -> None:
        """Nothing to do: who paused is gone."""

    def _content(self, kind: Any, payload: bytes, *, fin: bool) -> None:
        message = self._message or Message()
        whole = message.add(int(kind), payload, fin=fin, bytes_max=self._bytes_max)
        self._message = message if whole is None else None
        if isinstance(whole, bytes):
            self._listener.on_text(whole)
        elif whole is not None:
            self.close(whole)

    def _closed_by_peer(self, transport: WSTransport, payload: bytes) -> None:
        if not self._code:
            self._code = int.from_bytes(payload[:2]) or CLOSE_NORMAL
            transport.send_close(_code(self._code))
        transport.disconnect()
        self._arm()

    def _arm(self) -> None:
        """A peer that neither answers nor reads must not keep the connection."""
        transport = self._transport
        if self._deadline is None and transport is not None and not transport.is_disconnected:
            loop = asyncio.get_running_loop()
            self._deadline = loop.call_later(self._limits.close_ms / 1000, self.abort)

    @property
    def _raw(self) -> asyncio.Transport:
        assert self._transport is not None, "used before on_open"
        return self._transport.underlying_transport


def _bytes_max(limits: PortLimits, *, trusted: bool) -> int:
    return limits.message_bytes_max if trusted else limits.message_bytes_max_untrusted


def _code(code: int) -> WSCloseCode:
    return code  # type: ignore[return-value]  # picows takes any number; its enum lacks 4xxx


def _code_sent(transport: WSTransport) -> int:
    """Return the code of the close frame that picows sent on its own, or 0."""
    handshake: Any = transport.close_handshake  # None until there is one
    sent = None if handshake is None else handshake.sent
    return 0 if sent is None else int(sent.code)


def _answer(opening: Opening, socket: PicowsSocket) -> Any:
    def answer(_request: object) -> WSUpgradeResponseWithListener:
        response: Any = WSUpgradeResponse.create_101_response()
        if opening.subprotocol is not None:
            response.headers["Sec-WebSocket-Protocol"] = opening.subprotocol
        assert response.status == HTTPStatus.SWITCHING_PROTOCOLS
        return WSUpgradeResponseWithListener(response, socket)

    return answer


def _bound_receive_buffer(transport: asyncio.Transport) -> None:
    raw = transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, SOCKET_RECEIVE_BYTES)


def _conforms(socket: PicowsSocket) -> Socket:
    return socket
