"""Sub-tasks: who may ask for them, what they may be, and their end with their parent's cancel."""

from typing import Any

import pytest

from agentcom.core import facts, subtasks
from agentcom.core.facts import Fact
from agentcom.model import limits
from agentcom.model.batch import Table, children_key, family_key, member_key
from agentcom.model.errors import InvalidInput, NotAllowed, NotFound, Stale
from agentcom.model.graph import Approval, Dependency
from agentcom.model.identity import Role
from agentcom.model.ids import AgentId, MachineId, TaskId
from agentcom.model.replies import Done
from agentcom.model.task import LandPolicy, StopReason, TaskSpec, TaskState
from agentcom.model.todo import Todo, TodoKind
from agentcom.testing.world import agent, machine, person, stale
from tests.core.acts import Pool

SUB = TaskSpec(title="s", prompt="p")


def states(world: Pool, *tasks: TaskId) -> list[str]:
    return [world.task(task).state.value for task in tasks]


# Who asks -----------------------------------------------------------------------------------------


def test_an_agent_asks_for_what_then_belongs_to_its_tasks_person() -> None:
    world = Pool()
    world.machine("m1")
    (first,) = world.submit("t", by="bob")
    world.accept(first)

    (child,) = world.ask_for(first, SUB)

    row = world.task(child)
    assert (row.submitter, row.project, row.cause) == ("bob", "default", world.task(first).cause)
    assert row.parents == (first,)
    assert world.body(child).spec.parent == first
    assert world.feed[-1].record.actor == "m1"
    assert (Table.MEMBER, member_key(children_key(first), child)) in world.rows


def test_only_the_holder_of_the_newest_attempt_may_ask() -> None:
    world = Pool()
    first = world.running()
    fence = world.task(first).fence
    world.machine("m2")

    for who, asked, error in (
        (machine("m2"), fence, Stale),
        (machine("m1"), stale(fence), Stale),
        (machine("m1"), None, NotAllowed),
        (person("ann"), fence, NotAllowed),
    ):
        with pytest.raises(error):
            world.ask(facts.Submit((SUB,), first, asked), who)
    with pytest.raises(Stale):
        world.ask(facts.Submit((SUB,), TaskId("none"), fence), machine("m1"))


def test_a_person_cannot_say_whose_sub_task_it_is() -> None:
    world = Pool()
    first = world.running()

    with pytest.raises(InvalidInput, match=r"^parent"):
        world.submit(TaskSpec(title="t", prompt="p", parent=first))


def test_who_was_asked_to_stop_or_lands_asks_for_nothing_more() -> None:
    world = Pool()
    landing = world.landing()
    running = world.running()
    world.ask(facts.Cancel(running))

    for task in (landing, running):
        with pytest.raises(Stale, match="about to end"):
            world.ask_for(task, SUB)


def test_a_repeated_request_of_an_agent_makes_its_sub_tasks_once() -> None:
    world = Pool()
    first = world.running()
    body = facts.Submit((SUB,), first, world.task(first).fence)

    once = world.ask(body, machine("m1"), key="k")
    again = world.ask(body, machine("m1"), key="k")

    assert once == again
    assert len(world.view.books.below[first]) == 1


# What they may be ---------------------------------------------------------------------------------


def test_a_sub_task_is_as_its_parent_where_it_says_nothing() -> None:
    world = Pool()
    above: dict[str, Any] = {
        "needs": ("gpu",),
        "priority": 3,
        "deadline_ms": 60_000,
        "failures_max": 2,
        "repo": "https://example.org/r.git",
        "base": "main",
        "verify": ("true",),
        "group": "g",
        "land": LandPolicy.MERGE,
    }
    world.machine("m1", agent("a", "gpu"))
    (first,) = world.submit(TaskSpec(title="t", prompt="p", emergency=True, **above))
    world.accept(first)

    (child,) = world.ask_for(first, SUB)

    spec = world.body(child).spec
    assert {name: getattr(spec, name) for name in above} == above
    assert not spec.emergency
    assert world.task(child).group == "g"


