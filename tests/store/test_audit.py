"""The audit log in a store: in the same transaction, and what tampering with the file comes to."""

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agentcom.model.audit import RESTORED, AuditEntry, AuditNote, Head, Verdict
from agentcom.model.batch import Batch, Insert, Table
from agentcom.model.errors import StoreRefused
from agentcom.model.identity import Role, User
from agentcom.model.ids import DEFAULT_POOL, BatchId, UserId, WallTime
from agentcom.store import audit_chain, codec, sqlite_audit, sqlite_open
from agentcom.store.base import Committed, Conflict, Query, Store
from agentcom.store.memory import MemoryStore
from agentcom.store.sqlite import SMALL, SqliteStore

COUNT = 6
RENAMED = "CAST(replace(CAST(doc AS TEXT), 'who-2', 'who-9') AS BLOB)"
SPACED = """CAST(replace(CAST(doc AS TEXT), '{"at"', '{ "at"') AS BLOB)"""
REST = "version, at, who, action, outcome, doc"
THIRD = "WHERE key LIKE '%3'"


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    made: Store = MemoryStore()
    if request.param == "sqlite":
        made = SqliteStore(tmp_path / "hub.db", options=SMALL)
    await made.open()
    yield made
    await made.close()


def batch(name: str, *who: str, user: str | None = None) -> Batch:
    notes = tuple(AuditNote(at=WallTime(1), action="user:invite", who=one) for one in who)
    row = User(id=UserId(user or name), role=Role.VIEWER, created_at=WallTime(1))
    changes = (Insert(Table.USER, row.id, row),)
    return Batch(id=BatchId(name), pool=DEFAULT_POOL, changes=changes, audits=notes)


async def entries(store: Store) -> Sequence[AuditEntry]:
    page = await store.query(Query(table=Table.AUDIT, after=""))
    return [row for row in page.rows if isinstance(row, AuditEntry)]


async def test_entries_are_written_with_what_they_record_in_one_chain(store: Store) -> None:
    for name in "a", "b":
        assert isinstance(await store.commit(batch(name, f"{name}1", f"{name}2")), Committed)

    rows = await entries(store)
    assert [row.who for row in rows] == ["a1", "a2", "b1", "b2"]
    keyed = [(f"{row.seq:016d}", row) for row in rows]
    assert audit_chain.verify(keyed).findings == []


async def test_what_is_not_written_is_not_recorded(store: Store) -> None:
    await store.commit(batch("a", "first"))

    assert isinstance(await store.commit(batch("b", "second", user="a")), Conflict)

    assert [row.who for row in await entries(store)] == ["first"]


async def test_entries_are_found_by_who_and_what(store: Store) -> None:
    await store.commit(batch("a", "eve", "bob", "eve"))

    page = await store.query(Query(table=Table.AUDIT, where={"who": ["eve"]}))

    assert [row.seq for row in page.rows if isinstance(row, AuditEntry)] == [3, 1]


