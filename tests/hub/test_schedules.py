"""Schedules on a real engine and a store in memory, with a clock that is moved by hand."""

from collections.abc import AsyncIterator

import pytest

from agentcom.core.loops import SCHEDULE
from agentcom.model import limits
from agentcom.model.batch import Batch
from agentcom.model.schedule import Missed, Overlap
from agentcom.store.base import Verdict
from tests.hub.schedule_house import BEN, HOUR, MINUTE, House, wanted


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
