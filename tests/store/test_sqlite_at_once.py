"""Commits in the loop's thread while the disk is quick, in the writer's when it is not."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest

from agentcom.model.batch import Batch, Insert, Table
from agentcom.model.ids import DEFAULT_POOL, WallTime
from agentcom.store import sqlite_rows
from agentcom.store.base import Committed, Conflict, Full, TermLost
from agentcom.store.failures import StoreFailed
from agentcom.store.sqlite import SMALL, SqliteOptions, SqliteStore
from agentcom.store.sqlite_writer import AT_ONCE_MAX, QUICK_COMMITS, QUICK_S
from agentcom.testing.store_rows import batch, committed, new_task, one, request, task
from agentcom.testing.store_suite import DurableStoreSuite, Make

LOOP, THREAD = "MainThread", "store-writer"


class Disk:
    """A clock by which every commit takes `commit_s`; it notes which thread asked for the time."""

    def __init__(self) -> None:
        self.commit_s = 0.0
        self.now_s = 0.0
        self.threads: list[str] = []

    def __call__(self) -> float:
        self.threads.append(threading.current_thread().name)
        self.now_s += self.commit_s
        return self.now_s

    def asked(self) -> list[str]:
        """Return who committed since the last call; each commit asks twice."""
        found, self.threads = self.threads[::2], []
        return found


class TestSqliteStoreAtOnce(DurableStoreSuite):
    @pytest.fixture
    def make(self, tmp_path: Path, quick_from_the_start: None) -> Make:
        return lambda: SqliteStore(
            tmp_path / "home" / "store.db", options=SMALL, clock_s=lambda: 0.0
        )


@pytest.fixture
def quick_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentcom.store.sqlite_writer.QUICK_COMMITS", 0)


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
async def store(tmp_path: Path, disk: Disk) -> AsyncIterator[SqliteStore]:
    """Yield a store that has found its disk quick."""
    store = SqliteStore(tmp_path / "store.db", options=SMALL, clock_s=disk)
    await store.open()
    for number in range(QUICK_COMMITS):
        await committed(store, batch(f"first{number}", appends=["t1"]))
    yield store
    await store.close()


async def test_commits_move_to_the_loop_once_the_disk_was_quick(
    store: SqliteStore, disk: Disk
) -> None:
    await committed(store, batch("b1", appends=["t1"]))

    assert disk.asked() == [THREAD] * QUICK_COMMITS + [LOOP]


async def test_one_slow_commit_moves_them_back_until_the_disk_is_quick_again(
    store: SqliteStore, disk: Disk
) -> None:
    disk.asked()

    disk.commit_s = QUICK_S
    await committed(store, batch("slow", appends=["t1"]))
    await committed(store, batch("still slow", appends=["t1"]))
    disk.commit_s = 0.0
    for number in range(QUICK_COMMITS + 1):
        await committed(store, batch(f"b{number}", appends=["t1"]))

    assert disk.asked() == [LOOP, *[THREAD] * (QUICK_COMMITS + 1), LOOP]


async def test_a_large_batch_goes_to_the_thread(store: SqliteStore, disk: Disk) -> None:
    disk.asked()

    await committed(store, batch("b1", appends=["t1"] * (AT_ONCE_MAX + 1)))

    assert disk.asked() == [THREAD]


async def test_no_commit_overtakes_what_is_queued(store: SqliteStore) -> None:
    old = await store.acquire(DEFAULT_POOL, "a")

    _, verdict = await asyncio.gather(
        store.acquire(DEFAULT_POOL, "b"), store.commit(batch("b1", *new_task("t1"), term=old))
    )

    assert verdict == TermLost()


async def test_queued_commits_and_those_at_once_keep_their_order(
    store: SqliteStore, disk: Disk
) -> None:
    disk.asked()
    large = ["t1"] * (AT_ONCE_MAX + 1)
    steps = [batch(f"b{n}", appends=large if n % 5 == 2 else ["t1"]) for n in range(20)]

    verdicts = await asyncio.gather(*(store.commit(step) for step in steps))
    alone = [await store.commit(batch(f"c{n}", appends=["t1"])) for n in range(3)]

    firsts = [verdict.first for verdict in (*verdicts, *alone) if isinstance(verdict, Committed)]
    assert len(firsts) == 23
    assert firsts == sorted(firsts)
    assert {LOOP, THREAD} == set(disk.asked())


async def test_a_commit_at_once_lets_others_have_their_turn(store: SqliteStore, disk: Disk) -> None:
    disk.asked()
    turns: list[int] = []
    asyncio.get_running_loop().call_soon(turns.append, 1)

    await committed(store, batch("b1", appends=["t1"]))

    assert disk.asked() == [LOOP]
    assert turns == [1]


async def test_a_conflict_at_once_writes_nothing(store: SqliteStore) -> None:
    await committed(store, batch("b1", *new_task("t1")))

    verdict = await store.commit(batch("b2", *new_task("t2"), *new_task("t1"), appends=["t1"]))

    assert isinstance(verdict, Conflict)
    assert await one(store, Table.TASK, "t2") is None
    assert len(await store.read(None, 0, 99)) == QUICK_COMMITS


async def test_a_failure_at_once_ends_all_writing(
    store: SqliteStore, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bool:
        raise apsw.IOError

    disk.asked()
    with monkeypatch.context() as patch:
        patch.setattr(sqlite_rows, "write", fail)
        with pytest.raises(StoreFailed):
            await store.commit(batch("b1", *new_task("t1")))

    with pytest.raises(StoreFailed):
        await store.commit(batch("b2", *new_task("t1")))
    with pytest.raises(StoreFailed):
        await store.acquire(DEFAULT_POOL, "a")
    assert disk.asked() == []
    assert await one(store, Table.TASK, "t1") is None


async def test_a_disk_that_is_full_at_once_refuses_tasks_and_frees_room_for_completions(
    tmp_path: Path, quick_from_the_start: None
) -> None:
    room = 64 * 4_096
    options = SqliteOptions(wal_bytes=0, ballast_bytes=room, bytes_max=400 * 4_096 + room)
    store = SqliteStore(tmp_path / "store.db", options=options, clock_s=lambda: 0.0)
    await store.open()
    filled = 0
    while isinstance(verdict := await store.commit(_large(filled)), Committed):
        filled += 1

    assert verdict == Full()
    long = request("ann/1", expires_at=WallTime(1))
    assert isinstance(
        await store.commit(batch("r", Insert(Table.REQUEST, "ann/1", long), appends=["t"] * 400)),
        Committed,
    )
    assert not (tmp_path / "store.db-ballast").exists()
    await store.close()


async def test_the_thread_empties_the_log_of_commits_at_once(
    tmp_path: Path, quick_from_the_start: None
) -> None:
    options = SqliteOptions(wal_bytes=0, ballast_bytes=0, checkpoint_pages=16)
    store = SqliteStore(tmp_path / "store.db", options=options, clock_s=lambda: 0.0)
    await store.open()
    for number in range(100):
        await committed(store, batch(f"b{number}", *new_task(f"t{number}")))

    size = (tmp_path / "store.db-wal").stat().st_size  # a test's own file
    await store.close()

    assert size < 64 * 4_096


def _large(number: int) -> Batch:
    new = Insert(Table.TASK, f"t{number}", task(f"t{number}"))
    return batch(f"b{number}", new, appends=["t"] * 40)
