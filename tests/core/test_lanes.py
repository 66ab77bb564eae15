"""Lanes: what the matcher is shown, what is taken back, and that the right task is chosen."""

import random
from collections.abc import Hashable
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcom.core import facts, fairness, lanes
from agentcom.core.effects import Push
from agentcom.core.gates import files_of, scopes
from agentcom.core.lanes import Lanes, TooManyLanes
from agentcom.core.matcher import Matcher
from agentcom.core.shapes import ShapeId, Shapes, Wants
from agentcom.core.view import PoolView
from agentcom.model.ids import AgentId, TaskId
from agentcom.model.limit import Limit
from agentcom.model.task import Task, TaskSpec, TaskState
from agentcom.testing.invariants import suits
from agentcom.testing.world import agent
from tests.core.acts import Pool, done

A, B, C = TaskId("a"), TaskId("b"), TaskId("c")


class Bench:
    """Lanes over a matcher of one shape, with gates that a test opens and shuts."""

    def __init__(self) -> None:
        self.shut: set[Hashable] = set()
        shapes = Shapes()
        self.shape = shapes.shape_of(Wants(()))
        shapes.retain(self.shape)
        self.matcher = Matcher(shapes)
        self.lanes = Lanes(self.matcher, lambda gate: gate not in self.shut)

    def add(self, task: TaskId, seq: int, *gates: str) -> None:
        self.lanes.add(task, self.shape, gates, (1, 0.0, seq))

    def turn(self, gate: str, *, shut: bool) -> None:
        (self.shut.add if shut else self.shut.discard)(gate)
        self.lanes.look(gate)

    @property
    def shown(self) -> list[TaskId]:
        return [task for task in (A, B, C) if self.matcher.is_queued(task)]


def test_only_the_first_of_a_lane_is_shown() -> None:
    bench = Bench()
    bench.add(B, 2, "g")
    bench.add(A, 1, "g")

    assert bench.shown == [A]
    assert bench.lanes.hidden == 1
    bench.lanes.remove(A)
    assert bench.shown == [B]


def test_nothing_is_shown_behind_a_shut_gate() -> None:
    bench = Bench()
    bench.turn("g", shut=True)
    bench.add(A, 1, "g", "h")
    bench.add(B, 2, "h")

    assert bench.shown == [B]
    assert list(bench.lanes.shut()) == [(A, "g")]
    bench.turn("g", shut=False)
    assert bench.shown == [A, B]
    bench.turn("h", shut=True)
    assert bench.shown == []


def test_what_is_removed_comes_back_to_its_place() -> None:
    bench = Bench()
    bench.add(A, 1, "g")
    bench.add(B, 2, "g")

    member = bench.lanes.remove(A)

    assert member is not None
    bench.lanes.put_back(member)
    assert bench.shown == [A]
    assert bench.lanes.gates_of(A) == ("g",)
    assert bench.lanes.remove(C) is None


def test_a_lane_that_is_empty_is_forgotten() -> None:
    bench = Bench()
    bench.add(A, 1, "g")

    bench.lanes.remove(A)

    assert len(bench.lanes) == 0
    assert bench.lanes.gates() == []
    assert bench.lanes.gates_of(A) == ()


def test_the_number_of_lanes_is_bounded() -> None:
    bench = Bench()
    with mock.patch.object(lanes, "LANES_MAX", 1):
        bench.add(A, 1, "g")
        with pytest.raises(TooManyLanes):
            bench.add(B, 2, "h")
        bench.add(C, 3, "g")


ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 9), st.sampled_from(["", "g", "h", "gh"])),
        st.tuples(st.just("remove"), st.integers(0, 9), st.just("")),
        st.tuples(st.just("turn"), st.booleans(), st.sampled_from(["g", "h"])),
    ),
    max_size=40,
)


