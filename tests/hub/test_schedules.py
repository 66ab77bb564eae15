"""Schedules on a real engine and a store in memory, with a clock that is moved by hand."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agentcom.core import facts, loops
from agentcom.core.loops import SCHEDULE
from agentcom.hub.config import HubConfig
from agentcom.hub.services import Services
from agentcom.model import limits
from agentcom.model.batch import Batch, Insert, Table, Update
from agentcom.model.errors import (
    Conflict,
    InvalidInput,
    NameTaken,
    NotAllowed,
    NotFound,
    StorageFull,
    Unavailable,
)
from agentcom.model.graph import Dependency
from agentcom.model.identity import Identity, Role, User
from agentcom.model.ids import (
    DEFAULT_POOL,
    DEFAULT_PROJECT,
    BatchId,
    ProjectId,
    TaskId,
    UserId,
    WallTime,
)
from agentcom.model.schedule import Missed, Overlap, Schedule
from agentcom.model.task import Task, TaskSpec, TaskState
from agentcom.store.base import Full, Query, Verdict
from agentcom.store.memory import MemoryStore
from agentcom.testing.waiting import until
from tests.hub.doubles import EPOCH_MS, ManualClock

ANN = Identity(role=Role.ADMIN, user=UserId("ann"), credential="a")
BEN = Identity(role=Role.SUBMITTER, user=UserId("ben"), credential="b")
EVE = Identity(role=Role.SUBMITTER, user=UserId("eve"), credential="e")
AWAY = msgspec.structs.replace(ANN, project=ProjectId("elsewhere"))
MINUTE = 60_000
HOUR = 60 * MINUTE
SPEC = TaskSpec(title="tidy", prompt="p")


def wanted(name: str = "tidy", cron: str = "0 * * * *", **fields: Any) -> Schedule:
    """Return an hourly schedule as someone asks for it; `EPOCH_MS` is a full hour."""
    return Schedule(
        **{
            "id": "",
            "project": DEFAULT_PROJECT,
            "owner": UserId(""),
            "name": name,
            "cron": cron,
            "zone": "UTC",
            "task": SPEC,
            **fields,
        }
    )


class Store(MemoryStore):
    """Has no room for the notes of schedules while it is told so."""

    full = False

    async def commit(self, batch: Batch) -> Verdict:
        notes = any(change.table is Table.SCHEDULE for change in batch.changes)
        return Full() if self.full and notes else await super().commit(batch)


class House:
    """One hub's services; `live` runs them for a while, as one process."""

    def __init__(self, store: Store | None = None, clock: ManualClock | None = None) -> None:
        self.store = store or Store()
        self.clock = clock or ManualClock(wall=EPOCH_MS - EPOCH_MS % HOUR)
        self.services = Services(
            HubConfig(home=Path("/nowhere"), store="memory"), self.store, self.clock
        )
        self.schedules = self.services.schedules

    async def found(self) -> None:
        """Write the rows of three people."""
        await self.store.open()
        rows = [User(id=who.user, role=who.role, created_at=WallTime(1)) for who in (ANN, BEN, EVE)]
        await self.write(*[Insert(Table.USER, row.id, row) for row in rows])

    async def write(self, *changes: Any) -> None:
        batch = Batch(id=BatchId(f"own{changes!r}"), pool=DEFAULT_POOL, changes=changes)
        await self.store.commit(batch)

    @contextlib.asynccontextmanager
    async def live(self) -> AsyncIterator["House"]:
        await self.services.engine.start(1)
        engine = asyncio.create_task(self.services.engine.run())
        service = asyncio.create_task(self.schedules.run())
        await self.settle()
        await self.reach(0)
        try:
            yield self
        finally:
            for part in (engine, service):
                part.cancel()
            await asyncio.gather(engine, service, return_exceptions=True)

    async def settle(self) -> None:
        """Wait until nothing is due, or in work."""
        await until(lambda: self.schedules.is_idle)

    async def reach(self, ms: int) -> None:
        """Let time pass, and what has come run."""
        self.clock.advance(ms)
        self.schedules._timers.check()
        await self.settle()

    async def step(self, ms: int) -> None:
        """Set the wall clock, as the pulse notices it."""
        self.clock.wall += ms
        self.schedules.stepped()
        await self.reach(0)

    async def tasks(self) -> list[Task]:
        page = await self.store.query(Query(table=Table.TASK, limit=1_000))
        return [row for row in reversed(page.rows) if isinstance(row, Task)]

    async def row(self, name: str = "tidy") -> Schedule:
        (row,) = await self.store.get([(Table.SCHEDULE, f"default/{name}")])
        assert isinstance(row, Schedule)
        assert row == self.schedules.find(ANN, name), "memory and store differ"
        return row

    async def end(self, task: TaskId | None, state: TaskState = TaskState.CANCELLED) -> None:
        """End a task; one that failed is written as if an agent had it."""
        assert task is not None
        if state is TaskState.CANCELLED:
            await self.services.engine.ask(facts.Fact(body=facts.Cancel(task), actor=ANN))
            return
        (row,) = await self.store.get([(Table.TASK, task)])
        assert isinstance(row, Task)
        after = msgspec.structs.replace(row, state=state, version=row.version + 1)
        await self.write(Update(Table.TASK, task, after, row.version))
        self.services.engine.view.tasks.pop(task)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    await house.found()
    async with house.live():
        yield house


