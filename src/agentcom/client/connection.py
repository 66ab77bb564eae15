"""One WebSocket of a client to its hub: requests and their replies, by key.

It ends for good when the socket does; `hub.py` opens the next one and asks again.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final, TypeVar, assert_never

import msgspec
import structlog
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from agentcom.client import dialling
from agentcom.client.dialling import Dial
from agentcom.client.problems import error_of
from agentcom.model import errors
from agentcom.model.errors import AgentComError
from agentcom.model.replies import Reply
from agentcom.protocol import codec, frames
from agentcom.protocol.live import Ended, LetterFrame, LogLevelFrame, LogWanted, PresenceFrame
from agentcom.protocol.review import ReviewFrame

READY_TIMEOUT_S: Final = 10.0
"""From the open socket to the hub's first frame."""
_NOT_AUTHENTICATED: Final = 4401
_NOT_ALLOWED: Final = 4403
_POLICY: Final = 1008
_REPLIES: Final[msgspec.json.Decoder[Reply]] = msgspec.json.Decoder(Reply)

R = TypeVar("R", bound=Reply)
Request = frames.SubmitFrame | frames.CancelFrame | frames.Subscribe | frames.Unsubscribe
Shown = frames.EventFrame | frames.Activity | frames.Drain | LetterFrame | PresenceFrame | Ended
Heard = Callable[[Reply], None]
_Waiting = tuple["asyncio.Future[Reply]", Heard]

log = structlog.get_logger(__name__)


def _nothing(_reply: Reply) -> None:
    return


class ConnectionLost(errors.Unavailable):
    """The connection to the hub broke; the outcome of what was asked is unknown."""


