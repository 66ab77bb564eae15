"""One act on many tasks."""

import pytest

from agentcom.core import facts
from agentcom.core.facts import Fact
from agentcom.model.batch import Table
from agentcom.model.bulk import BulkAct
from agentcom.model.errors import InvalidInput
from agentcom.model.event import EventKind
from agentcom.model.graph import Dependency
from agentcom.model.identity import Identity, Role
from agentcom.model.ids import TaskId
from agentcom.model.limits import BULK_REFUSALS, BULK_TASKS_MAX, BULKS_KEPT, CASCADE_BATCH
from agentcom.model.replies import BulkShown
from agentcom.model.task import TaskSpec, TaskState
from agentcom.testing.world import person
from tests.core.acts import Pool, failed

CANCEL, RETRY = BulkAct.CANCEL, BulkAct.RETRY


def ask(
    world: Pool,
    act: BulkAct,
    *tasks: TaskId,
    states: tuple[TaskState, ...] = (),
    reason: str = "",
    by: Identity | None = None,
    key: str | None = None,
) -> BulkShown:
    reply = world.ask(facts.ActOnMany(act, tasks, states, reason), by, key=key)
    assert isinstance(reply, BulkShown)
    return reply


def last(world: Pool) -> BulkShown:
    return next(reversed(world.view.bulks.values()))


def states(world: Pool, *tasks: TaskId) -> set[TaskState]:
    return {world.task(task).state for task in tasks}


def test_many_are_cancelled_with_one_reason() -> None:
    world = Pool()
    tasks = world.submit("a", "b", "c")

    taken = ask(world, CANCEL, *tasks, reason="the plan changed")

    assert (taken.tasks, taken.left) == (3, 3)
    assert states(world, *tasks) == {TaskState.CANCELLED}
    assert {world.task(task).reason for task in tasks} == {"the plan changed"}
    assert (last(world).done, last(world).left, last(world).skipped) == (3, 0, 0)
    ends = [a.record for a in world.feed if a.record.kind is EventKind.CANCELLED]
    assert {record.actor for record in ends} == {"ann"}
    assert not world.view.todos


def test_many_are_worked_off_in_bounded_steps() -> None:
    world = Pool()
    tasks = world.submit(*(f"t{n}" for n in range(2 * CASCADE_BATCH + 1)))
    world.decide([Fact(body=facts.ActOnMany(CANCEL, tuple(tasks)), actor=person("ann"))])

    ends = [a.record.task for a in world.feed if a.record.kind is EventKind.CANCELLED]
    assert ends == tasks
    todo = [row for (table, _), row in world.rows.items() if table is Table.TODO]
    assert todo == []


def test_a_restart_in_the_middle_goes_on_where_it_was() -> None:
    world = Pool()
    tasks = world.submit(*(f"t{n}" for n in range(CASCADE_BATCH + 2)))
    perform = world._perform
    world._perform = lambda effects: None  # type: ignore[method-assign]  # the hub dies here
    world.decide([Fact(body=facts.ActOnMany(CANCEL, tuple(tasks)), actor=person("ann"))])
    assert states(world, *tasks) == {TaskState.QUEUED}
    (name,) = world.view.todos
    world.decide([Fact(body=facts.TodoDue(name, world.view.todos[name].kind))])
    assert states(world, *tasks) == {TaskState.QUEUED, TaskState.CANCELLED}
    assert (last(world).left, last(world).done) == (2, CASCADE_BATCH)

    world._perform = perform  # type: ignore[method-assign]
    world.restart()

    assert states(world, *tasks) == {TaskState.CANCELLED}
    assert (last(world).tasks, last(world).done) == (len(tasks), len(tasks))


def test_failed_tasks_are_reopened_with_what_they_depend_on_in_mind() -> None:
    world = Pool()
    first = world.running(failures_max=1)
    (second,) = world.submit(TaskSpec(title="second", prompt="p", depends_on=(Dependency(first),)))
    world.finish(first, failed())
    assert states(world, first, second) == {TaskState.FAILED}

    ask(world, RETRY, first, second)

    assert world.task(first).state is TaskState.ASSIGNED
    assert world.task(second).state is TaskState.WAITING
    assert (last(world).done, last(world).skipped) == (2, 0)


