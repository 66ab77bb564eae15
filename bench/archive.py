"""What a hub's event loop feels of archiving: many tasks that ended long ago, and steady commits.

One process has the store and the mover, as a hub has. Life cycles are committed at a steady pace:
first without the mover, then beside it, and then while `agentcom backup now` copies all of it, too.
Something that should run every 10 ms shows for how long the loop stood still, and each commit how
long it waited.

Run: python -m bench.archive [--tasks N] [--per-s N] [--seconds S]
"""

import argparse
import asyncio
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from agentcom.core import loading
from agentcom.hub.archiving import Archiver
from agentcom.hub.clock import SystemClock
from agentcom.hub.config import RetentionSettings
from agentcom.hub.identifiers import UuidIds
from agentcom.model.batch import Batch
from agentcom.model.ids import DEFAULT_POOL
from agentcom.store.base import Committed
from agentcom.store.sqlite import SqliteStore
from agentcom.store.sqlite_archive import ARCHIVE_FILE, SqliteArchive
from agentcom.store.sqlite_backups import STORE_FILE
from agentcom.store.sqlite_room import measure as room
from agentcom.testing.soak.bars import quantile
from bench.store import turns

TASKS: Final = 1_000_000
PER_S: Final = 500.0
SECONDS: Final = 30.0
SIZE: Final = 32
"""Life cycles in a batch of the filling."""
STEADY: Final = 10
"""Life cycles in a commit of the steady work."""
TICK_S: Final = 0.01
ENDLESS: Final = 1_000_000
THROUGHPUT_LEAST: Final = 0.8
STALL_MS_MOST: Final = 250.0


async def measure(home: Path, tasks: int, per_s: float, seconds: float) -> dict[str, Any]:
    """Return how long the loop and commits waited without the mover and beside it."""
    store = SqliteStore(home / STORE_FILE)
    archive = SqliteArchive(home / ARCHIVE_FILE)
    await store.open()
    term = await store.acquire(DEFAULT_POOL, "bench")
    for one in turns(term, tasks // SIZE, SIZE):
        assert isinstance(await store.commit(one), Committed)
    await store.checkpoint()
    clock = SystemClock()
    rows = await store.scan(DEFAULT_POOL)
    view, _ = loading.load(rows, incarnation=1, term=term, now=clock.now(), pool=DEFAULT_POOL)
    mover = Archiver(
        store,
        archive,
        clock=clock,
        ids=UuidIds(clock),
        view=lambda: view,
        keep=RetentionSettings(tasks_days=30),
    )
    before = room(home)
    work = _later(turns(term, ENDLESS, STEADY))
    alone = await _steady(store, work, per_s, seconds)
    moving = asyncio.create_task(mover.work())
    beside = await _steady(store, work, per_s, seconds)
    moved = await archive.size()
    copying = _copy(home)
    copied = await _steady(store, work, per_s, seconds, copying)
    if copying.wait():
        raise RuntimeError("the copy failed")
    moving.cancel()
    await asyncio.gather(moving, return_exceptions=True)
    size = await archive.size()
    await store.close()
    await archive.close()
    return {
        "tasks": tasks,
        "per_s": per_s,
        "store_mib": round(before.store / (1 << 20), 1),
        "alone": alone,
        "archiving": beside,
        "copying_too": copied,
        "bars": _bars(alone, copied),
        "archived_per_s": round(moved.tasks / beside["seconds"]),
        "archive_bytes_per_task": round(size.bytes / max(1, size.tasks)),
    }


def _bars(alone: dict[str, Any], copied: dict[str, Any]) -> dict[str, Any]:
    """Return whether work beside mover and copy is fast enough, and never stands still."""
    ratio = copied["done_per_s"] / alone["done_per_s"]
    stall_ms = max(copied["loop_longest_ms"], copied["commit_longest_ms"])
    return {
        "throughput": round(ratio, 3),
        "longest_stall_ms": stall_ms,
        "met": ratio >= THROUGHPUT_LEAST and stall_ms <= STALL_MS_MOST,
    }


def _copy(home: Path) -> "subprocess.Popen[bytes]":
    words = ["backup", "now", "--hub-home", str(home), "--folder", str(home / "copies")]
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "agentcom.cli.main", *words],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "AGENTCOM_HOME": str(home / "cli")},
    )


def _later(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Yield batches under names that the filling did not use."""
    for number, one in enumerate(batches):
        yield Batch(id=f"s{number}", pool=one.pool, term=one.term, appends=one.appends)  # type: ignore[arg-type]  # an id is text


async def _steady(
    store: SqliteStore,
    work: Iterator[Batch],
    per_s: float,
    seconds: float,
    copying: "subprocess.Popen[bytes] | None" = None,
) -> dict[str, Any]:
    """Commit for some seconds, and then on until the copy is made, if there is one."""
    lags: list[float] = []
    ticking = asyncio.create_task(_tick(lags))
    waits: list[float] = []
    began, used = time.perf_counter(), time.process_time()
    for number in itertools.count():
        due = began + number * STEADY / per_s
        if due > began + seconds and (copying is None or copying.poll() is not None):
            break
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        asked = time.perf_counter()
        assert isinstance(await store.commit(next(work)), Committed)
        waits.append(time.perf_counter() - asked)
    took_s = time.perf_counter() - began
    ticking.cancel()
    return {
        "seconds": round(took_s, 1),
        "done_per_s": round(len(waits) * STEADY / took_s, 1),
        "cpu": round((time.process_time() - used) / took_s, 2),
        "loop_longest_ms": round(max(lags) * 1e3, 1),
        "loop_p99_ms": round(quantile(lags, 0.99) * 1e3, 1),
        "commit_longest_ms": round(max(waits) * 1e3, 1),
        "commit_p99_ms": round(quantile(waits, 0.99) * 1e3, 1),
        "commit_median_ms": round(statistics.median(waits) * 1e3, 1),
    }


async def _tick(lags: list[float]) -> None:
    while True:
        due = time.perf_counter() + TICK_S
        await asyncio.sleep(TICK_S)
        lags.append(max(0.0, time.perf_counter() - due))


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=TASKS)
    parser.add_argument("--per-s", type=float, default=PER_S)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = measure(Path(folder), asked.tasks, asked.per_s, asked.seconds)
        print(json.dumps(asyncio.run(made), indent=1))


if __name__ == "__main__":
    main()