def test_a_batch_with_entries_is_the_same_in_the_journal() -> None:
    one = batch("a", "eve")

    assert codec.decode_batch(codec.encode_batch(one)) == one
    assert b"audits" not in codec.encode_batch(msgspec.structs.replace(one, audits=()))


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A store with six entries, closed."""
    made = SqliteStore(tmp_path / "hub.db", options=SMALL)
    await made.open()
    for number in range(COUNT):
        await made.commit(batch(f"u{number}", f"who-{number}"))
    await made.close()
    return tmp_path / "hub.db"


def tampered(path: Path, *statements: str) -> None:
    """Change the file as somebody does who has it, and knows how it is made."""
    db = sqlite_open.connect(path)
    db.execute("DROP TRIGGER audit_stays")
    for statement in statements:
        db.execute(statement)
    db.close()


def look(path: Path, against: Head | None = None) -> Verdict:
    return sqlite_audit.verify_file(path, against)


def test_a_log_that_nobody_touched_is_sound_in_the_file_too(path: Path) -> None:
    found = look(path)

    assert (found.entries, found.findings) == (COUNT, [])
    assert look(path, found.head).findings == []


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        (f"UPDATE audit SET doc = {RENAMED}, who = 'who-9' {THIRD}", "entry 3 was changed"),
        (f"DELETE FROM audit {THIRD}", "entries 3 to 3 are missing"),
        ("DELETE FROM audit WHERE key LIKE '%1'", "no cut accounts for that"),
        (f"UPDATE audit SET who = 'nobody' {THIRD}", "listed under other names"),
        (f"UPDATE audit SET at = 5 {THIRD}", "listed under other names"),
        (f"UPDATE audit SET doc = CAST('{{}}' AS BLOB) {THIRD}", "cannot be read"),
        (f"UPDATE audit SET doc = {SPACED} {THIRD}", "not written as the hub writes"),
        (f"INSERT INTO audit SELECT key || '5', {REST} FROM audit {THIRD}", "another one's place"),
    ],
    ids=["change", "remove", "remove-first", "hide", "date", "garbage", "blank", "insert"],
)
def test_tampering_with_the_file_is_found(path: Path, statement: str, finding: str) -> None:
    tampered(path, statement)

    assert any(finding in found for found in look(path).findings), look(path).findings


def test_entries_that_changed_places_are_found(path: Path) -> None:
    tampered(
        path,
        "UPDATE audit SET key = 'x' WHERE key LIKE '%3'",
        "UPDATE audit SET key = '0000000000000003' WHERE key LIKE '%4'",
        "UPDATE audit SET key = '0000000000000004' WHERE key = 'x'",
    )

    assert any("another one's place" in found for found in look(path).findings)


def test_a_removed_end_is_found_with_a_head_that_was_written_down(path: Path) -> None:
    head = look(path).head
    tampered(path, "DELETE FROM audit WHERE key > '0000000000000004'")

    assert look(path).findings == []
    assert "its end was cut off" in look(path, head).findings[0]


def test_sqlite_itself_keeps_entries_from_being_changed_by_mistake(path: Path) -> None:
    db = sqlite_open.connect(path)

    with pytest.raises(Exception, match="never change"):
        db.execute("UPDATE audit SET who = 'x'")
    db.close()


async def test_a_copy_that_was_put_back_begins_a_segment(path: Path, tmp_path: Path) -> None:
    store = SqliteStore(path, options=SMALL)
    await store.open()
    await store.snapshot(str(tmp_path / "copy.db"))
    await store.commit(batch("later", "lost"))
    await store.close()
    lost = look(path).head

    back = SqliteStore(tmp_path / "copy.db", options=SMALL)
    await back.open()
    incarnation = await back.raise_incarnation()
    await back.commit(batch("other", "after"))
    rows: Any = await entries(back)
    await back.close()

    assert [row.action for row in rows[-2:]] == [RESTORED, "user:invite"]
    found = look(tmp_path / "copy.db")
    assert (found.findings, [one.segment for one in found.breaks]) == ([], [incarnation])
    assert "a copy was put back" in look(tmp_path / "copy.db", lost).findings[0]


@pytest.mark.parametrize("make", [lambda _p: None, lambda p: p.write_bytes(b"no database")])
def test_a_file_that_is_no_store_is_refused(tmp_path: Path, make: Callable[[Path], Any]) -> None:
    make(tmp_path / "x.db")

    with pytest.raises(StoreRefused):
        look(tmp_path / "x.db")


async def test_an_export_is_looked_at_without_any_store(path: Path) -> None:
    store = SqliteStore(path, options=SMALL)
    await store.open()
    lines = [msgspec.json.encode(row) + b"\n" for row in await entries(store)]
    await store.close()

    assert audit_chain.verify(audit_chain.read_lines(lines)).findings == []
    del lines[2]
    assert audit_chain.verify(audit_chain.read_lines(lines)).findings != []
