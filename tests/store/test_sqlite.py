import os
import stat
from pathlib import Path

import apsw
import msgspec
import pytest

from agentcom.model.batch import Delete, Insert, Table, Update
from agentcom.model.errors import StorageFull, StoreRefused
from agentcom.model.graph import Tally
from agentcom.model.ids import DEFAULT_POOL, Fence, MachineId, TaskId, WallTime
from agentcom.model.result import KeptResult, Result, ResultStatus
from agentcom.model.task import TaskState
from agentcom.store import sqlite_disk, sqlite_open, sqlite_rows
from agentcom.store.base import Committed, Full, Query
from agentcom.store.schema import COLUMNS
from agentcom.store.sqlite import SMALL, SqliteOptions, SqliteStore
from agentcom.store.sqlite_open import Migration
from agentcom.testing.store_rows import batch, body, committed, new_task, one, task
from agentcom.testing.store_suite import DurableStoreSuite, Make

FULL_AT_BYTES = 400 * 4_096
RESERVE_BYTES = 64 * 4_096


class TestSqliteStore(DurableStoreSuite):
    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        return lambda: SqliteStore(tmp_path / "home" / "store.db", options=SMALL)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "store.db"


async def test_files_are_for_their_owner_only(path: Path) -> None:
    store = SqliteStore(path, options=SqliteOptions(wal_bytes=1 << 16, ballast_bytes=1 << 16))
    await store.open()
    await committed(store, batch("b1", *new_task("t1")))
    await store.snapshot(str(path.parent / "copy.db"))

    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    await store.close()

    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert set(modes.values()) == {0o600}
    assert {"store.db", "store.db-wal", "store.db-ballast", "hub.lock", "copy.db"} <= set(modes)


async def test_the_names_of_new_folders_are_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(sqlite_disk, "sync_folder", synced.append)

    await _made(tmp_path / "a" / "b" / "store.db")
    await _made(tmp_path / "store.db")

    assert synced == [tmp_path, tmp_path / "a", tmp_path.parent]


async def test_the_columns_of_the_schema_are_in_the_database_in_their_order(path: Path) -> None:
    await _made(path)

    db = sqlite_open.connect(path)
    found = {
        table: [row[1] for row in db.execute(f"PRAGMA table_info({table})")] for table in Table
    }
    db.close()

    wanted = {table: ["key", "version", *COLUMNS[table], "doc"] for table in Table}
    for table in sqlite_rows.ALTERED:  # whose statements name their columns
        found[table].sort()
        wanted[table].sort()
    assert found == wanted


async def test_a_body_and_a_result_of_one_key_are_two_rows(path: Path) -> None:
    store = SqliteStore(path, options=SMALL)
    await store.open()
    kept = KeptResult(
        task=TaskId("t1"),
        fence=Fence(1, 1),
        agent=None,
        machine=MachineId("m"),
        at=WallTime(1),
        result=Result(status=ResultStatus.DONE),
        applied=True,
    )
    await committed(store, batch("b1", *new_task("t1"), Insert(Table.RESULT, "t1", kept)))
    late = msgspec.structs.replace(kept, applied=False, version=2)
    await committed(store, batch("b2", Update(Table.RESULT, "t1", late, expected=1)))
    found = await store.get([(Table.BODY, "t1"), (Table.RESULT, "t1")])
    listed = await store.query(Query(table=Table.RESULT, where={"task": ["t1"]}))
    await committed(store, batch("b3", Delete(Table.RESULT, "t1", expected=2)))
    left = await store.get([(Table.BODY, "t1"), (Table.RESULT, "t1")])
    await store.close()

    assert found == [body("t1"), late]
    assert listed.rows == [late]
    assert left == [body("t1"), None]


async def test_every_connection_has_all_its_settings(path: Path) -> None:
    await _made(path)
    wanted = {
        "busy_timeout": 5_000,
        "synchronous": 2,
        "foreign_keys": 1,
        "trusted_schema": 0,
        "cell_size_check": 1,
        "temp_store": 2,
        "wal_autocheckpoint": 0,
        "cache_size": -8_192,
    }

    db = sqlite_open.connect(path, read_only=True)
    found = {name: sqlite_open.pragma(db, name) for name in (*wanted, "query_only")}
    db.close()

    assert found == {**wanted, "query_only": 1}


def test_a_database_that_can_have_no_log_is_refused() -> None:
    steps = sqlite_open.load_migrations()

    with pytest.raises(StoreRefused, match="its journal stays: memory"):
        sqlite_open._open(Path(":memory:"), steps, 1)


