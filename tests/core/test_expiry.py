"""Tasks that are worth nothing unless they start in time."""

from typing import Any

import pytest

from agentcom.core import due_facts, expiry, facts
from agentcom.core.effects import ClearTimer
from agentcom.model.errors import InvalidInput
from agentcom.model.failure import FailureClass
from agentcom.model.graph import Condition, Dependency
from agentcom.model.ids import TaskId, WallTime
from agentcom.model.replies import Explanation
from agentcom.model.task import Task, TaskSpec, TaskState, Wait
from agentcom.testing.world import machine
from tests.core.acts import Pool, failed

MINUTE = 60_000


def spec(world: Pool, ms: int = MINUTE, **fields: Any) -> TaskSpec:
    return TaskSpec(title="t", prompt="p", start_by=WallTime(world.now.wall + ms), **fields)


def ended(world: Pool, task: TaskId) -> tuple[TaskState, FailureClass | None, str | None]:
    row = world.task(task)
    return row.state, row.failure, row.reason


EXPIRED = (TaskState.FAILED, FailureClass.EXPIRED, expiry.REASON)


def test_a_task_that_nobody_starts_in_time_fails_as_expired() -> None:
    world = Pool()
    (task,) = world.submit(spec(world))

    world.advance(MINUTE - 1)
    assert world.task(task).state is TaskState.QUEUED
    world.advance(1)

    assert ended(world, task) == EXPIRED


def test_a_running_task_is_left_alone_and_its_timer_is_gone() -> None:
    world = Pool()
    world.machine("m1")
    (task,) = world.submit(spec(world, ms=5_000))

    row = world.accept(task)

    assert row.expires_at is None
    assert ClearTimer(f"start/{task}") in world.effects
    assert f"start/{task}" not in world.timers
    world.advance(6_000)
    assert world.task(task).state is TaskState.RUNNING


def test_a_task_that_started_does_not_expire_between_its_attempts() -> None:
    world = Pool()
    world.machine("m1")
    (task,) = world.submit(spec(world, ms=1_000))
    world.accept(task)
    world.finish(task, failed())

    world.advance(1_000)

    assert world.task(task).failure is FailureClass.AGENT
    assert world.task(task).state is not TaskState.FAILED


def test_an_attempt_on_its_way_is_waited_for_and_one_that_never_began_expires() -> None:
    world = Pool()
    world.machine("m1")
    (task,) = world.submit(spec(world, ms=5_000))
    world.advance(5_000)
    assert world.task(task).state is TaskState.ASSIGNED

    world.tell(facts.Declined(task, world.task(task).fence, "busy"), machine("m1"))
    world.advance(0)

    assert ended(world, task) == EXPIRED


@pytest.mark.parametrize("condition", list(Condition))
def test_dependants_hear_of_it_as_of_any_failure(condition: Condition) -> None:
    world = Pool()
    (first,) = world.submit(spec(world))
    (then,) = world.submit(
        TaskSpec(title="d", prompt="p", depends_on=(Dependency(first, condition),))
    )

    world.advance(MINUTE)

    row = world.task(then)
    failed_too = (row.state, row.failure) == (TaskState.FAILED, FailureClass.DEPENDENCY)
    assert failed_too if condition is Condition.SUCCESS else row.state is TaskState.QUEUED


def test_what_waits_expires_too() -> None:
    world = Pool()
    (first,) = world.submit("first")
    (blocked,) = world.submit(spec(world, depends_on=(Dependency(first),)))
    start = WallTime(world.now.wall + MINUTE - 1)
    (later,) = world.submit(spec(world, not_before=start))

    world.advance(MINUTE)

    assert ended(world, blocked) == EXPIRED
    assert ended(world, later) == EXPIRED


def test_its_timer_is_rebuilt_from_the_rows() -> None:
    world = Pool()
    (task,) = world.submit(spec(world))
    before = dict(world.timers)

    world.restart()

    assert world.timers == before
    world.advance(MINUTE)
    assert ended(world, task) == EXPIRED


def test_a_timer_that_comes_too_early_is_set_again() -> None:
    world = Pool()
    (task,) = world.submit(spec(world))
    timer = world.timers.pop(f"start/{task}")

    world.tell(timer.body)

    assert world.timers[f"start/{task}"] == timer
    assert world.task(task).state is TaskState.QUEUED


def test_the_end_of_a_wait_does_not_begin_what_has_expired() -> None:
    world = Pool()
    world.machine("m1")
    start = WallTime(world.now.wall + MINUTE - 1)
    (task,) = world.submit(spec(world, not_before=start))
    world.timers.clear()
    world.now_ms += MINUTE

    world.tell(due_facts.WaitEnded(task))

    assert ended(world, task) == EXPIRED


def test_a_cancelled_task_leaves_no_timer() -> None:
    world = Pool()
    (task,) = world.submit(spec(world))

    world.ask(facts.Cancel(task))

    assert f"start/{task}" not in world.timers


def test_who_retries_an_expired_task_wants_it_whatever_the_time() -> None:
    world = Pool()
    (task,) = world.submit(spec(world))
    world.advance(MINUTE)

    world.ask(facts.Retry(task))

    row: Task = world.task(task)
    assert (row.state, row.expires_at) == (TaskState.QUEUED, None)
    world.advance(MINUTE)
    assert world.task(task).state is TaskState.QUEUED


@pytest.mark.parametrize("ms", [0, -1, 1 << 60])
def test_a_time_that_no_start_could_keep_is_refused(ms: int) -> None:
    world = Pool()

    with pytest.raises(InvalidInput, match="start_by"):
        world.submit(spec(world, ms=ms))

    assert world.view.tasks == {}


def test_a_time_before_the_start_time_is_refused() -> None:
    world = Pool()
    start = WallTime(world.now.wall + MINUTE)

    with pytest.raises(InvalidInput, match="not_before"):
        world.submit(spec(world, not_before=start))


def test_why_says_when_it_expires() -> None:
    world = Pool()
    (task,) = world.submit(spec(world))

    found = world.ask(facts.Explain(task))

    assert isinstance(found, Explanation)
    assert found.next_at == world.task(task).expires_at
    assert "fails as expired" in found.next_action


def test_why_says_first_what_comes_first() -> None:
    world = Pool()
    start = WallTime(world.now.wall + 1_000)
    (task,) = world.submit(spec(world, not_before=start))

    found = world.ask(facts.Explain(task))

    assert isinstance(found, Explanation)
    assert (found.next_at, found.task.wait) == (start, Wait.START_TIME)
    assert "expired" not in found.next_action
