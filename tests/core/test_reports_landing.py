"""Reports of landings, as the pool takes them."""

import pytest

from agentcom.core import due_facts, facts
from agentcom.core.effects import GrantLanding
from agentcom.model.agent import HeldStage
from agentcom.model.failure import FailureClass
from agentcom.model.ids import Fence, MachineId, TaskId
from agentcom.model.limits import ATTEMPT_DEADLINE_MS, LANDING_MS, ORPHANS_MAX
from agentcom.model.result import KeptResult, LandStatus
from agentcom.model.task import Phase, StopReason, TaskState, Wait
from agentcom.testing.world import machine
from tests.core.acts import KEY, Pool, done, merging
from tests.core.quota_acts import account, quota, tried
from tests.core.reporting import M1


def test_one_attempt_at_a_time_lands_on_a_base_and_in_order() -> None:
    world = Pool()
    first, second, third = world.landing(), world.landing(), world.landing()

    def granted() -> list[TaskId]:
        return [effect.task for effect in world.effects if isinstance(effect, GrantLanding)]

    assert (granted(), world.view.landing[KEY]) == ([first], (first, second, third))
    world.land(second, LandStatus.CONFLICT)
    assert granted() == [first]
    world.land(first)
    assert granted() == [first, third]
    world.land(third)
    assert world.view.landing == {}


def test_a_conflict_in_landing_goes_back_to_an_agent() -> None:
    world = Pool()

    after = world.land(world.landing(), LandStatus.CONFLICT)

    assert (after.wait, after.failure) == (Wait.RETRY, FailureClass.CONFLICT)
    assert (after.checkpoint, after.landing_only) == ("c" * 40, False)


@pytest.mark.parametrize(
    ("status", "failure"),
    [
        (LandStatus.VERIFICATION, FailureClass.VERIFICATION),
        (LandStatus.STALE, FailureClass.WORKSPACE),
        (LandStatus.ERROR, FailureClass.WORKSPACE),
    ],
)
def test_a_landing_that_failed_counts_as_a_failure(
    status: LandStatus, failure: FailureClass
) -> None:
    world = Pool()

    after = world.land(world.landing(), status)

    assert (after.wait, after.failure, after.failures) == (Wait.RETRY, failure, 1)


@pytest.mark.parametrize("status", [s for s in LandStatus if s is not LandStatus.LANDED])
def test_a_cancelled_task_whose_landing_failed_is_not_tried_again(status: LandStatus) -> None:
    world = Pool()
    task = world.landing()
    world.ask(facts.Cancel(task))

    assert world.land(task, status).state is TaskState.CANCELLED


def test_a_commit_that_is_in_the_base_is_completed_although_someone_cancelled() -> None:
    world = Pool()
    task = world.landing()
    world.ask(facts.Cancel(task))

    assert world.land(task).state is TaskState.COMPLETED


def test_an_attempt_that_was_not_landing_cannot_have_landed() -> None:
    world = Pool()
    task = world.running()

    after = world.land(task)

    assert after.state is TaskState.RUNNING
    assert world.acks(task)[-1].code == "stale"


def test_when_the_lease_is_lost_while_landing_another_machine_only_lands() -> None:
    world = Pool()
    task = world.landing(on="m1")
    world.vanish("m1")

    world.machine("m2")
    world.accept(task)

    assignment = world.pushed(task)[-1]
    assert (assignment.landing_only, assignment.commit) == (True, "c" * 40)
    assert world.task(task).phase is Phase.LANDING
    assert world.view.landing == {KEY: (task,)}
    assert world.land(task).state is TaskState.COMPLETED


def test_a_machine_lost_before_it_began_to_land_again_does_not_cost_the_work() -> None:
    world = Pool()
    task = world.landing(on="m1")
    world.vanish("m1")
    world.machine("m2")
    world.vanish("m2")

    world.machine("m3")

    assert world.pushed(task)[-1].landing_only


def test_a_holder_that_comes_back_while_landing_lands() -> None:
    world = Pool()
    task = world.landing()
    world.vanish("m1")

    world.machine("m1", held=[world.holding(task, HeldStage.FINISHED)])

    assert (world.task(task).phase, world.task(task).attempt) == (Phase.LANDING, 1)


