"""One small interface for the agents' WebSockets, whatever codec is behind it.

A route looks at a `Head` and answers with a `SocketListener` (come in) or a `Refusal`. The
listener is then told what happens, and speaks through its `Socket`. Two codecs implement it:
`socket_picows.py` (compiled) and `socket_fallback.py` (websockets' sans-IO core). Who listens on
the port is `port.py`.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from agentcom.model.limits import FRAME_BYTES
from agentcom.transport.problem import Refusal

SUBPROTOCOL: Final = "agentcom.v1"

CLOSE_NORMAL: Final = 1000
CLOSE_PROTOCOL: Final = 1002
CLOSE_BINARY: Final = 1003
CLOSE_LOST: Final = 1006
CLOSE_BAD_TEXT: Final = 1007
CLOSE_TOO_BIG: Final = 1009
CLOSE_FAULT: Final = 1011
CLOSE_RESTART: Final = 1012
CLOSE_NOT_AUTHENTICATED: Final = 4401
CLOSE_NOT_ALLOWED: Final = 4403
CLOSE_SLOW: Final = 4408
CLOSE_SUPERSEDED: Final = 4409

CLOSE_REASON_BYTES_MAX: Final = 123  # RFC 6455 5.5: a control frame carries 125 bytes, 2 of code
OPCODE_CONTINUATION: Final = 0
OPCODE_TEXT: Final = 1
SOCKET_RECEIVE_BYTES: Final = 32_768
"""Kernel receive buffer of an agent's socket. The codec's read buffer doubles up to what one read
can return and never shrinks, so this bounds what an idle socket keeps after a burst."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortLimits:
    """What one connection may take, in milliseconds and bytes."""

    head_ms: int = 5_000  # a request line with its headers; also the TLS handshake
    head_bytes_max: int = 40_960  # 40 KiB: five times a browser's usual worst cookie
    body_ms: int = 15_000  # for each MiB that the route may take: about 70 KB/s at least
    body_bytes_max: int = 1_048_576  # a bulk submit of 1,000 tasks
    idle_ms: int = 5_000  # keep-alive between two requests
    stall_ms: int = 30_000  # a reader that takes nothing
    close_ms: int = 2_000  # from our close frame to the peer's
    linger_ms: int = 1_000  # so that a refusal is read before the reset
    message_bytes_max: int = FRAME_BYTES
    message_bytes_max_untrusted: int = 4_096  # the first frame, which authenticates
    send_bytes_max: int = 4_194_304  # 4 MiB queued for one socket, then it has to resume
    untrusted_per_address_max: int = 32
    untrusted_max: int = 512
    probation_max: int = 4_096  # above the caps: accepted only to look at the first head


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The head of one HTTP request, as far as a route may see it."""

    method: str
    path: bytes
    query: bytes
    headers: Sequence[tuple[bytes, bytes]]
    peer: str
    secure: bool

    def header(self, name: bytes) -> bytes | None:
        """Return the first value of `name` (lower case), if there is one."""
        return next((value for key, value in self.headers if key == name), None)

    def header_all(self, name: bytes) -> list[bytes]:
        """Return every value of `name` (lower case), in order."""
        return [value for key, value in self.headers if key == name]

    @property
    def bearer(self) -> str | None:
        """The bearer token of the Authorization header; never log it."""
        value = self.header(b"authorization")
        if value is None or value[:7].lower() != b"bearer ":
            return None
        return value[7:].strip().decode("latin-1") or None

    @property
    def subprotocols(self) -> list[str]:
        """The WebSocket subprotocols that the client offers, in its order of preference."""
        offers = b",".join(self.header_all(b"sec-websocket-protocol")).split(b",")
        return [name.strip().decode("latin-1") for name in offers if name.strip()]


class Socket(Protocol):
    """One open WebSocket, as its listener uses it. Only the loop's own thread may call it."""

    @property
    def peer(self) -> str:
        """The address of the other side."""
        ...

    @property
    def buffered_bytes(self) -> int:
        """What was sent but not yet taken by the kernel."""
        ...

    def send_text(self, payload: bytes) -> None:
        """Send one text message (valid UTF-8); nothing happens when the socket is closing."""
        ...

    def send_texts(self, payloads: Sequence[bytes]) -> None:
        """Send several text messages in one write: the system call costs more than all else."""
        ...

    def close(self, code: int, reason: str = "") -> None:
        """Start the closing handshake; the connection ends within `close_ms` in any case."""
        ...

    def abort(self) -> None:
        """End the connection now and drop what is queued."""
        ...

    def pause_reading(self) -> None:
        """Stop reading from the peer; what one read returned already still arrives."""
        ...

    def resume_reading(self) -> None:
        """Read from the peer again."""
        ...

    def trust(self) -> None:
        """Say that the peer is authenticated: full-size messages, outside the caps."""
        ...


