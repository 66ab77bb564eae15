"""Policies of edges, groups, and reviews that are never given to the author."""

from typing import Any

import msgspec
import pytest

from agentcom.core import facts, graphs
from agentcom.core.facts import Fact
from agentcom.model import limits
from agentcom.model.batch import Table, group_key, member_key
from agentcom.model.errors import InvalidInput, NotFound
from agentcom.model.failure import FailureClass
from agentcom.model.graph import Approval, Condition, Dependency, OnFailure, ReviewBy, Tally
from agentcom.model.ids import DEFAULT_PROJECT, TaskId
from agentcom.model.replies import Explanation
from agentcom.model.result import LandStatus
from agentcom.model.task import TaskSpec, TaskState, Wait
from agentcom.testing.world import agent, machine, person
from tests.core.acts import Pool, done, failed, merging

FAIL, SKIP, WAIT = OnFailure.FAIL, OnFailure.SKIP, OnFailure.WAIT


def after(task: str, policy: OnFailure = FAIL, **more: Any) -> TaskSpec:
    return TaskSpec(
        title="d", prompt="p", depends_on=(Dependency(task, on_failure=policy),), **more
    )


def review(of: str, by: ReviewBy = ReviewBy.OTHER_AGENT, **more: Any) -> TaskSpec:
    return TaskSpec(title="r", prompt="look", reviews=of, review_by=by, **more)


def fail(world: Pool, task: TaskId) -> None:
    world.finish(task, failed(failure=FailureClass.REFUSED))


def tally(world: Pool, name: str) -> Tally:
    row = world.rows[Table.TALLY, group_key(DEFAULT_PROJECT, name)]
    assert isinstance(row, Tally)
    return row


def why(world: Pool, task: TaskId) -> Explanation:
    reply = world.ask(facts.Explain(task))
    assert isinstance(reply, Explanation)
    return reply


# What becomes of dependants -----------------------------------------------------------------------


@pytest.mark.parametrize("cancelled", [False, True])
def test_each_dependant_ends_or_waits_as_it_said(cancelled: bool) -> None:
    world = Pool()
    (first,) = world.submit("t")
    fails, skips, waits = world.submit(*[after(first, policy) for policy in (FAIL, SKIP, WAIT)])

    if cancelled:
        world.ask(facts.Cancel(first))
    else:
        world.machine("m1")
        fail(world, first)

    assert world.task(fails).failure is FailureClass.DEPENDENCY
    assert world.task(skips).state is TaskState.CANCELLED
    assert world.task(skips).reason == f"skipped: it depends on {first}, which did not succeed"
    assert world.task(waits).wait is Wait.DEPENDENCIES


def test_who_waits_for_a_retry_starts_when_one_succeeds_also_after_a_restart() -> None:
    world = Pool()
    first = world.running()
    (second,) = world.submit(after(first, WAIT))
    fail(world, first)
    world.ask(facts.Retry(first))
    world.accept(first)
    fail(world, first)
    world.restart()
    world.machine("m1")

    assert world.task(second).wait is Wait.DEPENDENCIES
    explained = why(world, second)
    assert explained.summary.endswith(f"not ended as wanted: {first[-6:]} is failed")
    assert explained.next_action == (
        f"it waits for a retry that succeeds: agentcom task retry {first}"
    )
    world.ask(facts.Retry(first))
    world.accept(first)
    world.finish(first)

    assert world.task(second).state is TaskState.ASSIGNED
    assert world.pushed(second)[-1].inputs == ("c" * 40,)


def test_many_that_wait_for_a_retry_leave_no_work_behind() -> None:
    world = Pool()
    first = world.running()
    waiting = world.submit(*[after(first, WAIT)] * (limits.CASCADE_INLINE + 3), after(first))

    fail(world, first)

    assert world.view.todos == {}
    assert {world.task(task).state for task in waiting[:-1]} == {TaskState.WAITING}
    assert world.task(waiting[-1]).state is TaskState.FAILED


