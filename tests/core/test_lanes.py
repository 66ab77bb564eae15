"""Lanes: what the matcher is shown, what is taken back, and that the right task is chosen."""

import random
from collections.abc import Hashable
from typing import Any, NamedTuple
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentcom.core import facts, fairness, lanes
from agentcom.core.effects import Push
from agentcom.core.gates import files_of, scopes
from agentcom.core.lanes import Lanes, TooManyLanes
from agentcom.core.matcher import Matcher
from agentcom.core.shapes import ShapeId, Shapes, Wants
from agentcom.core.view import PoolView
from agentcom.model import limits
from agentcom.model.ids import AgentId, TaskId
from agentcom.model.limit import Limit
from agentcom.model.requirement import canonical
from agentcom.model.task import Task, TaskSpec, TaskState
from agentcom.testing.invariants import suits
from agentcom.testing.world import World, agent, machine
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
        self.lanes = Lanes(self.matcher, lambda gate: gate if gate in self.shut else None)

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


SHOWN = 2


class Claimed(NamedTuple):
    """A gate that a holder of the same letter shuts; the gate `all` is looked at for it."""

    letter: str


class Held(NamedTuple):
    """What shuts gates of its letter while it is there."""

    letter: str
    number: int


class Window:
    """Lanes of two shapes behind gates of both kinds, of which few are shown."""

    def __init__(self) -> None:
        self.shut: set[Hashable] = set()
        self.holders: list[Held] = []
        self.ranks: dict[TaskId, tuple[int, float, int]] = {}
        shapes = Shapes()
        self.shapes = []
        for name in "pq":
            self.shapes.append(shapes.shape_of(Wants(canonical((name,)))))
            shapes.retain(self.shapes[-1])
        self.matcher = Matcher(shapes)
        self.lanes = Lanes(
            self.matcher, self.closed_by, lambda g: "all" if isinstance(g, Claimed) else g
        )

    def closed_by(self, gate: Hashable) -> Hashable | None:
        if isinstance(gate, Held):
            return gate if gate in self.holders else None
        if isinstance(gate, Claimed):
            return next((one for one in self.holders if one.letter == gate.letter), None)
        return gate if gate in self.shut else None

    def add(self, number: int, shape: int, gates: tuple[Hashable, ...]) -> None:
        task = TaskId(str(number))
        if task not in self.ranks:
            self.ranks[task] = (1, float(number * 7 % 13), number)
            self.lanes.add(task, self.shapes[shape], gates, self.ranks[task])

    def remove(self, number: int) -> None:
        if self.ranks.pop(TaskId(str(number)), None) is not None:
            self.lanes.remove(TaskId(str(number)))

    def undone(self, number: int) -> None:
        member = self.lanes.remove(TaskId(str(number)))
        if member is not None:
            self.lanes.put_back(member)

    def turn(self, gate: str) -> None:
        self.shut ^= {gate}
        self.lanes.look(gate)

    def hold(self, letter: str) -> None:
        """Let a holder of a letter come, or the last one go."""
        mine = [one for one in self.holders if one.letter == letter]
        if mine:
            self.holders.remove(mine[-1])
        else:
            self.holders.append(Held(letter, len(self.holders)))
        self.lanes.look("all")

    def check(self) -> None:
        """Each lane is shown, or shut out, or passed over for enough better ones."""
        for _ in range(1_000):
            if not self.lanes.vacant:
                break
            self.lanes.go_on()
        assert not self.lanes.vacant, "the search does not end"
        firsts: dict[tuple[ShapeId, tuple[Hashable, ...]], TaskId] = {}
        for task in sorted(self.ranks, key=self.ranks.__getitem__):
            firsts.setdefault(self.lanes._members[task].lane, task)
        shown = {lane for lane, task in firsts.items() if self.matcher.is_queued(task)}
        assert self.matcher.depth() == len(shown), "a task is shown that is not the first"
        assert self.lanes.hidden == len(self.ranks) - len(shown)
        for lane, task in firsts.items():
            shut = any(self.closed_by(gate) for gate in lane[1])
            if lane in shown:
                assert not shut, f"{lane} is shown behind a shut gate"
                continue
            guards = {"all" if isinstance(gate, Claimed) else gate for gate in lane[1]}
            beside = [
                [self.ranks[firsts[o]] for o in shown if o[0] == lane[0] and guard in of(o)]
                for guard in guards
            ]
            over = [len(n) >= SHOWN and max(n) < self.ranks[task] for n in beside]
            assert shut or any(over), f"{lane} could be shown"


