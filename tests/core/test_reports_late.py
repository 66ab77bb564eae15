"""Reports that come late, or from a holder that comes back."""

import pytest

from agentcom.core import facts
from agentcom.core.effects import Continue, Stop
from agentcom.model.ids import MachineId
from agentcom.model.task import Phase, TaskState
from agentcom.testing.world import machine
from tests.core.acts import Pool, done, merging
from tests.core.reporting import M1, finished


def test_a_completion_after_a_cancel_is_kept_and_ends_the_attempt_as_cancelled() -> None:
    world = Pool()
    task = world.running()
    world.ask(facts.Cancel(task))

    after = world.finish(task)

    assert after.state is TaskState.CANCELLED
    (kept,) = world.results(task)
    assert (kept.applied, kept.refused) == (False, "the attempt was asked to stop: cancelled")
    assert not world.acks(task)[-1].applied  # what is said the first time is said to a repeat
    world.tell(facts.Finished(task, after.fence, done()), machine("m1"))
    assert not world.acks(task)[-1].applied


def test_a_completion_of_a_task_that_was_cancelled_in_the_queue_is_kept() -> None:
    world = Pool()
    task = world.running()
    world.vanish("m1")
    world.ask(facts.Cancel(task))

    world.tell(finished(world, task), M1)

    assert world.task(task).state is TaskState.CANCELLED
    assert [kept.applied for kept in world.results(task)] == [False]
    assert world.acks(task)[-1].code == "stale"


@pytest.mark.parametrize("cancelled", [True, False])
def test_work_that_comes_with_a_confirmed_stop_is_kept(
    cancelled: bool,
) -> None:
    world = Pool()
    task = world.running()
    fence = world.task(task).fence
    if cancelled:
        world.ask(facts.Cancel(task))

    world.tell(facts.Stopped(task, fence, done()), M1)

    (kept,) = world.results(task)
    assert (kept.applied, kept.refused) == (
        False,
        "stopped: cancelled" if cancelled else "stopped: by its machine",
    )


def test_work_of_a_stop_that_is_confirmed_after_the_lease_is_kept_too() -> None:
    world = Pool()
    task = world.running()
    fence = world.task(task).fence
    world.ask(facts.Cancel(task))
    world.vanish("m1")
    assert world.task(task).state is TaskState.CANCELLED

    world.tell(facts.Stopped(task, fence, done()), M1)
    world.tell(facts.Stopped(task, fence, done()), M1)

    assert [kept.applied for kept in world.results(task)] == [False]
    assert [ack.applied for ack in world.acks(task)] == [False, True]


def test_a_stop_that_is_confirmed_again_is_acknowledged_again() -> None:
    world = Pool()
    task = world.running()
    fence = world.task(task).fence
    world.ask(facts.Cancel(task))

    world.tell(facts.Stopped(task, fence), M1)
    world.tell(facts.Stopped(task, fence), M1)

    assert [ack.applied for ack in world.acks(task)] == [True, True]


def test_a_result_after_a_lost_lease_is_applied_while_the_task_is_queued() -> None:
    world = Pool()
    task = world.running()
    world.vanish("m1")
    assert world.task(task).state is TaskState.QUEUED

    after = world.finish(task)

    assert (after.state, after.commit) == (TaskState.COMPLETED, "c" * 40)
    assert [kept.applied for kept in world.results(task)] == [True]


def test_a_result_after_the_task_was_issued_again_is_kept() -> None:
    world = Pool()
    task = world.running()
    old = world.task(task).fence
    world.vanish("m1")
    world.machine("m2")
    before = world.task(task)
    assert before.machine == "m2"

    world.tell(facts.Finished(task, old, done()), M1)

    assert world.task(task) == before
    assert [kept.applied for kept in world.results(task)] == [False]


def test_a_landing_that_succeeded_while_the_lease_was_lost_counts() -> None:
    world = Pool()
    task = world.landing()
    world.vanish("m1")
    assert world.task(task).landing_only

    after = world.land(task)

    assert (after.state, after.commit) == (TaskState.COMPLETED, "1" * 40)


def test_a_landing_that_succeeded_after_the_task_was_cancelled_is_no_silent_success() -> None:
    world = Pool()
    task = world.landing()
    world.vanish("m1")
    world.ask(facts.Cancel(task))

    after = world.land(task)

    assert after.state is TaskState.CANCELLED
    assert not world.acks(task)[-1].applied


def test_progress_of_a_holder_that_comes_back_resumes_its_attempt() -> None:
    world = Pool()
    task = world.running()
    fence = world.task(task).fence
    world.vanish("m1")
    connection = world.view.sessions[MachineId("m1")]
    connection.renew(world.now.instant)

    effects = world.tell(facts.PhaseReached(task, fence, Phase.VERIFYING), M1)

    assert not any(isinstance(effect, Stop) for effect in effects)
    after = world.task(task)
    assert (after.state, after.phase, after.fence) == (TaskState.RUNNING, Phase.VERIFYING, fence)


def test_what_a_returning_report_takes_up_again_has_a_lease_that_is_watched() -> None:
    world = Pool()
    task = world.running()
    fence = world.task(task).fence
    world.vanish("m1")

    effects = world.tell(facts.Finished(task, fence, merging()), M1)

    assert Continue(facts.LeaseChecked(MachineId("m1"))) in effects
    row = world.task(task)  # no heartbeat came, so the lease is still over
    assert (row.state, row.landing_only) == (TaskState.QUEUED, True)
    assert world.view.landing == {}