def test_a_sub_task_has_at_most_what_its_parent_has() -> None:
    world = Pool()
    first = world.running(priority=-2, deadline_ms=60_000, needs=())
    asked = TaskSpec(
        title="s",
        prompt="p",
        priority=9,
        emergency=True,
        deadline_ms=90_000,
        needs=("linux",),
        failures_max=50,
    )

    less = TaskSpec(title="s", prompt="p", priority=-5, deadline_ms=5_000)
    one, two = world.ask_for(first, asked, less)

    spec = world.body(one).spec
    assert (spec.priority, spec.emergency, spec.deadline_ms) == (-2, False, 60_000)
    assert (spec.failures_max, spec.needs) == (limits.FAILURES_MAX, ("linux",))
    assert (world.task(two).priority, world.task(two).deadline_ms) == (-5, 5_000)


@pytest.mark.parametrize(
    ("above", "asked", "becomes"),
    [
        (None, None, None),
        (None, LandPolicy.MERGE, None),
        (None, LandPolicy.BRANCH, LandPolicy.BRANCH),
        (LandPolicy.BRANCH, LandPolicy.MERGE, LandPolicy.BRANCH),
        (LandPolicy.MERGE, None, LandPolicy.MERGE),
        (LandPolicy.MERGE, LandPolicy.BRANCH, LandPolicy.BRANCH),
    ],
)
def test_work_of_a_sub_task_is_merged_only_where_its_parents_is(
    above: LandPolicy | None, asked: LandPolicy | None, becomes: LandPolicy | None
) -> None:
    world = Pool()
    first = world.running(land=above)

    (child,) = world.ask_for(first, TaskSpec(title="s", prompt="p", land=asked))

    assert world.body(child).spec.land is becomes


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("repo", "https://example.org/other.git"),
        ("base", "release"),
        ("verify", ("true",)),
        ("group", "others"),
        ("command", ("rm", "-r", "/")),
    ],
)
def test_what_would_be_more_than_the_parent_may_is_refused(field: str, value: Any) -> None:
    world = Pool()
    first = world.running()

    with pytest.raises(InvalidInput, match=f"^{field}"):
        world.ask_for(first, TaskSpec(title="s", prompt="p", **{field: value}))

    assert world.view.books.below == {}


def test_an_agent_may_ask_for_a_persons_word_though_its_own_work_is_verified() -> None:
    world = Pool()
    first = world.running(verify=("true",))

    gate, last = world.ask_for(
        first,
        TaskSpec(title="go on?", approval=Approval.PERSON, ref="gate"),
        TaskSpec(title="s", prompt="p", depends_on=(Dependency("gate"),)),
    )

    assert world.body(gate).spec.verify == ()
    assert world.body(last).spec.verify == ("true",)
    assert states(world, gate, last) == ["waiting", "waiting"]


# How many -----------------------------------------------------------------------------------------


def test_families_are_only_so_deep() -> None:
    world = Pool()
    task = world.running()
    for _ in range(limits.SUBTASK_DEPTH):
        (child,) = world.ask_for(task, SUB)
        world.finish(task)
        world.accept(child)
        task = child

    assert len(world.task(task).parents) == limits.SUBTASK_DEPTH
    with pytest.raises(InvalidInput, match="5 deep"):
        world.ask_for(task, SUB)


def test_a_task_has_only_so_many_sub_tasks_in_all_its_attempts() -> None:
    world = Pool()
    first = world.running()
    world.ask_for(first, *[SUB] * (limits.SUBTASKS_PER_TASK - 1))
    world.restart()
    world.machine("m1", held=[world.holding(first)])

    with pytest.raises(InvalidInput, match="at most 100 sub-tasks"):
        world.ask_for(first, SUB, SUB)
    world.ask_for(first, SUB)

    assert world.rows[Table.TALLY, family_key(first)].made == limits.SUBTASKS_PER_TASK  # type: ignore[union-attr]  # a tally


def test_only_so_many_come_of_one_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SUBTASKS_PER_ROOT", 2)
    world = Pool()
    first = world.running()
    (child,) = world.ask_for(first, SUB)
    world.finish(first)
    world.accept(child)

    with pytest.raises(InvalidInput, match="at most 2 sub-tasks come of one task"):
        world.ask_for(child, SUB, SUB)

    assert len(world.ask_for(child, SUB)) == 1


