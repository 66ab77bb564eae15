import asyncio
import os
import re
import shutil
import struct
from pathlib import Path

import apsw
import pytest

from agentcom.model.batch import Insert, Table
from agentcom.model.errors import StoreRefused
from agentcom.store import sqlite_open
from agentcom.store.base import Query
from agentcom.store.failures import StoreDamaged, StoreFailed
from agentcom.store.sqlite import SMALL, SqliteOptions, SqliteStore
from agentcom.testing.store_rows import batch, body, committed, new_task, one, task

PAGE = 4_096
MARK = b"the-payload-to-damage"


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    path = tmp_path / "home" / "store.db"
    store = SqliteStore(path, options=SMALL)
    await store.open()
    for number in range(32):
        name = f"t{number}"
        row = Insert(Table.BODY, name, body(name, MARK.decode() + "x" * PAGE * 2))
        await committed(store, batch(f"b{number}", Insert(Table.TASK, name, task(name)), row))
    await store.close()
    return path


async def test_a_file_cut_short_is_refused(path: Path) -> None:
    _halve(path)

    await _refused(path, "damaged.*sound copy")


async def test_a_zeroed_first_page_is_refused(path: Path) -> None:
    _overwrite(path, 0, bytes(PAGE))

    await _refused(path, "sound copy")


@pytest.mark.parametrize("page", [2, 5, 9, 20])
async def test_a_zeroed_page_is_refused(path: Path, page: int) -> None:
    _overwrite(path, (page - 1) * PAGE, bytes(PAGE))

    await _refused(path, "damaged.*sound copy")


async def test_a_first_page_torn_while_the_store_was_made_is_rolled_back(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(bytes(512) + b"x" * (PAGE - 512))
    journal = bytes.fromhex("d9d505f920a163d7") + struct.pack(">5I", 0, 1, 0, 512, PAGE)
    path.with_name("store.db-journal").write_bytes(journal.ljust(512, b"\0"))

    store = SqliteStore(path, options=SMALL)
    await store.open()
    await committed(store, batch("b1", *new_task("t1")))
    await store.close()


async def test_flipped_payload_bytes_are_refused(path: Path) -> None:
    _overwrite(path, _places(path)[-1] + len(MARK) + PAGE, b"YYYYYYYY")

    await _refused(path, "damaged.*sound copy")


async def test_flipped_bytes_are_found_when_they_are_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_open, "CHECK_PAGES_MAX", 0)  # as for a large file
    _overwrite(path, _places(path)[0], b"YYYYYYYY")
    store = SqliteStore(path, options=SMALL)
    await store.open()

    with pytest.raises(StoreDamaged, match="agentcom backup restore"):
        await store.query(Query(table=Table.BODY, limit=100))
    with pytest.raises(StoreFailed):
        await store.get([(Table.BODY, f"t{number}") for number in range(32)])
    with pytest.raises(apsw.IOError):
        await store.snapshot(str(path.with_name("copy.db")))
    assert [problem.what.split(":")[0] for problem in await store.verify()] == [
        "the database is damaged"
    ]
    await store.close()


async def test_a_deleted_log_is_noticed(path: Path, tmp_path: Path) -> None:
    copy = await _crashed_copy(path, tmp_path)
    copy.with_name("store.db-wal").unlink()

    await _refused(copy, "ACCEPT_ROLLBACK")


async def test_a_log_cut_short_is_noticed(path: Path, tmp_path: Path) -> None:
    copy = await _crashed_copy(path, tmp_path)
    log = copy.with_name("store.db-wal")
    _halve(log)

    await _refused(copy, "rolled back")