def test_work_that_needs_a_person_lands_after_the_approval() -> None:
    world = Pool()
    task = world.running()
    parked = world.finish(task, merging(needs_person=("tests deleted", "config changed")))
    assert (parked.wait, parked.reason) == (Wait.APPROVAL, "tests deleted; config changed")

    world.ask(facts.Adopt(task, parked.fence, MachineId("m1")))

    assert world.pushed(task)[-1].landing_only
    assert world.accept(task).phase is Phase.LANDING
    assert world.land(task).state is TaskState.COMPLETED


def test_a_landing_that_is_stopped_keeps_the_result_that_is_stored() -> None:
    world = Pool()
    task = world.landing()
    world.ask(facts.Cancel(task))

    world.tell(facts.Stopped(task, world.task(task).fence, done()), M1)

    assert world.task(task).state is TaskState.CANCELLED
    assert [kept.applied for kept in world.results(task)] == [True]


def test_a_stop_that_is_confirmed_after_a_lost_lease_ends_the_right_to_come_back() -> None:
    world = Pool()
    task = world.running()
    fence = world.task(task).fence
    world.vanish("m1")

    world.tell(facts.Stopped(task, fence, done()), M1)

    assert (world.task(task).state, world.task(task).lost) == (TaskState.QUEUED, False)
    assert [kept.applied for kept in world.results(task)] == [False]
    world.tell(facts.Finished(task, fence, done()), M1)
    assert world.task(task).state is TaskState.QUEUED


def test_verified_work_that_waits_for_its_base_does_not_time_out() -> None:
    pool = Pool()
    pool.landing(on="m1")
    waiting = pool.landing(on="m1")

    pool.advance(ATTEMPT_DEADLINE_MS)
    pool.tell(due_facts.LandingOverdue(waiting, pool.task(waiting).fence))

    assert pool.task(waiting).stop_reason is None


def test_a_landing_that_takes_too_long_is_stopped_and_tried_again_without_an_agent() -> None:
    pool = Pool()
    task = pool.landing()
    fence = pool.task(task).fence

    assert pool.timers[f"land/{task}"].at == pool.now_ms + LANDING_MS
    pool.tell(due_facts.LandingOverdue(task, fence))
    assert pool.task(task).stop_reason is StopReason.TIMED_OUT
    pool.tell(facts.Stopped(task, fence), machine(pool.task(task).machine or ""))

    row = pool.task(task)
    assert (row.state, row.wait, row.landing_only) == (TaskState.WAITING, Wait.RETRY, True)


def test_a_landing_that_met_an_error_needs_no_agent_to_try_again() -> None:
    pool = Pool()

    row = pool.land(pool.landing(), LandStatus.ERROR)

    assert (row.state, row.wait, row.landing_only) == (TaskState.WAITING, Wait.RETRY, True)


def test_a_machine_cannot_plant_a_result_under_an_attempt_that_it_never_had() -> None:
    pool = Pool()
    task = pool.running(on="m1")
    first = pool.task(task).fence
    pool.vanish("m1")
    pool.machine("m2")
    pool.machine("m9")

    pool.tell(facts.Finished(task, first, merging()), machine("m9"))
    assert pool.results(task) == []
    pool.tell(facts.Finished(task, first, merging()), machine("m1"))

    assert [kept.machine for kept in pool.results(task)] == ["m1"]


def test_results_of_unknown_tasks_are_bounded_per_machine() -> None:
    pool = Pool()
    pool.machine("m1")
    fence = Fence(1, 1)

    for number in range(ORPHANS_MAX + 5):
        pool.tell(facts.Finished(TaskId(f"t{number}"), fence, merging()), machine("m1"))

    assert sum(isinstance(row, KeptResult) for row in pool.rows.values()) == ORPHANS_MAX


def test_a_restored_hub_keeps_the_results_of_attempts_that_it_forgot() -> None:
    pool = Pool()
    task = pool.running(on="m1")
    forgotten = Fence(pool.task(task).incarnation, 9)
    pool.incarnation += 1
    pool.restart()

    pool.tell(facts.Finished(task, forgotten, merging()), machine("m1"))

    assert [kept.fence for kept in pool.results(task)] == [forgotten]


def test_an_account_is_parked_by_the_result_of_a_stopped_attempt_and_opened_by_life() -> None:
    world, canary = tried()
    who = machine(canary.machine or "")

    world.tell(facts.CanaryLived(canary.id, canary.fence), who)
    assert account(world) is None
    world.ask(facts.Cancel(canary.id))
    world.finish(canary.id, quota(world))

    assert account(world) is not None
