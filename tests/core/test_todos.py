"""What is left to do goes on in steps, whatever it is, until nothing is left."""

import pytest

from agentcom.core import facts
from agentcom.core.facts import Fact
from agentcom.model.batch import Table
from agentcom.model.bulk import BulkAct
from agentcom.model.graph import Dependency
from agentcom.model.ids import DEFAULT_PROJECT, TaskId
from agentcom.model.limits import CASCADE_BATCH, CASCADE_INLINE
from agentcom.model.task import TaskSpec, TaskState
from agentcom.model.todo import TodoKind
from agentcom.testing.world import agent
from tests.core.acts import Pool

MANY = CASCADE_INLINE + 2 * CASCADE_BATCH + 1
GROUPED = TaskSpec(title="t", prompt="p", group="g")


def todos(world: Pool) -> list[str]:
    return [key for table, key in world.rows if table is Table.TODO]


def test_what_is_not_left_to_do_is_nothing() -> None:
    world = Pool()

    world.decide([Fact(body=facts.TodoDue(TaskId("gone"), TodoKind.RELEASE_DEPENDANTS))])

    assert (todos(world), world.view.todos) == ([], {})


def test_the_dependants_of_an_end_are_told_in_steps() -> None:
    world = Pool()
    (first,) = world.submit("first")
    after = TaskSpec(title="t", prompt="p", depends_on=(Dependency(first),))
    waiting = world.submit(*[after] * MANY)

    world.ask(facts.Cancel(first))

    assert {world.task(task).state for task in waiting} == {TaskState.FAILED}
    assert todos(world) == []


@pytest.mark.parametrize(
    "act",
    [
        facts.CancelGroup("g"),
        facts.Pause(f"project:{DEFAULT_PROJECT}", paused=True, stop=True),
    ],
    ids=("a group", "a pause"),
)
def test_what_runs_is_stopped_in_steps(act: facts.CancelGroup | facts.Pause) -> None:
    world = Pool()
    world.machine("m1", *(agent(f"a{n}", slots=64) for n in range(MANY // 64 + 1)))
    tasks = world.submit(*[GROUPED] * MANY)

    world.ask(act)

    assert all(world.task(task).stop_reason for task in tasks)
    assert todos(world) == []


def test_many_are_acted_on_in_steps() -> None:
    world = Pool()
    tasks = world.submit(*[GROUPED] * MANY)

    world.ask(facts.ActOnMany(BulkAct.CANCEL, tuple(tasks)))

    assert {world.task(task).state for task in tasks} == {TaskState.CANCELLED}
    assert todos(world) == []
