"""Feeds: who follows which log, from which sequence on.

A follower first reads what is stored, page by page, while what is published meanwhile waits in a
buffer; then it gets records as they are committed. Whoever does not keep up is let go and comes
back with the sequence it has, so nothing is missed and nothing comes twice.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import Final, Protocol

import structlog

from agentcom.hub import faults
from agentcom.hub.activities import Activities
from agentcom.model.batch import Append, Table
from agentcom.model.errors import Conflict, InvalidInput, NotFound
from agentcom.model.event import task_log
from agentcom.model.identity import Identity
from agentcom.model.ids import ProjectId, TaskId
from agentcom.model.task import Task
from agentcom.protocol import codec
from agentcom.protocol.frames import EventFrame, Progress
from agentcom.store.base import LogRecord, Store

ALL: Final = "*"
PAGE: Final = 256  # records of one read: some 100 KB
WAITING_MAX: Final = 4_096  # records published while a follower still reads what is stored
BEHIND_BYTES: Final = 524_288  # reading on waits until less than this is on its way
SLOW_BYTES: Final = 2_097_152  # a follower with more than this on its way is let go
STALL_MS: Final = 30_000  # and one that takes nothing for so long
_LOOK_MS: Final = 20
_PROJECTS_MAX: Final = 16_384  # tasks whose project is remembered, for followers of all logs

log = structlog.get_logger(__name__)


class Sink(Protocol):
    """Where a follower's records go."""

    @property
    def buffered_bytes(self) -> int:
        """What was given but has not left yet."""
        ...

    def records(self, first: int, payloads: Sequence[bytes], *, at_once: bool = False) -> None:
        """Take frames whose sequences follow one another; `at_once`: without waiting for more."""
        ...

    def activity(self, payload: bytes) -> None:
        """Take an `activity` frame."""
        ...

    def too_slow(self) -> None:
        """Let the follower go; it resumes by sequence."""
        ...


class Subscription:
    """One follower of one log, or of all."""

    __slots__ = ("cursor", "live", "log", "overflow", "progress", "project", "pump", "sink", "wait")

    def __init__(self, sink: Sink, project: ProjectId, log: str, *, progress: bool) -> None:
        self.sink = sink
        self.project = project
        self.log = log
        self.progress = progress
        self.cursor = 0
        self.live = False
        self.overflow = False
        self.wait: list[LogRecord] = []
        self.pump: asyncio.Task[None] | None = None


