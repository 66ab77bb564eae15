"""Agents that begin to restrict what they take: the queue tells them bit by bit."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest

from agentcom.core import facts, pool, telling
from agentcom.core.lanes import Lanes, TooManyLanes
from agentcom.core.matcher import Matcher
from agentcom.model.agent import AgentSpec
from agentcom.model.ids import TaskId
from agentcom.model.limit import Limit
from agentcom.model.replies import Explanation
from agentcom.model.task import TaskSpec, TaskState
from agentcom.testing.world import agent
from tests.core.acts import Pool

BOUND = 4


@pytest.fixture(autouse=True)
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tasks each turn put into the matcher, newest last; few are caught up at once."""
    monkeypatch.setattr(telling, "CAUGHT_UP_MAX", BOUND)
    turns: list[int] = []
    put, decide = Matcher.enqueue, pool.decide

    def counted(self: Matcher, *args: Any) -> None:
        turns[-1:] = [turns[-1] + 1] if turns else []
        put(self, *args)

    def begun(*args: Any, **named: Any) -> pool.Plan:
        turns.append(0)
        return decide(*args, **named)

    monkeypatch.setattr(Matcher, "enqueue", counted)
    monkeypatch.setattr(pool, "decide", begun)
    return turns


def only(name: str, *accepts: str) -> AgentSpec:
    return msgspec.structs.replace(agent(name), accepts=accepts)


def spec(kind: str = "", **fields: Any) -> TaskSpec:
    return TaskSpec(title="t", prompt="p", kind=kind, **fields)


def takers(world: Pool, tasks: Sequence[TaskId]) -> list[str | None]:
    return [world.task(task).agent for task in tasks]


def work_off(world: Pool, names: Sequence[str]) -> list[TaskId]:
    """Let agents finish all that they get; return it in order."""
    done: list[TaskId] = []
    while held := [t for name in names for t in world.view.held_by.get(name, ())]:  # type: ignore[call-overload]  # a machine's id
        world.accept(held[0])
        world.finish(held[0])
        done.append(held[0])
    return done


@contextmanager
def at_rest(world: Pool) -> Iterator[None]:
    """What is to go on in the next turn does not."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(world, "tell", lambda *_: ())
        yield


@pytest.mark.parametrize("tasks", [50, 200])
def test_what_an_agent_asks_first_and_last_costs_no_more_with_a_long_queue(
    tasks: int, steps: list[int]
) -> None:
    world = Pool()
    world.submit(*[spec("build")] * (tasks - 1), spec("review"))

    steps.clear()
    world.machine("m1", only("ada", "kind=review"))
    assert max(steps) <= BOUND
    assert len(steps) > tasks // BOUND
    assert [task.agent for task in world.view.tasks.values() if task.agent] == ["ada"]
    steps.clear()
    world.machine("m1", agent("ada"))

    assert max(steps) <= BOUND
    assert world.view.lagging() == []


def test_an_agent_gets_what_it_takes_in_the_order_of_the_queue() -> None:
    world = Pool()
    kinds = ["a", "b", "a", "a", "b", "a", "b", "b", "a", "b"]
    tasks = world.submit(*[spec(kind, needs=(f"n{n % 2}",)) for n, kind in enumerate(kinds)])

    mine = msgspec.structs.replace(only("ada", "kind=b"), capabilities=("n0", "n1"))
    world.machine("m1", mine)

    assert work_off(world, ["m1"]) == [t for t, k in zip(tasks, kinds, strict=True) if k == "b"]


def test_agents_without_a_rule_get_what_has_not_told_yet_in_order_too() -> None:
    world = Pool()
    tasks = world.submit(*[spec(kind) for kind in "abababab"])

    world.machine("m1", only("ada", "kind=z"), "bob")

    assert work_off(world, ["m1"]) == tasks


def test_what_joins_the_queue_tells_at_once() -> None:
    world = Pool()
    world.machine("m1", only("ada", "kind=b"))
    first, second, third = world.submit(spec("a"), spec("b"), spec("b"))

    assert takers(world, [first, second, third]) == [None, "ada", None]
    assert list(world.view.behind) == []


def test_what_waited_tells_when_it_joins_the_queue() -> None:
    world = Pool()
    later = world.now.wall + 5_000
    (task,) = world.submit(spec("b", not_before=later))
    world.machine("m1", only("ada", "kind=b"))
    assert world.task(task).state is TaskState.WAITING

    world.advance(6_000)

    assert world.task(task).agent == "ada"


def test_what_is_behind_a_limit_tells_when_it_may_start() -> None:
    world = Pool()
    world.ask(facts.SetLimit(Limit(scope="key:k", concurrency=0)))
    tasks = world.submit(*[spec("b", keys=("k",))] * 10)
    world.machine("m1", only("ada", "kind=b"), only("bob", "kind=a"))
    assert takers(world, tasks) == [None] * 10

    world.ask(facts.SetLimit(Limit(scope="key:k", concurrency=1)))

    assert takers(world, tasks) == ["ada"] + [None] * 9
    assert work_off(world, ["m1"]) == tasks


def test_a_change_while_the_queue_is_worked_off_begins_anew() -> None:
    world = Pool()
    tasks = world.submit(*[spec("b"), spec("a")] * 10)

    with at_rest(world):
        world.machine("m1", only("ada", "kind=b"))
        world.machine("m2", only("bob", "submitter!=ann", "kind=a"))
        world.machine("m3", only("cy", "submitter=ann"))
    world.tell(facts.LookAgain())

    assert takers(world, tasks)[:4] == ["ada", "cy", None, None]


def test_too_many_shapes_keep_tasks_from_those_agents_until_there_is_room() -> None:
    world = Pool()
    tasks = world.submit(*[spec(f"k{n}") for n in range(6)], spec("last"))
    world.view.shapes._shapes._live_max = 5

    world.machine("m1", only("ada", "kind=last"))
    assert takers(world, tasks) == [None] * 7
    said = world.ask(facts.Explain(tasks[6]))
    assert isinstance(said, Explanation)
    words = "it takes only kind=last, and too many different tasks are queued to compare"
    assert (said.agents[0].rule, said.agents[0].detail) == ("accepts", words)
    world.machine("m2", only("bob"))
    work_off(world, ["m2"])

    assert world.task(tasks[6]).agent in ("ada", "bob")


def test_too_many_lanes_leave_a_task_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    world = Pool()
    world.ask(facts.SetLimit(Limit(scope="key:*", concurrency=1)))
    tasks = world.submit(spec("b", keys=("k",)), spec("b", keys=("k",)))

    def full(*_: object) -> None:
        raise TooManyLanes

    with monkeypatch.context() as patched:
        patched.setattr(Lanes, "_new", full)
        world.machine("m1", only("ada", "kind=b"))
        assert takers(world, tasks) == [None, None]
    world.tell(facts.LookAgain())

    assert takers(world, tasks) == ["ada", None]


def test_a_batch_that_finds_no_room_is_taken_back() -> None:
    world = Pool()
    tasks = world.submit(*[spec("b")] * 9)
    with at_rest(world):
        world.machine("m1", only("ada", "kind=b"))
    shapes_before = world.view.shapes.live_shapes, world.view.behind

    world.decide([facts.Fact(body=facts.LookAgain())], commit=False)
    assert (world.view.shapes.live_shapes, world.view.behind) == shapes_before
    world.tell(facts.LookAgain())

    assert takers(world, tasks) == ["ada"] + [None] * 8
