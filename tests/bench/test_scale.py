"""What an event costs does not grow with the queue or the fleet: by counted steps, not by time.

A step is one instruction of the interpreter. Heaps, which are C, are played by their Python
twins meanwhile, so that their comparisons count too.
"""

import heapq
import importlib.util
import statistics
import sys
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType, ModuleType
from typing import Any

import pytest

from agentcom.core import facts, lazyheap
from agentcom.model.budget import Budget, Period
from agentcom.model.limit import Limit
from agentcom.model.task import TaskSpec
from agentcom.testing.world import World, agent
from bench import scale
from bench.fleet import Fleet

FEW, MANY = 600, 24_000
SMALL, LARGE = 40, 800
EVENTS = 15
GROWTH_MAX = 1.5
"""The aim of the benchmark from 10,000 to 1,000,000 tasks, for a queue that is 40 times as long."""


def python_heapq() -> ModuleType:
    """Return the standard library's heaps without their C part."""
    spec = importlib.util.find_spec("heapq")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    held = sys.modules.get("_heapq")
    sys.modules["_heapq"] = None  # type: ignore[assignment]  # what hides a module from imports
    try:
        spec.loader.exec_module(module)
    finally:
        if held is not None:
            sys.modules["_heapq"] = held
    assert module.heappush is not heapq.heappush
    return module


@pytest.fixture(autouse=True)
def slow_heaps(monkeypatch: pytest.MonkeyPatch) -> None:
    twin = python_heapq()
    for name in ("heapify", "heappop", "heappush", "heapreplace"):
        monkeypatch.setattr(lazyheap, name, getattr(twin, name))


def steps(action: Callable[[], object]) -> int:
    """Return how many instructions `action` executes."""
    count = 0

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(before)
    return count


def events(fleet: Fleet, count: int = EVENTS) -> Iterator[tuple[str, int]]:
    """Yield kinds of events with their steps; the queue keeps its length."""
    for _ in range(count):
        for _ in range(2):
            submit = fleet.submit()
            yield "submit", steps(partial(fleet.decide, [submit]))
        agent = fleet.next_agent()
        fleet.decide([fleet.accept(agent)])
        finish = fleet.finish(agent)
        yield "complete", steps(partial(fleet.decide, [finish]))
        agent = fleet.next_agent()
        fleet.decide([fleet.accept(agent)])
        fleet.decide([fleet.pause(agent, paused=True)])
        fleet.decide([fleet.finish(agent)])
        resume = fleet.pause(agent, paused=False)
        yield "ready", steps(partial(fleet.decide, [resume]))


def each(depth: int, agents: int) -> dict[str, float]:
    """Return the mean steps of each kind of event."""
    found: dict[str, list[int]] = {}
    for name, count in events(Fleet(depth, agents)):
        found.setdefault(name, []).append(count)
    return {name: statistics.fmean(counts) for name, counts in found.items()}


@pytest.mark.parametrize(
    ("least", "most"), [((FEW, SMALL), (MANY, SMALL)), ((FEW, SMALL), (FEW, LARGE))]
)
def test_an_event_costs_the_same_in_a_long_queue_and_a_large_fleet(
    least: tuple[int, int], most: tuple[int, int]
) -> None:
    small, large = each(*least), each(*most)

    assert set(small) == set(scale.EVENTS)
    assert {name: large[name] / small[name] < GROWTH_MAX for name in small} == dict.fromkeys(
        small, True
    )


ACTS: dict[str, facts.Body] = {
    "limit": facts.SetLimit(Limit(scope="key:db", concurrency=2)),
    "every": facts.SetLimit(Limit(scope="submitter:*", concurrency=9)),
    "budget": facts.SetBudget("project:default", Period.DAY, Budget(turns=99)),
    "stop": facts.Pause("project:default", paused=True, stop=True),
    "pause": facts.Pause("all", paused=True),
    "resume": facts.Pause("all", paused=False),
}


def acts(depth: int) -> dict[str, int]:
    """Return the steps of what people change, in front of a queue."""
    world = World()
    world.machine("m1", agent("a", slots=3))
    tasks = world.submit("first")
    for _ in range(0, depth, 1_000):
        tasks = world.submit(*[TaskSpec(title="t", prompt="p", keys=("db",))] * 1_000)
    found = {name: steps(partial(world.ask, body)) for name, body in ACTS.items()}
    return {**found, "why": steps(partial(world.ask, facts.Explain(tasks[-1])))}


def test_what_people_do_costs_the_same_in_a_long_queue() -> None:
    small, large = acts(4_000), acts(16_000)

    assert {name: large[name] / small[name] < GROWTH_MAX for name in small} == dict.fromkeys(
        small, True
    )


def test_what_looks_at_the_whole_queue_is_seen_to_grow() -> None:
    def placed(depth: int) -> int:
        matcher = Fleet(depth, SMALL).view.matcher  # of all classes: all tasks compete
        return steps(lambda: [entry for _, queue in matcher.queues() for entry in queue])

    assert placed(20 * FEW) > 5 * placed(FEW)


def test_a_fleet_works_a_queue_off_to_its_end() -> None:
    fleet = Fleet(depth=60, agents=20)

    assert len(fleet.holding) == 20
    assert scale.drain(fleet) == 80
    assert fleet.queued == 0
    assert not fleet.view.tasks


def test_a_round_of_events_keeps_the_length_of_the_queue() -> None:
    fleet = Fleet(depth=60, agents=20)
    times: dict[str, list[int]] = {name: [] for name in scale.EVENTS}

    scale.a_round(fleet, 3, times)

    assert {name: len(found) for name, found in times.items()} == {
        "submit": 6,
        "ready": 3,
        "complete": 3,
    }
    assert fleet.queued == 60