async def test_a_schedule_submits_its_task_as_its_owner_when_its_time_comes(house: House) -> None:
    row = await house.schedules.add(BEN, wanted())
    assert (row.next_at, row.owner) == (house.clock.wall + HOUR, BEN.user)

    await house.reach(HOUR - 1)
    assert await house.tasks() == []
    await house.reach(1)

    (task,) = await house.tasks()
    assert (task.submitter, task.title) == (BEN.user, "tidy")
    assert task.lineage == SCHEDULE + row.id
    after = await house.row()
    assert (after.last_task, after.last_at, after.runs) == (task.id, row.next_at, 1)
    assert after.next_at == house.clock.wall + HOUR


async def test_a_run_whose_predecessor_is_live_is_skipped(house: House) -> None:
    await house.schedules.add(BEN, wanted())
    await house.reach(HOUR)

    await house.reach(HOUR)
    assert len(await house.tasks()) == 1
    assert (await house.row()).reason == "skipped: its last run had not ended"
    await house.end((await house.row()).last_task)
    await house.reach(HOUR)

    assert len(await house.tasks()) == 2
    assert (await house.row()).reason is None


async def test_runs_that_may_overlap_queue_up(house: House) -> None:
    await house.schedules.add(BEN, wanted(overlap=Overlap.QUEUE))

    await house.reach(HOUR)
    await house.reach(HOUR)

    assert len(await house.tasks()) == 2


@pytest.mark.parametrize("overlap", list(Overlap))
async def test_a_hub_that_dies_between_a_run_and_its_note_runs_once(
    house: House, overlap: Overlap
) -> None:
    await house.schedules.add(BEN, wanted(overlap=overlap))
    house.store.full = True
    await house.reach(HOUR)
    (task,) = await house.tasks()
    assert (await house.row()).runs == 0
    house.store.full = False

    async with House(house.store, house.clock).live() as next_life:
        assert [task.id] == [one.id for one in await next_life.tasks()]
        row = await next_life.row()

    assert (row.last_task, row.runs) == (task.id, 1)


async def test_a_run_that_could_not_be_noted_is_live_for_the_next_life(house: House) -> None:
    await house.schedules.add(BEN, wanted())
    house.store.full = True
    await house.reach(HOUR)
    house.store.full = False
    house.clock.advance(HOUR)

    async with House(house.store, house.clock).live() as next_life:
        assert len(await next_life.tasks()) == 1
        assert (await next_life.row()).reason == "skipped: its last run had not ended"


async def test_a_note_that_found_no_room_comes_again(house: House) -> None:
    await house.schedules.add(BEN, wanted())
    house.store.full = True
    await house.reach(HOUR)
    house.store.full = False

    await house.reach(limits.SCHEDULE_RETRY_MS)

    assert (len(await house.tasks()), (await house.row()).runs) == (1, 1)


