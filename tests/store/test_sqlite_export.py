"""All that a hub knows as lines, and a hub made of them."""

import random
from pathlib import Path

import msgspec
import pytest

from agentcom.model.archive import Dossier, Told
from agentcom.model.batch import Append, Batch, Delete, Insert, Table, Update
from agentcom.model.errors import Conflict, NotFound
from agentcom.model.event import task_log
from agentcom.model.identity import Credential, CredentialKind, Role
from agentcom.model.ids import DEFAULT_POOL, BatchId, TaskId, UserId, WallTime
from agentcom.model.task import TaskState
from agentcom.store import sqlite_export, sqlite_import
from agentcom.store.sqlite import SMALL, SqliteStore
from agentcom.store.sqlite_archive import ARCHIVE_FILE, SqliteArchive
from agentcom.store.sqlite_backups import STORE_FILE
from agentcom.store.sqlite_import import Imported, ImportRefused
from agentcom.testing.store_rows import body, committed, event, new_task, schedule, task, usage

AT = WallTime(1_000)
TOKEN = Credential(
    id="c1",
    kind=CredentialKind.USER,
    digest="ab" * 32,
    role=Role.ADMIN,
    owner=UserId("ada"),
    created_at=AT,
)


async def made(home: Path, *, seed: int = 1, batches: int = 60) -> None:
    """Let a store live a little."""
    rng = random.Random(seed)
    store = SqliteStore(home / STORE_FILE, options=SMALL)
    await store.open()
    rows = [
        Insert(Table.CREDENTIAL, TOKEN.id, TOKEN),
        Insert(Table.SCHEDULE, "default/ada", schedule("ada")),
    ]
    await committed(store, Batch(id=BatchId("b"), pool=DEFAULT_POOL, changes=tuple(rows)))
    live: dict[str, int] = {}
    for number in range(batches):
        name = f"t{number:03d}"
        changes = [*new_task(name), usage(name, at=number, cost_micros=number)]
        live[name] = 1
        for other in rng.sample(sorted(live), k=min(len(live), rng.randrange(3))):
            if other == name:
                continue
            version = live[other]
            if rng.random() < 0.3:
                changes.append(Delete(Table.TASK, other, version))
                changes.append(Delete(Table.BODY, other, 1))
                del live[other]
            else:
                state = rng.choice([TaskState.COMPLETED, TaskState.QUEUED, TaskState.RUNNING])
                new = task(other, state, version=version + 1)
                changes.append(Update(Table.TASK, other, new, version))
                live[other] += 1
        told = tuple(Append(task_log(TaskId(n)), event(n)) for n in [name, *list(live)[:2]])
        last = number == batches - 1
        one = Batch(
            id=BatchId(f"b{number}"),
            pool=DEFAULT_POOL,
            changes=tuple(changes),
            appends=() if last else told,
            forgets=((1, 9),) if number == batches // 2 else (),
        )
        await committed(store, one)
    await store.close()
    await archived(home)


async def archived(home: Path) -> None:
    """Put some tasks into the archive."""
    archive = SqliteArchive(home / ARCHIVE_FILE)
    kept = [
        Dossier(
            task=task(f"a{n}", TaskState.FAILED),
            archived_at=AT,
            body=body(f"a{n}", "look"),
            events=(Told(3, event(f"a{n}")),),
        )
        for n in range(5)
    ]
    await archive.put(kept)
    await archive.close()


def lines_of(home: Path, *, access: bool = True) -> list[bytes]:
    return list(sqlite_export.export(home, now=AT, access=access))


def comparable(lines: list[bytes]) -> list[object]:
    """Return lines without their sums and incarnations.

    An import begins a segment of the audit log, with an entry of its own.
    """
    found = [msgspec.json.decode(line) for line in lines]
    kept = [one for one in found if one.get("type") != "audit"]
    return [{**one, "sum": "", "incarnation": 0, "lines": len(kept)} for one in kept]


async def loaded(home: Path, lines: list[bytes]) -> Imported:
    return await sqlite_import.load(home, lines)


@pytest.mark.parametrize("seed", range(3))
async def test_what_was_exported_and_imported_is_the_same(tmp_path: Path, seed: int) -> None:
    await made(tmp_path / "one", seed=seed)
    lines = lines_of(tmp_path / "one")

    imported = await loaded(tmp_path / "two", lines)

    assert comparable(lines_of(tmp_path / "two")) == comparable(lines)
    assert imported.lines == len(lines)
    assert (imported.rows["archived"], imported.rows["credential"], imported.number) == (5, 1, 61)
    old, new = (SqliteStore(tmp_path / one / STORE_FILE, options=SMALL) for one in ("one", "two"))
    before, after = await old.open(), await new.open()
    assert after == imported.incarnation > before
    assert await new.verify() == []
    assert await new.scan(DEFAULT_POOL) == await old.scan(DEFAULT_POOL)
    assert await new.read(None, 0, 999) == await old.read(None, 0, 999)
    assert await new.read(task_log(TaskId("t007")), 0, 99) == await old.read(
        task_log(TaskId("t007")), 0, 99
    )
    one = Batch(id=BatchId("more"), pool=DEFAULT_POOL, appends=(Append("x", event("t1")),))
    assert await committed(new, one) == await committed(old, one)
    await old.close()
    await new.close()


