"""Leases over starts and restores of the hub."""

import pytest

from agentcom.core import facts, leases
from agentcom.core.effects import Continue, SetTimer
from agentcom.model.ids import Fence
from agentcom.model.task import TaskState
from agentcom.testing.world import TTL_MS, agent, machine
from tests.core.acts import LOST_MS, Pool
from tests.core.leasing import M1, connected


@pytest.mark.parametrize(
    ("ttl_ms", "grace_ms"),
    [(20_000, 90_000), (600_000, 750_000), (2_000, 5_000)],
)
def test_after_a_start_holders_get_time_to_come_back(ttl_ms: int, grace_ms: int) -> None:
    world = Pool()
    task = world.running()
    world.ask(connected(agent("m1"), ttl_ms=ttl_ms), machine("m1"))
    task = world.pushed()[-1].task
    world.accept(task)
    world.restart()
    before = world.task(task)

    world.machine("m2")
    world.advance(grace_ms - 1)
    assert world.task(task) == before
    world.beat("m2") if grace_ms < LOST_MS else world.machine("m2")
    world.advance(1)

    assert world.task(task).fence > before.fence


def test_nothing_is_issued_again_that_its_holder_still_has_after_a_start() -> None:
    world = Pool()
    task = world.running()
    before = world.task(task)
    world.restart()
    world.machine("m2")
    world.advance(80_000)

    world.machine("m1", held=[world.holding(task)])
    world.advance(TTL_MS)

    assert world.task(task) == before


def test_what_was_pushed_into_the_void_before_a_start_is_pushed_again() -> None:
    world = Pool()
    world.machine("m1")
    (task,) = world.submit("t")
    world.restart()

    world.machine("m1", held=())

    assert [a.fence for a in world.pushed(task)] == [Fence(7, 1), Fence(7, 1)]


def test_stored_holders_without_a_machine_row_get_the_default() -> None:
    world = Pool()
    task = world.running()
    world.view.machines.clear()

    effects = leases.grace(world.view, world.now)

    assert [e.at - world.now_ms for e in effects if isinstance(e, SetTimer)] == [90_000]
    assert world.task(task).state is TaskState.RUNNING


def test_a_machine_that_holds_nothing_any_more_needs_no_timer() -> None:
    world = Pool()
    world.finish(world.running())

    assert leases.grace(world.view, world.now) == []


def test_sessions_outlive_a_view_that_was_thrown_away() -> None:
    world = Pool()
    world.machine("m1")
    world.machine("gone")
    old = world.view
    del world.rows[("machine", "gone")]  # type: ignore[arg-type]  # a table's name is its text
    del world.rows[("agent", "gone")]  # type: ignore[arg-type]  # as above
    world.restart()

    effects = leases.inherit(world.view, old)
    assert Continue(facts.Recovered()) in effects

    assert list(world.view.sessions) == [M1]
    assert [e.key for e in effects if isinstance(e, SetTimer)] == ["lease/m1"]
    (task,) = world.submit("t")
    assert world.task(task).state is TaskState.ASSIGNED
