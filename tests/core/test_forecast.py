"""Where a task stands in the order, and about when it starts."""

import random
from unittest import mock

import pytest

from agentcom.core import facts, forecast
from agentcom.model.budget import Budget, Period
from agentcom.model.ids import AgentId, TaskId
from agentcom.model.limit import Limit
from agentcom.model.replies import Explanation
from agentcom.model.task import TaskSpec, TaskState
from agentcom.model.usage import DAY_MS, TurnUsage
from agentcom.testing.world import agent, machine
from tests.core.acts import Pool

TOOK_MS = 8_000


def fleet(*, slots: int = 4) -> Pool:
    """Return a pool that knows how long its work takes."""
    world = Pool()
    world.machine("m1", agent("a", slots=slots))
    task = world.running()
    world.advance(TOOK_MS)
    world.finish(task)
    return world


def add(world: Pool, count: int, **fields: object) -> list[TaskId]:
    return world.submit(*[TaskSpec(title="t", prompt="p", **fields)] * count)  # type: ignore[arg-type]  # as a task has them


def why(world: Pool, task: TaskId) -> Explanation:
    said = world.ask(facts.Explain(task))
    assert isinstance(said, Explanation)
    return said


def starts_in(world: Pool, task: TaskId) -> int | None:
    at = why(world, task).starts_at
    return None if at is None else at - world.now.wall


def test_behind_a_full_limit_it_is_the_limits_pace_that_counts() -> None:
    world = fleet(slots=9)
    world.ask(facts.SetLimit(Limit(scope="key:db", concurrency=2)))
    tasks = add(world, 7, keys=("db",))

    assert [starts_in(world, task) for task in tasks[2:]] == [
        TOOK_MS, TOOK_MS, 2 * TOOK_MS, 2 * TOOK_MS, 3 * TOOK_MS,
    ]  # fmt: skip


def test_a_limit_of_none_at_once_has_no_estimate() -> None:
    world = fleet()
    world.ask(facts.SetLimit(Limit(scope="key:db", concurrency=0)))
    (task,) = add(world, 1, keys=("db",))

    assert starts_in(world, task) is None


def test_a_rate_lets_one_after_the_other_start() -> None:
    world = fleet()
    world.ask(facts.SetLimit(Limit(scope="key:db", rate=1, per_ms=60_000)))
    tasks = add(world, 4, keys=("db",))

    assert [starts_in(world, task) for task in tasks[1:]] == [60_000, 120_000, 180_000]


def test_a_budget_that_is_used_up_opens_with_the_day() -> None:
    world = fleet()
    world.ask(facts.SetBudget("project:default", Period.DAY, Budget(turns=1)))
    one, two = add(world, 2)
    assert starts_in(world, two) is None  # what is reserved may come back at any time
    turn = TurnUsage(turn=1, agent=AgentId("a"), input=1)
    world.tell(facts.Used(one, world.task(one).fence, (turn,)), machine("m1"))

    assert starts_in(world, two) == DAY_MS - world.now.wall % DAY_MS


def test_what_is_paused_stands_before_nobody_else() -> None:
    world = fleet(slots=1)
    add(world, 1)
    mine = world.submit(*["t"] * 20)
    world.ask(facts.Pause("user:ann", paused=True))
    late = TaskSpec(title="t", prompt="p", priority=-9)
    (busy, theirs) = world.submit(late, late, by="bob")
    for task in [t.id for t in world.view.tasks.values() if t.state.held]:
        world.accept(task)
        world.beat("m1", [world.holding(task)])
        world.advance(TOOK_MS)
        world.finish(task)  # now the others are looked at, and go behind their pause

    assert world.task(busy).state.held
    assert why(world, theirs).position == 1
    assert starts_in(world, theirs) == TOOK_MS
    assert why(world, mine[4]).position == 5
    assert starts_in(world, mine[4]) is None


def test_a_gate_that_is_open_or_gone_keeps_nobody() -> None:
    world = fleet(slots=1)
    world.ask(facts.SetLimit(Limit(scope="key:db", concurrency=5, rate=50, per_ms=60_000)))
    world.ask(facts.SetBudget("project:default", Period.DAY, Budget(turns=50)))
    add(world, 1)
    (task,) = add(world, 1, keys=("db",), scope=("src/**",))

    assert starts_in(world, task) == TOOK_MS


def test_of_many_agents_those_that_can_are_counted_and_shown() -> None:
    world = fleet()
    for at in range(3):
        world.machine(f"x{at}", *[f"x{at}-{n}" for n in range(50)])
        world.machine(f"y{at}", *[agent(f"y{at}-{n}", "gpu") for n in range(40)])
    world.machine("z", agent("z", "tpu"))
    tasks = add(world, 121, needs=("gpu",))
    _, two = add(world, 2, needs=("tpu",))

    many, one = why(world, tasks[-1]), why(world, two)

    assert many.summary == "120 agents could run it, none is free"
    assert {rule.rule for rule in many.agents} == {"busy"}
    assert one.summary == "1 agent could run it, and is not free"
    assert one.agents[0].agent == "z"
    assert len(one.agents) == len(many.agents) == 100


def test_slots_of_agents_that_are_not_shown_count_too() -> None:
    world = fleet(slots=1)
    for at in range(4):
        world.machine(f"x{at}", *[f"x{at}-{n}" for n in range(50)])
    world.machine("m1", agent("a", slots=1))
    tasks = add(world, 401)

    assert starts_in(world, tasks[201]) == TOOK_MS
    assert starts_in(world, tasks[400]) == TOOK_MS
    assert starts_in(world, add(world, 3)[-1]) == 2 * TOOK_MS


@pytest.mark.parametrize("seed", range(3))
def test_a_place_is_exact_among_few_and_about_right_among_many(seed: int) -> None:
    rng = random.Random(seed)
    world = Pool()
    world.ask(facts.SetLimit(Limit(scope="key:*", concurrency=1)))
    specs = [
        TaskSpec(
            title="t", prompt="p", priority=rng.randint(-5, 5),
            keys=rng.choice([(), (f"k{n % 200}",), ("one",)]),
        )
        for n in range(1_000)
    ]  # fmt: skip
    world.submit(*specs)
    order = sorted(
        (t for t in world.view.tasks.values() if t.state is TaskState.QUEUED),
        key=lambda t: (t.start_tag - t.priority * 8.0, t.seq),
    )

    with mock.patch.object(forecast, "AHEAD_COUNTED", 5_000):
        for place in 0, 1, 17, 500, 999:
            assert forecast.place_of(world.view, order[place]) == place + 1
    with mock.patch.multiple(forecast, AHEAD_COUNTED=100, AHEAD_SAMPLED=400):
        assert forecast.place_of(world.view, order[0]) == 1
        assert 350 < forecast.place_of(world.view, order[500]) < 650
        assert forecast.place_of(world.view, order[999]) > 800
