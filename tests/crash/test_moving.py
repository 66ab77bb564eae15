"""Tasks on their way to the archive, when the power fails or a disk is full."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agentcom.hub.archiving import Archiver
from agentcom.hub.searching import Searching
from agentcom.model.archive import Dossier
from agentcom.model.errors import StorageFull
from agentcom.store.sqlite_archive import SqliteArchive
from agentcom.testing.crash import moving, power
from agentcom.testing.crash.operations import Kind


def faults(memory: Path, deaf: dict[Kind, str] | None = None, *, last: int = 60) -> set[str]:
    """Return what kind of violation is found first, at the last operations of a life."""
    (memory / "life").mkdir()
    recording = moving.record(memory / "life", "archive-1", deaf)
    count = recording.operations()
    found = power.judged(
        memory / "judge",
        recording,
        mixtures=1,
        part=range(count - last, count),
        violations_max=1,
    )
    return {fault for fault, _, _, _ in found.violations}


def test_a_task_is_in_one_of_the_two_files_whenever_the_power_fails(memory: Path) -> None:
    assert faults(memory) == set()


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_so_it_is_from_the_first_one_that_moves_on(memory: Path) -> None:
    recording = power.recorded("archive-2", memory / "lives")
    part = range(power.begins(recording), recording.operations())

    found = power.judged(memory / "judge", recording, mixtures=2, part=part)

    assert found.violations == []
    assert len(found.digests) > 2_000


def test_an_archive_that_is_not_synced_is_found(memory: Path) -> None:
    assert faults(memory, {Kind.SYNC: "archive.sqlite-wal"}, last=200) == {"lost"}


def test_tasks_that_leave_before_they_are_kept_are_found(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, take_out = SqliteArchive.put, Archiver._take_out

    async def later(_self: SqliteArchive, _dossiers: Sequence[Dossier]) -> None:
        return

    async def too_early(self: Archiver, found: Sequence[Dossier]) -> int:
        count = await take_out(self, found)
        await put(self.archive, found)  # type: ignore[arg-type]  # it is one
        return count

    monkeypatch.setattr(SqliteArchive, "put", later)
    monkeypatch.setattr(Archiver, "_take_out", too_early)

    assert faults(memory, last=150) == {"lost"}


def test_costs_that_go_with_their_tasks_are_found(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(_self: Archiver, _turns: Any) -> list[Any]:
        return []

    monkeypatch.setattr(Archiver, "_sums_of", nothing)

    assert faults(memory) == {"broken"}


def test_a_search_that_counts_what_is_in_both_twice_is_found(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archived = Searching._archived

    async def blind(self: Searching, words: Any, call: Any, _known: set[str]) -> Sequence[Any]:
        get = self._store.get
        monkeypatch.setattr(self._store, "get", _absent)
        found = await archived(self, words, call, set())
        monkeypatch.setattr(self._store, "get", get)
        return found

    monkeypatch.setattr(Searching, "_archived", blind)

    assert faults(memory, last=150) == {"broken"}


@pytest.mark.parametrize("room", [0, 512, 30_000, 120_000])
def test_a_full_disk_keeps_every_task_in_one_of_them(memory: Path, room: int) -> None:
    assert moving.fill(memory, room) == []


def test_a_full_disk_that_is_taken_for_success_is_found(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = SqliteArchive.put

    async def blind(self: SqliteArchive, dossiers: Sequence[Dossier]) -> None:
        try:
            await put(self, dossiers)
        except StorageFull:
            return

    monkeypatch.setattr(SqliteArchive, "put", blind)

    assert any("there are only" in problem for problem in moving.fill(memory, 512))


async def _absent(_keys: Any) -> list[None]:
    return [None]
