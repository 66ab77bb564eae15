"""Tasks that wait for a person's word."""

import pytest

from agentcom.core import facts
from agentcom.model.errors import IllegalTransition, NotAllowed, NotFound
from agentcom.model.failure import FailureClass
from agentcom.model.graph import Approval, Dependency
from agentcom.model.identity import Role
from agentcom.model.ids import TaskId, WallTime
from agentcom.model.replies import Explanation
from agentcom.model.task import TaskSpec, TaskState, Wait
from agentcom.testing.world import machine, person
from tests.core.acts import Pool

GATE = TaskSpec(title="go?", approval=Approval.PERSON)


def after(task: str) -> TaskSpec:
    return TaskSpec(title="d", prompt="p", depends_on=(Dependency(task),))


def gate_of(world: Pool, *specs: TaskSpec) -> tuple[TaskId, ...]:
    return tuple(world.submit(*specs))


def test_no_agent_gets_it_and_what_depends_on_it_follows_the_approval() -> None:
    world = Pool()
    world.machine("m1")
    gate, last = gate_of(
        world, TaskSpec(title="go?", approval=Approval.PERSON, ref="g"), after("g")
    )
    assert world.task(gate).wait is Wait.APPROVAL
    world.restart()
    world.machine("m1")

    world.ask(facts.Decide(gate, approved=True, message="looks good"), person("bob"))

    assert world.task(gate).state is TaskState.COMPLETED
    record = next(one.record for one in world.feed if one.record.kind == "approved")
    assert (record.actor, record.detail) == ("bob", "by bob: looks good")
    assert world.task(last).state is TaskState.ASSIGNED


def test_a_rejection_fails_it_for_good_and_says_who_said_what() -> None:
    world = Pool()
    gate, last = gate_of(
        world, TaskSpec(title="go?", approval=Approval.PERSON, ref="g"), after("g")
    )

    world.ask(facts.Decide(gate, approved=False, message="not yet"), person("bob"))

    row = world.task(gate)
    assert (row.state, row.failure) == (TaskState.FAILED, FailureClass.REJECTED)
    assert row.reason == "rejected by bob: not yet"
    assert world.task(last).failure is FailureClass.DEPENDENCY


def test_after_a_retry_it_waits_for_a_word_again() -> None:
    world = Pool()
    (gate,) = gate_of(world, GATE)
    world.ask(facts.Decide(gate, approved=False))

    world.ask(facts.Retry(gate))

    assert world.task(gate).wait is Wait.APPROVAL
    with pytest.raises(IllegalTransition, match="retry"):
        world.ask(facts.Retry(gate))
    world.ask(facts.Decide(gate, approved=True))
    assert world.task(gate).state is TaskState.COMPLETED


def test_it_waits_for_its_dependencies_and_its_time_first_and_hands_on_what_it_reviews() -> None:
    world = Pool()
    first = world.running()
    at = WallTime(world.now.wall + 5_000)
    gate, last = gate_of(
        world,
        TaskSpec(title="go?", approval=Approval.PERSON, reviews=first, not_before=at, ref="g"),
        after("g"),
    )
    with pytest.raises(IllegalTransition, match="an approval"):
        world.ask(facts.Decide(gate, approved=True))

    world.finish(first)
    assert world.task(gate).wait is Wait.START_TIME
    world.advance(5_000)
    assert world.task(gate).wait is Wait.APPROVAL
    world.ask(facts.Decide(gate, approved=True))

    assert world.pushed(last)[-1].inputs == ("c" * 40,)


def test_only_a_person_who_may_says_a_word() -> None:
    world = Pool()
    world.machine("m1")
    (gate,) = gate_of(world, GATE)

    with pytest.raises(NotAllowed, match="only a person"):
        world.ask(facts.Decide(gate, approved=True), machine("m1"))
    with pytest.raises(NotFound):
        world.ask(facts.Decide(gate, approved=True), person("eve", Role.SUBMITTER))
    with pytest.raises(NotFound):
        world.ask(facts.Decide(TaskId("none"), approved=True))

    world.ask(facts.Decide(gate, approved=True), person("ann", Role.SUBMITTER))
    with pytest.raises(IllegalTransition, match="a rejection"):
        world.ask(facts.Decide(gate, approved=False))


def test_what_an_agent_runs_is_not_approved() -> None:
    world = Pool()
    (task,) = world.submit("t")

    with pytest.raises(NotAllowed, match="an agent runs this task"):
        world.ask(facts.Decide(task, approved=True))


def test_it_is_explained_and_can_be_cancelled() -> None:
    world = Pool()
    (gate,) = gate_of(world, GATE)

    said = world.ask(facts.Explain(gate))
    assert isinstance(said, Explanation)
    assert said.next_action == f"agentcom task approve {gate}, or agentcom task reject"
    world.ask(facts.Cancel(gate))

    assert world.task(gate).state is TaskState.CANCELLED
