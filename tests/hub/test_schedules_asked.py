"""What people ask of schedules."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from agentcom.model import limits
from agentcom.model.batch import Table, Update
from agentcom.model.errors import (
    Conflict,
    InvalidInput,
    NameTaken,
    NotAllowed,
    NotFound,
    Unavailable,
)
from agentcom.model.graph import Dependency
from agentcom.model.identity import Role
from agentcom.model.ids import ProjectId, WallTime
from agentcom.model.schedule import Missed
from agentcom.model.task import TaskSpec
from tests.hub.schedule_house import ANN, BEN, EVE, HOUR, MINUTE, House, wanted

AWAY = msgspec.structs.replace(ANN, project=ProjectId("elsewhere"))


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    await house.found()
    async with house.live():
        yield house


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