def of(lane: tuple[ShapeId, tuple[Hashable, ...]]) -> set[Hashable]:
    return {"all" if isinstance(gate, Claimed) else gate for gate in lane[1]}


def test_a_task_that_goes_behind_another_gate_keeps_its_rank() -> None:
    window = Window()
    window.turn("g")
    window.add(2, 0, ("g",))
    window.add(1, 0, ("g", "h"))
    window.remove(2)

    window.add(2, 0, ("g", Claimed("a")))  # the stale entry has the same rank

    window.turn("g")
    window.check()


GATES = st.lists(
    st.sampled_from([*"ghijk", Claimed("a"), Claimed("b"), Claimed("c")]),
    min_size=1, max_size=3, unique=True,
).map(tuple)  # fmt: skip
WINDOW_ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 39), st.integers(0, 1), GATES),
        st.tuples(st.just("add"), st.integers(0, 39), st.integers(0, 1), GATES),
        st.tuples(st.sampled_from(["remove", "undone"]), st.integers(0, 39)),
        st.tuples(st.just("turn"), st.sampled_from("gh")),
        st.tuples(st.just("hold"), st.sampled_from("ab")),
    ),
    max_size=60,
)


@given(WINDOW_ACTS, st.sampled_from([1, 2, 256]))
@settings(max_examples=150)
def test_of_many_lanes_the_best_are_shown_and_none_is_forgotten(
    acts: list[tuple[Any, ...]], steps: int
) -> None:
    with (
        mock.patch.object(lanes, "LANES_SHOWN", SHOWN),
        mock.patch.object(lanes, "HEAPS_MAX", 2),
        mock.patch.object(lanes, "LANES_LOOKED_AT", steps),
    ):
        window = Window()
        for what, *values in acts:
            getattr(window, what)(*values)
            if steps > 2:
                window.check()
        window.check()
        for number in range(40):
            window.remove(number)
        assert (len(window.lanes), window.matcher.depth()) == (0, 0)
        assert window.lanes.gates() == []


def test_an_event_at_a_full_limit_costs_what_is_shown_however_many_keys_wait() -> None:
    world = Pool()
    world.machine("m1", agent("a", slots=9))
    world.ask(facts.SetLimit(Limit(scope="key:*", concurrency=1)))
    world.ask(facts.SetLimit(Limit(scope="project:default", concurrency=2)))
    world.submit(*[TaskSpec(title="t", prompt="p", keys=(f"k{n}",)) for n in range(600)])
    looks = mock.Mock(wraps=world.view.gates.closed_by)

    with mock.patch.object(world.view.lanes, "_closed_by", looks):
        for task in [t.id for t in world.view.tasks.values() if t.state.held]:
            World.decide(world, [finished(world, task)])

    assert sum(t.state.held for t in world.view.tasks.values()) == 2
    assert looks.call_count < 2 * 3 * 2 * limits.LANES_SHOWN


def test_an_event_at_claimed_files_looks_only_at_what_it_may_let_in() -> None:
    world = Pool()
    world.machine("m1", agent("a", slots=9))
    claims = [
        TaskSpec(title="t", prompt="p", repo="https://g.example/r", scope=(f"d{n}/**",))
        for n in range(600)
    ]
    running = world.submit(*claims)[:9]
    looks = mock.Mock(wraps=world.view.gates.closed_by)

    with mock.patch.object(world.view.lanes, "_closed_by", looks):
        World.decide(world, [finished(world, running[0])])

    assert sum(t.state.held for t in world.view.tasks.values()) == 9
    assert looks.call_count < 8 * limits.LANES_SHOWN


def finished(world: Pool, task: TaskId) -> facts.Fact:
    row = world.task(task)
    body = facts.Finished(task, row.fence, done())
    return facts.Fact(body=body, actor=machine(row.machine or ""))


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