def test_only_who_would_wait_may_depend_on_what_has_failed() -> None:
    world = Pool()
    first = world.running()
    fail(world, first)

    (task,) = world.submit(after(first, WAIT))
    with pytest.raises(InvalidInput, match="retry it first"):
        world.submit(after(first, SKIP))

    assert world.task(task).wait is Wait.DEPENDENCIES


def test_a_cycle_through_a_review_is_refused_and_shown() -> None:
    world = Pool()

    with pytest.raises(InvalidInput, match="a -> b -> a"):
        world.submit(review("b", ref="a"), after("a", ref="b"))


# Sub-tasks of a dependency ------------------------------------------------------------------------


def below(world: Pool, parent: TaskId, *specs: TaskSpec) -> list[TaskId]:
    """Let the agent of a task ask for sub-tasks."""
    return world.ask_for(parent, *specs)


def with_children(task: str, condition: Condition = Condition.SUCCESS) -> TaskSpec:
    one = Dependency(task, condition, children=True)
    return TaskSpec(title="after", prompt="p", depends_on=(one,))


SUB = TaskSpec(title="s", prompt="p")


def test_a_dependant_waits_for_the_sub_tasks_too_and_for_theirs() -> None:
    world = Pool()
    first = world.running()
    (last,) = world.submit(with_children(first))
    (child,) = below(world, first, SUB)

    world.finish(first)
    world.accept(child)
    (grandchild,) = below(world, child, SUB)
    world.finish(child)
    world.accept(grandchild)

    assert world.task(last).wait is Wait.DEPENDENCIES
    world.restart()
    world.machine("m1", held=[world.holding(grandchild)])
    world.finish(grandchild)
    assert world.task(last).state is TaskState.ASSIGNED


def test_a_sub_task_that_fails_counts_as_its_parent_would() -> None:
    world = Pool()
    first = world.running()
    (last,) = world.submit(with_children(first))
    (child,) = below(world, first, SUB)
    world.finish(first)
    world.accept(child)

    fail(world, child)

    assert world.task(last).failure is FailureClass.DEPENDENCY
    assert child in (world.task(last).reason or "")


def test_sub_tasks_of_what_is_over_already_are_waited_for_at_submit_and_at_retry() -> None:
    world = Pool()
    first = world.running()
    child, other = below(world, first, SUB, SUB)
    world.finish(first)

    (last,) = world.submit(with_children(first))
    assert set(world.view.edges[last]) == {first, child, other}
    world.ask(facts.Cancel(last))
    world.ask(facts.Retry(last))
    assert set(world.view.edges[last]) == {first, child, other}

    assert world.task(last).wait is Wait.DEPENDENCIES


def test_a_sub_task_that_waits_for_the_dependant_is_not_waited_for() -> None:
    world = Pool()
    first = world.running()
    (last,) = world.submit(with_children(first))
    (middle,) = world.submit(after(last))
    below(world, first, after(middle), after(last))
    (plain,) = below(world, first, SUB)

    world.finish(first)

    assert set(world.view.edges[last]) == {first, plain}


# Groups -------------------------------------------------------------------------------------------


def test_a_group_counts_its_tasks_by_state_in_memory_and_in_the_store() -> None:
    world = Pool()
    world.machine("m1")
    one, two, _ = world.submit(*[TaskSpec(title="t", prompt="p", group="g")] * 3)

    world.accept(one)
    fail(world, one)
    world.accept(two)

    row = tally(world, "g")
    assert (row.made, row.live) == (3, 2)
    assert row.states == {"failed": 1, "running": 1, "queued": 1}
    assert (Table.MEMBER, member_key(row.id, one)) in world.rows
    world.restart()
    assert world.view.books.tallies == {row.id: row}


