"""What a SQLite store costs: CPU per life cycle and per commit, and the scan at start.

A turn of the hub commits what many tasks need at once: some are submitted, some assigned, some
accepted and finished. `--batch N` puts N of each into every commit; the difference between two
sizes tells the cost of a commit from that of a life cycle.

python bench/store.py [--commits 2000] [--tasks 100000] [--batch 1 8 64]
"""

import argparse
import asyncio
import gc
import itertools
import resource
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from agentcom.model.batch import (
    Append,
    Batch,
    Change,
    Insert,
    Table,
    Update,
    request_key,
    result_key,
)
from agentcom.model.event import EventKind, TaskEvent, task_log
from agentcom.model.identity import RequestRecord
from agentcom.model.ids import (
    DEFAULT_POOL,
    DEFAULT_PROJECT,
    AgentId,
    BatchId,
    Fence,
    MachineId,
    TaskId,
    UserId,
    WallTime,
    encode_base32,
)
from agentcom.model.result import KeptResult, Result, ResultStatus
from agentcom.model.task import (
    Phase,
    Task,
    TaskBody,
    TaskSpec,
    TaskState,
)
from agentcom.store.base import Committed
from agentcom.store.sqlite import SqliteStore

ADA, BOB, MACHINE = UserId("ada"), AgentId("bob"), MachineId("machine-1")
FENCE = Fence(1_790_000_000, 1)
NOW = WallTime(1_790_000_000_000)
ROUNDS = 10  # the median of so many parts of a run is what counts
Parts = tuple[list[Change], list[Append]]


def ids() -> Iterator[TaskId]:
    """Yield ids that look like those of the product."""
    for number in itertools.count(1):
        random = number * 0x9E3779B97F4A7C15 % (1 << 60)
        yield TaskId(encode_base32((NOW + number) << 80 | random, length=26))


def hot(name: TaskId, state: TaskState, version: int) -> Task:
    """Return a row as the core writes it: one that nobody holds yet is shorter."""
    held = state is not TaskState.QUEUED
    return Task(
        id=name,
        project=DEFAULT_PROJECT,
        submitter=ADA,
        title="Fix the flaky test of the parser",
        state=state,
        changed_at=NOW,
        version=version,
        needs=("python", "git"),
        seq=version,
        start_tag=12.5,
        incarnation=1_790_000_000 if held else 0,
        attempt=1 if held else 0,
        agent=BOB if held else None,
        machine=MACHINE if held else None,
        phase=Phase.PREPARING if state is TaskState.ASSIGNED else None,
        deadline_at=NOW if state.held else None,
        cause=name,
    )


def event(name: TaskId, kind: EventKind, state: TaskState) -> Append:
    """Return a record of a task's feed."""
    record = TaskEvent(
        kind=kind, task=name, state=state, at=NOW, cause=name, actor="ada", attempt=1, agent=BOB
    )
    return Append(task_log(name), record)


def submitted(name: TaskId) -> Parts:
    """Return what a submit writes."""
    spec = TaskSpec(title="Fix the flaky test of the parser", prompt="p" * 500, needs=("python",))
    body = TaskBody(id=name, submitter=ADA, created_at=NOW, cause=name, spec=spec)
    key = request_key(ADA, name)  # clients make keys that sort by time, too
    reply = msgspec.Raw(b'{"type":"submitted","tasks":["%s"]}' % name.encode())
    record = RequestRecord(key=key, payload="0" * 64, reply=reply, expires_at=NOW)
    changes: list[Change] = [
        Insert(Table.TASK, name, hot(name, TaskState.QUEUED, 1)),
        Insert(Table.BODY, name, body),
        Insert(Table.REQUEST, key, record),
    ]
    return changes, [event(name, EventKind.SUBMITTED, TaskState.QUEUED)]


def assigned(name: TaskId) -> Parts:
    """Return what an assignment writes."""
    change = Update(Table.TASK, name, hot(name, TaskState.ASSIGNED, 2), expected=1)
    return [change], [event(name, EventKind.ASSIGNED, TaskState.ASSIGNED)]