@pytest.mark.parametrize(("missed", "runs"), [(Missed.SKIP, 0), (Missed.ONCE, 1), (Missed.ALL, 5)])
async def test_what_was_missed_while_no_hub_ran(missed: Missed, runs: int) -> None:
    house = House()
    await house.found()
    async with house.live():
        await house.schedules.add(BEN, wanted(missed=missed, overlap=Overlap.QUEUE))
    house.clock.advance(5 * HOUR + 10 * MINUTE)

    async with House(house.store, house.clock).live() as later:
        assert len(await later.tasks()) == runs
        row = await later.row()

    assert row.next_at == house.clock.wall + 50 * MINUTE
    newest = house.clock.wall - 10 * MINUTE
    assert row.last_at == (newest if runs else None)
    assert row.reason == (None if runs else "skipped: its time came while no hub ran")


async def test_a_run_that_is_hardly_late_was_not_missed(house: House) -> None:
    await house.schedules.add(BEN, wanted(missed=Missed.SKIP))

    await house.reach(HOUR + limits.SCHEDULE_LATE_MS)

    assert len(await house.tasks()) == 1


async def test_what_is_made_up_for_is_bounded(house: House) -> None:
    many = wanted(cron="* * * * *", missed=Missed.ALL, overlap=Overlap.QUEUE)
    await house.schedules.add(BEN, many)

    await house.reach(10 * limits.SCHEDULE_MISSED_RUNS * MINUTE)

    assert len(await house.tasks()) == limits.SCHEDULE_MISSED_RUNS
    row = await house.row()
    assert row.last_at == house.clock.wall


async def test_thousands_of_schedules_of_one_moment_run(house: House) -> None:
    count = 3 * limits.SCHEDULE_BATCH + 1
    for n in range(count):
        await house.schedules.add(BEN, wanted(f"s{n}"))

    await house.reach(HOUR)

    assert len(await house.tasks()) == count
    assert (await house.row("s7")).runs == 1


async def test_a_clock_that_was_set_back_repeats_nothing(house: House) -> None:
    await house.schedules.add(BEN, wanted(overlap=Overlap.QUEUE))
    await house.reach(HOUR)
    await house.step(-30 * MINUTE)

    await house.reach(30 * MINUTE)
    assert len(await house.tasks()) == 1
    await house.reach(HOUR)

    assert len(await house.tasks()) == 2


async def test_a_clock_that_was_set_forward_runs_what_has_come(house: House) -> None:
    await house.schedules.add(BEN, wanted())

    await house.step(90 * MINUTE)

    assert len(await house.tasks()) == 1
    assert (await house.row()).next_at == house.clock.wall + 30 * MINUTE


async def test_a_clock_that_was_a_year_ahead_does_not_stop_a_schedule_for_a_year(
    house: House,
) -> None:
    await house.schedules.add(BEN, wanted(overlap=Overlap.QUEUE))
    await house.step(365 * 24 * HOUR)

    await house.step(-365 * 24 * HOUR)
    await house.reach(HOUR)

    assert len(await house.tasks()) == 2


@pytest.mark.parametrize("missed", [Missed.SKIP, Missed.ONCE])
async def test_times_that_only_a_wrong_clock_has_passed_over_come_again(
    house: House, missed: Missed
) -> None:
    await house.schedules.add(BEN, wanted(missed=missed, overlap=Overlap.SKIP))
    await house.reach(HOUR)  # what a clock far ahead finds live or missed is left out
    await house.step(24 * HOUR + 30 * MINUTE)

    await house.step(-24 * HOUR - 30 * MINUTE)
    await house.end((await house.tasks())[0].id)
    await house.reach(HOUR)

    assert len(await house.tasks()) == 2


async def test_a_clock_that_is_put_right_while_a_note_is_written_stops_no_schedule(
    house: House,
) -> None:
    await house.schedules.add(BEN, wanted(missed=Missed.SKIP, overlap=Overlap.QUEUE))

    async def put_right(batch: Batch) -> Verdict:
        house.clock.wall -= 25 * HOUR + 30 * MINUTE
        house.schedules.stepped()
        house.store.commit = commit  # type: ignore[method-assign]  # for one batch
        return await commit(batch)

    commit, house.store.commit = house.store.commit, put_right  # type: ignore[method-assign]
    await house.step(25 * HOUR + 30 * MINUTE)
    await house.reach(HOUR)

    assert len(await house.tasks()) == 1


async def test_a_timer_that_comes_too_early_waits_again(house: House) -> None:
    await house.schedules.add(BEN, wanted())
    house.schedules._come("default/tidy", 0)
    house.schedules._come("default/gone", 0)
    await house.settle()

    assert await house.tasks() == []
    await house.reach(HOUR)
    assert len(await house.tasks()) == 1