async def test_a_flipped_log_frame_is_noticed(path: Path, tmp_path: Path) -> None:
    copy = await _crashed_copy(path, tmp_path)
    log = copy.with_name("store.db-wal")
    _overwrite(log, log.stat().st_size // 2, b"YYYYYYYY")

    await _refused(copy, "rolled back")


async def test_a_deleted_index_of_the_log_is_rebuilt(path: Path, tmp_path: Path) -> None:
    copy = await _crashed_copy(path, tmp_path)
    copy.with_name("store.db-shm").unlink(missing_ok=True)

    store = SqliteStore(copy, options=SMALL)
    await store.open()
    assert await one(store, Table.TASK, "after9") == task("after9")
    await store.close()


async def test_a_database_copied_alone_under_a_running_hub_is_noticed(
    path: Path, tmp_path: Path
) -> None:
    copy = await _crashed_copy(path, tmp_path)
    for name in ("store.db-wal", "store.db-shm"):
        copy.with_name(name).unlink(missing_ok=True)

    await _refused(copy, "rolled back")


async def test_a_deleted_database_is_noticed(path: Path) -> None:
    await asyncio.to_thread(path.unlink)

    await _refused(path, "rolled back")


async def test_an_accepted_rollback_raises_the_incarnation(path: Path, tmp_path: Path) -> None:
    copy = await _crashed_copy(path, tmp_path)
    copy.with_name("store.db-wal").unlink()
    options = SqliteOptions(wal_bytes=0, ballast_bytes=0, accept_rollback=True)

    store = SqliteStore(copy, options=options, wall_s=lambda: 5.0)
    accepted = await store.open()
    await store.close()
    store = SqliteStore(copy, options=SMALL)
    later = await store.open()
    await store.close()
    before = SqliteStore(path, options=SMALL)
    first = await before.open()
    await before.close()

    assert accepted == later == first + 1


async def test_a_copy_of_all_files_that_is_accepted_raises_the_incarnation_too(path: Path) -> None:
    options = SqliteOptions(wal_bytes=0, ballast_bytes=0, accept_rollback=True)
    found = []
    for given in (SMALL, options, SMALL):
        store = SqliteStore(path, options=given, wall_s=lambda: 5.0)
        found.append(await store.open())
        await store.close()

    first, accepted, later = found
    assert accepted == later == first + 1


async def test_a_second_hub_is_refused_and_told_who_is_first(path: Path) -> None:
    store = SqliteStore(path, options=SMALL)
    await store.open()

    await _refused(path, f"process {os.getpid()}")
    await store.close()

    again = SqliteStore(path, options=SMALL)
    await again.open()
    await again.close()


async def test_a_format_of_another_build_is_refused(path: Path) -> None:
    _alter(path, "ALTER TABLE meta ADD COLUMN more TEXT")

    await _refused(path, "another build.*meta differ")


async def test_a_newer_format_is_refused(path: Path) -> None:
    _alter(path, "PRAGMA user_version=99")

    await _refused(path, "format 99.*newer")


async def test_another_programs_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    db = apsw.Connection(str(path))
    db.execute("CREATE TABLE theirs (a)")
    db.close()
    before = path.read_bytes()

    await _refused(path, "another program")

    assert path.read_bytes() == before


async def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"remember the milk\n" * 500)

    await _refused(path, "not a SQLite database")

    assert path.read_bytes() == b"remember the milk\n" * 500


async def test_after_a_failure_nothing_is_written_any_more(path: Path) -> None:
    store = SqliteStore(path, options=SMALL)
    await store.open()

    def fail(_db: apsw.Connection) -> None:
        raise apsw.IOError

    with pytest.raises(StoreFailed):
        await store._work(fail)
    with pytest.raises(StoreFailed):
        await store.commit(batch("b", *new_task("new")))
    assert await one(store, Table.TASK, "new") is None
    await store.close()


async def _crashed_copy(path: Path, tmp_path: Path) -> Path:
    """Return a copy of the files of a running, idle store: as they are after a SIGKILL."""
    store = SqliteStore(path, options=SMALL)
    await store.open()
    for number in range(10):
        await committed(store, batch(f"after{number}", *new_task(f"after{number}")))
    copy = tmp_path / "copy"
    await asyncio.to_thread(shutil.copytree, path.parent, copy)
    await store.close()
    return copy / path.name


async def _refused(path: Path, match: str) -> None:
    store = SqliteStore(path, options=SMALL)
    with pytest.raises(StoreRefused, match=match):
        await store.open()


def _halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _places(path: Path) -> list[int]:
    return [found.start() for found in re.finditer(MARK, path.read_bytes())]


def _overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def _alter(path: Path, sql: str) -> None:
    db = sqlite_open.connect(path)
    db.execute(sql)
    db.close()


def test_a_connection_that_cannot_be_made_is_not_left_open(tmp_path: Path) -> None:
    path = tmp_path / "hub.sqlite"
    path.write_bytes(b"no database " * 500)

    with pytest.raises(apsw.NotADBError):
        sqlite_open.connect(path)

    assert [db.filename for db in apsw.connections() if db.filename == str(path)] == []