@given(ACTS)
def test_the_matcher_knows_the_first_task_of_each_open_lane(
    acts: list[tuple[str, Any, str]],
) -> None:
    bench = Bench()
    here: dict[int, str] = {}
    for what, value, gates in acts:
        if what == "turn":
            bench.turn(gates, shut=value)
        elif what == "add" and value not in here:
            bench.add(TaskId(str(value)), value, *gates)
            here[value] = gates
        elif what == "remove" and value in here:
            bench.lanes.remove(TaskId(str(value)))
            del here[value]

    first: dict[str, int] = {}
    for value in sorted(here):
        first.setdefault(here[value], value)
    open_lanes = {n for gates, n in first.items() if not bench.shut.intersection(gates)}
    assert {n for n in here if bench.matcher.is_queued(TaskId(str(n)))} == open_lanes
    assert bench.lanes.hidden == len(here) - len(open_lanes)
    hidden = {int(member.task) for member in bench.lanes.hidden_members()}
    assert hidden == set(here) - open_lanes
    assert ShapeId(0) == bench.shape


# The whole pool ----------------------------------------------------------------------------------


def is_open_without(view: PoolView, task: Task, other: Task) -> bool:
    """Return whether a task's gates were open before `other` began; counted directly."""
    held = [t for t in view.tasks.values() if t.state.held and t.id != other.id]
    for scope in scopes(task):
        rule = view.gates.rule_of(scope)
        most = None if rule is None else rule.concurrency
        if most is not None and sum(scope in scopes(t) for t in held) >= most:
            return False
    claims = [files_of(t) for t in held if t.files]
    mine = files_of(task)
    return not task.files or not any(c.repo == mine.repo and mine.conflicts(c) for c in claims)


def rank(task: Task) -> fairness.Rank:
    return fairness.rank(task.start_tag, task.priority, task.seq, emergency=task.emergency)


def spec(rng: random.Random, number: int) -> TaskSpec:
    fields: dict[str, Any] = {"needs": rng.choice([(), ("gpu",), ("agent!=a0",), ("machine=m1",)])}
    if rng.random() < 0.4:
        fields["keys"] = (rng.choice("xyz"),)
    if rng.random() < 0.3:
        fields["uses"] = {"cpu": rng.choice([1, 2])}
    if rng.random() < 0.4:
        fields |= {"repo": "https://g.example/r", "scope": (rng.choice(["a/**", "a/b", "c"]),)}
    if rng.random() < 0.3:
        fields["prefers"] = ("gpu*2", "spread")
    return TaskSpec(
        title=f"t{number}", prompt="p", priority=rng.choice([0, 0, 1]),
        emergency=rng.random() < 0.05, kind=rng.choice(["", "review"]), **fields,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
def test_the_chosen_task_is_the_first_that_its_agent_may_run(seed: int) -> None:
    rng = random.Random(seed)
    world = Pool()
    world.ask(facts.SetLimit(Limit(scope="key:x", concurrency=1)))
    world.ask(facts.SetLimit(Limit(scope="key:*", concurrency=2)))
    world.ask(facts.SetLimit(Limit(scope="submitter:bob", concurrency=2)))
    for at in range(4):
        host = agent(f"a{at}", *(("gpu",) if at % 2 else ()), slots=rng.choice([1, 2]))
        world.machine(f"m{at}", host, resources={"cpu": 2})
    checked = 0
    for number in range(150):
        seen = len(world.effects)
        held = [t for t in world.view.tasks.values() if t.state.held]
        if held and rng.random() < 0.45:
            task = rng.choice(held)
            if task.state is TaskState.ASSIGNED:
                world.accept(task.id)
            world.finish(task.id, done())
        else:
            world.submit(spec(rng, number), by=rng.choice(["ann", "bob"]))
        pushed = [e.assignment for e in world.effects[seen:] if isinstance(e, Push)]
        if len(pushed) == 1:
            checked += 1
            taken = world.task(pushed[0].task)
            assert_first(world.view, taken, pushed[0].agent)
    assert checked > 20


def assert_first(view: PoolView, taken: Task, agent_id: AgentId) -> None:
    for task in view.tasks.values():
        if task.state is not TaskState.QUEUED or rank(task) > rank(taken):
            continue
        # What the agent's machine had left before it took this one.
        before = as_before(view, taken)
        assert not (suits(before, task, agent_id) and is_open_without(view, task, taken)), task


def as_before(view: PoolView, taken: Task) -> PoolView:
    """Return the view as if `taken` were not there."""
    others = {key: task for key, task in view.tasks.items() if key != taken.id}
    clone = mock.Mock(wraps=view)
    clone.tasks, clone.agents, clone.machines = others, view.agents, view.machines
    return clone