async def test_a_schedule_whose_owner_is_gone_pauses_itself(house: House) -> None:
    await house.schedules.add(BEN, wanted())
    gone = User(id=BEN.user, role=BEN.role, created_at=WallTime(1), removed=True, version=2)
    await house.write(Update(Table.USER, BEN.user, gone, 1))

    await house.reach(HOUR)

    row = await house.row()
    assert row.paused
    assert row.reason == "paused itself: owner: ben is no user any more"
    assert await house.tasks() == []


async def test_a_schedule_whose_owner_may_not_submit_any_more_pauses_itself(house: House) -> None:
    await house.schedules.add(BEN, wanted())
    viewer = User(id=BEN.user, role=Role.VIEWER, created_at=WallTime(1), version=2)
    await house.write(Update(Table.USER, BEN.user, viewer, 1))

    await house.reach(HOUR)

    assert "role viewer does not include task:submit" in str((await house.row()).reason)


async def test_a_template_that_is_not_valid_any_more_pauses_its_schedule(house: House) -> None:
    row = await house.schedules.add(BEN, wanted())
    bad = msgspec.structs.replace(row, task=TaskSpec(title="no prompt"), version=2)
    await house.write(Update(Table.SCHEDULE, "default/tidy", bad, 1))

    async with House(house.store, house.clock).live() as next_life:
        await next_life.reach(HOUR)
        after = await next_life.row()

    assert after.paused
    assert after.reason == "paused itself: prompt: a task needs a prompt or a command"
    assert after.next_at == row.next_at


async def test_a_zone_that_vanished_pauses_its_schedule(house: House) -> None:
    row = await house.schedules.add(BEN, wanted())
    bad = msgspec.structs.replace(row, zone="Mars/Base", version=2, last_at=WallTime(1 << 50))
    await house.write(Update(Table.SCHEDULE, "default/tidy", bad, 1))

    async with House(house.store, house.clock).live() as next_life:
        await next_life.reach(HOUR)
        assert "paused itself: zone" in str((await next_life.row()).reason)
        assert next_life.schedules.coming(await next_life.row()) == ()


async def test_a_unique_key_that_is_taken_skips_the_run(house: House) -> None:
    spec = msgspec.structs.replace(SPEC, unique_key="k")
    await house.schedules.add(BEN, wanted(task=spec, overlap=Overlap.QUEUE))
    await house.reach(HOUR)

    await house.reach(HOUR)

    row = await house.row()
    assert (row.runs, row.paused) == (1, False)
    assert "has this unique key and is live" in str(row.reason)


async def test_a_suspected_loop_pauses_the_schedule_until_a_person_resumes_it(
    house: House,
) -> None:
    row = await house.schedules.add(BEN, wanted(overlap=Overlap.QUEUE))
    lineage = ("default", SCHEDULE + row.id)
    count = loops.Count("c", limits.LOOP_UNCHANGED, house.clock.now().wall, 1, 0)
    house.services.engine.view.loops[lineage] = count

    await house.reach(HOUR)

    after = await house.row()
    reason = f"suspected loop: completed {limits.LOOP_UNCHANGED} times without a change"
    assert (after.paused, after.reason) == (True, f"paused itself: {reason}")
    assert after.next_at == row.next_at
    await house.reach(10 * MINUTE)
    resumed = await house.schedules.resume(BEN, "tidy")
    assert (resumed.paused, resumed.reason) == (False, None)
    assert resumed.next_at == house.clock.wall + 50 * MINUTE
    await house.reach(50 * MINUTE)
    assert len(await house.tasks()) == 1
    assert house.services.engine.view.loops == {}


async def test_what_is_meant_to_repeat_is_no_loop(house: House) -> None:
    spec = msgspec.structs.replace(SPEC, repeats=True)
    row = await house.schedules.add(BEN, wanted(task=spec))
    count = loops.Count("c", limits.LOOP_UNCHANGED, house.clock.now().wall, 1, 0)
    house.services.engine.view.loops["default", SCHEDULE + row.id] = count

    await house.reach(HOUR)

    assert len(await house.tasks()) == 1


async def test_a_run_expires_if_it_does_not_start_in_time(house: House) -> None:
    await house.schedules.add(BEN, wanted(start_within_ms=10 * MINUTE))

    await house.reach(HOUR)

    (task,) = await house.tasks()
    assert task.expires_at == house.clock.wall + 10 * MINUTE


