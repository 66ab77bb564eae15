"""The Python client of a hub: submits, cancels, follows, waits; and HTTP for everything else.

It connects again by itself. What was asked and not answered is asked again with the same key, so
it happens once; what is followed goes on after the last sequence.
"""

import asyncio
import random
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import structlog

from agentcom.client.connection import Connection, ConnectionLost, Request, Shown
from agentcom.client.dialling import Dial, NotReached
from agentcom.client.follow import Follow, News
from agentcom.client.http import HttpCalls, Params
from agentcom.client.link import Backoff
from agentcom.client.schedules import ScheduleCalls
from agentcom.model import errors
from agentcom.model.errors import AgentComError
from agentcom.model.event import TaskEvent, task_log
from agentcom.model.ids import Rng, TaskId
from agentcom.model.replies import Done, Reply, Submitted, TaskChanged
from agentcom.model.task import Task, TaskSpec
from agentcom.protocol import frames

REQUEST_TIMEOUT_S: Final = 30.0
"""Time for an answer, reconnects included."""
KEEPALIVE_S: Final = 20.0
"""A follower hears nothing while nothing happens: a line that is dead is noticed in twice this."""
ALL: Final = "*"
_KEY_BYTES: Final = 12
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
        self._backoff = Backoff(rng or random.SystemRandom())
        self._connection: Connection | None = None
        self._incarnation: int | None = None
        """The hub's, as it was on the last connection."""
        self._changed = asyncio.Event()
        self._follows: dict[str, list[Follow]] = {}
        self._failed: AgentComError | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

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
        tasks = [*self._tasks, *([self._keeper] if self._keeper is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
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

    @asynccontextmanager
    async def following(
        self, task: str = ALL, after: int = 0, *, progress: bool = False, live_only: bool = False
    ) -> AsyncIterator[Follow]:
        """Follow as `follow` does; when the block is entered, the hub has begun to send."""
        name = ALL if task == ALL else task_log(TaskId(task))
        follow = Follow(
            name, after=after, progress=progress, live_only=live_only, again=self._again
        )
        others = self._follows.setdefault(name, [])
        if any(other.live_only for other in others) != live_only and others:
            raise errors.Conflict("this log is followed already, live only or from its start")
        others.append(follow)
        try:
            await self._subscribe(name)
            yield follow
        finally:
            others.remove(follow)
            if not others:
                self._follows.pop(name, None)
                self._tell(frames.Unsubscribe(key=new_key(), log=name))

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
        heard: Callable[[], None] = lambda: None,
    ) -> R:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._insist(frame, kind, heard)
        except TimeoutError:
            raise errors.Timeout(_NO_ANSWER) from None

    async def _insist(self, frame: Request, kind: type[R], heard: Callable[[], None]) -> R:
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
                await asyncio.sleep(error.retry_after_ms / 1_000)

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
        for name in self._follows:
            if known not in (None, self._incarnation):
                self._restart(name, "the hub was restored")
            self._again(name)

    def _fail(self, error: AgentComError) -> None:
        if self._failed is not None:
            return
        self._failed = error
        self._changed.set()
        for follows in self._follows.values():
            for follow in follows:
                follow.fail(error)

    # Following ----------------------------------------------------------------------------------

    def _show(self, news: Shown) -> None:
        if isinstance(news, frames.Drain):
            self._backoff.hint(news.retry_after_ms)
            return
        if isinstance(news, frames.EventFrame):
            names: tuple[str, ...] = (news.log,)  # the log that was subscribed to, maybe all
        else:
            names = (task_log(news.task), ALL)
        for name in names:
            for follow in self._follows.get(name, ()):
                follow.take(news)

    async def _subscribe(self, name: str) -> None:
        follows = self._follows[name]
        after = min(follow.cursor for follow in follows)
        frame = frames.Subscribe(
            key=new_key(),
            log=name,
            after=after,
            live_only=all(follow.live_only for follow in follows),
            progress=any(follow.progress for follow in follows),
        )

        def heard() -> None:
            for follow in follows:
                follow.hear(after)

        try:
            await self._request(frame, Done, REQUEST_TIMEOUT_S, heard)
        except errors.Conflict as error:
            if after == 0:
                raise
            self._restart(name, error.message)
        if any(follow.cursor < after for follow in follows):
            await self._subscribe(name)  # one has started over since this was asked

    def _restart(self, name: str, reason: str) -> None:
        for follow in self._follows[name]:
            log.warning("follow.restarted", log=name, after=follow.cursor, reason=reason)
            follow.restart()

    def _again(self, name: str) -> None:
        """Subscribe once more: after a reconnect, or for a reader that missed something."""
        task = asyncio.create_task(self._resume(name))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _resume(self, name: str) -> None:
        try:
            if name in self._follows:
                await self._subscribe(name)
        except ConnectionLost:
            return  # the next connection subscribes again
        except AgentComError as error:
            for follow in self._follows.get(name, ()):
                follow.fail(error)

    def _tell(self, frame: Request) -> None:
        if self._connection is not None:
            self._connection.send(frame)


def new_key() -> str:
    """Return a request key that nobody has used; it sorts by time, which spares the store."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(_KEY_BYTES)}"