class Connection:
    """An open connection, from `ready` to its end."""

    def __init__(self, socket: ClientConnection, show: Callable[[Shown], None]) -> None:
        self.ready: frames.Ready
        self._socket = socket
        self._show = show
        self._requests: dict[str, list[_Waiting]] = {}
        self._out: list[bytes] = []
        self._outgoing = asyncio.Event()
        self._ended = asyncio.get_running_loop().create_future()
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def open(cls, asked: Dial, show: Callable[[Shown], None]) -> "Connection":
        """Connect, say hello, and return when the hub is ready.

        Raises:
            NotReached: no hub there, or it wants us later; trying again may help.
            NotAuthenticated: the hub does not know the token.
            NotAllowed: the hub does not let this token in.
            InvalidInput: the address is none, or would send the token in clear.
        """
        connection = cls(await dialling.dial(asked), show)
        try:
            await connection._hello(asked.software)
        except (ConnectionClosed, TimeoutError) as error:
            await connection.close()
            raise _verdict(error) from None
        except BaseException:
            await connection.close()
            raise
        connection._tasks = [
            asyncio.create_task(connection._read()),
            asyncio.create_task(connection._write()),
        ]
        return connection

    async def request(self, frame: Request, kind: type[R], heard: Heard = _nothing) -> R:
        """Return the hub's answer; a request that is under way already shares its answer.

        `heard` is called with the reply when it has come, before any frame behind it is handled.

        Raises:
            ConnectionLost: ask again with the same key on another connection.
            AgentComError: what the hub refused it with.
        """
        if self._ended.done():
            raise ConnectionLost("the connection to the hub broke")
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        others = self._requests.get(frame.key)
        if others is None:
            self._requests[frame.key] = [(future, heard)]
            self.send(frame)
        else:
            others.append((future, heard))
        reply = await future
        if not isinstance(reply, kind):
            raise errors.MalformedInput(f"the hub answered with {type(reply).__name__}")
        return reply

    def send(self, frame: frames.Frame) -> None:
        """Send without waiting."""
        if self._ended.done():
            return
        self._out.append(codec.encode(frame))
        self._outgoing.set()

    async def ended(self) -> AgentComError:
        """Return why the connection is over, when it is."""
        return await asyncio.shield(self._ended)

    async def close(self) -> None:
        """Say goodbye."""
        self._end(ConnectionLost("the client was closed"))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(ConnectionClosed):
            for payload in self._out:
                await self._socket.send(payload, text=True)
        await self._socket.close()

    async def _hello(self, software: str) -> None:
        async with asyncio.timeout(READY_TIMEOUT_S):
            hello = frames.Hello(software=software)
            await self._socket.send(codec.encode(hello), text=True)
            frame = codec.decode_from_hub(await self._socket.recv(decode=False))
        if isinstance(frame, frames.ErrorFrame):
            raise error_of(frame.code, frame.message, retry_after_ms=frame.retry_after_ms)
        if not isinstance(frame, frames.Ready):
            raise errors.MalformedInput("this is no AgentCom hub: it does not say `ready`")
        self.ready = frame

    async def _read(self) -> None:
        try:
            while True:
                payload = await self._socket.recv(decode=False)
                try:
                    frame = codec.decode_from_hub(payload)
                except errors.Unsupported:
                    continue  # a newer hub may say more than this version understands
                self._take(frame)
        except ConnectionClosed as error:
            self._end(_verdict(error))
        except AgentComError as error:
            self._end(error)

    async def _write(self) -> None:
        with contextlib.suppress(ConnectionClosed):  # the reader tells
            while True:
                await self._outgoing.wait()
                self._outgoing.clear()
                out, self._out = self._out, []
                for payload in out:
                    await self._socket.send(payload, text=True)

    def _take(self, frame: frames.FromHub) -> None:
        match frame:
            case frames.ReplyFrame(key=key, reply=raw):
                reply = _REPLIES.decode(raw)
                for future, heard in self._requests.pop(key, ()):
                    heard(reply)
                    if not future.done():
                        future.set_result(reply)
            case frames.ErrorFrame():
                self._refused(frame)
            case (
                frames.EventFrame()
                | frames.Activity()
                | frames.Drain()
                | LetterFrame()
                | PresenceFrame()
                | Ended()
            ):
                self._show(frame)
            case (
                frames.Ready()
                | frames.Welcome()
                | frames.Beat()
                | frames.Assign()
                | frames.StopFrame()
                | frames.Notice()
                | frames.LandFrame()
                | frames.Ack()
                | frames.MailFrame()
                | ReviewFrame()
                | LogWanted()
                | LogLevelFrame()
            ):
                return  # for machines
            case _:
                assert_never(frame)

    def _refused(self, frame: frames.ErrorFrame) -> None:
        if frame.key is None:
            log.warning("frame.refused", code=frame.code, reason=frame.message)
            return
        error = error_of(frame.code, frame.message, retry_after_ms=frame.retry_after_ms)
        if frame.cause:
            error.cause = frame.cause
        for future, _ in self._requests.pop(frame.key, ()):
            _fail(future, error)

    def _end(self, error: AgentComError) -> None:
        if self._ended.done():
            return
        self._ended.set_result(error)
        requests, self._requests = self._requests, {}
        for waiting in requests.values():
            for future, _ in waiting:
                _fail(future, ConnectionLost(error.message))


def _fail(future: "asyncio.Future[Reply]", error: AgentComError) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # whoever asked may have given up meanwhile


def _verdict(error: ConnectionClosed | TimeoutError) -> AgentComError:
    """Return what the end of a connection means: only `ConnectionLost` is worth another try."""
    received = error.rcvd if isinstance(error, ConnectionClosed) else None
    if received is None:
        return ConnectionLost("the connection to the hub broke")
    reason = received.reason or f"the hub closed with {received.code}"
    if received.code == _NOT_AUTHENTICATED:
        return errors.NotAuthenticated(reason)
    if received.code == _NOT_ALLOWED:
        return errors.NotAllowed(reason)
    if received.code == _POLICY:
        return errors.Unsupported(f"the hub does not understand this client: {reason}")
    return ConnectionLost(reason)
