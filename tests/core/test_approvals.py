"""Tasks that wait for a person's word."""

import pytest

from agentcom.core import facts
from agentcom.model.errors import IllegalTransition, NotAllowed, NotFound
from agentcom.model.failure import FailureClass
from agentcom.model.graph import Approval, Dependency
from agentcom.model.identity import Role
from agentcom.model.ids import TaskId, WallTime
from agentcom.model.limits import LOOP_UNCHANGED
from agentcom.model.replies import Explanation
from agentcom.model.result import Result, ResultStatus
from agentcom.model.task import Phase, TaskSpec, TaskState, Wait
from agentcom.testing.world import machine, person
from tests.core.acts import Pool, done, merging, queueing

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

    with pytest.raises(IllegalTransition, match="an approval"):
        world.ask(facts.Decide(task, approved=True))


def test_it_is_explained_and_can_be_cancelled() -> None:
    world = Pool()
    (gate,) = gate_of(world, GATE)

    said = world.ask(facts.Explain(gate))
    assert isinstance(said, Explanation)
    assert said.next_action == f"agentcom task approve {gate}, or agentcom task reject"
    world.ask(facts.Cancel(gate))

    assert world.task(gate).state is TaskState.CANCELLED


# Results that a person must look at ----------------------------------------------------------

LOOK = {"needs_person": ("deletes the test tests/test_a.py",)}


def parked(world: Pool, result: Result) -> TaskId:
    task = world.running()
    assert world.finish(task, result).wait is Wait.APPROVAL
    return task


def test_an_approved_result_is_taken() -> None:
    world = Pool()
    task = parked(world, done(**LOOK))

    world.ask(facts.Decide(task, approved=True, message="they were wrong"), person("olga"))

    assert (world.task(task).state, world.task(task).commit) == (TaskState.COMPLETED, "c" * 40)
    record = next(one.record for one in world.feed if one.record.kind == "approved")
    assert record.detail == "by olga: they were wrong"


@pytest.mark.parametrize("result", [merging(**LOOK), queueing(**LOOK)])
def test_an_approved_result_that_is_to_land_lands_by_the_usual_way(result: Result) -> None:
    world = Pool()
    task = parked(world, result)
    world.restart()
    world.machine("m1")

    world.ask(facts.Decide(task, approved=True), person("olga"))

    assert world.task(task).landing_only
    world.accept(task)
    assert world.task(task).phase is Phase.LANDING
    assert world.task(task).land is result.land
    assert world.land(task).state is TaskState.COMPLETED


def test_a_rejected_result_fails_and_can_be_tried_again() -> None:
    world = Pool()
    task = parked(world, merging(**LOOK))

    world.ask(
        facts.Decide(task, approved=False, message="keep the test"), person("ann", Role.SUBMITTER)
    )

    row = world.task(task)
    assert (row.failure, row.reason) == (FailureClass.REJECTED, "rejected by ann: keep the test")
    world.ask(facts.Retry(task))
    assert world.task(task).state is TaskState.ASSIGNED


def test_a_submitter_may_not_approve_what_changes_the_checks() -> None:
    world = Pool()
    task = parked(world, done(**LOOK))

    with pytest.raises(NotAllowed, match="operator"):
        world.ask(facts.Decide(task, approved=True), person("ann", Role.SUBMITTER))

    assert world.task(task).wait is Wait.APPROVAL


def test_a_suspected_loop_has_nothing_to_approve() -> None:
    world = Pool()
    world.machine("m1")
    same = TaskSpec(title="tidy", prompt="p", repo="https://example.org/api.git")
    for _ in range(LOOP_UNCHANGED):
        (task,) = world.submit(same)
        world.accept(task)
        world.finish(task, Result(status=ResultStatus.DONE, base_commit="b" * 40))
    (task,) = world.submit(same)
    assert world.task(task).wait is Wait.APPROVAL

    with pytest.raises(NotAllowed, match="no result to approve"):
        world.ask(facts.Decide(task, approved=True))