async def test_every_page_has_a_checksum(path: Path) -> None:
    await _made(path)

    assert _reserved(path) == 8


async def test_the_log_has_its_size_from_the_start(path: Path) -> None:
    store = SqliteStore(path, options=SqliteOptions(wal_bytes=1 << 20, ballast_bytes=0))
    await store.open()
    for number in range(20):
        await committed(store, batch(f"b{number}", *new_task(f"t{number}")))
    await store.checkpoint()

    size = path.with_name("store.db-wal").stat().st_size
    await store.close()

    assert size == 1 << 20


def test_a_log_that_was_cut_is_so_durably_before_it_is_filled(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = path.with_name("store.db-wal")
    log.parent.mkdir()
    log.touch()
    calls: list[str] = []
    pwrite = os.pwrite

    def write(fd: int, data: bytes, offset: int) -> int:
        calls.append("write")
        return pwrite(fd, data, offset)

    monkeypatch.setattr(os, "fsync", lambda _fd: calls.append("sync"))
    monkeypatch.setattr(os, "pwrite", write)

    sqlite_disk.Disk(path).grow_log(2 * 4_096)

    assert calls == ["sync", "write", "write", "sync"]


async def test_commits_that_were_not_checkpointed_survive_a_presized_log(path: Path) -> None:
    options = SqliteOptions(wal_bytes=1 << 20, ballast_bytes=0)
    store = SqliteStore(path, options=options)
    await store.open()
    await committed(store, batch("b1", *new_task("t1")))
    crashed = path.parent.parent / "crashed"
    crashed.mkdir()
    for file in path.parent.iterdir():  # the process is idle: the files are as after a SIGKILL
        (crashed / file.name).write_bytes(file.read_bytes())
    await store.close()

    after = SqliteStore(crashed / path.name, options=options)
    await after.open()
    found = await one(after, Table.TASK, "t1")
    await after.close()

    assert found == task("t1")


async def test_the_log_is_checkpointed_between_commits(path: Path) -> None:
    store = SqliteStore(
        path, options=SqliteOptions(wal_bytes=0, ballast_bytes=0, checkpoint_pages=16)
    )
    await store.open()
    for number in range(100):
        await committed(store, batch(f"b{number}", *new_task(f"t{number}")))

    size = path.with_name("store.db-wal").stat().st_size
    await store.close()

    assert size < 64 * 4_096


async def test_a_new_file_gets_an_incarnation_and_keeps_it(path: Path) -> None:
    store = SqliteStore(path, options=SMALL, wall_s=lambda: 1_700_000_000.5)
    assert await store.open() == 1_700_000_000
    await store.close()

    store = SqliteStore(path, options=SMALL, wall_s=lambda: 1_800_000_000.5)
    assert await store.open() == 1_700_000_000
    assert await store.raise_incarnation() == 1_800_000_000
    assert await store.raise_incarnation() == 1_800_000_001
    await store.close()


async def test_a_full_disk_refuses_tasks_and_lets_completions_through(path: Path) -> None:
    store = SqliteStore(
        path,
        options=SqliteOptions(
            wal_bytes=0, ballast_bytes=RESERVE_BYTES, bytes_max=FULL_AT_BYTES + RESERVE_BYTES
        ),
    )
    await store.open()
    number, verdict = await _fill(store)

    assert verdict == Full()
    assert path.with_name("store.db-ballast").exists()
    big = body("t0", "x" * 8 * 4_096)
    done = Update(Table.TASK, "t0", task("t0", TaskState.COMPLETED, version=2), expected=1)
    completion = batch("done", done, Update(Table.BODY, "t0", big, expected=1))
    assert isinstance(await store.commit(completion), Committed)
    assert not path.with_name("store.db-ballast").exists()
    assert await one(store, Table.TASK, f"t{number}") is None
    await store.close()


async def test_reading_goes_on_when_the_disk_is_full(path: Path) -> None:
    store = SqliteStore(
        path, options=SqliteOptions(wal_bytes=0, ballast_bytes=0, bytes_max=FULL_AT_BYTES)
    )
    await store.open()
    number, _ = await _fill(store)

    assert len((await store.scan(DEFAULT_POOL)).tasks) == number
    assert isinstance(await store.prune(WallTime(1)), int)
    await store.close()


async def test_a_full_disk_is_told_to_whoever_asks_for_a_term(path: Path) -> None:
    store = SqliteStore(path, options=SMALL)
    await store.open()

    def full(_db: apsw.Connection) -> None:
        raise apsw.FullError

    with pytest.raises(StorageFull):
        await store._work(full)
    await store.close()


async def test_an_older_format_is_copied_and_migrated(path: Path) -> None:
    await _made(path)
    known = sqlite_open.load_migrations()
    newest = known[-1].number
    newer = [*known, Migration(newest + 1, "CREATE TABLE more (a TEXT) STRICT")]

    store = SqliteStore(path, options=SMALL, migrations=newer)
    await store.open()
    await store.close()

    kept = sqlite_open.connect(path.with_name(f"store-format-{newest}.db"))
    now = sqlite_open.connect(path)
    formats = [sqlite_open.pragma(db, "user_version") for db in (kept, now)]
    rows = [db.execute("SELECT count(*) FROM task").get for db in (kept, now)]
    kept.close()
    now.close()
    assert (formats, rows) == ([newest, newest + 1], [1, 1])


async def test_a_store_from_before_groups_keeps_its_tasks_and_takes_groups(path: Path) -> None:
    first, *_ = sqlite_open.load_migrations()
    older = SqliteStore(path, options=SMALL, migrations=[first])
    await older.open()
    await committed(older, batch("b0", *new_task("t1")))
    await older.close()

    store = SqliteStore(path, options=SMALL)
    await store.open()
    tally = Tally(id="group/default/g", made=1, live=1, states={"queued": 1})
    await committed(store, batch("b1", Insert(Table.TALLY, tally.id, tally)))
    found = await store.scan(DEFAULT_POOL)
    problems = await store.verify()
    await store.close()

    assert (list(found.tasks), list(found.tallies)) == ([task("t1")], [tally])
    assert list(problems) == []


async def test_a_migration_that_fails_changes_nothing(path: Path) -> None:
    await _made(path)
    known = sqlite_open.load_migrations()
    twice = "CREATE TABLE more (a TEXT) STRICT; CREATE TABLE task (b TEXT)"
    broken = Migration(known[-1].number + 1, twice)
    store = SqliteStore(path, options=SMALL, migrations=[*known, broken])

    with pytest.raises(apsw.SQLError):
        await store.open()

    store = SqliteStore(path, options=SMALL)
    await store.open()
    assert await one(store, Table.TASK, "t1") == task("t1")
    await store.close()


async def test_a_snapshot_opens_as_a_store(path: Path, tmp_path: Path) -> None:
    store = SqliteStore(path, options=SMALL)
    await store.open()
    await committed(store, batch("b1", *new_task("t1")))
    target = tmp_path / "copy" / "store.db"
    target.parent.mkdir()
    await store.snapshot(str(target))
    await store.close()

    copy = SqliteStore(target, options=SMALL)
    await copy.open()
    found = await one(copy, Table.TASK, "t1")
    problems = await copy.verify()
    await copy.close()

    assert found == task("t1")
    assert list(problems) == []
    assert _reserved(target) == 8


@pytest.mark.parametrize("version", ["3.40.1", "3.51.2", "3.52.0", "3.50.6"])
def test_a_sqlite_library_with_the_wal_bug_is_refused(version: str) -> None:
    with pytest.raises(StoreRefused, match="apsw"):
        sqlite_open.check_library(version)


@pytest.mark.parametrize("version", ["3.44.6", "3.50.7", "3.51.3", "3.53.0", "4.0"])
def test_a_sound_sqlite_library_is_accepted(version: str) -> None:
    sqlite_open.check_library(version)


def test_a_network_file_system_is_recognised(tmp_path: Path) -> None:
    device = tmp_path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    mounts = tmp_path / "mountinfo"

    mounts.write_text(f"36 35 {number} / /mnt rw,noatime shared:1 - nfs4 server:/a rw\n")
    assert sqlite_disk.network_file_system(tmp_path, mounts) == "nfs4"

    mounts.write_text(f"36 35 {number} / /mnt rw,noatime shared:1 - ext4 /dev/a rw\n")
    assert sqlite_disk.network_file_system(tmp_path, mounts) is None


def _reserved(path: Path) -> int:
    return path.read_bytes()[20]


async def _made(path: Path) -> None:
    store = SqliteStore(path, options=SMALL)
    await store.open()
    await committed(store, batch("b1", *new_task("t1")))
    await store.close()


async def _fill(store: SqliteStore) -> tuple[int, object]:
    for number in range(1_000):
        name = f"t{number}"
        big = Insert(Table.BODY, name, body(name, "x" * 4_096))
        verdict = await store.commit(batch(f"b{number}", Insert(Table.TASK, name, task(name)), big))
        if not isinstance(verdict, Committed):
            return number, verdict
    raise AssertionError("the disk is never full")
