"""A disk that is really full: new tasks are refused, finished work still fits, nothing breaks."""

import itertools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentcom.model.batch import Batch, Insert, Table
from agentcom.model.ids import DEFAULT_POOL, BatchId, TaskId, UserId, WallTime
from agentcom.model.task import TaskBody, TaskSpec
from agentcom.store.base import Committed, Full, Verdict
from agentcom.store.sqlite import SqliteOptions, SqliteStore
from agentcom.testing.store_rows import task

OPTIONS = SqliteOptions(wal_bytes=1 << 20, ballast_bytes=4 << 20, checkpoint_pages=100)
NUMBERS = itertools.count(1)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(tmp_path)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


async def submit(store: SqliteStore) -> Verdict:
    number = f"t{next(NUMBERS):06d}"
    spec = TaskSpec(title="t", prompt="x" * 60_000)
    body = TaskBody(
        id=TaskId(number), submitter=UserId("ann"), created_at=WallTime(1), cause="", spec=spec
    )
    changes = (Insert(Table.TASK, number, task(number)), Insert(Table.BODY, number, body))
    return await store.commit(Batch(id=BatchId(number), pool=DEFAULT_POOL, changes=changes))


async def report(store: SqliteStore) -> Verdict:
    number = f"b{next(NUMBERS):06d}"
    body = TaskBody(
        id=TaskId(number),
        submitter=UserId("ann"),
        created_at=WallTime(1),
        cause="",
        spec=TaskSpec(title="t"),
    )
    change = Insert(Table.BODY, number, body)
    return await store.commit(Batch(id=BatchId(number), pool=DEFAULT_POOL, changes=(change,)))


async def test_a_full_disk_refuses_tasks_keeps_room_for_reports_and_recovers(
    small_disk: Path,
) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(b"\0" * (4 << 20))
    store = SqliteStore(small_disk / "home" / "hub.sqlite", options=OPTIONS)
    await store.open()

    stored = 0
    while isinstance(verdict := await submit(store), Committed):
        stored += 1
    assert verdict == Full()
    assert stored > 10
    assert all([isinstance(await report(store), Committed) for _ in range(20)])
    filler.unlink()
    assert isinstance(await submit(store), Committed)
    await store.close()

    again = SqliteStore(small_disk / "home" / "hub.sqlite", options=OPTIONS)
    await again.open()
    assert len((await again.scan(DEFAULT_POOL)).tasks) == stored + 1
    await again.close()