async def test_a_run_that_comes_too_late_to_start_in_time_is_skipped(house: House) -> None:
    await house.schedules.add(BEN, wanted(start_within_ms=10 * MINUTE))

    await house.reach(HOUR + 11 * MINUTE)

    assert await house.tasks() == []
    assert (await house.row()).reason == "skipped: it came too late to start in time"


async def test_failures_in_a_row_are_counted(house: House) -> None:
    await house.schedules.add(BEN, wanted())
    for state, failures in (
        (TaskState.FAILED, 0),
        (TaskState.FAILED, 1),
        (TaskState.CANCELLED, 2),
        (TaskState.COMPLETED, 2),
        (TaskState.FAILED, 0),
    ):
        await house.reach(HOUR)
        row = await house.row()
        assert row.failures == failures
        await house.end(row.last_task, state)


async def test_an_expression_whose_times_are_over_waits_for_nothing(house: House) -> None:
    row = await house.schedules.add(BEN, wanted(cron="0 0 29 2 *"))
    over = msgspec.structs.replace(row, next_at=None, version=2)
    await house.write(Update(Table.SCHEDULE, "default/tidy", over, 1))

    async with House(house.store, house.clock).live() as next_life:
        await next_life.reach(10 * 365 * 24 * HOUR)

        assert await next_life.tasks() == []


async def test_a_hub_that_cannot_store_a_run_now_does_so_later(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []

    async def full(fact: facts.Fact) -> Any:
        asked.append(fact.key)
        raise StorageFull

    real = house.schedules._runs._ask
    monkeypatch.setattr(house.schedules._runs, "_ask", full)
    row = await house.schedules.add(BEN, wanted())
    await house.reach(HOUR)
    assert (await house.row()).next_at == row.next_at
    monkeypatch.setattr(house.schedules._runs, "_ask", real)

    await house.reach(limits.SCHEDULE_RETRY_MS)

    (task,) = await house.tasks()
    after = await house.row()
    assert asked == [f"schedule/{row.id}/{row.next_at}"]
    assert (after.last_at, after.last_task) == (row.next_at, task.id)
    assert after.next_at == EPOCH_MS - EPOCH_MS % HOUR + 2 * HOUR


async def test_a_key_that_came_with_another_template_counts_as_run(house: House) -> None:
    row = await house.schedules.add(BEN, wanted())
    key = f"schedule/{row.id}/{row.next_at}"
    other = facts.Submit((TaskSpec(title="other", prompt="p"),))
    await house.services.engine.ask(facts.Fact(body=other, actor=BEN, key=key, payload="x"))

    await house.reach(HOUR)

    assert [task.title for task in await house.tasks()] == ["other"]
    assert (await house.row()).next_at == house.clock.wall + HOUR


# What people ask


async def test_names_are_unique_in_a_project(house: House) -> None:
    await house.schedules.add(BEN, wanted())

    with pytest.raises(NameTaken):
        await house.schedules.add(ANN, wanted())
    await house.schedules.add(AWAY, wanted())


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("name", {"name": "Not A Name"}),
        ("cron", {"cron": "* * *"}),
        ("cron", {"cron": "* * */20 * 1L"}),
        ("zone", {"zone": "Mars/Base"}),
        ("missed", {"missed": Missed.ALL}),
        ("start_within_ms", {"start_within_ms": 1}),
        ("start_within_ms", {"start_within_ms": limits.ATTEMPT_DEADLINE_MAX_MS + 1}),
        ("prompt", {"task": TaskSpec(title="t")}),
        ("task.not_before", {"task": TaskSpec(title="t", prompt="p", not_before=WallTime(1))}),
        ("task.start_by", {"task": TaskSpec(title="t", prompt="p", start_by=WallTime(1))}),
        ("task.ref", {"task": TaskSpec(title="t", prompt="p", ref="r")}),
        (
            "task.depends_on",
            {"task": TaskSpec(title="t", prompt="p", depends_on=(Dependency("x"),))},
        ),
    ],
)
async def test_what_no_schedule_can_have_is_refused(
    house: House, field: str, fields: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput) as told:
        await house.schedules.add(BEN, wanted(**fields))

    assert told.value.field == field


