"""Copies that were left half made, edited, mixed up or moved: all is told, or does no harm."""

import asyncio
import hashlib
import shutil
import threading
from pathlib import Path

import msgspec
import pytest

from agentcom.model.backup import COPY_ONLY, Backup, BackupDamaged, Point, PointNotReached
from agentcom.model.ids import WallTime
from agentcom.store import sqlite_archive, sqlite_open
from agentcom.store.sqlite_archive import ARCHIVE_FILE
from agentcom.store.sqlite_journal import ENDING
from tests.store.test_sqlite_backups import House, names


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


async def copied(house: House, count: int = 2, *, more: int = 0) -> Backup:
    """Commit some batches, copy, and commit more."""
    async with house.store() as store:
        await house.add(store, count)
        made = await house.take()
        await house.add(store, more)
    return made


def rewritten(house: House, backup: Backup, **fields: object) -> None:
    """Edit the manifest of a copy."""
    manifest = house.backups.path(backup).with_name("manifest.json")
    edited = msgspec.structs.replace(backup, **fields)
    manifest.write_bytes(msgspec.json.encode(edited))


def archived(path: Path, puts: int = 1) -> None:
    """Make an archive, or change the one that is there."""
    path.parent.mkdir(exist_ok=True)
    db = sqlite_archive.opened(path)
    for _ in range(puts):
        sqlite_archive.put(db, ())
    db.close()


async def test_what_a_killed_process_left_goes_with_the_next_copy(house: House) -> None:
    await copied(house)
    folder = house.backups.folder
    left = [folder / "copies" / ".1-dead", folder / ".drill-dead"]
    for path in left:
        path.mkdir()
        (path / "hub.sqlite.part").write_bytes(b"half")
    part = folder / "archive.sqlite.part"
    part.write_bytes(b"half")

    assert len(house.backups.listed()) == 1
    assert house.backups.strange() == []
    await house.take()

    assert not any(path.exists() for path in [*left, part])
    assert len(house.backups.listed()) == 2


async def test_a_second_copy_at_the_same_moment_waits_and_says_for_whom(house: House) -> None:
    await copied(house)
    told, waits = threading.Event(), list[str]()

    def on_wait(why: str) -> None:
        waits.append(why)
        told.set()

    house.backups.on_wait = on_wait
    with house.backups.changing():
        second = asyncio.create_task(house.take())
        assert await asyncio.to_thread(told.wait, 30)
        assert not second.done()
    await second

    assert waits[0].startswith("waits for process ")
    assert len(house.backups.listed()) == 2


@pytest.mark.parametrize("fields", [{"number": 1}, {"number": 3}, {"incarnation": 5}])
async def test_a_manifest_that_was_edited_is_told(house: House, fields: dict[str, int]) -> None:
    made = await copied(house, more=2)
    rewritten(house, made, **fields)
    (edited,) = house.backups.listed()

    with pytest.raises(BackupDamaged, match="manifest"):
        house.backups.check(edited)
    with pytest.raises(BackupDamaged, match="manifest"):
        await house.restore()

    assert await house.tasks() == names(4)


async def test_a_manifest_cannot_lead_elsewhere(house: House) -> None:
    made = await copied(house)
    elsewhere = house.home / "precious"
    elsewhere.mkdir()
    rewritten(house, made, name="../../hub/precious")

    assert house.backups.listed() == []
    assert house.backups.strange() == [house.backups.folder / "copies" / made.name]
    house.backups.prune(0)

    assert elsewhere.exists()


async def test_a_missing_archive_is_told(house: House) -> None:
    archived(house.home / ARCHIVE_FILE)
    made = await copied(house)
    house.backups.check(made)
    house.backups.archive.unlink()

    with pytest.raises(BackupDamaged, match=r"archive.sqlite is missing, or older"):
        house.backups.check(made)
    there = await house.restore()
    house.home = house.home.with_name("other")
    elsewhere = await house.restore()

    assert (there.without_archive, elsewhere.without_archive) == (True, True)


async def test_an_archive_that_began_anew_does_not_take_the_old_ones_place(house: House) -> None:
    archived(house.home / ARCHIVE_FILE, 3)
    first = await copied(house)
    (house.home / ARCHIVE_FILE).unlink()
    archived(house.home / ARCHIVE_FILE)
    second = await house.take()

    assert len(house.backups.archives()) == 2
    for one in (first, second):
        house.backups.check(one)
        assert not (await house.restore(one.name)).without_archive


async def test_an_archive_on_another_computer_is_the_same_one(house: House) -> None:
    archived(house.home / ARCHIVE_FILE)
    made = await copied(house)
    before = sorted(path.name for path in house.backups.folder.iterdir())
    house.home = house.home.with_name("other")

    await house.restore(made.name)

    assert sqlite_archive.mark_of(house.home / ARCHIVE_FILE) == made.archive
    assert sorted(path.name for path in house.backups.folder.iterdir()) == before
    await house.take()
    assert len(house.backups.archives()) == 1


async def test_the_journal_of_other_data_is_not_taken(house: House) -> None:
    made = await copied(house, more=1)
    other = House(house.home.parent / "other")
    other.count = 50
    theirs = await copied(other, 2, more=1)
    mine = house.backups.journal(made)
    shutil.rmtree(mine)
    shutil.copytree(other.backups.journal(theirs), mine)

    with pytest.raises(BackupDamaged, match="is of other data"):
        await house.restore()

    assert (await house.restore(made.name, COPY_ONLY)).number == 2


async def test_a_time_behind_a_gap_is_not_reached_and_without_one_the_gap_is_told(
    house: House,
) -> None:
    made = await copied(house, more=4)
    (path,) = house.backups.journal(made).glob(f"*{ENDING}")
    lose(path, 5)

    behind = await house.restore()

    assert (behind.number, behind.gap) == (4, 6)
    with pytest.raises(PointNotReached, match="from batch 5 to 5"):
        await house.restore(point=Point(at=WallTime(made.at + 1)))


def lose(path: Path, number: int) -> None:
    """Cut one batch out of a journal, as a crash does; the hub goes on behind it."""
    data, starts = path.read_bytes(), [8]
    while starts[-1] < len(data):
        starts.append(starts[-1] + 24 + int.from_bytes(data[starts[-1] :][:4]))
    path.write_bytes(data[: starts[number - 1]])
    path.with_name(f"{number + 1:020d}{ENDING}").write_bytes(data[:8] + data[starts[number] :])


async def test_a_damaged_journal_fails_the_drill_and_is_no_whole_one(house: House) -> None:
    first = await copied(house, more=2)
    second = await house.take()
    (path,) = house.backups.journal(first).glob(f"*{ENDING}")
    data = bytearray(path.read_bytes())
    data[60] ^= 1
    path.write_bytes(data)

    with pytest.raises(BackupDamaged, match="damaged at batch"):
        await house.drill(second.name)
    assert not house.backups.is_followed(first)


async def test_a_copy_of_a_newer_program_is_refused_with_what_to_do(house: House) -> None:
    made = await copied(house)
    path = house.backups.path(made)
    db = sqlite_open.connect(path)
    db.execute("PRAGMA user_version=99")
    db.close()
    rewritten(house, made, sha256=hashlib.sha256(path.read_bytes()).hexdigest())

    with pytest.raises(BackupDamaged, match="install the newer version of agentcom"):
        await house.restore()

    assert await house.tasks() == names(2)
