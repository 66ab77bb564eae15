"""Followers get every record once and in order, from where they were; slow ones are let go."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from agentcom.hub import feeds as feeds_module
from agentcom.hub.activities import LOOP_CALLS, Activities
from agentcom.hub.feeds import ALL, SLOW_BYTES, Feeds
from agentcom.model.batch import Append, Batch, Insert, Table
from agentcom.model.errors import InvalidInput, NotFound
from agentcom.model.event import EventKind, TaskEvent, task_log
from agentcom.model.identity import Identity, Role
from agentcom.model.ids import (
    DEFAULT_POOL,
    DEFAULT_PROJECT,
    AgentId,
    BatchId,
    Fence,
    MachineId,
    ProjectId,
    TaskId,
    UserId,
    WallTime,
)
from agentcom.model.limits import LOG_TAIL_BYTES
from agentcom.model.task import Phase, Task, TaskState
from agentcom.protocol import codec, frames
from agentcom.store.base import Committed, LogRecord
from agentcom.store.memory import MemoryStore
from agentcom.testing.waiting import PATIENCE_S

ADA = Identity(role=Role.VIEWER, user=UserId("ada"), credential="k")
LAPTOP = Identity(role=Role.AGENT, user=UserId("ada"), credential="m", machine=MachineId("laptop"))


@dataclass
class Reader:
    """A sink that remembers."""

    events: list[frames.EventFrame] = field(default_factory=list)
    activities: list[frames.Activity] = field(default_factory=list)
    buffered_bytes: int = 0
    let_go: bool = False
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def records(self, first: int, payloads: Sequence[bytes], *, at_once: bool = False) -> None:
        for seq, payload in enumerate(payloads, first):
            frame = codec.decode_from_hub(payload)
            assert isinstance(frame, frames.EventFrame)
            assert frame.seq == seq
            self.events.append(frame)
        self.news.set()

    def activity(self, payload: bytes) -> None:
        frame = codec.decode_from_hub(payload)
        assert isinstance(frame, frames.Activity)
        self.activities.append(frame)

    def too_slow(self) -> None:
        self.let_go = True
        self.news.set()

    @property
    def sequences(self) -> list[int]:
        return [event.seq for event in self.events]

    async def until(self, what: Callable[["Reader"], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not what(self):
                self.news.clear()
                await self.news.wait()


class Hub:
    """A store with feeds, and tasks that events are about."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store = store or MemoryStore()
        self.live: dict[TaskId, Task] = {}
        self.feeds = Feeds(self.store, Activities())
        self.feeds.attach(self.live.get)
        self._batches = 0

    async def task(self, name: str, project: ProjectId = DEFAULT_PROJECT) -> TaskId:
        task = Task(
            id=TaskId(name),
            project=project,
            submitter=UserId("ada"),
            title=name,
            state=TaskState.RUNNING,
            changed_at=WallTime(0),
            incarnation=1,
            attempt=1,
            machine=MachineId("laptop"),
            agent=AgentId("bob"),
        )
        self.live[task.id] = task
        await self.commit(Insert(Table.TASK, task.id, task))
        return task.id

    async def commit(self, *changes: Insert, appends: Sequence[Append] = ()) -> int:
        self._batches += 1
        batch = Batch(
            id=BatchId(f"b{self._batches}"),
            pool=DEFAULT_POOL,
            changes=changes,
            appends=tuple(appends),
        )
        verdict = await self.store.commit(batch)
        assert isinstance(verdict, Committed)
        return verdict.first

    async def happen(self, *tasks: TaskId, state: TaskState = TaskState.RUNNING) -> None:
        appends = [
            Append(
                task_log(task),
                TaskEvent(kind=EventKind.PHASE, task=task, state=state, at=WallTime(0)),
            )
            for task in tasks
        ]
        self.feeds.publish(await self.commit(appends=appends), appends)

    def follow(self, log: str, after: int = 0, *, identity: Identity = ADA) -> Reader:
        reader = Reader()
        self.feeds.follow(reader, identity, log, after=after)
        return reader


@pytest.fixture
def hub() -> Hub:
    return Hub()