def test_a_group_that_is_over_counts_on_when_one_is_retried_or_comes() -> None:
    world = Pool()
    (one,) = world.submit(TaskSpec(title="t", prompt="p", group="g"))
    world.ask(facts.Cancel(one))
    assert (tally(world, "g").live, world.view.books.tallies) == (0, {})

    world.ask(facts.Retry(one))
    assert tally(world, "g").states == {"queued": 1}
    world.ask(facts.Cancel(one))
    world.submit(TaskSpec(title="t", prompt="p", group="g"))

    assert tally(world, "g").states == {"cancelled": 1, "queued": 1}
    assert tally(world, "g").made == 2


def test_a_group_that_ends_and_begins_again_in_one_batch_is_counted_right() -> None:
    world = Pool()
    spec = TaskSpec(title="t", prompt="p", group="g")
    (one,) = world.submit(spec)

    world.decide(
        [
            Fact(body=facts.Cancel(one), actor=person("ann")),
            Fact(body=facts.Submit((spec,)), actor=person("ann")),
        ]
    )

    assert tally(world, "g").states == {"cancelled": 1, "queued": 1}


def test_a_batch_that_is_not_written_leaves_the_books_as_they_were() -> None:
    world = Pool()
    (one,) = world.submit(TaskSpec(title="t", prompt="p", group="g"))
    before = dict(world.view.books.tallies)

    world.decide([Fact(body=facts.Cancel(one), actor=person("ann"))], commit=False)

    assert world.view.books.tallies == before
    assert list(world.view.books.members.values()) == [{one: None}]


def test_an_approval_takes_nothing_that_only_agents_have() -> None:
    for field, value in (
        ("command", ("x",)),
        ("needs", ("gpu",)),
        ("verify", ("true",)),
        ("emergency", True),
    ):
        spec = TaskSpec(title="go?", approval=Approval.PERSON)
        with pytest.raises(InvalidInput, match=r"^approval"):
            graphs.check_spec(msgspec.structs.replace(spec, **{field: value}))


# Reviews ------------------------------------------------------------------------------------------


def test_a_review_waits_for_another_agent_than_the_author_and_gets_the_commit() -> None:
    world = Pool()
    first = world.running()
    (second,) = world.submit(review(first))

    world.finish(first)

    assert world.task(second).state is TaskState.QUEUED
    assert "agent!=m1" in world.task(second).needs
    explained = why(world, second)
    assert [rule.rule for rule in explained.agents] == ["author"]
    assert explained.agents[0].detail == "reviews are never given to the author: m1"
    assert explained.summary == "no other agent may review it than m1"
    world.submit("later")
    assert world.task(second).state is TaskState.QUEUED

    world.machine("m2")
    assert world.task(second).agent == "m2"
    assert world.pushed(second)[-1].inputs == ("c" * 40,)


def test_a_review_uses_resources_also_when_it_has_learned_its_author() -> None:
    world = Pool()
    first = world.running()
    world.machine("m2", agent("m2", slots=2), resources={"cpu": 1})
    other = world.running("other", on="m2", uses={"cpu": 1})
    (second,) = world.submit(review(first, uses={"cpu": 1}))

    world.finish(first)
    assert world.task(second).state is TaskState.QUEUED
    world.finish(other)

    assert world.task(second).agent == "m2"


def test_a_review_of_what_is_completed_knows_its_author_at_once() -> None:
    world = Pool()
    world.machine("m1", agent("a1"), agent("a2"))
    (first,) = world.submit("t")
    author = world.accept(first).agent
    world.finish(first)

    (second,) = world.submit(review(first))

    assert world.task(second).agent == {"a1": "a2", "a2": "a1"}[author or ""]


def test_a_review_by_another_machine_is_not_given_to_the_authors_neighbour() -> None:
    world = Pool()
    world.machine("m1", agent("a1"), agent("a2"))
    (first,) = world.submit("t")
    (second,) = world.submit(review(first, ReviewBy.OTHER_MACHINE))
    world.accept(first)
    world.finish(first)

    assert world.task(second).state is TaskState.QUEUED
    assert "machine!=m1" in world.task(second).needs
    world.restart()
    world.machine("m1", agent("a1"), agent("a2"))
    assert world.task(second).state is TaskState.QUEUED
    world.machine("m2")
    assert world.task(second).machine == "m2"


