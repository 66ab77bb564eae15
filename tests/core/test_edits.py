"""Changing a task that waits."""

from typing import Any

import pytest

from agentcom.core import facts
from agentcom.core.effects import Push
from agentcom.core.facts import Fact
from agentcom.model.batch import Table
from agentcom.model.edit import TaskEdit
from agentcom.model.errors import Conflict, IllegalTransition, InvalidInput, NotFound
from agentcom.model.event import EventKind
from agentcom.model.graph import Dependency
from agentcom.model.identity import Identity, Role
from agentcom.model.ids import ProjectId, TaskId, UserId, WallTime
from agentcom.model.replies import TaskChanged
from agentcom.model.task import Task, TaskSpec, TaskState, Wait
from agentcom.testing.world import agent, machine, person
from tests.core.acts import Pool, done, failed


def edit(world: Pool, task: TaskId, **values: Any) -> Task:
    version = values.pop("version", world.task(task).version)
    reply = world.ask(facts.Edit(task, version, TaskEdit(**values)))
    assert isinstance(reply, TaskChanged)
    assert reply.task == world.task(task)
    return reply.task


def told(world: Pool) -> list[str | None]:
    return [a.record.detail for a in world.feed if a.record.kind is EventKind.EDITED]


def test_a_new_priority_changes_who_is_first_and_no_start_tag() -> None:
    world = Pool()
    first, second = world.submit("first", "second")
    before = world.task(second)

    after = edit(world, second, priority=3)
    world.machine("m1")

    assert [pushed.task for pushed in world.pushed()] == [second]
    assert (after.start_tag, after.seq) == (before.start_tag, before.seq)
    assert world.task(first).state is TaskState.QUEUED
    assert told(world) == ["priority: 0 -> 3"]


def test_a_lower_priority_and_an_emergency_count_too() -> None:
    world = Pool()
    first, second, third = world.submit("first", "second", "third")
    edit(world, first, priority=-3)
    edit(world, third, emergency=True)

    world.machine("m1", agent("a", slots=3))

    assert [pushed.task for pushed in world.pushed()] == [third, second, first]


def test_the_agent_gets_the_new_prompt_and_the_feed_never_shows_it() -> None:
    world = Pool()
    (task,) = world.submit("t")

    edit(world, task, prompt="the secret way", title="new", labels={"k": "v"})

    assert world.body(task).spec.prompt == "the secret way"
    assert world.body(task).version == 2
    assert world.task(task).title == "new"
    assert told(world) == ["labels; prompt; title"]
    edit(world, task, prompt="again")
    assert world.body(task).version == 3


def test_a_push_in_the_same_turn_brings_the_new_prompt() -> None:
    world = Pool()
    (task,) = world.submit(TaskSpec(title="t", prompt="old", needs=("gpu",)))
    world.machine("m1")

    world.ask(facts.Edit(task, 1, TaskEdit(prompt="new", needs=())))

    (push,) = [effect for effect in world.effects if isinstance(effect, Push)]
    assert push.body == world.body(task)
    assert push.body.spec.prompt == "new"


def test_new_needs_move_a_task_to_the_agents_that_have_them() -> None:
    world = Pool()
    world.machine("m1", agent("plain"))
    world.machine("m2", agent("strong", "gpu"))
    world.submit("keeps plain busy", "keeps strong busy")
    (task,) = world.submit(TaskSpec(title="t", prompt="p", needs=("tpu",)))

    after = edit(world, task, needs=("gpu",))
    assert after.needs == ("gpu", "prompt")
    for busy in list(world.view.tasks.values()):
        if busy.agent == "strong":
            world.accept(busy.id)
            world.finish(busy.id)

    assert world.task(task).agent == "strong"
    assert told(world) == ["needs: tpu -> gpu"]


def test_needs_that_nobody_meets_are_told_at_the_edit() -> None:
    world = Pool()
    world.machine("m1", agent("strong", "gpu"))
    world.submit("busy")
    (task,) = world.submit("t")

    def answer(**fields: Any) -> TaskChanged:
        body = facts.Edit(task, world.task(task).version, TaskEdit(**fields))
        told = world.ask(body)
        assert isinstance(told, TaskChanged)
        return told

    assert answer(needs=("tpu",)).unschedulable
    assert answer(priority=2).unschedulable
    assert not answer(needs=("gpu",)).unschedulable


def test_needs_of_a_task_that_waits_are_counted_anew() -> None:
    world = Pool()
    (first,) = world.submit("first")
    (task,) = world.submit(TaskSpec(title="t", prompt="p", depends_on=(Dependency(first),)))

    after = edit(world, task, needs=("gpu",), deadline_ms=5_000, failures_max=7)
    world.restart()

    assert after.state is TaskState.WAITING
    assert (after.deadline_ms, after.failures_max) == (5_000, 7)
    world.machine("m1", agent("a"))
    world.accept(first)
    world.finish(first)
    assert world.task(task).state is TaskState.QUEUED


def test_a_task_that_is_put_off_gives_up_its_place_and_gets_one_when_its_time_comes() -> None:
    world = Pool()
    first, second = world.submit("first", "second")
    later = WallTime(world.now.wall + 60_000)

    put_off = edit(world, first, not_before=later)
    assert (put_off.state, put_off.wait, put_off.until, put_off.seq) == (
        *(TaskState.WAITING, Wait.START_TIME, later, 0),
    )
    world.advance(60_000)

    back = world.task(first)
    assert back.state is TaskState.QUEUED
    assert back.seq > world.task(second).seq
    assert told(world) == [f"not_before: none -> {later}"]


