"""The WebSocket that a machine keeps to its hub: dials, pins, redials, carries frames.

It knows nothing of what the frames mean. Half-open connections are found by whoever sends
heartbeats, who calls `drop`, and by the kernel (`keepalive.py`); the keepalive of WebSocket itself
is off, so an idle link wakes nobody.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import msgspec
import structlog
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from agentcom.client import dialling
from agentcom.client.dialling import CLOSE_TIMEOUT_S, Dial, NotReached, check_url, tls_context
from agentcom.model import errors
from agentcom.model.ids import Rng
from agentcom.protocol import codec, frames

BACKOFF_BASE_MS: Final = 500
BACKOFF_MAX_MS: Final = 30_000
"""A hub that comes back is found within this; 5,000 machines spread their dials over it."""
SEND_QUEUE_MAX: Final = 1_024
"""Frames that wait for a slow line; then the link is dropped, since reports are stored."""
TAKEOVERS_MAX: Final = 3
TAKEOVER_WINDOW_S: Final = 60.0
"""Two processes with one identity push each other out; more than this is no accident."""

_NOT_AUTHENTICATED: Final = 4401
_NOT_ALLOWED: Final = 4403
_SUPERSEDED: Final = 4409

_UNKNOWN: Final = (
    "the hub does not accept this machine's token: it was revoked, or is for another hub; "
    "get a join code with `agentcom machine invite`, move this machine's folder away, and run "
    "`agentcom join`"
)

log = structlog.get_logger(__name__)


class Opened(msgspec.Struct, frozen=True):
    """The hub took the connection."""


class Received(msgspec.Struct, frozen=True):
    """The hub sent a frame."""

    frame: frames.FromHub


class Lost(msgspec.Struct, frozen=True):
    """The connection is gone; the link dials again by itself."""

    reason: str
    code: int | None = None


LinkEvent = Opened | Received | Lost


class Backoff:
    """Pauses between dials: exponential with full jitter; a hint of the hub is a lower bound."""

    def __init__(self, rng: Rng) -> None:
        self._rng = rng
        self._failures = 0
        self._hint_ms: int | None = None

    def next_ms(self) -> int:
        """Return how long to wait before the next dial."""
        ceiling = min(BACKOFF_MAX_MS, BACKOFF_BASE_MS << min(self._failures, 16))
        self._failures += 1
        hint, self._hint_ms = self._hint_ms, None
        return min(hint or 0, 10 * BACKOFF_MAX_MS) + int(self._rng.random() * ceiling)

    def hint(self, after_ms: int) -> None:
        """Note when the hub wants to see us again."""
        self._hint_ms = after_ms

    def settle(self) -> None:
        """Start from the shortest pause again."""
        self._failures = 0


class Takeovers:
    """Counts how often another process pushed this one out; a few are a restart, many a mistake."""

    def __init__(self) -> None:
        self._at: deque[float] = deque(maxlen=TAKEOVERS_MAX + 1)

    def note(self, now_s: float) -> None:
        """Count one.

        Raises:
            Superseded: there were too many within a short time.
        """
        self._at.append(now_s)
        if len(self._at) > TAKEOVERS_MAX and now_s - self._at[0] <= TAKEOVER_WINDOW_S:
            raise errors.Superseded(
                "another process connects as this machine again and again: "
                "stop one of the two, or enrol it under its own name with a join code"
            )


class Link:
    """A connection that is made again until it is closed or refused for good."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        rng: Rng,
        fingerprint: str | None = None,
        software: str = "agentcom",
        insecure: bool = False,
    ) -> None:
        """`fingerprint` is the SHA-256 of the hub's certificate; None trusts the system's roots.

        Raises:
            InvalidInput: the address is no WebSocket address, or would send the token in clear.
        """
        address = check_url(url, insecure=insecure)
        tls_context(address, fingerprint)  # a pin that is none is told now, not at the first dial
        self._asked = Dial(
            url=address,
            token=token,
            fingerprint=fingerprint,
            insecure=insecure,
            software=software,
        )
        self._backoff = Backoff(rng)
        self._connection: ClientConnection | None = None
        self._out: asyncio.Queue[frames.FromPeer] = asyncio.Queue(SEND_QUEUE_MAX)
        self._closed = asyncio.Event()
        self._takeovers = Takeovers()

    async def events(self) -> AsyncIterator[LinkEvent]:
        """Yield what happens on the link, connection after connection, until `close`.

        Raises:
            NotAuthenticated: the hub does not know the token; a new join code is needed.
            NotAllowed: the hub knows the machine, and does not let it in.
            Superseded: another process uses this machine's identity.
        """
        while not self._closed.is_set():
            try:
                connection = await self._dial()
            except NotReached as error:
                log.info("link.not_reached", reason=error.message)
                if error.retry_after_ms is not None:
                    self._backoff.hint(error.retry_after_ms)
            else:
                async for event in self._serve(connection):
                    yield event
            await self._pause()

    def send(self, frame: frames.FromPeer) -> None:
        """Send without waiting; a line that is too slow is dropped, and `Lost` follows."""
        if self._connection is None:
            return
        try:
            self._out.put_nowait(frame)
        except asyncio.QueueFull:
            log.warning("link.too_slow", frames=SEND_QUEUE_MAX)
            self.drop()

    def settle(self) -> None:
        """The session stands: the next dial begins with the shortest pause."""
        self._backoff.settle()

    def drop(self, after_ms: int | None = None) -> None:
        """Cut the connection without a goodbye and dial again, at the earliest after `after_ms`."""
        if after_ms is not None:
            self._backoff.hint(after_ms)
        if self._connection is not None:
            self._connection.transport.abort()

    async def close(self) -> None:
        """Send what waits, say goodbye, and end `events`."""
        self._closed.set()
        connection = self._connection
        if connection is None:
            return
        with contextlib.suppress(TimeoutError, ConnectionClosed):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                while not self._out.empty():
                    await connection.send(codec.encode(self._out.get_nowait()), text=True)
        await connection.close(1001, "the machine goes away")

    async def _dial(self) -> ClientConnection:
        try:
            return await dialling.dial(self._asked)
        except errors.NotAuthenticated:
            raise errors.NotAuthenticated(_UNKNOWN) from None
        except errors.NotAllowed as error:
            raise errors.NotAllowed(_shut_out(error.message)) from None

    async def _serve(self, connection: ClientConnection) -> AsyncIterator[LinkEvent]:
        self._out = asyncio.Queue(SEND_QUEUE_MAX)
        self._connection = connection
        writer = asyncio.create_task(_write(connection, self._out))
        if self._closed.is_set():
            await connection.close(1001)
        lost = Lost("the connection ended")
        try:
            yield Opened()
            while True:
                frame = _decoded(await connection.recv(decode=False))
                if frame is not None:
                    yield Received(frame)
        except ConnectionClosed as error:
            lost = _lost(error)
        finally:
            self._connection = None
            writer.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionClosed):
                await writer
            connection.transport.abort()
        yield lost
        self._judge(lost)

    def _judge(self, lost: Lost) -> None:
        if lost.code == _NOT_AUTHENTICATED:
            raise errors.NotAuthenticated(_UNKNOWN)
        if lost.code == _NOT_ALLOWED:
            raise errors.NotAllowed(_shut_out(lost.reason))
        if lost.code == _SUPERSEDED:
            self._takeovers.note(asyncio.get_running_loop().time())

    async def _pause(self) -> None:
        pause_s = self._backoff.next_ms() / 1000
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._closed.wait()


def _shut_out(reason: str) -> str:
    return f"the hub does not let this machine in: {reason}"


def _lost(error: ConnectionClosed) -> Lost:
    received = error.rcvd
    if received is None:
        return Lost("the connection broke")
    return Lost(received.reason or f"closed with {received.code}", received.code)


def _decoded(data: bytes) -> frames.FromHub | None:
    try:
        return codec.decode_from_hub(data)
    except errors.AgentComError as error:
        # A newer hub may say more than this version understands; that is no reason to hang up.
        log.warning("frame.not_understood", code=error.code, reason=error.message)
        return None


async def _write(connection: ClientConnection, out: "asyncio.Queue[frames.FromPeer]") -> None:
    encode: Callable[[Any], bytes] = codec.encode
    while True:
        await connection.send(encode(await out.get()), text=True)
