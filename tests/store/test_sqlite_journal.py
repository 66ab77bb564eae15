"""The journal of batches: what it holds, where it ends, and what is damage."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from agentcom.model.batch import Batch
from agentcom.store import sqlite_journal as journal
from agentcom.store.sqlite import SMALL, SqliteStore
from agentcom.store.sqlite_journal import Journal, JournalDamaged
from agentcom.testing.store_rows import batch, new_task

INCARNATION = 7


def batches(count: int, start: int = 1) -> list[Batch]:
    return [
        batch(f"b{n}", *new_task(f"t{n}"), appends=[f"t{n}"]) for n in range(start, start + count)
    ]


def written(
    root: Path, wanted: Sequence[Batch], *, first: int = 1, segment_bytes: int = 1 << 20
) -> Path:
    made = Journal(root, segment_bytes=segment_bytes)
    made.start(INCARNATION)
    for number, one in enumerate(wanted, first):
        made.note(number, one)
    made.close()
    assert not made.failed
    return journal.folder_of(root, INCARNATION)


def numbers(folder: Path, after: int = 0) -> list[int]:
    return [entry.number for entry in journal.entries(folder, after)]


def test_it_holds_what_was_committed_in_order(tmp_path: Path) -> None:
    wanted = batches(5)

    folder = written(tmp_path, wanted)

    assert [entry.batch for entry in journal.entries(folder, 0)] == wanted
    assert numbers(folder, 3) == [4, 5]
    assert numbers(folder, 5) == []


def test_segments_follow_one_another_and_old_ones_can_go(tmp_path: Path) -> None:
    folder = written(tmp_path, batches(6), segment_bytes=400)
    assert len(journal.segments(folder)) > 2

    assert numbers(folder) == [1, 2, 3, 4, 5, 6]
    gone = journal.drop_before(folder, 3)

    assert gone > 0
    assert numbers(folder, 3) == [4, 5, 6]
    assert journal.is_whole(folder, 3)


def test_a_gap_ends_it(tmp_path: Path) -> None:
    folder = written(tmp_path, batches(2))
    written(tmp_path, batches(2, 5), first=5)

    assert numbers(folder) == [1, 2]
    assert not journal.is_whole(folder, 0)
    assert numbers(folder, 4) == [5, 6]
    assert journal.is_whole(folder, 4)


@pytest.mark.parametrize("left", range(1, 60, 7))
def test_what_was_torn_at_the_end_is_not_there(tmp_path: Path, left: int) -> None:
    folder = written(tmp_path, batches(3))
    ((_, path),) = journal.segments(folder)
    data = path.read_bytes()
    path.write_bytes(data[:-left])

    assert numbers(folder) == [1, 2]
    # The next start goes on behind it, with a segment of its own.
    written(tmp_path, batches(2, 3), first=3)
    assert numbers(folder) == [1, 2, 3, 4]


def test_damage_in_the_middle_is_told(tmp_path: Path) -> None:
    folder = written(tmp_path, batches(3))
    ((_, path),) = journal.segments(folder)
    data = bytearray(path.read_bytes())
    data[60] ^= 1
    path.write_bytes(data)

    with pytest.raises(JournalDamaged, match="damaged at batch 1"):
        numbers(folder)


def test_no_byte_that_was_changed_ends_a_journal_silently(tmp_path: Path) -> None:
    folder = written(tmp_path, batches(3))
    ((_, path),) = journal.segments(folder)
    data = path.read_bytes()
    first = 8 + 24 + int.from_bytes(data[8:12])

    for at in [*range(8 + 24), *range(8 + 24, first, 9)]:
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :])
        with pytest.raises(JournalDamaged):
            numbers(folder)


def test_a_foreign_file_is_told_and_an_empty_one_is_nothing(tmp_path: Path) -> None:
    folder = journal.folder_of(tmp_path, INCARNATION)
    folder.mkdir()
    path = folder / f"{1:020d}.journal"
    path.write_bytes(b"")
    assert numbers(folder) == []

    path.write_bytes(b"something else")
    with pytest.raises(JournalDamaged, match="is no journal"):
        numbers(folder)


def test_a_disk_that_fails_leaves_a_gap_and_no_trouble(tmp_path: Path) -> None:
    made = Journal(tmp_path)
    made.start(INCARNATION)
    folder = journal.folder_of(tmp_path, INCARNATION)
    folder.rmdir()
    for number, one in enumerate(batches(2), 1):
        made.note(number, one)
    made.close()

    assert made.failed


async def test_a_store_writes_down_what_it_commits(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store.db", options=SMALL, journal=Journal(tmp_path / "journal"))
    incarnation = await store.open()
    wanted = batches(30)
    for one in wanted:
        await store.commit(one)
    await store.commit(wanted[0])  # a conflict: it is there
    await store.close()

    folder = journal.folder_of(tmp_path / "journal", incarnation)
    assert [entry.batch for entry in journal.entries(folder, 0)] == wanted