async def test_a_follower_gets_what_is_stored_and_then_what_comes(hub: Hub) -> None:
    task = await hub.task("t1")
    await hub.happen(task, task)
    reader = hub.follow(task_log(task))
    await reader.until(lambda it: it.sequences == [1, 2])

    await hub.happen(task)

    await reader.until(lambda it: it.sequences == [1, 2, 3])
    assert reader.events[0].log == "task/t1"


async def test_a_follower_resumes_after_its_sequence(hub: Hub) -> None:
    task = await hub.task("t1")
    await hub.happen(task, task, task)

    reader = hub.follow(task_log(task), after=2)

    await reader.until(lambda it: it.sequences == [3])


async def test_a_live_follower_gets_nothing_that_is_stored(hub: Hub) -> None:
    task = await hub.task("t1")
    await hub.happen(task)
    reader = Reader()
    hub.feeds.follow(reader, ADA, ALL, live_only=True)

    await hub.happen(task)

    assert reader.sequences == [2]
    assert reader.events[0].log == ALL


async def test_others_logs_do_not_reach_a_follower(hub: Hub) -> None:
    mine, other = await hub.task("t1"), await hub.task("t2")
    reader = Reader()
    hub.feeds.follow(reader, ADA, task_log(mine), live_only=True)

    await hub.happen(other, mine)

    assert reader.sequences == [2]