async def test_a_project_has_a_bounded_number(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SCHEDULES_MAX", 1)
    await house.schedules.add(BEN, wanted())

    with pytest.raises(InvalidInput, match="at most 1"):
        await house.schedules.add(BEN, wanted("other"))


async def test_a_paused_schedule_rests_until_it_is_resumed(house: House) -> None:
    await house.schedules.add(BEN, wanted())
    assert (await house.schedules.pause(BEN, "tidy")).paused

    await house.reach(3 * HOUR)
    assert await house.tasks() == []
    row = await house.schedules.resume(BEN, "tidy")

    assert row.next_at == house.clock.wall + HOUR
    assert await house.schedules.resume(BEN, "tidy") == row
    await house.reach(HOUR)
    assert len(await house.tasks()) == 1


async def test_someone_else_s_schedule_is_theirs_but_for_operators(house: House) -> None:
    await house.schedules.add(BEN, wanted())

    for act in (house.schedules.pause, house.schedules.resume, house.schedules.remove):
        with pytest.raises(NotFound):
            await act(EVE, "tidy")
    with pytest.raises(NotFound):
        house.schedules.find(AWAY, "tidy")
    viewer = msgspec.structs.replace(BEN, role=Role.VIEWER)
    with pytest.raises(NotAllowed):
        await house.schedules.pause(viewer, "tidy")
    assert (await house.schedules.pause(ANN, "tidy")).paused


async def test_a_run_at_once_leaves_the_times_as_they_are(house: House) -> None:
    row = await house.schedules.add(BEN, wanted(start_within_ms=MINUTE))
    await house.schedules.pause(BEN, "tidy")

    after = await house.schedules.run_now(ANN, "tidy", "once")
    again = await house.schedules.run_now(ANN, "tidy", "once")

    (task,) = await house.tasks()
    assert task.submitter == BEN.user
    assert again == after
    assert (after.last_task, after.runs, after.next_at) == (task.id, 1, row.next_at)
    assert await house.schedules.run_now(BEN, "tidy", None) != after


async def test_a_removed_schedule_is_gone_and_its_tasks_stay(house: House) -> None:
    row = await house.schedules.add(BEN, wanted())
    await house.reach(HOUR)

    await house.schedules.remove(BEN, "tidy")

    await house.reach(2 * HOUR)
    assert len(await house.tasks()) == 1
    with pytest.raises(NotFound):
        house.schedules.find(BEN, "tidy")
    assert (await house.schedules.add(BEN, wanted())).id != row.id


async def test_a_schedule_that_another_hub_changed_is_read_again(house: House) -> None:
    row = await house.schedules.add(BEN, wanted())
    other = msgspec.structs.replace(row, runs=7, version=2)
    await house.write(Update(Table.SCHEDULE, "default/tidy", other, 1))

    for act in (house.schedules.pause, house.schedules.remove):
        with pytest.raises(Conflict):
            await act(BEN, "tidy")
        other = msgspec.structs.replace(other, version=other.version + 1)
        await house.write(Update(Table.SCHEDULE, "default/tidy", other, other.version - 1))
    await house.reach(HOUR)
    await house.settle()

    assert (await house.row()).runs == 8
    assert len(await house.tasks()) == 1


async def test_a_list_goes_page_by_page_by_name(house: House) -> None:
    for name in ("c", "a", "b"):
        await house.schedules.add(BEN, wanted(name))
    await house.schedules.add(AWAY, wanted("d"))

    first = house.schedules.listed(ANN, cursor=None, limit=2)
    rest = house.schedules.listed(ANN, cursor=first.next, limit=2)

    assert [row.name for row in first.schedules + rest.schedules] == ["a", "b", "c"]
    assert rest.next is None


async def test_the_coming_times_are_told_also_of_one_that_is_paused(house: House) -> None:
    row = await house.schedules.add(BEN, wanted(cron="0 0 * * *", zone="Europe/Berlin"))

    times = house.schedules.coming(row)
    paused = await house.schedules.pause(BEN, "tidy")

    assert len(times) == limits.SCHEDULE_NEXT
    assert times[0] == row.next_at
    assert house.schedules.coming(paused) == times


async def test_a_hub_that_starts_says_so() -> None:
    with pytest.raises(Unavailable):
        House().schedules.find(ANN, "tidy")
