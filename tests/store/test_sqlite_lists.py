"""The lists of feeds and live tasks: in arrears by some commits, and never wrong."""

from pathlib import Path

import pytest

from agentcom.model.batch import Change, Delete, Insert, Table, Update
from agentcom.model.ids import DEFAULT_POOL
from agentcom.model.task import TaskState
from agentcom.store import sqlite_lists, sqlite_open
from agentcom.store.base import Query
from agentcom.store.sqlite import SMALL, SqliteStore
from agentcom.testing.store_rows import batch, committed, new_task, task
from agentcom.testing.store_suite import DurableStoreSuite, Make

RECORDED = ["t1"]
UNRECORDED: list[str] = []


class TestSqliteStoreWithoutArrears(DurableStoreSuite):
    @pytest.fixture
    def make(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
        monkeypatch.setattr(sqlite_lists, "ARREARS_MAX", 0)
        return lambda: SqliteStore(tmp_path / "home" / "store.db", options=SMALL)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


async def live(store: SqliteStore) -> list[str]:
    """Return what is live, which the scan and a listing must agree on."""
    scanned = sorted(each.id for each in (await store.scan(DEFAULT_POOL)).tasks)
    states = [state for state in TaskState if not state.terminal]
    listed = await store.query(Query(table=Table.TASK, where={"state": states}))
    assert sorted(row.id for row in listed.rows) == scanned  # type: ignore[union-attr]  # tasks only
    return list(scanned)


def ended(version: int, state: TaskState = TaskState.COMPLETED) -> Update:
    return Update(Table.TASK, "t1", task("t1", state, version=version), expected=version - 1)


@pytest.mark.parametrize("arrears", [0, 2, 512])
@pytest.mark.parametrize("last", [RECORDED, UNRECORDED])
@pytest.mark.parametrize("first", [RECORDED, UNRECORDED])
async def test_live_is_right_with_and_without_records_and_after_a_start(
    path: Path, monkeypatch: pytest.MonkeyPatch, arrears: int, first: list[str], last: list[str]
) -> None:
    monkeypatch.setattr(sqlite_lists, "ARREARS_MAX", arrears)
    steps: list[tuple[list[Change], list[str], list[str]]] = [
        ([Insert(Table.TASK, "t1", task("t1"))], first, ["t1"]),
        ([ended(2)], last, []),
        ([ended(3, TaskState.QUEUED)], first, ["t1"]),
        ([Delete(Table.TASK, "t1", expected=3)], last, []),
        ([Insert(Table.TASK, "t1", task("t1")), ended(2)], last, []),
        ([ended(3, TaskState.QUEUED)], last, ["t1"]),
    ]

    for number, (changes, records, expected) in enumerate(steps):
        store = SqliteStore(path, options=SMALL)
        await store.open()
        await committed(store, batch(f"b{number}", *changes, appends=records))
        found = await live(store)
        await store.close()

        assert found == expected
        assert _wrong(path) == []


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("INSERT INTO live VALUES ('t9')", ["t9"]),
        ("DELETE FROM live WHERE key = 't1'", ["t1"]),
        ("UPDATE task SET state = 'failed' WHERE key = 't1'", ["t1"]),
        ("UPDATE meta SET value = 9 WHERE name = 'listed'", ["t3"]),
    ],
)
async def test_a_wrong_list_of_live_tasks_is_found(
    path: Path, monkeypatch: pytest.MonkeyPatch, damage: str, found: list[str]
) -> None:
    monkeypatch.setattr(sqlite_lists, "ARREARS_MAX", 0)  # all but the last batch is listed
    store = SqliteStore(path, options=SMALL)
    await store.open()
    for name in ("t1", "t2", "t3"):
        await committed(store, batch(f"b{name}", *new_task(name), appends=[name]))
    await store.close()
    assert _wrong(path) == []

    db = sqlite_open.connect(path)
    db.execute(damage)
    db.close()

    assert _wrong(path) == found


async def test_what_is_refused_is_not_listed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_lists, "ARREARS_MAX", 1)
    store = SqliteStore(path, options=SMALL)
    await store.open()
    await committed(store, batch("b1", *new_task("t1"), appends=["t1"]))

    await store.commit(batch("b2", *new_task("t2"), *new_task("t1"), appends=["t2"]))
    await committed(store, batch("b3", *new_task("t3"), appends=["t3"]))
    await committed(store, batch("b4", appends=["t3"]))

    assert await live(store) == ["t1", "t3"]
    assert [record.seq for record in await store.read("task/t3", 0, 9)] == [2, 3]
    assert [problem.what for problem in await store.verify()] == []
    await store.close()


async def test_a_page_of_live_tasks_costs_a_page(path: Path) -> None:
    store = SqliteStore(path, options=SMALL)
    await store.open()
    names = [f"t{number:04}" for number in range(2_000)]
    await committed(store, batch("b1", *(Insert(Table.TASK, name, task(name)) for name in names)))
    assert store._listing is not None
    steps: list[int] = []

    def step() -> bool:
        steps.append(1)
        return False

    store._listing.set_progress_handler(step, 100)

    page = await store.query(Query(table=Table.TASK, where={"state": ["queued"]}, limit=10))
    await store.close()

    assert [row.id for row in page.rows] == names[:-11:-1]  # type: ignore[union-attr]  # tasks
    assert len(steps) < 20


def _wrong(path: Path) -> list[str]:
    db = sqlite_open.connect(path)
    found = sqlite_lists.wrong(db)
    db.close()
    return found