def test_two_requests_in_one_batch_count_together() -> None:
    world = Pool()
    first = world.running()
    body = facts.Submit((SUB,) * 60, first, world.task(first).fence)

    world.decide([Fact(body=body, actor=machine("m1"))] * 2)

    assert len(world.view.books.below[first]) == 60


# The end with the parent --------------------------------------------------------------------------


def test_a_cancel_ends_all_that_came_of_the_task_in_steps_that_survive_a_restart() -> None:
    world = Pool()
    first = world.running()
    children = world.ask_for(first, *[SUB] * 100)
    world.finish(first)
    world.accept(children[0])
    grandchildren = world.ask_for(children[0], *[SUB] * 100)

    world.ask(facts.Cancel(children[0]))

    assert {*states(world, *grandchildren)} == {"cancelled"}
    assert world.task(children[0]).stop_reason is StopReason.CANCELLED
    assert world.task(grandchildren[0]).reason == (
        f"{children[0]}, which asked for it, was cancelled"
    )
    assert states(world, children[1]) == ["queued"]
    assert world.view.todos == {}


def test_a_sub_task_at_work_is_asked_to_stop_even_if_it_was_asked_for_another_reason() -> None:
    world = Pool()
    first = world.running()
    (child,) = world.ask_for(first, SUB)
    world.machine("m2")
    world.accept(child)
    world.ask(facts.RemoveMachine(MachineId("m2")))
    assert world.task(child).stop_reason is StopReason.REVOKED

    world.ask(facts.Cancel(first))

    assert world.task(child).stop_reason is StopReason.CANCELLED
    world.tell(facts.Stopped(child, world.task(child).fence), machine("m2"))
    assert world.task(child).state is TaskState.CANCELLED


def test_sub_tasks_outlive_the_success_and_the_failure_of_their_parent() -> None:
    world = Pool()
    first = world.running()
    (child,) = world.ask_for(first, SUB)

    world.finish(first)

    assert world.task(child).state is TaskState.ASSIGNED


def test_a_group_is_cancelled_from_its_end_so_that_nothing_fails_on_the_way() -> None:
    world = Pool()
    specs = [
        TaskSpec(
            title="t",
            prompt="p",
            group="g",
            ref=f"r{n}",
            depends_on=(Dependency(f"r{n - 1}"),) if n else (),
        )
        for n in range(40)
    ]
    tasks = world.submit(*specs)
    (other,) = world.submit("other")

    reply = world.ask(facts.CancelGroup("g", "not now"))

    assert reply == Done("40 tasks")
    assert {*states(world, *tasks)} == {"cancelled"}
    assert world.task(tasks[3]).reason == "not now"
    assert world.task(other).state is TaskState.QUEUED
    assert world.ask(facts.CancelGroup("g")) == Done("0 tasks")


def test_a_submitter_cancels_only_what_is_theirs_in_a_group() -> None:
    world = Pool()
    spec = TaskSpec(title="t", prompt="p", group="g")
    (mine,) = world.submit(spec, by="bob")
    (theirs,) = world.submit(spec, by="ann")

    reply = world.ask(facts.CancelGroup("g"), person("bob", Role.SUBMITTER))

    assert reply == Done("1 tasks")
    assert states(world, mine, theirs) == ["cancelled", "queued"]
    with pytest.raises(InvalidInput, match=r"^group"):
        world.ask(facts.CancelGroup("a/b"))


def test_a_stranger_cancels_no_sub_task() -> None:
    world = Pool()
    first = world.running()
    (child,) = world.ask_for(first, SUB)

    with pytest.raises(NotFound):
        world.ask(facts.Cancel(child), person("eve", Role.SUBMITTER))


def test_what_was_cancelled_meanwhile_is_passed_over() -> None:
    world = Pool()
    first = world.running()
    (child,) = world.ask_for(first, SUB)
    todo = Todo(kind=TodoKind.CANCEL_BELOW, task=TaskId(children_key(first)))

    world.ask(facts.Cancel(child))

    assert list(subtasks._left(world.view, todo)) == []
    assert world.task(first).agent == AgentId("m1")