def test_the_author_is_who_made_the_work_not_who_landed_it() -> None:
    world = Pool()
    first = world.landing()
    (second,) = world.submit(review(first))
    world.vanish("m1")
    world.machine("m2")
    world.accept(first)
    assert world.task(first).machine == "m2"

    world.land(first)

    assert world.task(second).state is TaskState.QUEUED or world.task(second).agent == "m2"
    assert "agent!=m1" in world.task(second).needs


def test_a_new_attempt_has_its_own_author() -> None:
    world = Pool()
    first = world.landing()
    world.vanish("m1")
    world.machine("m2")
    world.accept(first)
    world.land(first, LandStatus.CONFLICT)
    world.ask(facts.Retry(first))
    assert world.task(first).author is None
    (second,) = world.submit(review(first))

    world.finish(world.accept(first).id, merging())
    world.land(first)

    assert "agent!=m2" in world.task(second).needs


def test_a_review_of_an_adopted_result_is_not_given_to_its_machine() -> None:
    world = Pool()
    first = world.running()
    old = world.task(first).fence
    (second,) = world.submit(review(first))
    world.vanish("m1")
    world.machine("m2")
    world.machine("m1")
    world.tell(facts.Finished(first, old, done()), machine("m1"))
    world.ask(facts.Cancel(first))
    world.tell(facts.Stopped(first, world.task(first).fence), machine("m2"))
    world.ask(facts.Adopt(first, old, world.results(first)[0].machine))
    assert world.task(second).failure is FailureClass.DEPENDENCY

    world.ask(facts.Retry(second))

    assert "machine!=m1" in world.task(second).needs
    assert world.task(second).agent == "m2"


def test_a_review_whose_needs_are_full_is_kept_from_the_author_all_the_same() -> None:
    world = Pool()
    needs = tuple(f"n{number}" for number in range(limits.NEEDS_MAX - 1))
    world.machine("m1", agent("a1", *needs), agent("a2", *needs))
    (first,) = world.submit("t")
    (second,) = world.submit(review(first, needs=needs))
    author = world.accept(first).agent

    world.finish(first)

    assert not [need for need in world.task(second).needs if need.startswith("agent!=")]
    assert world.task(second).agent not in (None, author)


def test_a_review_for_which_no_shape_is_left_is_kept_from_the_author_all_the_same() -> None:
    world = Pool()
    world.machine("m1", agent("a1"), agent("a2"))
    (first,) = world.submit("t")
    (second,) = world.submit(review(first, needs=("prompt",)))
    world.accept(first)
    table = world.view.shapes._shapes
    table._live_max = table.live

    world.finish(first)

    assert world.task(second).needs == ("prompt",)
    assert world.task(second).agent not in (None, world.task(first).agent)


def test_a_review_may_name_other_policies_and_a_task_of_the_same_submit() -> None:
    world = Pool()
    world.machine("m1")
    spec = review("a", depends_on=(Dependency("a", on_failure=SKIP),))
    first, second = world.submit(TaskSpec(title="t", prompt="p", ref="a"), spec)
    assert world.body(second).spec.reviews == first
    world.accept(first)

    fail(world, first)

    assert world.task(second).state is TaskState.CANCELLED


def test_what_a_review_names_must_be_there() -> None:
    with pytest.raises(NotFound, match="no task nobody"):
        Pool().submit(review("nobody"))


def test_a_review_of_what_a_person_approved_may_go_to_anyone() -> None:
    world = Pool()
    (gate,) = world.submit(TaskSpec(title="go?", approval="person"))  # type: ignore[arg-type]  # its text
    (second,) = world.submit(review(gate))
    world.ask(facts.Decide(gate, approved=True))

    world.machine("m1")

    assert world.task(second).agent == "m1"
