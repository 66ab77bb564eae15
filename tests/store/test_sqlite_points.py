"""A restore leads to any batch and any moment: what is there then is what was there then."""

import asyncio
import hashlib
import random
import shutil
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from agentcom.model.archive import Dossier
from agentcom.model.backup import NEWEST, BackupDamaged, Point, PointNotReached
from agentcom.model.batch import Batch, Change, Delete, Insert, Table, Update
from agentcom.model.ids import DEFAULT_POOL, ProjectId, WallTime
from agentcom.model.shared_note import Blob, blob_key
from agentcom.model.task import Task, TaskState
from agentcom.store import dossiers, sqlite_journal, sqlite_restore
from agentcom.store.base import LogRecord, Query
from agentcom.store.memory import MemoryStore
from agentcom.store.sqlite import SMALL, SqliteStore
from agentcom.store.sqlite_archive import ARCHIVE_FILE, SqliteArchive
from agentcom.store.sqlite_backups import BLOBS, STORE_FILE, Backups
from agentcom.store.sqlite_journal import Journal
from agentcom.testing.store_rows import batch, body, committed, task, usage
from tests.hub.doubles import ManualClock

State = tuple[dict[tuple[Table, str], object], list[LogRecord]]


async def state_of(store: MemoryStore | SqliteStore) -> State:
    """Return all rows and records."""
    rows: dict[tuple[Table, str], object] = {}
    for table in (Table.TASK, Table.BODY, Table.USAGE):
        after: str | None = ""
        while after is not None:
            page = await store.query(Query(table=table, after=after, limit=500))
            rows |= {(table, _key(table, row)): row for row in page.rows}
            after = page.next
    return rows, list(await store.read(None, 0, 10_000))


def _key(table: Table, row: object) -> str:
    return row.task if table is Table.USAGE else row.id  # type: ignore[attr-defined, no-any-return]  # the table says so


class History:
    """A random life of a store, with a model beside it that remembers every moment."""

    def __init__(self, root: Path, seed: int) -> None:
        self.home = root / "hub"
        self.backups = Backups(root / "backups")
        self.rng = random.Random(seed)
        self.clock = ManualClock()
        self.model = MemoryStore()
        self.states: dict[int, State] = {}
        self.archived: dict[int, set[str]] = {}
        self.kept: set[str] = set()
        self.first_copy = 0

    async def live(self, batches: int) -> None:
        journal = Journal(self.backups.folder / "journal", segment_bytes=2_000)
        store = SqliteStore(self.home / STORE_FILE, options=SMALL, journal=journal)
        archive = SqliteArchive(self.home / ARCHIVE_FILE)
        await store.open()
        copies = sorted(self.rng.sample(range(2, batches - 2), k=2))
        for number in range(1, batches + 1):
            wanted = await self.batch(number, store, archive)
            await committed(store, wanted)
            await committed(self.model, wanted)
            self.states[number] = await state_of(self.model)
            self.archived[number] = set(self.kept)
            if number in copies:
                self.clock.advance(60_000)
                await asyncio.to_thread(self.backups.take, self.home, self.clock.now)
                self.first_copy = self.first_copy or number
        await store.close()
        await archive.close()

    async def batch(self, number: int, store: SqliteStore, archive: SqliteArchive) -> Batch:
        rows, records = self.states.get(number - 1, ({}, []))
        tasks = [row for row in rows.values() if isinstance(row, Task)]
        over = [row for row in tasks if row.state.terminal]
        if over and self.rng.random() < 0.3:
            return await self.moves(f"b{number}", self.rng.choice(over), store, archive)
        changes: list[Change] = []
        told: list[str] = []
        for one in self.rng.sample(tasks, k=min(len(tasks), self.rng.randrange(3))):
            state = self.rng.choice([*TaskState])
            new = task(one.id, state, version=one.version + 1)
            changes.append(Update(Table.TASK, one.id, new, one.version))
            told += [one.id] * self.rng.randrange(3)
        for n in range(self.rng.randrange(3)):
            name = f"t{number:03d}{n}"
            changes += [
                Insert(Table.TASK, name, task(name)),
                Insert(Table.BODY, name, body(name, "x" * self.rng.randrange(300))),
                usage(name, at=number),
            ]
            told.append(name)
        made = batch(f"b{number}", *changes, appends=told)
        if records and self.rng.random() < 0.1:
            return replace(made, forgets=((records[0].seq, records[0].seq + 6),))
        return made

    async def moves(
        self, name: str, one: Task, store: SqliteStore, archive: SqliteArchive
    ) -> Batch:
        """Archive a task as the hub does."""
        kept = await dossiers.gather(store, one, WallTime(1))
        await archive.put([kept])
        self.kept.add(one.id)
        return batch(name, *await dossiers.removal(store, kept))

    async def restored(self, home: Path, point: Point) -> tuple[int, State, dict[str, Dossier]]:
        made = await sqlite_restore.restore(self.backups, home, name=None, point=point)
        store = SqliteStore(home / STORE_FILE, options=SMALL)
        await store.open()
        found = await state_of(store)
        assert await store.verify() == []
        await store.close()
        archive = SqliteArchive(home / ARCHIVE_FILE)
        page = await archive.tasks(Query(table=Table.TASK, limit=500))
        kept = {row.id: await archive.get(row.id) for row in page.rows if isinstance(row, Task)}
        await archive.close()
        return made.number, found, {name: one for name, one in kept.items() if one is not None}