class SlowToRead(MemoryStore):
    """A store in which much happens while a page is being read."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: list[Callable[[], object]] = []

    async def read(self, log: str | None, after: int, limit: int) -> Sequence[LogRecord]:
        if self.meanwhile:
            await self.meanwhile.pop()()  # type: ignore[misc]  # returns a coroutine
        page = await super().read(log, after, limit)
        if self.meanwhile:
            await self.meanwhile.pop()()  # type: ignore[misc]  # likewise
        return page


@pytest.mark.parametrize("page", [1, 2, 256])
async def test_nothing_is_missed_or_doubled_while_the_backlog_is_read(
    page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds_module, "PAGE", page)
    store = SlowToRead()
    hub = Hub(store)
    task = await hub.task("t1")
    await hub.happen(task, task, task)
    store.meanwhile = [lambda: hub.happen(task) for _ in range(7)]

    reader = hub.follow(ALL)

    await reader.until(lambda it: len(it.events) == 10 - len(store.meanwhile))
    count = len(reader.events)
    await hub.happen(task)
    await reader.until(lambda it: len(it.events) == count + 1)
    assert reader.sequences == list(range(1, count + 2))


async def test_an_overflowing_buffer_is_read_from_the_store(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feeds_module, "WAITING_MAX", 2)
    store = SlowToRead()
    hub = Hub(store)
    task = await hub.task("t1")
    store.meanwhile = [lambda: hub.happen(task, task, task, task) for _ in range(4)]

    reader = hub.follow(ALL)

    await reader.until(lambda it: len(it.events) == 16)
    assert reader.sequences == list(range(1, 17))


async def test_a_follower_of_all_sees_only_its_project(hub: Hub) -> None:
    ours, theirs = await hub.task("t1"), await hub.task("t2", ProjectId("other"))
    await hub.happen(ours, theirs)
    reader = hub.follow(ALL)
    await reader.until(lambda it: it.sequences == [1])

    await hub.happen(theirs, ours)

    await reader.until(lambda it: it.sequences == [1, 4])


async def test_the_project_of_a_task_that_just_ended_is_looked_up(hub: Hub) -> None:
    task = await hub.task("t1")
    reader = Reader()
    hub.feeds.follow(reader, ADA, ALL, live_only=True)
    hub.live.clear()

    await hub.happen(task, task, state=TaskState.COMPLETED)

    await reader.until(lambda it: it.sequences == [1, 2])


async def test_a_slow_follower_is_let_go(hub: Hub) -> None:
    task = await hub.task("t1")
    reader = Reader()
    hub.feeds.follow(reader, ADA, ALL, live_only=True)
    reader.buffered_bytes = SLOW_BYTES + 1

    await hub.happen(task)

    assert reader.let_go


async def test_a_reader_that_takes_nothing_is_let_go(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds_module, "STALL_MS", 40)
    task = await hub.task("t1")
    await hub.happen(task)
    reader = Reader(buffered_bytes=SLOW_BYTES)

    hub.feeds.follow(reader, ADA, ALL)

    await reader.until(lambda it: it.let_go)
    assert reader.events == []


async def test_who_leaves_gets_nothing_more(hub: Hub) -> None:
    task = await hub.task("t1")
    reader = Reader()
    subscription = hub.feeds.follow(reader, ADA, ALL)

    hub.feeds.leave(subscription)
    await hub.happen(task)

    assert hub.feeds.follower_count == 0
    assert reader.events == []


async def test_there_are_only_logs_of_tasks_in_the_project(hub: Hub) -> None:
    await hub.task("t1")
    await hub.task("t2", ProjectId("other"))

    await hub.feeds.check(ADA, ALL)
    await hub.feeds.check(ADA, "task/t1")
    for log in ("task/t2", "task/none"):
        with pytest.raises(NotFound):
            await hub.feeds.check(ADA, log)
    for log in ("task/", "mail/x", ""):
        with pytest.raises(InvalidInput):
            await hub.feeds.check(ADA, log)


def report(task: TaskId, **more: object) -> frames.Progress:
    return frames.Progress(task=task, fence=Fence(1, 1), **more)  # type: ignore[arg-type]


async def test_progress_reaches_only_those_who_asked(hub: Hub) -> None:
    task = await hub.task("t1")
    curious, calm = Reader(), Reader()
    hub.feeds.follow(curious, ADA, task_log(task), live_only=True, progress=True)
    hub.feeds.follow(calm, ADA, task_log(task), live_only=True)

    assert hub.feeds.progress(LAPTOP, report(task, phase=Phase.WORKING, text="reading"))

    assert [it.text for it in curious.activities] == ["reading"]
    assert curious.activities[0].agent == "bob"
    assert calm.activities == []


async def test_progress_of_who_does_not_hold_the_task_is_ignored(hub: Hub) -> None:
    task = await hub.task("t1")
    stale = frames.Progress(task=task, fence=Fence(1, 0), text="old")

    assert not hub.feeds.progress(LAPTOP, stale)
    assert not hub.feeds.progress(ADA, report(task))
    assert hub.feeds.activities.get(task) is None


async def test_progress_is_forgotten_when_the_attempt_ends_but_its_log_stays(hub: Hub) -> None:
    task = await hub.task("t1")
    hub.feeds.progress(LAPTOP, report(task, text="testing", tool="pytest", log="one\n"))
    hub.feeds.progress(LAPTOP, report(task, text="testing", tool="pytest", log="two\n"))
    assert hub.feeds.activities.describe(task) == "testing; open tool call: pytest"

    await hub.happen(task, state=TaskState.FAILED)

    assert hub.feeds.activities.describe(task) == ""
    assert hub.feeds.activities.tail(task) == (1, "one\ntwo\n", None)


async def test_a_tool_call_that_is_made_again_and_again_is_called_a_loop(hub: Hub) -> None:
    task = await hub.task("t1")

    hub.feeds.progress(LAPTOP, report(task, tool="pytest", repeats=LOOP_CALLS - 1))
    assert hub.feeds.activities.describe(task) == "open tool call: pytest"
    hub.feeds.progress(LAPTOP, report(task, tool="pytest", repeats=LOOP_CALLS))

    described = hub.feeds.activities.describe(task)
    assert described.endswith("a retry loop? the same tool call 5 times in a row")


async def test_the_tail_of_a_log_is_bounded_and_is_of_the_newest_attempt(hub: Hub) -> None:
    task = await hub.task("t1")
    activities = hub.feeds.activities
    for _ in range(5):
        activities.note(LAPTOP, None, report(task, log="x" * (LOG_TAIL_BYTES // 3)))
    activities.note(LAPTOP, None, report(task, log="end"))

    tail = activities.tail(task)
    assert tail is not None
    assert len(tail[1]) == LOG_TAIL_BYTES
    assert tail[1].endswith("xend")

    activities.note(LAPTOP, None, frames.Progress(task=task, fence=Fence(1, 2), log="new"))
    assert activities.tail(task) == (2, "new", None)