def test_what_moved_on_or_refuses_is_skipped_and_the_rest_is_done() -> None:
    world = Pool()
    first, second, third = world.submit("a", "b", "c")
    world.ask(facts.Cancel(first))
    world.machine("m1")
    only = (TaskState.QUEUED,)

    ask(world, CANCEL, first, second, third, TaskId("none"), states=only)

    assert world.task(second).stop_reason is None
    assert world.task(third).state is TaskState.CANCELLED
    seen = last(world)
    assert (seen.done, seen.skipped) == (1, 3)
    assert [(one.name, one.code) for one in seen.refused] == [
        (first, "illegal_transition"),
        (second, "illegal_transition"),
        ("none", "not_found"),
    ]


def test_a_refused_one_in_the_middle_leaves_nothing_behind() -> None:
    world = Pool()
    (dependency,) = world.submit("dependency")
    spec = TaskSpec(title="t", prompt="p", unique_key="u", depends_on=(Dependency(dependency),))
    (one,) = world.submit(spec)
    world.ask(facts.Cancel(one))
    world.ask(facts.Cancel(dependency))

    ask(world, RETRY, one, dependency)

    assert world.task(one).state is TaskState.CANCELLED
    assert "u" not in world.view.unique
    assert world.task(dependency).state is TaskState.QUEUED
    assert last(world).refused[0].code == "invalid_input"


def test_few_refusals_are_told_and_all_are_counted() -> None:
    world = Pool()
    nobody = [TaskId(f"none{n}") for n in range(BULK_REFUSALS + 5)]

    ask(world, CANCEL, *nobody)

    assert len(last(world).refused) == BULK_REFUSALS
    assert last(world).skipped == len(nobody)


def test_a_repeat_under_one_key_is_answered_and_not_done_again() -> None:
    world = Pool()
    tasks = world.submit("a", "b")
    first = ask(world, CANCEL, *tasks, key="k")
    world.ask(facts.Retry(tasks[0]))

    assert ask(world, CANCEL, *tasks, key="k") == first

    assert world.task(tasks[0]).state is TaskState.QUEUED


def test_a_submitter_reaches_only_their_own_tasks() -> None:
    world = Pool()
    (mine,) = world.submit("mine", by="eve")
    (other,) = world.submit("other", by="ann")

    ask(world, CANCEL, mine, other, by=person("eve", Role.SUBMITTER))

    assert world.task(mine).state is TaskState.CANCELLED
    assert world.task(other).state is TaskState.QUEUED


def test_an_act_and_the_end_of_its_tasks_in_one_batch_agree() -> None:
    world = Pool()
    tasks = world.submit("a", "b")
    perform = world._perform
    world._perform = lambda effects: None  # type: ignore[method-assign]  # nobody goes on yet
    world.decide([Fact(body=facts.ActOnMany(RETRY, tuple(tasks)), actor=person("ann"))])
    (name,) = world.view.todos
    world._perform = perform  # type: ignore[method-assign]

    world.decide(
        [
            Fact(body=facts.Cancel(tasks[0]), actor=person("ann")),
            Fact(body=facts.TodoDue(name, world.view.todos[name].kind)),
        ]
    )

    assert world.task(tasks[0]).state is TaskState.QUEUED
    assert (last(world).done, last(world).skipped) == (1, 1)


def test_the_counts_of_old_acts_are_forgotten() -> None:
    world = Pool()
    for _ in range(BULKS_KEPT + 3):
        ask(world, CANCEL, TaskId("none"))

    assert len(world.view.bulks) == BULKS_KEPT


def test_an_act_on_none_is_answered_and_leaves_nothing_to_do() -> None:
    world = Pool()

    assert ask(world, CANCEL, key="k").tasks == 0
    assert not world.view.todos


def test_too_many_and_a_long_reason_are_refused() -> None:
    world = Pool()
    with pytest.raises(InvalidInput, match="tasks"):
        ask(world, CANCEL, *(TaskId("t"),) * (BULK_TASKS_MAX + 1))
    with pytest.raises(InvalidInput, match="reason"):
        ask(world, CANCEL, TaskId("t"), reason="a\nb")
