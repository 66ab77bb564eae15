"""A hub that speaks frames over a real WebSocket on loopback and does what a test tells it."""

import asyncio
import contextlib
import http
import ssl
from collections.abc import Callable
from typing import Self, TypeVar

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from agentcom.model.errors import NotAuthenticated
from agentcom.model.replies import Welcomed
from agentcom.model.result import ReportKind
from agentcom.protocol import codec, frames
from agentcom.testing.waiting import PATIENCE_S
from agentcom.transport.problem import problem_bytes

TOKEN = "acm_mch_test"
F = TypeVar("F", bound=frames.Frame)


class FakeHub:
    """Answers hellos, heartbeats and reports as a hub does, unless told otherwise."""

    def __init__(self, *, ttl_ms: int = 4_000, tls: ssl.SSLContext | None = None) -> None:
        self.ttl_ms = ttl_ms
        self.incarnation = 7
        self.acks = True
        self.beats = True
        self.welcomes = True
        self.refuse: tuple[int, dict[str, str]] | None = None
        self.got: list[frames.FromPeer] = []
        self.connections = 0
        self.refused = asyncio.Event()
        self.port = 0
        self._tls = tls
        self._sessions = 0
        self._current: ServerConnection | None = None
        self._server: Server | None = None
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        scheme = "https" if self._tls else "http"
        return f"{scheme}://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._server = await serve(
            self._serve,
            "127.0.0.1",
            self.port,
            ssl=self._tls,
            subprotocols=[frames.SUBPROTOCOL],  # type: ignore[list-item] # a NewType of str
            process_request=self._admit,
            compression=None,
        )
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close(code=1012)
            await self._server.wait_closed()
            self._server = None

    async def send(self, frame: frames.Frame) -> None:
        assert self._current is not None
        await self._current.send(codec.encode(frame).decode())

    async def send_text(self, text: str) -> None:
        assert self._current is not None
        await self._current.send(text)

    async def close(self, code: int = 1012) -> None:
        assert self._current is not None
        await self._current.close(code)

    def cut(self) -> None:
        """Break the connection as a network does."""
        assert self._current is not None
        self._current.transport.abort()

    async def expect(
        self, kind: type[F], matches: Callable[[F], bool] = lambda _: True, *, count: int = 1
    ) -> F:
        """Return the `count`th frame of a kind that matches, now or when it comes."""

        def found() -> list[F]:
            return [frame for frame in self.got if isinstance(frame, kind) and matches(frame)]

        async with asyncio.timeout(PATIENCE_S), self._changed:
            await self._changed.wait_for(lambda: len(found()) >= count)
        return found()[count - 1]

    async def connected(self, count: int = 1) -> None:
        """Wait for the `count`th machine that was welcomed (or would have been)."""
        await self.expect(frames.MachineHello, count=count)

    def all(self, kind: type[F]) -> list[F]:
        return [frame for frame in self.got if isinstance(frame, kind)]

    async def _admit(self, _: ServerConnection, request: Request) -> Response | None:
        self.connections += 1
        stranger = request.headers.get("Authorization") != f"Bearer {TOKEN}"
        if self.refuse is None and not stranger:
            return None
        self.refused.set()
        status, headers = self.refuse or (401, {})
        body = "no" if self.refuse else problem_bytes(NotAuthenticated("who are you?")).decode()
        response = _.respond(http.HTTPStatus(status), body)
        for name, value in headers.items():
            response.headers[name] = value
        return response

    async def _serve(self, connection: ServerConnection) -> None:
        self._current = connection
        with contextlib.suppress(ConnectionClosed):
            async for message in connection:
                data = message.encode() if isinstance(message, str) else message
                frame = codec.decode_from_peer(data)
                try:
                    await self._answer(frame)
                finally:
                    async with self._changed:
                        self.got.append(frame)
                        self._changed.notify_all()

    async def _answer(self, frame: frames.FromPeer) -> None:
        match frame:
            case frames.MachineHello():
                await self._welcome(frame)
            case frames.HeartbeatFrame(n=n):
                if self.beats:
                    await self.send(frames.Beat(n=n))
            case (
                frames.Checkpoint() | frames.Finish() | frames.StoppedFrame() | frames.LandedFrame()
            ):
                if self.acks:
                    await self.send(acknowledgement(frame))
            case _:
                pass

    async def _welcome(self, hello: frames.MachineHello) -> None:
        if not self.welcomes:
            return
        self._sessions += 1
        welcomed = Welcomed(
            session=self._sessions,
            ttl_ms=hello.ttl_ms or self.ttl_ms,
            heartbeat_ms=self.ttl_ms // 4,
            margin_ms=self.ttl_ms // 4,
        )
        await self.send(
            frames.Welcome(
                version=1,
                hub="fake",
                incarnation=self.incarnation,
                server_ms=0,
                welcomed=welcomed,
            )
        )


def acknowledgement(
    report: frames.Checkpoint | frames.Finish | frames.StoppedFrame | frames.LandedFrame,
) -> frames.Ack:
    """Return a hub's good answer."""
    kind = ReportKind(str(type(report).__struct_config__.tag))
    commit = report.commit if isinstance(report, frames.Checkpoint) else None
    return frames.Ack(task=report.task, fence=report.fence, of=kind, commit=commit)
