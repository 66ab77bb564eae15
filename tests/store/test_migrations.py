"""Stores of every earlier format become those of today, with all that was in them."""

import itertools
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import apsw
import pytest

from agentcom.hub.config import HubConfig
from agentcom.hub.services import Services
from agentcom.model.batch import Table
from agentcom.model.errors import StoreRefused
from agentcom.model.ids import DEFAULT_POOL
from agentcom.store import sqlite_open, sqlite_rows
from agentcom.store.base import Query
from agentcom.store.sqlite import SMALL, SqliteStore
from agentcom.store.sqlite_disk import Disk
from agentcom.store.sqlite_open import Migration
from agentcom.testing.crash import suite
from agentcom.testing.crash.power import Case, cases
from agentcom.testing.crash.recording import STORE, Recorder, Recording
from agentcom.testing.crash.vfs import watching
from agentcom.testing.store_rows import batch, committed, new_task
from tests.hub.doubles import ManualClock

FOLDER = Path(__file__).parent / "formats"
STEPS = sqlite_open.load_migrations()
NEWEST = STEPS[-1].number
WRITTEN = sorted(int(path.stem) for path in FOLDER.glob("*.sql"))
Rows = dict[tuple[str, str], bytes]


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder where a sync costs nothing."""
    folder = suite.memory_folder()
    yield folder
    shutil.rmtree(folder)


def data_of(number: int) -> str:
    """Return the rows that the newest program of at most this format has written."""
    written = max(one for one in WRITTEN if one <= number)
    return (FOLDER / f"{written:04d}.sql").read_text("utf-8")


def made(path: Path, number: int) -> Rows:
    """Make a store of a format, and return its documents."""
    path.parent.mkdir(parents=True, exist_ok=True)
    steps = [step for step in STEPS if step.number <= number]
    db = sqlite_open.open_database(Disk(path), incarnation=7, migrations=steps)
    db.execute("DELETE FROM meta")
    db.execute(data_of(number))
    found = documents(db)
    db.execute("PRAGMA journal_mode=DELETE").fetchall()
    db.close()
    return found


def documents(db: apsw.Connection) -> Rows:
    """Return the documents of all rows, by table and key."""
    names = [str(name) for (name,) in db.execute("SELECT name FROM sqlite_schema").fetchall()]
    tables = [table for table in Table if table.value in names]
    rows = {
        (table.value, key): doc for table in tables for key, _, doc in sqlite_rows.every(db, table)
    }
    return rows | {("log", str(n)): doc for n, doc in db.execute("SELECT number, doc FROM log")}


@pytest.mark.parametrize("number", range(1, NEWEST))
async def test_a_store_of_an_earlier_format_becomes_one_of_today(
    tmp_path: Path, number: int
) -> None:
    path = tmp_path / STORE
    before = made(path, number)

    store = SqliteStore(path, options=SMALL)
    assert await store.open() == 7
    after = await store._read(documents)

    assert {key: after.get(key) for key in before} == before
    assert await store.verify() == []
    live = {row.id for row in (await store.scan(DEFAULT_POOL)).tasks}
    assert live == {f"t{n}" for n in range(8)}
    for table in Table:  # every document can be read by the program of today
        assert len((await store.query(Query(table=table, limit=999))).rows) == len(
            [key for key in after if key[0] == table.value]
        )
    assert len(await store.read(None, 0, 999)) == len([key for key in before if key[0] == "log"])
    await committed(store, batch("new", *new_task("new"), appends=["new"]))
    await store.close()
    copies = list(path.parent.glob(f"{path.stem}-format-{number}*"))
    assert [copy.name for copy in copies] == [f"{path.stem}-format-{number}{path.suffix}"]
    kept = sqlite_open.connect(copies[0])
    assert documents(kept) == before
    kept.close()


@pytest.mark.parametrize("number", [one for one in WRITTEN if one < NEWEST])
async def test_a_hub_works_on_a_store_of_an_earlier_format(tmp_path: Path, number: int) -> None:
    path = tmp_path / STORE
    made(path, number)
    store = SqliteStore(path, options=SMALL)
    incarnation = await store.open()
    services = Services(HubConfig(home=path.parent), store, ManualClock())

    await services.engine.start(incarnation)

    assert set(services.engine.view.tasks) >= {"t0", "t2"}
    await store.close()


async def test_a_store_of_today_is_not_migrated(tmp_path: Path) -> None:
    path = tmp_path / STORE
    made(path, NEWEST)

    store = SqliteStore(path, options=SMALL)
    await store.open()
    await store.close()

    assert not list(path.parent.glob("*-format-*"))


@pytest.mark.parametrize("by", ["copy", "step"])
@pytest.mark.parametrize("number", [1, 7])
async def test_a_damaged_page_is_refused_whether_the_copy_before_meets_it_or_a_step(
    memory: Path, monkeypatch: pytest.MonkeyPatch, number: int, by: str
) -> None:
    if by == "step":
        monkeypatch.setattr(sqlite_open, "copy", lambda _db, _path: None)
    made(memory / STORE, number)
    sound = (memory / STORE).read_bytes()
    size = int.from_bytes(sound[16:18])

    for start in range(size, len(sound), size):
        path = memory / str(start) / STORE
        path.parent.mkdir(parents=True)
        damaged = bytearray(sound)
        damaged[start + size // 2] ^= 0xFF
        path.write_bytes(damaged)

        store = SqliteStore(path, options=SMALL)
        with pytest.raises(StoreRefused, match="agentcom backup restore"):
            await store.open()

        if by == "copy":
            assert path.read_bytes()[size:] == damaged[size:]
            assert [one.name for one in path.parent.glob("*format*")] == []


async def test_a_store_of_a_newer_format_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / STORE
    made(path, NEWEST)
    db = sqlite_open.connect(path)
    db.execute(f"PRAGMA user_version={NEWEST + 1}")
    db.close()
    before = path.read_bytes()

    store = SqliteStore(path, options=SMALL)
    with pytest.raises(StoreRefused, match=rf"format {NEWEST + 1}.*install the newer version"):
        await store.open()

    assert path.read_bytes() == before


@pytest.mark.parametrize("number", [1, NEWEST - 1])
async def test_a_step_that_fails_leaves_what_was_before(tmp_path: Path, number: int) -> None:
    path = tmp_path / STORE
    before = made(path, number)
    wrong = [*STEPS, Migration(9_000, "CREATE TABLE late (a); INSERT INTO nowhere VALUES (1)")]

    store = SqliteStore(path, options=SMALL, migrations=wrong)
    with pytest.raises(apsw.SQLError):
        await store.open()

    db = sqlite_open.connect(path)
    assert sqlite_open.pragma(db, "user_version") == NEWEST
    assert db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'late'").get is None
    found = documents(db)
    db.close()
    assert {key: found.get(key) for key in before} == before


@pytest.mark.parametrize(
    "number",
    [NEWEST - 1, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, NEWEST - 1))],
)
async def test_power_that_fails_while_a_store_migrates_leaves_old_or_new(
    tmp_path: Path, memory: Path, number: int
) -> None:
    home = memory / "life"
    before = made(home / STORE, number)
    initial = {
        path.relative_to(home).as_posix(): path.read_bytes()
        for path in home.rglob("*")
        if path.is_file()
    }
    recorder = Recorder(None)
    with watching(home, recorder):
        db = sqlite_open.open_database(Disk(home / STORE), incarnation=7)
        db.close()
    recording = Recording("migration", initial, recorder.entries, [], False)

    judged = 0
    for case in some(cases(recording, mixtures=2), every=5 if number == NEWEST - 1 else 9):
        judged += 1
        found = opened(memory / "judge", case)
        assert {key: found.get(key) for key in before} == before, str(case.choice)
    assert judged > 15


def some(found: Iterator[Case], *, every: int) -> Sequence[Case]:
    """Return one in so many states."""
    return list(itertools.islice(found, 0, None, every))


def opened(home: Path, case: Case) -> Rows:
    """Return what the program of today finds in a state."""
    shutil.rmtree(home, ignore_errors=True)
    for name, data in case.state.files.items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    db = sqlite_open.open_database(Disk(home / STORE), incarnation=7)
    try:
        assert sqlite_open.pragma(db, "user_version") == NEWEST
        return documents(db)
    finally:
        db.close()


def test_every_document_of_a_format_is_what_its_program_wrote() -> None:
    for number in WRITTEN:
        assert data_of(number).startswith(f"-- The data of format {number};")