@pytest.mark.parametrize(
    ("seed", "batches"),
    [(1, 14), *(pytest.param(n, 40, marks=pytest.mark.slow) for n in range(2, 22))],
)
async def test_every_batch_is_what_it_was_here_and_on_another_computer(
    tmp_path: Path, seed: int, batches: int
) -> None:
    history = History(tmp_path, seed)
    await history.live(batches)

    for number in range(history.first_copy, batches + 1):
        home = tmp_path / f"other{number}"  # nothing of the hub but the copies' folder
        reached, found, kept = await history.restored(home, Point(number=number))
        assert (reached, found) == (number, history.states[number])
        assert set(kept) >= history.archived[number], "a task is in neither"
        assert all(one.usage and one.body is not None for one in kept.values())
        shutil.rmtree(home)
    for number in range(history.first_copy):
        with pytest.raises(PointNotReached):
            await history.restored(tmp_path / "early", Point(number=number or -1))
    reached, found, _ = await history.restored(history.home, NEWEST)
    assert (reached, found) == (batches, history.states[batches])


async def test_every_moment_is_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history = History(tmp_path, 5)
    now = [0.0]

    def tick() -> float:
        now[0] += 1.0
        return now[0]

    monkeypatch.setattr(time, "time", tick)
    await history.live(12)
    copy = history.backups.listed()[-1]
    entries = list(sqlite_journal.entries(history.backups.journal(copy), copy.number))
    # The copies were made at another clock: as early as can be.
    monkeypatch.setattr(sqlite_restore, "base_for", lambda *_: copy)

    for entry in entries:
        for at, number in ((entry.at, entry.number), (entry.at - 1, entry.number - 1)):
            reached, found, _ = await history.restored(tmp_path / "other", Point(at=WallTime(at)))
            assert (reached, found) == (number, history.states[number])
            shutil.rmtree(tmp_path / "other")


# Attached files -------------------------------------------------------------------------------


class Files:
    """A hub with attached files, and its copies."""

    def __init__(self, root: Path) -> None:
        self.home = root / "hub"
        self.backups = Backups(root / "backups")
        self.clock = ManualClock()
        self.count = 0

    async def commit(self, *changes: Change) -> None:
        store = SqliteStore(self.home / STORE_FILE, options=SMALL)
        await store.open()
        self.count += 1
        await committed(store, Batch(id=f"b{self.count}", pool=DEFAULT_POOL, changes=changes))  # type: ignore[arg-type]  # an id is text
        await store.close()

    async def add(self, data: bytes) -> Path:
        """Attach a file; return where the copies have it."""
        digest = hashlib.sha256(data).hexdigest()
        row = Blob(
            digest=digest,
            bytes=len(data),
            owner="user:ada",  # type: ignore[arg-type]  # an address is text
            created_at=WallTime(1),
            project=ProjectId("default"),
        )
        path = self.home / BLOBS / digest[:2] / digest
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        await self.commit(Insert(Table.BLOB, blob_key(row.project, digest), row))
        return self.backups.folder / BLOBS / digest[:2] / digest

    async def drop(self, copy: Path) -> None:
        """Let the hub forget a file."""
        key = blob_key(ProjectId("default"), copy.name)
        await self.commit(Delete(Table.BLOB, key, 1))
        (self.home / BLOBS / copy.name[:2] / copy.name).unlink()

    def take(self) -> None:
        self.clock.advance(60_000)
        self.backups.take(self.home, self.clock.now)


async def test_files_go_with_the_last_copy_that_names_them(tmp_path: Path) -> None:
    files = Files(tmp_path)
    old, kept = await files.add(b"old"), await files.add(b"kept")
    files.take()
    await files.drop(old)
    files.take()
    assert (old.exists(), kept.exists()) == (True, True)

    files.backups.prune(1)

    assert (old.exists(), kept.exists()) == (False, True)
    assert files.backups.listed()[0].files == 1


async def test_a_file_that_is_damaged_or_missing_is_named(tmp_path: Path) -> None:
    files = Files(tmp_path)
    file = await files.add(b"what was sent")
    files.take()
    (copy,) = files.backups.listed()
    files.backups.check(copy)

    file.write_bytes(b"something else")
    with pytest.raises(BackupDamaged, match=file.name):
        files.backups.check(copy)
    with pytest.raises(BackupDamaged, match=file.name):
        await sqlite_restore.restore(files.backups, tmp_path / "other", name=None, point=NEWEST)
    assert not (tmp_path / "other" / STORE_FILE).exists()
    file.unlink()
    with pytest.raises(BackupDamaged, match="1 attached files"):
        files.backups.check(copy)


async def test_a_damaged_archive_is_put_aside_and_the_copy_takes_its_place(tmp_path: Path) -> None:
    history = History(tmp_path, 3)
    await history.live(30)
    path = history.home / ARCHIVE_FILE
    path.write_bytes(b"?" * 9_000)

    _, _, kept = await history.restored(history.home, NEWEST)

    assert set(kept) == history.archived[30]
    assert (history.home / f"damaged-{ARCHIVE_FILE}").read_bytes() == b"?" * 9_000
