"""Groups and graphs as people read them, from stored rows."""

import pytest

from agentcom.core import facts
from agentcom.hub.activities import Activities
from agentcom.hub.cursors import Cursors
from agentcom.hub.queries import Queries
from agentcom.hub.queries_graphs import Graphs
from agentcom.model.batch import Insert
from agentcom.model.errors import InvalidInput, NotFound
from agentcom.model.failure import FailureClass
from agentcom.model.graph import Condition, Dependency, OnFailure
from agentcom.model.ids import TaskId
from agentcom.model.result import Result, ResultStatus
from agentcom.model.task import TaskSpec
from agentcom.store.memory import MemoryStore
from agentcom.testing.store_rows import batch, committed
from agentcom.testing.world import World, machine, person

ANN = person("ann")
REFUSED = Result(status=ResultStatus.FAILED, failure=FailureClass.REFUSED, message="no")


def spec(ref: str, *on: Dependency | str, **more: object) -> TaskSpec:
    depends = tuple(Dependency(one) if isinstance(one, str) else one for one in on)
    return TaskSpec(title=ref, prompt="p", ref=ref, group="g", depends_on=depends, **more)  # type: ignore[arg-type]  # fields by name


async def reads(world: World) -> Graphs:
    """Return what reads the rows of a world."""
    store = MemoryStore()
    rows = [Insert(table, key, row) for (table, key), row in world.rows.items()]
    await committed(store, batch("b", *rows))
    cursors = Cursors(b"k")
    return Graphs(store, Queries(store, Activities(), cursors), cursors)


def chain() -> tuple[World, list[TaskId]]:
    """Return a -> b -> c, d -> c, and e that has failed, all in one group."""
    world = World()
    failing = Dependency("a", Condition.ANY_END, OnFailure.SKIP)
    tasks = world.submit(
        spec("a"), spec("b", failing), spec("c", "b", "d"), spec("d"), spec("e", priority=1)
    )
    world.machine("m1")
    world.accept(tasks[4])
    world.finish(tasks[4], REFUSED)
    return world, tasks


async def test_a_group_shows_its_progress_its_failures_and_its_longest_way() -> None:
    world, tasks = chain()

    shown = await (await reads(world)).group(ANN, "g")

    assert (shown.name, shown.tasks, shown.live, shown.percent) == ("g", 5, 4, 20)
    assert shown.states == {"assigned": 1, "failed": 1, "queued": 1, "waiting": 2}
    assert [(task.id, task.failure) for task in shown.failures] == [(tasks[4], "refused")]
    assert shown.critical_path == 3


async def test_groups_are_listed_page_by_page() -> None:
    world = World()
    for name in ("a", "b", "c"):
        world.submit(TaskSpec(title="t", prompt="p", group=name))
    graphs = await reads(world)

    first = await graphs.groups(ANN, cursor=None, limit=2)
    rest = await graphs.groups(ANN, cursor=first.next, limit=2)

    assert [group.name for group in (*first.groups, *rest.groups)] == ["c", "b", "a"]
    assert rest.next is None
    assert all(group.critical_path == 0 for group in first.groups)


async def test_a_graph_of_a_group_has_its_tasks_and_what_leads_to_what() -> None:
    world, tasks = chain()
    a, b, c, d, _ = tasks

    shown = await (await reads(world)).graph_of_group(ANN, "g")

    assert [task.id for task in shown.tasks] == tasks
    assert [(edge.on, edge.task) for edge in shown.edges] == [(a, b), (b, c), (d, c)]
    assert (shown.edges[0].condition, shown.edges[0].on_failure) == ("any_end", "skip")
    assert not shown.more


async def test_a_graph_around_a_task_goes_up_and_down_but_not_sideways() -> None:
    world, (a, b, c, d, e) = chain()
    (child,) = world.ask(  # type: ignore[union-attr, misc]  # an answer with tasks
        facts.Submit((TaskSpec(title="s", prompt="p"),), a, world.accept(a).fence),
        machine("m1"),
    ).tasks
    graphs = await reads(world)

    around_a = await graphs.graph_of_task(ANN, a, world.view.dependants)
    around_d = await graphs.graph_of_task(ANN, d, world.view.dependants)

    assert {task.id for task in around_a.tasks} == {a, b, c, child}
    assert {(edge.on, edge.task, edge.kind) for edge in around_a.edges} == {
        (a, b, "depends"),
        (b, c, "depends"),
        (a, child, "parent"),
    }
    assert {task.id for task in around_d.tasks} == {d, c}
    assert e not in {task.id for task in around_a.tasks}


async def test_a_graph_that_is_too_large_says_that_there_is_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agentcom.hub.queries_graphs.GRAPH_TASKS_MAX", 2)
    world, (a, *_) = chain()
    graphs = await reads(world)

    assert (await graphs.graph_of_task(ANN, a, world.view.dependants)).more
    assert (await graphs.group(ANN, "g")).more


async def test_what_is_not_there_or_has_no_such_name_is_refused() -> None:
    graphs = await reads(World())

    with pytest.raises(NotFound, match="no group g"):
        await graphs.group(ANN, "g")
    with pytest.raises(InvalidInput, match="group"):
        await graphs.members(ANN, "a/b")