def test_a_start_time_is_moved_or_taken_away() -> None:
    world = Pool()
    (task,) = world.submit(
        TaskSpec(title="t", prompt="p", not_before=WallTime(world.now.wall + 60_000))
    )
    edit(world, task, not_before=WallTime(world.now.wall + 5_000))
    world.advance(5_000)
    assert world.task(task).state is TaskState.QUEUED
    edit(world, task, not_before=WallTime(world.now.wall + 60_000))

    now = edit(world, task, not_before=None)

    assert (now.state, now.until) == (TaskState.QUEUED, None)


def test_a_start_time_counts_after_the_dependencies() -> None:
    world = Pool()
    first = world.running()
    (task,) = world.submit(TaskSpec(title="t", prompt="p", depends_on=(Dependency(first),)))

    waits = edit(world, task, not_before=WallTime(world.now.wall + 60_000))
    assert waits.wait is Wait.DEPENDENCIES
    world.finish(first)

    assert world.task(task).wait is Wait.START_TIME


def test_a_retrys_time_is_no_start_time() -> None:
    world = Pool()
    task = world.running()
    world.finish(task, failed())

    with pytest.raises(IllegalTransition, match="waits for retry"):
        edit(world, task, not_before=None)
    assert edit(world, task, priority=1).wait is Wait.RETRY


def test_a_running_task_takes_a_priority_for_its_next_attempt_and_nothing_else() -> None:
    world = Pool()
    task = world.running()

    with pytest.raises(IllegalTransition, match="running cannot take a new prompt"):
        edit(world, task, prompt="new", priority=2)
    after = edit(world, task, priority=2)

    assert (after.state, after.priority) == (TaskState.RUNNING, 2)
    assert world.body(task).spec.prompt == "p"


def test_who_has_seen_an_older_version_is_told_and_changes_nothing() -> None:
    world = Pool()
    (task,) = world.submit("t")
    seen = world.task(task).version
    edit(world, task, priority=1)

    with pytest.raises(Conflict, match="has version 2, not 1"):
        edit(world, task, priority=2, version=seen)
    assert world.task(task).priority == 1


def test_two_edits_of_one_batch_do_not_both_win() -> None:
    world = Pool()
    (task,) = world.submit("t")
    version = world.task(task).version

    world.decide(
        [
            Fact(body=facts.Edit(task, version, TaskEdit(prompt=text)), actor=person("ann"))
            for text in ("one", "two")
        ]
    )

    assert world.body(task).spec.prompt == "one"


def test_the_same_values_again_change_nothing() -> None:
    world = Pool()
    (task,) = world.submit("t")

    assert edit(world, task, priority=0).version == 1
    assert told(world) == []


def test_an_edit_without_a_change_or_over_a_bound_is_refused_whole() -> None:
    world = Pool()
    (task,) = world.submit("t")

    with pytest.raises(InvalidInput, match="say what is to change"):
        edit(world, task)
    with pytest.raises(InvalidInput, match="priority"):
        edit(world, task, prompt="new", priority=11)
    with pytest.raises(InvalidInput, match="needs"):
        edit(world, task, prompt="new", needs=("=",))

    assert world.body(task).version == 1


def test_what_has_ended_cannot_be_edited() -> None:
    world = Pool()
    (task,) = world.submit("t")
    world.ask(facts.Cancel(task))

    with pytest.raises(IllegalTransition, match="cancelled cannot take an edit"):
        edit(world, task, priority=1)


def test_only_a_task_of_ones_own_is_there() -> None:
    world = Pool()
    (task,) = world.submit("t")
    change = facts.Edit(task, 1, TaskEdit(priority=1))
    stranger = Identity(
        role=Role.ADMIN, user=UserId("x"), credential="x", project=ProjectId("other")
    )

    for who in (person("eve", Role.SUBMITTER), stranger):
        with pytest.raises(NotFound):
            world.ask(change, who)


def test_a_task_without_its_specification_cannot_be_edited() -> None:
    world = Pool()
    (task,) = world.submit("t")
    del world.rows[Table.BODY, task]

    with pytest.raises(NotFound, match="specification"):
        edit(world, task, priority=1)


def test_an_edit_that_is_not_written_leaves_no_trace() -> None:
    world = Pool()
    (task,) = world.submit("t")
    before = world.view.matcher.heads()
    change = facts.Edit(task, 1, TaskEdit(priority=5, needs=("gpu",)))

    world.decide([Fact(body=change, actor=person("ann"))], commit=False)

    assert world.view.matcher.heads() == before
    assert edit(world, task, priority=5).priority == 5


@pytest.mark.parametrize(
    ("change", "comes_back"), [({"prompt": "new"}, False), ({"priority": 1}, True)]
)
def test_a_silent_holder_does_not_come_back_to_work_that_is_asked_for_anew(
    change: dict[str, Any], comes_back: bool
) -> None:
    world = Pool()
    task = world.running()
    fence = world.task(task).fence
    world.vanish("m1")
    assert world.task(task).lost

    edit(world, task, **change)
    world.tell(facts.Finished(task, fence, done()), machine("m1"))

    assert (world.task(task).state is TaskState.COMPLETED) is comes_back
    assert [row.applied for row in world.results(task)] == [comes_back]
