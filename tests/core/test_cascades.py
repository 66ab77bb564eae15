"""What the end of a task means for those that depend on it."""

import pytest

from agentcom.core import facts
from agentcom.core.facts import Fact
from agentcom.model.errors import InvalidInput
from agentcom.model.failure import FailureClass
from agentcom.model.graph import Condition, Dependency
from agentcom.model.ids import TaskId, WallTime
from agentcom.model.limits import CASCADE_BATCH, CASCADE_INLINE
from agentcom.model.task import TaskSpec, TaskState, Wait
from agentcom.testing.world import machine, person
from tests.core.acts import Pool, done, failed


def after(
    *tasks: TaskId, on: Condition = Condition.SUCCESS, not_before: WallTime | None = None
) -> TaskSpec:
    depends = tuple(Dependency(task, on) for task in tasks)
    return TaskSpec(title="d", prompt="p", depends_on=depends, not_before=not_before)


def fail(world: Pool, task: TaskId) -> None:
    world.finish(task, failed(failure=FailureClass.REFUSED))


class Held(Pool):
    """A pool whose next turns wait, so that a cascade can be interrupted."""

    later: list[facts.Body]

    def _perform(self, effects: object) -> None:
        mine = [e for e in effects if type(e).__name__ != "Continue"]  # type: ignore[attr-defined]  # a list
        self.later = [
            *getattr(self, "later", []),
            *[e.body for e in effects if type(e).__name__ == "Continue"],  # type: ignore[attr-defined]  # as above
        ]
        super()._perform(mine)


def test_a_task_starts_when_all_it_depends_on_has_succeeded() -> None:
    world = Pool()
    first, second = world.running(), world.running(on="m2")
    (third,) = world.submit(after(first, second))

    world.finish(first)
    assert world.task(third).wait is Wait.DEPENDENCIES
    world.finish(second)

    assert world.task(third).state is TaskState.ASSIGNED


def test_a_failure_fails_everything_downstream_and_says_why() -> None:
    world = Pool()
    first = world.running()
    (second,) = world.submit(after(first))
    (third,) = world.submit(after(second))

    fail(world, first)

    for task, on in ((second, first), (third, second)):
        row = world.task(task)
        assert (row.state, row.failure) == (TaskState.FAILED, FailureClass.DEPENDENCY)
        assert on in (row.reason or "")


def test_whoever_waits_for_any_end_starts_after_a_failure() -> None:
    world = Pool()
    first = world.running()
    (second,) = world.submit(after(first, on=Condition.ANY_END))

    fail(world, first)

    assert world.task(second).state is TaskState.ASSIGNED


def test_a_start_time_still_ahead_is_waited_for_after_the_dependencies() -> None:
    world = Pool()
    first = world.running()
    (second,) = world.submit(after(first, not_before=WallTime(world.now.wall + 5_000)))

    world.finish(first)
    assert world.task(second).wait is Wait.START_TIME
    world.advance(5_000)

    assert world.task(second).state is TaskState.ASSIGNED


def test_a_start_time_that_has_passed_is_not_waited_for_again() -> None:
    world = Pool()
    first = world.running()
    (second,) = world.submit(after(first, not_before=WallTime(world.now.wall + 50)))
    world.advance(100)

    world.finish(first)

    assert world.task(second).state is TaskState.ASSIGNED


def test_many_dependants_are_released_in_steps_that_survive_restarts() -> None:
    world = Held()
    first = world.running()
    waiting = world.submit(*[after(first)] * (CASCADE_INLINE + CASCADE_BATCH + 3))

    fail(world, first)

    def over() -> int:
        return sum(world.task(task).state is TaskState.FAILED for task in waiting)

    assert over() == CASCADE_INLINE
    world.later.clear()
    world.restart()
    (todo,) = world.later
    world.later.clear()
    world.tell(todo)
    assert over() == CASCADE_INLINE + CASCADE_BATCH
    world.later.clear()
    world.restart()
    world.tell(world.later[0])
    assert over() == len(waiting)
    assert world.view.todos == {}


def test_dependants_of_a_task_that_was_reopened_meanwhile_wait_for_its_new_end() -> None:
    world = Held()
    first = world.running()
    waiting = world.submit(*[after(first)] * (2 * CASCADE_INLINE + 5))
    fail(world, first)

    world.ask(facts.Retry(first))
    for body in list(world.later):
        world.tell(body)

    states = [world.task(task).state for task in waiting]
    assert states.count(TaskState.FAILED) == CASCADE_INLINE
    assert states.count(TaskState.WAITING) == CASCADE_INLINE + 5
    assert world.view.todos == {}


def test_a_task_that_ends_twice_before_its_cascade_goes_on_has_one_todo() -> None:
    world = Held()
    (first,) = world.submit("t")
    waiting = world.submit(*[after(first)] * (3 * CASCADE_INLINE))
    for _ in range(2):
        world.ask(facts.Cancel(first))
        world.ask(facts.Retry(first))
    world.ask(facts.Cancel(first))

    for body in list(world.later):
        world.tell(body)

    assert {world.task(task).state for task in waiting} == {TaskState.FAILED}


def test_retry_of_a_dependency_and_then_of_its_dependant_runs_both() -> None:
    world = Pool()
    first = world.running()
    (second,) = world.submit(after(first))
    fail(world, first)
    with pytest.raises(InvalidInput, match="retry it first"):
        world.ask(facts.Retry(second))

    world.ask(facts.Retry(first))
    world.ask(facts.Retry(second))
    assert world.task(second).wait is Wait.DEPENDENCIES
    world.accept(first)
    world.finish(first, done())

    assert world.task(second).state is TaskState.ASSIGNED
    assert world.pushed(second)[-1].inputs == ("c" * 40,)


def test_a_dependant_submitted_in_the_batch_that_ends_its_dependency_sees_that_end() -> None:
    world = Pool()
    first = world.running()
    finished = facts.Finished(first, world.task(first).fence, done())

    world.decide(
        [
            Fact(body=finished, actor=machine("m1")),
            Fact(body=facts.Submit((after(first),)), actor=person("ann")),
        ]
    )

    assert [a.inputs for a in world.pushed()] == [(), ("c" * 40,)]
