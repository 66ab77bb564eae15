"""What a SQLite store costs: CPU per life cycle, rows per second, and the scan at start.

python bench/store.py [--lifecycles 20000] [--tasks 100000] [--batch 64]
"""

import argparse
import asyncio
import gc
import itertools
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from agentcom.model.batch import (
    Append,
    Batch,
    Change,
    Delete,
    Insert,
    Table,
    Update,
    hold_key,
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
    Hold,
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
Parts = tuple[list[Change], list[Append]]


def ids() -> Iterator[TaskId]:
    """Yield ids that look like those of the product."""
    for number in itertools.count(1):
        random = number * 0x9E3779B97F4A7C15 % (1 << 60)
        yield TaskId(encode_base32((NOW + number) << 80 | random, length=26))


def hot(name: TaskId, state: TaskState, version: int) -> Task:
    """Return a row as the core writes it."""
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
        incarnation=1_790_000_000,
        attempt=1,
        agent=BOB,
        machine=MACHINE,
        phase=Phase.WORKING if state is TaskState.RUNNING else None,
        deadline_at=NOW,
        cause=name,
    )


def event(name: TaskId, kind: EventKind, state: TaskState) -> Append:
    """Return a record of a task's feed."""
    record = TaskEvent(
        kind=kind, task=name, state=state, at=NOW, cause=name, actor="ada", attempt=1, agent=BOB
    )
    return Append(task_log(name), record)


def submitted(name: TaskId) -> Parts:
    """Return what a submit that is assigned at once writes."""
    spec = TaskSpec(title="Fix the flaky test of the parser", prompt="p" * 500, needs=("python",))
    body = TaskBody(id=name, submitter=ADA, created_at=NOW, cause=name, spec=spec)
    hold = Hold(task=name, attempt=1, key="slot:bob")
    key = request_key(ADA, name)  # clients make keys that sort by time, too
    reply = msgspec.Raw(b'{"type":"submitted","tasks":["%s"]}' % name.encode())
    record = RequestRecord(key=key, payload="0" * 64, reply=reply, expires_at=NOW)
    changes: list[Change] = [
        Insert(Table.BODY, name, body),
        Insert(Table.TASK, name, hot(name, TaskState.ASSIGNED, 1)),
        Insert(Table.HOLD, hold_key(name, hold.key), hold),
        Insert(Table.REQUEST, key, record),
    ]
    return changes, [
        event(name, EventKind.SUBMITTED, TaskState.QUEUED),
        event(name, EventKind.ASSIGNED, TaskState.ASSIGNED),
    ]


def accepted(name: TaskId) -> Parts:
    """Return what an accept writes."""
    return [Update(Table.TASK, name, hot(name, TaskState.RUNNING, 2), expected=1)], []


def finished(name: TaskId) -> Parts:
    """Return what a completion writes."""
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
        Delete(Table.HOLD, hold_key(name, "slot:bob"), expected=1),
    ]
    return changes, [
        event(name, EventKind.PHASE, TaskState.RUNNING),
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


async def life_cycles(store: SqliteStore, count: int, size: int) -> None:
    """Print what a life cycle costs: three batches per group of `size` tasks."""
    term = await store.acquire(DEFAULT_POOL, "bench")
    names = ids()
    batches: list[Batch] = []
    for group in range(count // size):
        tasks = [next(names) for _ in range(size)]
        for step in (submitted, accepted, finished):
            parts = [step(name) for name in tasks]
            batches.append(gather(f"b{group}-{step.__name__}", term, parts))
    gc.collect()
    gc.freeze()
    wall, cpu = time.perf_counter(), time.process_time()
    for each in batches:
        verdict = await store.commit(each)
        assert isinstance(verdict, Committed), verdict
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    done = count // size * size
    rows = sum(len(each.changes) + len(each.appends) for each in batches)
    print(
        f"batches of {size:4}: {cpu / done * 1e6:6.1f} us CPU per life cycle"
        f" ({wall / done * 1e6:.1f} us wall), {rows / wall:,.0f} rows/s,"
        f" {len(batches) / wall:,.0f} commits/s"
    )


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
    for size in arguments.batch:
        with tempfile.TemporaryDirectory() as folder:
            store = SqliteStore(Path(folder) / "store.db")
            await store.open()
            count = min(arguments.lifecycles, size * 400)
            await life_cycles(store, count, size)
            await store.close()
    if arguments.tasks:
        with tempfile.TemporaryDirectory() as folder:
            store = SqliteStore(Path(folder) / "store.db")
            await store.open()
            await scan(store, arguments.tasks)
            await store.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lifecycles", type=int, default=20_000)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--batch", type=int, nargs="*", default=[1, 16, 64, 256])
    asyncio.run(run(parser.parse_args()))
