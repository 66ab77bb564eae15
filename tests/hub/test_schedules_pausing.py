"""What pauses a schedule, skips a run, or lets it expire."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from agentcom.core import facts, loops
from agentcom.core.loops import SCHEDULE
from agentcom.model import limits
from agentcom.model.batch import Table, Update
from agentcom.model.errors import StorageFull
from agentcom.model.identity import Role, User
from agentcom.model.ids import WallTime
from agentcom.model.schedule import Overlap
from agentcom.model.task import TaskSpec, TaskState
from tests.hub.doubles import EPOCH_MS
from tests.hub.schedule_house import BEN, HOUR, MINUTE, SPEC, House, wanted


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    await house.found()
    async with house.live():
        yield house


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