class Feeds:
    """Brings committed records, and progress, to those who follow."""

    def __init__(self, store: Store, activities: Activities) -> None:
        self._store = store
        self.activities = activities
        self._live_task: Callable[[TaskId], Task | None] = lambda _task: None
        self._by_log: dict[str, dict[Subscription, None]] = {}
        self._newest = 0
        """The newest sequence that was published."""
        self._projects: OrderedDict[TaskId, ProjectId] = OrderedDict()

    def attach(self, live_task: Callable[[TaskId], Task | None]) -> None:
        """Name who knows the live tasks."""
        self._live_task = live_task

    @property
    def follower_count(self) -> int:
        """How many subscriptions there are."""
        return sum(map(len, self._by_log.values()))

    def lag(self) -> tuple[int, int]:
        """Return the most records, and the most bytes, that a follower still has to get."""
        every = [one for followers in self._by_log.values() for one in followers]
        behind = [self._newest - one.cursor for one in every if not one.live and one.log == ALL]
        waiting = [one.sink.buffered_bytes for one in every]
        return max([0, *behind]), max([0, *waiting])

    async def check(self, identity: Identity, log: str, *, after: int = 0) -> None:
        """Return if there is such a log for this identity, and it can be followed from there.

        Raises:
            InvalidInput: it is no name of a log.
            NotFound: there is no such task, or not in this project.
            Conflict: no record has that sequence yet: the hub was restored to an earlier state.
        """
        if after > 0 and not await self._store.read(None, after - 1, 1):
            raise Conflict(f"this hub has no event {after} yet, so it was restored: start over")
        if log == ALL:
            return
        kind, _, name = log.partition("/")
        if kind != "task" or not name:
            raise InvalidInput("log", "use task/<id>, or * for all")
        if await self._project_of(TaskId(name)) != identity.project:
            raise NotFound(f"there is no task {name}")

    def follow(
        self,
        sink: Sink,
        identity: Identity,
        log: str,
        *,
        after: int = 0,
        live_only: bool = False,
        progress: bool = False,
    ) -> Subscription:
        """Bring `sink` the records of a log (checked before) after a sequence."""
        subscription = Subscription(sink, identity.project, log, progress=progress)
        subscription.cursor = after
        self._by_log.setdefault(log, {})[subscription] = None
        if live_only:
            subscription.live, subscription.cursor = True, 0
        else:
            self._read(subscription)
        return subscription

    def leave(self, subscription: Subscription) -> None:
        """End a subscription."""
        followers = self._by_log.get(subscription.log, {})
        followers.pop(subscription, None)
        if not followers:
            self._by_log.pop(subscription.log, None)
        if subscription.pump is not None:
            subscription.pump.cancel()

    def publish(self, first: int, appends: Sequence[Append]) -> None:
        """Bring committed records to those who are up to date; the others find them stored."""
        self._newest = first + len(appends) - 1
        if len(self.activities):
            self._end_activities(appends)
        if not self._by_log or not appends:
            return
        if [*self._by_log] == [ALL]:
            self._show(ALL, first, appends)
            return
        for seq, append in enumerate(appends, first):
            self._show(ALL, seq, [append])
            self._show(append.log, seq, [append])

    def progress(self, identity: Identity, report: Progress) -> bool:
        """Keep and show what an attempt's holder reports; False if it does not hold it."""
        task = self._live_task(report.task)
        if task is None or task.fence != report.fence or task.machine != identity.machine:
            return False
        activity = self.activities.note(identity, task.agent, report)
        payload: bytes | None = None
        for log in (task_log(task.id), ALL):
            for subscription in tuple(self._by_log.get(log, ())):
                sink = subscription.sink
                wanted = subscription.progress and subscription.project == task.project
                if wanted and sink.buffered_bytes < BEHIND_BYTES:
                    payload = payload or codec.encode(activity)
                    sink.activity(payload)
        return True

    def _end_activities(self, appends: Sequence[Append]) -> None:
        for append in appends:
            if not append.record.state.held:
                self.activities.ended(append.record.task)

    def _show(self, log: str, first: int, appends: Sequence[Append]) -> None:
        followers = tuple(self._by_log.get(log, ()))
        if not followers:
            return
        payloads = [
            codec.encode(EventFrame(seq=seq, log=log, event=append.record))
            for seq, append in enumerate(appends, first)
        ]
        projects = self._projects
        whose = [
            projects.get(append.record.task) or self._known_project(append.record.task)
            for append in appends
        ]
        for subscription in followers:
            self._bring(subscription, first, appends, payloads, whose)
            _let_go_if_slow(subscription)

    def _bring(
        self,
        to: Subscription,
        first: int,
        appends: Sequence[Append],
        payloads: Sequence[bytes],
        whose: Sequence[ProjectId | None],
    ) -> None:
        if to.live and first > to.cursor and whose.count(to.project) == len(whose):
            to.cursor = first + len(whose) - 1  # nearly always
            to.sink.records(first, payloads)
            return
        for seq, append, payload, project in zip(
            count(first), appends, payloads, whose, strict=False
        ):
            if not to.live:
                if len(to.wait) < WAITING_MAX:
                    to.wait.append(LogRecord(seq, append.log, append.record))
                else:
                    to.overflow = True
            elif project is None:
                to.cursor = max(to.cursor, seq - 1)  # all before this one came live
                self._read(to)  # the store knows whose task it is
            elif seq > to.cursor:
                to.cursor = seq
                if project == to.project:
                    to.sink.records(seq, [payload])

    # Reading what is stored ---------------------------------------------------------------------

    def _read(self, subscription: Subscription) -> None:
        subscription.live = False
        subscription.pump = asyncio.create_task(self._pump(subscription))
        subscription.pump.add_done_callback(partial(_check_pump, subscription))

    async def _pump(self, to: Subscription) -> None:
        while not to.live:
            if not await self._catch_up(to):
                return

    async def _catch_up(self, to: Subscription) -> bool:
        """Bring one page, or what is left; return False if the follower was let go."""
        # What is published from here on is either in this page or in the buffer, or in both.
        to.wait.clear()
        to.overflow = False
        size = 1 if faults.point("feeds: pages of one record") else PAGE
        page = await self._store.read(None if to.log == ALL else to.log, to.cursor, size)
        if not await self._deliver(to, page):
            return False
        if len(page) == size:
            return True
        while to.wait:
            waiting, to.wait = to.wait, []
            if not await self._deliver(to, waiting):
                return False
        to.live = not to.overflow
        return True

    async def _deliver(self, to: Subscription, records: Sequence[LogRecord]) -> bool:
        for record in records:
            if record.seq <= to.cursor:
                continue
            if to.sink.buffered_bytes > BEHIND_BYTES and not await drained(to.sink):
                to.sink.too_slow()
                return False
            everyone = to.log == ALL
            project = await self._project_of(record.record.task) if everyone else to.project
            to.cursor = record.seq
            if project == to.project:
                to.sink.records(record.seq, [_encode(record, to.log)])
        return True

    # Whose task it is ---------------------------------------------------------------------------

    async def _project_of(self, task: TaskId) -> ProjectId | None:
        project = self._projects.get(task) or self._known_project(task)
        if project is None:
            (row,) = await self._store.get([(Table.TASK, task)])
            if isinstance(row, Task):
                project = row.project
                self._remember(task, project)
        return project

    def _known_project(self, task: TaskId) -> ProjectId | None:
        row = self._live_task(task)
        if row is None:
            return None
        self._remember(task, row.project)
        return row.project

    def _remember(self, task: TaskId, project: ProjectId) -> None:
        self._projects[task] = project
        if len(self._projects) > _PROJECTS_MAX:
            self._projects.popitem(last=False)


def _encode(record: LogRecord, log: str) -> bytes:
    # The log that was subscribed to, so that a client tells two subscriptions apart.
    return codec.encode(EventFrame(seq=record.seq, log=log, event=record.record))


def _let_go_if_slow(subscription: Subscription) -> None:
    # One that reads what is stored is waited for there.
    if subscription.live and subscription.sink.buffered_bytes > SLOW_BYTES:
        subscription.sink.too_slow()


def _check_pump(subscription: Subscription, pump: "asyncio.Task[None]") -> None:
    error = None if pump.cancelled() else pump.exception()
    if error is not None:
        log.error("feed.failed", log=subscription.log, exc_info=error)
        subscription.sink.too_slow()  # it resumes


async def drained(sink: Sink) -> bool:
    """Wait until a slow reader has taken what it was sent; False if it takes too long."""
    for _ in range(STALL_MS // _LOOK_MS):
        await asyncio.sleep(_LOOK_MS / 1_000)
        if sink.buffered_bytes <= BEHIND_BYTES:
            return True
    return False