class SocketListener(Protocol):
    """Who is told what happens on one socket. An exception closes the socket with 1011."""

    def on_open(self, socket: Socket, head: Head) -> None:
        """Called once, when the socket can be written to."""
        ...

    def on_text(self, payload: bytes) -> None:
        """Called for each whole message: valid UTF-8 within the size limit."""
        ...

    def on_close(self, code: int) -> None:
        """Called once, when the connection is gone; 1006 if nobody said why."""
        ...


@dataclass(frozen=True, slots=True)
class Accept:
    """A route's yes with a subprotocol of its own, or with none."""

    listener: SocketListener
    subprotocol: str | None


Route = Callable[[Head], SocketListener | Accept | Refusal]
"""Decides about one upgrade, at once. May raise an `AgentComError` instead of refusing."""


class SocketRegistry(Protocol):
    """Who keeps the list of open sockets."""

    def opened(self, socket: Socket, *, peer: str, trusted: bool) -> None:
        """Take note of a new socket."""
        ...

    def trusted(self, socket: Socket) -> None:
        """Take the socket out of the caps."""
        ...

    def closed(self, socket: Socket) -> None:
        """Forget the socket."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """All that a codec needs to take over a connection whose upgrade was accepted."""

    head: Head
    key: bytes
    subprotocol: str | None
    early: bytes
    """Bytes that came in the same packet, behind the head."""
    listener: SocketListener
    limits: PortLimits
    registry: SocketRegistry
    trusted: bool


OpenSocket = Callable[[asyncio.Transport, Opening], None]


class Message:
    """Joins the fragments of one text message and checks size, order and encoding."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: bytearray | None = None

    def add(self, opcode: int, payload: bytes, *, fin: bool, bytes_max: int) -> bytes | int | None:
        """Return the whole message, the close code that it earned, or None if there is more."""
        if opcode == OPCODE_TEXT:
            if self._parts is not None:
                return CLOSE_PROTOCOL
            return self._first(payload, fin=fin, bytes_max=bytes_max)
        if opcode != OPCODE_CONTINUATION:
            return CLOSE_BINARY
        if self._parts is None:
            return CLOSE_PROTOCOL
        return self._next(self._parts, payload, fin=fin, bytes_max=bytes_max)

    def _first(self, payload: bytes, *, fin: bool, bytes_max: int) -> bytes | int | None:
        if len(payload) > bytes_max:
            return CLOSE_TOO_BIG
        if fin:
            return checked_text(payload)
        self._parts = bytearray(payload)
        return None

    def _next(
        self, parts: bytearray, payload: bytes, *, fin: bool, bytes_max: int
    ) -> bytes | int | None:
        if len(parts) + len(payload) > bytes_max:
            return CLOSE_TOO_BIG
        parts += payload
        if not fin:
            return None
        self._parts = None
        return checked_text(bytes(parts))


def reason_bytes(reason: str) -> bytes:
    """Return `reason` as it fits into a close frame, cut between characters."""
    return reason.encode()[:CLOSE_REASON_BYTES_MAX].decode(errors="ignore").encode()


def address(peername: Any) -> str:
    """Return the host part of what a transport calls its peer."""
    return str(peername[0]) if isinstance(peername, Sequence) and peername else ""


def subprotocol_for(offers: Iterable[str]) -> str | None:
    """Return our subprotocol if it is among the offers."""
    return SUBPROTOCOL if SUBPROTOCOL in offers else None


def checked_text(payload: bytes) -> bytes | int:
    """Return `payload` if it is valid UTF-8, else the close code for that."""
    if payload.isascii():
        return payload
    try:
        payload.decode()
    except UnicodeDecodeError:
        return CLOSE_BAD_TEXT
    return payload
