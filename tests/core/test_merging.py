"""Who lands next on a base, and with whom."""

import pytest

from agentcom.core import facts, merging
from agentcom.core.effects import GrantLanding
from agentcom.model import limits
from agentcom.model.hold import HoldMode
from agentcom.model.ids import AgentId, TaskId
from agentcom.model.replies import Explanation
from agentcom.model.result import Landing, LandStatus
from agentcom.model.task import LandPolicy, TaskState
from agentcom.testing.world import agent, machine
from tests.core.acts import KEY, Pool, queueing
from tests.core.acts import merging as merged


def world_with(count: int) -> tuple[Pool, list[TaskId]]:
    """Return a pool in which one lands and `count` wait behind it, who all queue."""
    world = Pool()
    world.machine("m1", agent("m1", slots=20))
    tasks = [world.running() for _ in range(count + 1)]
    for task in tasks:
        world.finish(task, queueing())
    return world, tasks


def last_grant(world: Pool) -> GrantLanding:
    return [one for one in world.effects if isinstance(one, GrantLanding)][-1]


def riders(world: Pool) -> list[TaskId]:
    return [rider.task for rider in last_grant(world).riders or ()]


def test_the_first_lands_alone_and_those_who_came_meanwhile_together() -> None:
    world, (first, *others) = world_with(3)
    assert (last_grant(world).task, riders(world)) == (first, [])

    world.land(first)

    assert (last_grant(world).task, riders(world)) == (others[0], others[1:])
    assert [world.view.holds[task][f"land:{KEY}"].amount for task in others] == [1, 2, 3]
    modes = {world.view.holds[task][f"land:{KEY}"].mode for task in others}
    assert modes == {HoldMode.SHARED}
    assert [rider.seq for rider in last_grant(world).riders or ()] == [3, 4]


def test_who_has_checks_of_its_own_or_does_not_queue_ends_the_batch() -> None:
    world = Pool()
    world.machine("m1", agent("m1", slots=9))
    first, second, third, own, last = (
        *(world.running() for _ in range(3)),
        world.running(verify=("pytest",)),
        world.running(),
    )
    for task in first, second, third, own, last:
        world.finish(task, queueing())
    plain = world.running()
    world.finish(plain, merged())

    world.land(first)
    assert riders(world) == [third]
    world.land(second)
    world.land(third)
    assert (last_grant(world).task, riders(world)) == (own, [last])
    world.land(own)
    world.land(last)

    assert last_grant(world) == GrantLanding(
        last_grant(world).machine, plain, world.task(plain).fence
    )


def test_a_batch_is_bounded() -> None:
    world = Pool()
    world.machine("m1", agent("m1", slots=limits.LAND_BATCH_MAX + 3))
    tasks = [world.running() for _ in range(limits.LAND_BATCH_MAX + 2)]
    for task in tasks:
        world.finish(task, queueing())

    world.land(tasks[0])

    assert riders(world) == tasks[2 : limits.LAND_BATCH_MAX + 1]
    assert not merging.rides(world.view, world.task(tasks[-1]))


def test_a_rider_that_is_to_stop_is_recalled_and_ends_with_the_batch() -> None:
    world, (first, _, third, fourth) = world_with(3)
    world.land(first)

    world.ask(facts.Cancel(third))
    assert riders(world) == [fourth]
    world.tell(facts.Stopped(third, world.task(third).fence), machine("m1"))

    assert world.task(third).state is TaskState.RUNNING
    world.restart()
    world.machine("m1", agent("m1", slots=20), held=[])
    assert world.view.landing.get(KEY, ()) == () or third in world.view.landing[KEY]


def test_its_own_machines_silence_does_not_end_a_rider() -> None:
    world = Pool()
    world.machine("m1", agent("m1", slots=3))
    first, second = world.running(), world.running()
    world.ask(facts.PauseAgent(AgentId("m1"), paused=True))
    third = world.running(on="m2")
    for task in first, second, third:
        world.finish(task, queueing())
    world.land(first)
    assert riders(world) == [third]
    world.advance(15_000)
    world.beat("m1", [world.holding(second)])

    world.vanish("m2")

    assert world.task(third).state is TaskState.RUNNING
    world.beat("m1", [world.holding(second)])
    world.land(second, LandStatus.CONFLICT)
    assert world.task(third).landing_only, "the batch is over, and its machine is gone"


def test_the_order_survives_a_restart() -> None:
    world, tasks = world_with(4)
    world.land(tasks[0])

    world.restart()

    assert world.view.landing[KEY] == tuple(tasks[1:])


def test_a_grant_says_again_who_rides() -> None:
    world, tasks = world_with(3)
    world.land(tasks[0])

    assert merging.grant(world.view, world.task(tasks[1])) == last_grant(world)


def test_it_is_told_where_it_stands() -> None:
    world, (first, second, third) = world_with(2)
    assert said(world, second).endswith("1 landings before it")

    world.land(first)

    assert said(world, second).endswith("its base is its own")
    assert said(world, third).endswith("1 landings before it; it is verified and landed with them")


def said(world: Pool, task: TaskId) -> str:
    reply = world.ask(facts.Explain(task))
    assert isinstance(reply, Explanation)
    return reply.summary


def test_places_begin_anew_when_nobody_waits() -> None:
    world = Pool()
    assert merging.next_seq(world.view, KEY) == 1
    task = world.landing()
    assert merging.next_seq(world.view, KEY) == 2
    world.land(task)
    assert merging.next_seq(world.view, KEY) == 1


@pytest.mark.parametrize("land", [LandPolicy.MERGE, LandPolicy.QUEUE])
def test_both_policies_wait_in_one_queue(land: LandPolicy) -> None:
    world = Pool()
    first = world.landing()
    second = world.running()

    world.finish(second, queueing(land=land))

    assert world.view.landing[KEY] == (first, second)
    assert Landing(status=LandStatus.LANDED).riders == ()
