"""What an event costs in the pure core, by the length of the queue and the size of the fleet.

Run: make bench ARGS="--only scale". Three questions:

1. Does one submit, one agent that becomes ready, one completion cost more in a long queue, or in
   a large fleet? All sizes live in one process and take turns; the ratio of medians counts.
2. Can one process carry a large queue to its end with a large fleet, and in what memory?
3. How long does a hub's memory take to be rebuilt from a store with a long queue?
"""

import gc
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agentcom.core import loading
from agentcom.core.facts import Fact
from agentcom.hub.process import spare_the_collector
from agentcom.model.ids import DEFAULT_POOL, Instant, Now, WallTime
from agentcom.store.base import Committed
from agentcom.store.sqlite import SqliteStore
from agentcom.testing.hub_process import resident_bytes
from agentcom.testing.peers import Pipe, peer
from bench.fleet import Fleet

Row = dict[str, Any]
PARTS: Final = ("events", "run", "load")
PART_S: Final = 600.0
EVENTS: Final = ("submit", "ready", "complete")
BATCH: Final = 64
"""Facts that a busy hub decides at once, when a fleet works its queue off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How long, how large, how often."""

    depths: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    agents: tuple[int, ...] = (100, 1_000, 10_000)
    rounds: int = 20
    events: int = 200
    """Of each kind, in each size, in each round."""
    run_tasks: int = 1_000_000
    run_agents: int = 10_000
    stored: int = 1_000_000

    @property
    def cells(self) -> list[tuple[int, int]]:
        """Pairs of depth and agents: each is varied with the other in the middle."""
        depth, agents = self.depths[len(self.depths) // 2], self.agents[len(self.agents) // 2]
        by_depth = [(each, agents) for each in self.depths]
        return list(dict.fromkeys([*by_depth, *[(depth, each) for each in self.agents]]))


QUICK: Final = Sizes(depths=(5_000, 50_000), rounds=6, run_tasks=30_000, stored=50_000)
TINY: Final = Sizes(
    depths=(100, 400),
    agents=(20, 40),
    rounds=1,
    events=5,
    run_tasks=200,
    run_agents=20,
    stored=300,
)


def measure(sizes: Sizes) -> Row:
    """Return all three answers; each is found in a process of its own, for its memory's sake."""
    found = {}
    for name in PARTS:
        with peer(_part, name, sizes) as far:
            found[name] = far.hear(PART_S)
    return found


async def _part(pipe: Pipe, name: str, sizes: Sizes) -> None:
    if name == "load":
        pipe.send(await rebuild(sizes.stored))
    else:
        pipe.send({"events": events, "run": run}[name](sizes))


# 1. Events --------------------------------------------------------------------------------------


def events(sizes: Sizes) -> Row:
    """Return what each kind of event costs in each size, and the ratios."""
    fleets = {cell: Fleet(*cell) for cell in sizes.cells}
    times: dict[tuple[int, int], dict[str, list[int]]] = {
        cell: {name: [] for name in EVENTS} for cell in fleets
    }
    spare_the_collector()  # as a hub does after its load
    for cell, fleet in fleets.items():
        a_round(fleet, sizes.events, times[cell])  # warms up
        times[cell] = {name: [] for name in EVENTS}
    for _ in range(sizes.rounds):
        for cell, fleet in fleets.items():
            a_round(fleet, sizes.events, times[cell])
    gc.unfreeze()
    rows = [_row(cell, fleet, times[cell]) for cell, fleet in fleets.items()]
    return {"rows": rows, "ratios": _ratios(sizes, rows)}


def a_round(fleet: Fleet, count: int, times: dict[str, list[int]]) -> None:
    """Time some events of each kind; the queue is as long afterwards as it was before."""
    for _ in range(count):
        for _ in range(2):
            _timed(fleet, fleet.submit(), times["submit"])
        agent = fleet.next_agent()
        fleet.decide([fleet.accept(agent)])
        _timed(fleet, fleet.finish(agent), times["complete"])
        agent = fleet.next_agent()
        fleet.decide([fleet.accept(agent)])
        fleet.decide([fleet.pause(agent, paused=True)])
        fleet.decide([fleet.finish(agent)])
        _timed(fleet, fleet.pause(agent, paused=False), times["ready"])


def _timed(fleet: Fleet, fact: Fact, times: list[int]) -> None:
    batch = [fact]
    began = time.thread_time_ns()
    fleet.decide(batch)
    times.append(time.thread_time_ns() - began)


def _row(cell: tuple[int, int], fleet: Fleet, times: dict[str, list[int]]) -> Row:
    depth, agents = cell
    assert fleet.queued == depth
    return {
        "queued": depth,
        "agents": agents,
        **{f"{name}_us": statistics.median(times[name]) / 1e3 for name in EVENTS},
        **{f"{name}_mean_us": statistics.fmean(times[name]) / 1e3 for name in EVENTS},
    }


def _ratios(sizes: Sizes, rows: Sequence[Row]) -> Row:
    found = {(row["queued"], row["agents"]): row for row in rows}
    by_depth = [found[cell] for cell in sizes.cells if cell[1] == sizes.cells[0][1]]
    by_agents = [found[cell] for cell in sizes.cells if cell[0] == sizes.cells[-1][0]]
    by_agents.sort(key=lambda row: int(row["agents"]))
    return {
        f"{name}_by_{what}": few_many[-1][f"{name}_us"] / few_many[0][f"{name}_us"]
        for name in EVENTS
        for what, few_many in (("depth", by_depth), ("agents", by_agents))
    }


# 2. A whole queue -------------------------------------------------------------------------------


def run(sizes: Sizes) -> Row:
    """Let a fleet work off a queue to its end; return CPU and memory."""
    gc.collect()
    before = resident_bytes(os.getpid())
    began = time.process_time()
    fleet = Fleet(sizes.run_tasks - sizes.run_agents, sizes.run_agents)
    filled_s, filled = time.process_time() - began, resident_bytes(os.getpid())
    spare_the_collector()
    began = time.process_time()
    done = drain(fleet)
    drained_s = time.process_time() - began
    assert done == sizes.run_tasks
    gc.unfreeze()
    return {
        "tasks": sizes.run_tasks,
        "agents": sizes.run_agents,
        "fill_us": filled_s / sizes.run_tasks * 1e6,
        "work_us": drained_s / sizes.run_tasks * 1e6,
        "rss_before": before,
        "rss_filled": filled,
        "rss_after": resident_bytes(os.getpid()),
        "bytes_each": (filled - before) / sizes.run_tasks,
    }


def drain(fleet: Fleet) -> int:
    """Accept and finish until nothing is left, in batches; return how many tasks ended."""
    ended = 0
    while fleet.holding:
        working = list(fleet.holding)
        for first in range(0, len(working), BATCH // 2):
            some = working[first : first + BATCH // 2]
            fleet.decide(
                [fact for agent in some for fact in (fleet.accept(agent), fleet.finish(agent))]
            )
            ended += len(some)
    return ended


# 3. From the store ------------------------------------------------------------------------------


async def rebuild(count: int) -> Row:
    """Return how long it takes to read a queue from SQLite and to build the memory from it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.db"
        await _stored(path, count)
        gc.collect()
        store = SqliteStore(path)
        incarnation = await store.open()
        before = resident_bytes(os.getpid())
        began = time.perf_counter()
        rows = await store.scan(DEFAULT_POOL)
        scanned = time.perf_counter()
        now = Now(Instant(1), WallTime(1_790_000_000_000))
        view, _ = loading.load(rows, incarnation=incarnation, term=1, now=now)
        loaded = time.perf_counter()
        assert view.matcher.depth() == count
        peak = resident_bytes(os.getpid())
        size = path.stat().st_size
        await store.close()
    return {
        "queued": count,
        "scan_s": scanned - began,
        "load_s": loaded - scanned,
        "bytes_each": (peak - before) / count,
        "file_bytes": size,
    }


async def _stored(path: Path, count: int) -> None:
    """Write a queue as the product does: what `pool.decide` comes to, batch by batch."""
    store = SqliteStore(path)
    await store.open()
    term = await store.acquire(DEFAULT_POOL, "bench")
    fleet = Fleet(0, 0)
    fleet.view.term = term
    for size in _parts(count):
        fleet.batches = []
        fleet.decide([fleet.submit(size)])
        verdict = await store.commit(fleet.batches[0])
        assert isinstance(verdict, Committed), verdict
    await store.close()


def _parts(count: int, most: int = 1_000) -> Iterator[int]:
    while count:
        yield min(count, most)
        count -= min(count, most)
