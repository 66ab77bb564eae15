"""The WebSocket that a machine keeps to its hub: dials, pins, redials, carries frames.

It knows nothing of what the frames mean. Half-open connections are found by whoever sends
heartbeats, who calls `drop`; the keepalive of WebSocket itself is off, so an idle link is silent.
"""

import asyncio
import contextlib
import hashlib
import hmac
import ipaddress
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, ClassVar, Final, Literal
from urllib.parse import urlsplit

import msgspec
import structlog
from websockets import Subprotocol
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from agentcom.model import errors, limits
from agentcom.model.ids import Rng
from agentcom.protocol import codec, frames

OPEN_TIMEOUT_S: Final = 10.0
"""TCP, TLS and upgrade together; beyond it the next attempt has better odds."""
CLOSE_TIMEOUT_S: Final = 2.0
"""How long the hub may take to answer our goodbye."""
BACKOFF_BASE_MS: Final = 500
BACKOFF_MAX_MS: Final = 30_000
"""A hub that comes back is found within this; 5,000 machines spread their dials over it."""
SEND_QUEUE_MAX: Final = 1_024
"""Frames that wait for a slow line; then the link is dropped, since reports are stored."""
TAKEOVERS_MAX: Final = 3
TAKEOVER_WINDOW_S: Final = 60.0
"""Two processes with one identity push each other out; more than this is no accident."""

_NOT_AUTHENTICATED: Final = frozenset({401, 4401})
_NOT_ALLOWED: Final = frozenset({403, 4403})
_SUPERSEDED: Final = 4409
_TRY_LATER: Final = frozenset({429, 503})

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


class NotReached(errors.AgentComError):
    """The hub did not take the connection; it is tried again."""

    code: ClassVar[str] = "unavailable"
    status: ClassVar[int] = 503
    retryable: ClassVar[bool] = True

    def __init__(self, message: str, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


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
        self._url = check_url(url, insecure=insecure)
        self._token = token
        self._ssl = _context(self._url, fingerprint)
        self._software = software
        # A proxy elsewhere cannot reach this computer's loopback.
        self._proxy: Literal[True] | None = (
            None if _loopback(urlsplit(self._url).hostname) else True
        )
        self._backoff = Backoff(rng)
        self._connection: ClientConnection | None = None
        self._out: asyncio.Queue[frames.Frame] = asyncio.Queue(SEND_QUEUE_MAX)
        self._closed = asyncio.Event()
        self._takeovers: deque[float] = deque(maxlen=TAKEOVERS_MAX + 1)

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

    def send(self, frame: frames.Frame) -> None:
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
            return await _Connect(
                self._url,
                ssl=self._ssl,
                proxy=self._proxy,
                subprotocols=[Subprotocol(frames.SUBPROTOCOL)],
                additional_headers={"Authorization": f"Bearer {self._token}"},
                user_agent_header=self._software,
                compression=None,
                max_size=limits.FRAME_BYTES,
                ping_interval=None,
                open_timeout=OPEN_TIMEOUT_S,
                close_timeout=CLOSE_TIMEOUT_S,
            )
        except InvalidStatus as error:
            raise _refusal(error) from None
        except (OSError, TimeoutError, WebSocketException, EOFError) as error:
            reason = str(error) or type(error).__name__
            raise NotReached(f"cannot reach {self._url}: {reason}") from error

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
        if lost.code in _NOT_AUTHENTICATED:
            raise errors.NotAuthenticated(_UNKNOWN)
        if lost.code in _NOT_ALLOWED:
            raise errors.NotAllowed(f"the hub does not let this machine in: {lost.reason}")
        if lost.code != _SUPERSEDED:
            return
        now = asyncio.get_running_loop().time()
        self._takeovers.append(now)
        many = len(self._takeovers) > TAKEOVERS_MAX
        if many and now - self._takeovers[0] <= TAKEOVER_WINDOW_S:
            raise errors.Superseded(
                "another process connects as this machine again and again: "
                "stop one of the two, or enrol it under its own name with a join code"
            )

    async def _pause(self) -> None:
        pause_s = self._backoff.next_ms() / 1000
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._closed.wait()


_UNKNOWN: Final = (
    "the hub does not accept this machine's token: it was revoked, or is for another hub; "
    "get a join code with `agentcom machine invite` and run `agentcom join` again"
)


class _Connect(connect):
    def process_redirect(self, exc: Exception) -> Exception | str:
        # A redirect would carry the token to wherever it points.
        return exc


class _PinnedObject(ssl.SSLObject):
    """Compares the peer's certificate at the end of the handshake, before a byte is sent."""

    fingerprint: ClassVar[bytes]

    def do_handshake(self) -> None:
        super().do_handshake()
        certificate = self.getpeercert(binary_form=True) or b""
        if not hmac.compare_digest(hashlib.sha256(certificate).digest(), self.fingerprint):
            raise ssl.SSLCertVerificationError(
                "the hub's certificate is not the one that the join code named"
            )


def check_url(url: str, *, insecure: bool = False) -> str:
    """Return `url` as a WebSocket address with the path of the hub's door.

    Raises:
        InvalidInput: another scheme, no host, credentials, or clear text off this computer.
    """
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    if scheme not in ("ws", "wss") or not parts.hostname or "@" in parts.netloc:
        raise errors.InvalidInput("hub", "use https://HOST[:PORT] or http://127.0.0.1[:PORT]")
    if scheme == "ws" and not insecure and not _loopback(parts.hostname):
        raise errors.InvalidInput("hub", "off this computer the token needs https")
    path = parts.path if parts.path not in ("", "/") else "/ws"
    return f"{scheme}://{parts.netloc}{path}"


def parse_fingerprint(text: str) -> bytes:
    """Return the 32 bytes of a SHA-256 in hexadecimal, with or without colons and `sha256:`.

    Raises:
        InvalidInput: it is no SHA-256.
    """
    try:
        digest = bytes.fromhex(text.removeprefix("sha256:").replace(":", ""))
    except ValueError:
        digest = b""
    if len(digest) != hashlib.sha256().digest_size:
        raise errors.InvalidInput("fingerprint", "it must be a SHA-256 in hexadecimal")
    return digest


def _loopback(host: str | None) -> bool:
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return host == "localhost"


def _context(url: str, fingerprint: str | None) -> ssl.SSLContext | None:
    if not url.startswith("wss:"):
        return None
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if fingerprint is None:
        return context
    # The pin is stricter than any name or authority, so neither is asked.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    digest = parse_fingerprint(fingerprint)
    context.sslobject_class = type("PinnedObject", (_PinnedObject,), {"fingerprint": digest})
    return context


def _refusal(error: InvalidStatus) -> errors.AgentComError:
    status = error.response.status_code
    if status in _NOT_AUTHENTICATED:
        return errors.NotAuthenticated(_UNKNOWN)
    if status in _NOT_ALLOWED:
        return errors.NotAllowed("the hub does not let this machine in")
    after = error.response.headers.get("Retry-After", "") if status in _TRY_LATER else ""
    hint = int(after) * 1000 if after.isascii() and after.isdigit() and len(after) < 6 else None  # noqa: PLR2004 - a day in seconds
    return NotReached(f"the hub answered {status}", hint)


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


async def _write(connection: ClientConnection, out: "asyncio.Queue[frames.Frame]") -> None:
    encode: Callable[[Any], bytes] = codec.encode
    while True:
        await connection.send(encode(await out.get()), text=True)