async def test_the_lines_of_equal_data_are_equal(tmp_path: Path) -> None:
    await made(tmp_path, batches=9)

    assert lines_of(tmp_path) == lines_of(tmp_path)


async def test_hashes_of_tokens_stay_at_home(tmp_path: Path) -> None:
    await made(tmp_path / "one", batches=3)

    lines = lines_of(tmp_path / "one", access=False)
    imported = await loaded(tmp_path / "two", lines)

    assert not [line for line in lines if TOKEN.digest.encode() in line]
    assert "credential" not in imported.rows
    assert not imported.access


async def test_a_line_that_was_changed_is_named(tmp_path: Path) -> None:
    await made(tmp_path / "one", batches=9)
    lines = lines_of(tmp_path / "one")
    number = next(n for n, line in enumerate(lines) if b'"t004"' in line)
    broken = {
        "edited": [*lines[:number], lines[number].replace(b"ada", b"eve"), *lines[number + 1 :]],
        "removed": [*lines[:number], *lines[number + 1 :]],
        "doubled": [*lines[: number + 1], *lines[number:]],
        "swapped": [*lines[:number], lines[number + 1], lines[number], *lines[number + 2 :]],
        "cut": [*lines[:number], lines[number][:-9]],
    }

    for how, given in broken.items():
        wrong = number + (2 if how == "doubled" else 1)
        with pytest.raises(ImportRefused, match=rf"^line {wrong}: "):
            await loaded(tmp_path / how, given)
        assert not [path for path in (tmp_path / how).iterdir() if path.stat().st_size > 9]


@pytest.mark.parametrize("left", [0, 1, 2, 30, -1])
async def test_a_file_that_was_cut_short_is_refused(tmp_path: Path, left: int) -> None:
    await made(tmp_path / "one", batches=9)
    lines = lines_of(tmp_path / "one")[:left]

    with pytest.raises(ImportRefused, match=rf"^line {len(lines) + 1}: "):
        await loaded(tmp_path / "two", lines)

    assert not (tmp_path / "two" / STORE_FILE).exists()


async def test_what_comes_after_the_end_is_refused(tmp_path: Path) -> None:
    await made(tmp_path / "one", batches=2)
    lines = lines_of(tmp_path / "one")

    with pytest.raises(ImportRefused, match=r"after the last line"):
        await loaded(tmp_path / "two", [*lines, lines[-1]])


async def test_a_hub_that_is_there_is_not_touched(tmp_path: Path) -> None:
    await made(tmp_path, batches=2)
    lines, before = lines_of(tmp_path), (tmp_path / STORE_FILE).read_bytes()

    with pytest.raises(Conflict, match="--hub-home"):
        await loaded(tmp_path, lines)

    assert (tmp_path / STORE_FILE).read_bytes() == before


async def test_without_a_hub_there_is_nothing_to_export(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        lines_of(tmp_path)


def sealed(*lines: object) -> list[bytes]:
    chain = sqlite_export.Chain()
    return [chain.seal(msgspec.json.encode(line)) + b"\n" for line in lines]


HEAD = {"format": 1, "schema": 1, "incarnation": 1, "number": 1, "at": 1, "access": False}


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([{"type": "task"}], "line 1: an export begins"),
        ([{"type": "agentcom", **HEAD, "format": 9}], "line 1: format 9"),
        ([{"type": "agentcom", **HEAD, "schema": 99}], "line 1: its data have format 99"),
        ([{"type": "agentcom", **HEAD}, {"type": "gift"}], "line 2: 'gift' is no type"),
        ([{"type": "agentcom", **HEAD}, {"type": "end", "lines": 7}], "line 2: lines are missing"),
        (
            [{"type": "agentcom", **HEAD}, {"type": "task", "key": "t", "row": {"id": 1}}],
            "line 2: task t cannot be read",
        ),
        (
            [
                {"type": "agentcom", **HEAD},
                {"type": "task", "key": "t1", "row": task("t1", TaskState.RUNNING)},
                {"type": "end", "lines": 2},
            ],
            "is not whole: task t1 has no specification",
        ),
    ],
)
async def test_lines_that_make_no_sense_are_refused(
    tmp_path: Path, lines: list[object], why: str
) -> None:
    with pytest.raises(ImportRefused, match=why):
        await loaded(tmp_path, sealed(*lines))

    assert not (tmp_path / STORE_FILE).exists()
