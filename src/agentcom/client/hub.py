"""The Python client of a hub: submits, cancels, follows, waits; and HTTP for everything else.

It connects again by itself. What was asked and not answered is asked again with the same key, so
it happens once; what is followed goes on after the last sequence.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import structlog

from agentcom.client.connection import Connection, ConnectionLost, Heard, Request, Shown
from agentcom.client.dialling import Dial, NotReached
from agentcom.client.follow import Follow, News
from agentcom.client.follows import ALL, Follows
from agentcom.client.http import HttpCalls, Params
from agentcom.client.keys import new_key
from agentcom.client.link import Backoff
from agentcom.client.schedules import ScheduleCalls
from agentcom.model import errors
from agentcom.model.errors import AgentComError
from agentcom.model.event import TaskEvent, task_log
from agentcom.model.ids import Rng, TaskId
from agentcom.model.replies import Done, Reply, Submitted, TaskChanged
from agentcom.model.task import Task, TaskSpec
from agentcom.protocol import frames
from agentcom.protocol.live import PRESENCE, LetterFrame, PresenceFrame

REQUEST_TIMEOUT_S: Final = 30.0
"""Time for an answer, reconnects included."""
KEEPALIVE_S: Final = 20.0
"""A follower hears nothing while nothing happens: a line that is dead is noticed in twice this."""
_NO_ANSWER: Final = (
    "the hub did not answer in time; the outcome is unknown, so ask again with the same key"
)

R = TypeVar("R", bound=Reply)
T = TypeVar("T")

log = structlog.get_logger(__name__)


class HubClient:
    """A hub, as a program sees it; made by `connect`."""

    def __init__(self, dial: Dial, *, rng: Rng | None = None) -> None:
        self.http = HttpCalls(dial)
        self.schedules = ScheduleCalls(self.http)
        self._dial = dial
        self._rng = rng or random.SystemRandom()
        self._backoff = Backoff(self._rng)
        self._connection: Connection | None = None
        self._incarnation: int | None = None
        """The hub's, as it was on the last connection."""
        self._changed = asyncio.Event()
        self._follows = Follows(self._subscribe, self._tell)
        self._failed: AgentComError | None = None
        self._keeper: asyncio.Task[None] | None = None

    @classmethod
    async def connect(
        cls,
        url: str,
        token: str,
        *,
        fingerprint: str | None = None,
        insecure: bool = False,
        proxy: str | bool = True,
        software: str = "agentcom",
        rng: Rng | None = None,
    ) -> Self:
        """Connect to the hub at `url`; `fingerprint` pins its certificate by SHA-256.

        Raises:
            NotReached: there is no hub there.
            NotAuthenticated: the hub does not know the token.
            NotAllowed: the hub does not let this token in.
            InvalidInput: the address is none, or would send the token in clear.
        """
        client = cls(
            Dial(
                url=url,
                token=token,
                fingerprint=fingerprint,
                insecure=insecure,
                proxy=proxy,
                software=software,
                keepalive_s=KEEPALIVE_S,
            ),
            rng=rng,
        )
        try:
            first = await Connection.open(client._dial, client._show)
        except BaseException:
            await client.http.close()
            raise
        client._use(first)
        client._keeper = asyncio.create_task(client._keep(first))
        return client

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the client."""
        await self.close()

    async def close(self) -> None:
        """Let go of the hub; what still waits for an answer fails."""
        self._fail(ConnectionLost("the client was closed"))
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        await self._follows.close()
        if self._connection is not None:
            await self._connection.close()
        await self.http.close()

    # Tasks --------------------------------------------------------------------------------------

    async def submit(
        self,
        specs: Sequence[TaskSpec],
        key: str | None = None,
        *,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> Submitted:
        """Ask for tasks, all or none; with the same `key` it happens once, however often asked.

        Raises:
            Timeout: no answer in time; the outcome is unknown, so ask again with the same key.
            AgentComError: what the hub refused it with.
        """
        frame = frames.SubmitFrame(key=key or new_key(), tasks=tuple(specs))
        return await self._request(frame, Submitted, timeout_s)

    async def cancel(
        self,
        task: TaskId,
        reason: str = "",
        key: str | None = None,
        *,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> Task:
        """Ask for a task to end; return it as it is then. Raises as `submit`."""
        frame = frames.CancelFrame(key=key or new_key(), task=task, reason=reason)
        return (await self._request(frame, TaskChanged, timeout_s)).task

    async def follow(
        self, task: str = ALL, after: int = 0, *, progress: bool = False, live_only: bool = False
    ) -> AsyncIterator[News]:
        """Yield the events of a task, or of all tasks (`*`), after a sequence; and progress.

        On a hub that was restored meanwhile, or to a state before that sequence, it starts over.

        Raises:
            NotFound: there is no such task.
        """
        async with self.following(task, after, progress=progress, live_only=live_only) as events:
            async for news in events:
                yield news

    def following(
        self, task: str = ALL, after: int = 0, *, progress: bool = False, live_only: bool = False
    ) -> AbstractAsyncContextManager[Follow[News]]:
        """Follow as `follow` does; when the block is entered, the hub has begun to send."""
        frame = frames.Subscribe(
            key=new_key(),
            log=ALL if task == ALL else task_log(TaskId(task)),
            after=after,
            live_only=live_only,
            progress=progress,
        )
        return self._follows.open(frame, Follow[News])

    def listening(
        self, log: str, after: int = 0, *, live_only: bool = False
    ) -> AbstractAsyncContextManager[Follow[LetterFrame]]:
        """Follow one's own mailbox (`mail`) or a channel (`channel/NAME`) after a sequence.

        When the block is entered, the hub has begun to send. Reading ends with `NotFound` when one
        does not see the channel any more.
        """
        frame = frames.Subscribe(key=new_key(), log=log, after=after, live_only=live_only)
        return self._follows.open(frame, Follow[LetterFrame])

    def watching(
        self, *, needs: Sequence[str] = (), states: Sequence[str] = ()
    ) -> AbstractAsyncContextManager[Follow[PresenceFrame]]:
        """Follow who is there, of those that fit what is asked for.

        A frame that says `first` begins anew: the first one of all, and that after a reconnect.
        """
        frame = frames.Subscribe(
            key=new_key(), log=PRESENCE, needs=tuple(needs), states=tuple(states)
        )
        return self._follows.open(frame, Follow[PresenceFrame])

    async def wait(self, task: TaskId, *, timeout_s: float | None = None) -> TaskEvent:
        """Return the event with which a task ended.

        Raises:
            Timeout: it has not ended in time.
            NotFound: there is no such task.
        """
        try:
            async with asyncio.timeout(timeout_s):
                async with self.following(task) as events:
                    async for news in events:
                        if isinstance(news, frames.EventFrame) and news.event.state.terminal:
                            return news.event
        except TimeoutError:
            raise errors.Timeout(f"task {task} has not ended in time") from None
        raise AssertionError

    # Everything else ----------------------------------------------------------------------------

    async def get(self, path: str, kind: type[T], params: Params | None = None) -> T:
        """Return what is at `path` of the HTTP interface, decoded as `kind`."""
        return await self.http.get(path, kind, params)

    async def post(
        self, path: str, kind: type[T], body: Any = None, *, key: str | None = None
    ) -> T:
        """Send `body` to `path` of the HTTP interface, once per `key`."""
        return await self.http.post(path, kind, body, key=key or new_key())

    async def patch(self, path: str, kind: type[T], body: Any, *, key: str | None = None) -> T:
        """Change what is at `path` of the HTTP interface, once per `key`."""
        return await self.http.call("PATCH", path, kind, body=body, key=key or new_key())

    # The connection -----------------------------------------------------------------------------

    async def _request(
        self,
        frame: Request,
        kind: type[R],
        timeout_s: float,
        heard: Heard = lambda _reply: None,
    ) -> R:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._insist(frame, kind, heard)
        except TimeoutError:
            raise errors.Timeout(_NO_ANSWER) from None

    async def _insist(self, frame: Request, kind: type[R], heard: Heard) -> R:
        while True:
            connection = self._connection
            while connection is None:
                if self._failed is not None:
                    raise self._failed
                await self._changed.wait()
                connection = self._connection
            try:
                return await connection.request(frame, kind, heard)
            except ConnectionLost:
                if self._connection is connection:
                    self._changed.clear()
                    self._connection = None
            except errors.RateLimited as error:
                # Not all at the same moment: who was refused together would come back together.
                later_ms = error.retry_after_ms * (1 + self._rng.random())
                await asyncio.sleep(later_ms / 1_000)

    async def _keep(self, connection: Connection) -> None:
        """Replace each connection that breaks, until one is refused for good."""
        try:
            while True:
                error = await connection.ended()
                self._changed.clear()
                self._connection = None
                await connection.close()
                if not isinstance(error, ConnectionLost):
                    raise error  # the same end as a refused dial
                log.info("connection.lost", reason=error.message)
                connection = await self._redial()
                self._use(connection)
        except AgentComError as error:
            self._fail(error)

    async def _redial(self) -> Connection:
        while True:
            await asyncio.sleep(self._backoff.next_ms() / 1_000)
            try:
                return await Connection.open(self._dial, self._show)
            except (NotReached, ConnectionLost) as error:
                after_ms = error.retry_after_ms if isinstance(error, NotReached) else None
                if after_ms is not None:
                    self._backoff.hint(after_ms)

    def _use(self, connection: Connection) -> None:
        known, self._incarnation = self._incarnation, connection.ready.incarnation
        self._connection = connection
        self._backoff.settle()
        self._changed.set()
        self._follows.resume(restored=known not in (None, self._incarnation))

    def _fail(self, error: AgentComError) -> None:
        if self._failed is not None:
            return
        self._failed = error
        self._changed.set()
        self._follows.fail(error)

    async def _subscribe(self, frame: frames.Subscribe, heard: Heard) -> None:
        await self._request(frame, Done, REQUEST_TIMEOUT_S, heard)

    def _show(self, news: Shown) -> None:
        if isinstance(news, frames.Drain):
            self._backoff.hint(news.retry_after_ms)
        else:
            self._follows.show(news)

    def _tell(self, frame: Request) -> None:
        if self._connection is not None:
            self._connection.send(frame)