def finished(name: TaskId) -> Parts:
    """Return what a completion writes, and the accept that rides with it."""
    result = Result(status=ResultStatus.DONE, summary="s" * 200, commit="c" * 40)
    kept = KeptResult(
        task=name,
        fence=FENCE,
        agent=BOB,
        machine=MACHINE,
        at=NOW,
        result=result,
        applied=True,
    )
    changes: list[Change] = [
        Update(Table.TASK, name, hot(name, TaskState.COMPLETED, 3), expected=2),
        Insert(Table.RESULT, result_key(name, FENCE, MACHINE), kept),
    ]
    return changes, [
        event(name, EventKind.ACCEPTED, TaskState.RUNNING),
        event(name, EventKind.COMPLETED, TaskState.COMPLETED),
    ]


def gather(name: str, term: int, parts: Sequence[Parts]) -> Batch:
    """Return one batch of what several tasks write."""
    return Batch(
        id=BatchId(name),
        pool=DEFAULT_POOL,
        term=term,
        changes=tuple(change for changes, _ in parts for change in changes),
        appends=tuple(append for _, appends in parts for append in appends),
    )


def turns(term: int, commits: int, size: int) -> Iterator[Batch]:
    """Yield what a hub under load commits: `size` tasks at each of three steps in every batch."""
    names = ids()
    queued = [next(names) for _ in range(size)]
    held = [next(names) for _ in range(size)]
    first = [submitted(name) for name in (*queued, *held)] + [assigned(name) for name in held]
    yield gather("start", term, first)
    for turn in range(commits):
        new = [next(names) for _ in range(size)]
        parts = [submitted(name) for name in new]
        parts += [assigned(name) for name in queued]
        parts += [finished(name) for name in held]
        yield gather(encode_base32(turn, length=26), term, parts)
        queued, held = new, queued


async def life_cycles(store: SqliteStore, commits: int, size: int) -> float:
    """Print what a commit with `size` life cycles costs; return its CPU in microseconds."""
    first, *batches = turns(await store.acquire(DEFAULT_POOL, "bench"), commits, size)
    assert isinstance(await store.commit(first), Committed)
    gc.collect()
    gc.freeze()
    length = max(1, commits // ROUNDS)
    rounds = [
        await measure(store, batches[start : start + length])
        for start in range(0, commits - length + 1, length)
    ]
    cpu, wall = (statistics.median(each) for each in zip(*rounds, strict=True))
    print(
        f"batches of {size:4}: {cpu:7.1f} us CPU per commit, {cpu / size:6.1f} per life cycle"
        f" (wall {wall:.0f} and {wall / size:.1f}); {size / wall * 1e6:,.0f} life cycles/s"
    )
    return cpu


async def measure(store: SqliteStore, batches: Sequence[Batch]) -> tuple[float, float]:
    """Commit `batches`; return microseconds of CPU and of wall time for each."""
    wall, cpu = time.perf_counter(), time.process_time()
    for each in batches:
        verdict = await store.commit(each)
        assert isinstance(verdict, Committed), verdict
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return cpu / len(batches) * 1e6, wall / len(batches) * 1e6


async def scan(store: SqliteStore, count: int) -> None:
    """Print what the scan of `count` queued tasks costs."""
    term = await store.acquire(DEFAULT_POOL, "bench")
    names = ids()
    for start in range(0, count, 1_000):
        tasks = [next(names) for _ in range(1_000)]
        changes: list[Change] = [
            Insert(Table.TASK, "q" + name, hot(name, TaskState.QUEUED, 1)) for name in tasks
        ]
        await store.commit(gather(f"s{start}", term, [(changes, [])]))
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.perf_counter()
    found = await store.scan(DEFAULT_POOL)
    took = time.perf_counter() - begin
    used = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"scan of {len(found.tasks):,} live tasks: {took:.2f} s, {used:.0f} MB more at the peak")


async def run(arguments: argparse.Namespace) -> None:
    """Measure, each on a file of its own."""
    costs: dict[int, float] = {}
    for size in arguments.batch:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            store = SqliteStore(Path(folder) / "store.db")
            await store.open()
            costs[size] = await life_cycles(store, arguments.commits, size)
            await store.close()
    if len(costs) > 1:
        small, large = min(costs), max(costs)
        each = (costs[large] - costs[small]) / (large - small)
        fixed = costs[small] - small * each
        print(f"so a commit costs {fixed:.0f} us, and {each:.1f} us for every life cycle in it")
    if arguments.tasks:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            store = SqliteStore(Path(folder) / "store.db")
            await store.open()
            await scan(store, arguments.tasks)
            await store.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commits", type=int, default=2_000)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--batch", type=int, nargs="*", default=[1, 8, 64])
    parser.add_argument("--folder", help="where the files are, when not in the usual place")
    asyncio.run(run(parser.parse_args()))
