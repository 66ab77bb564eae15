"""The testers tested: each of these defects must be found, or a clean run says nothing."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest

from agentcom.model.batch import Batch
from agentcom.store import sqlite_disk, sqlite_open
from agentcom.store.base import Verdict
from agentcom.store.sqlite_disk import Disk, LastCommit
from agentcom.store.sqlite_lists import Arrears
from agentcom.store.sqlite_writer import Writer
from agentcom.testing.crash import broken, full, life, power
from agentcom.testing.crash.life import Life, Plan
from agentcom.testing.crash.operations import Kind
from agentcom.testing.crash.recording import Acked, Begun

PLAN = Plan("planted", 2, 40)


def faults(memory: Path, deaf: dict[Kind, str] | None = None, *, last: int = 10_000) -> set[str]:
    """Return what kind of violation is found first, at the `last` operations of a life."""
    root = memory / "life"
    root.mkdir()
    recording = life.record(root, PLAN, deaf=deaf)
    count = recording.operations()
    part = range(max(0, count - last), count)
    found = power.judged(memory / "judge", recording, mixtures=4, part=part, violations_max=1)
    return {fault for fault, _, _, _ in found.violations}


@pytest.mark.parametrize("mode", ["OFF", "NORMAL"])
def test_commits_that_are_not_synced(
    memory: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    weak = sqlite_open._SETTINGS.replace("synchronous=FULL", f"synchronous={mode}")
    monkeypatch.setattr(sqlite_open, "_SETTINGS", weak)

    assert faults(memory, last=120)


def test_an_acknowledgement_before_the_commit(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def early(self: Life, number: int) -> Iterator[None]:
        self._recorder.entries += [Begun(number), Acked(number)]
        yield

    monkeypatch.setattr(Life, "_step", early)

    assert faults(memory, last=120) == {"lost"}


def test_a_last_commit_that_is_noted_before_it_is_durable(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Writer._write

    def eager(self: Writer, batch: Batch, number: int, seq: int, *, alone: bool) -> Verdict:
        self._disk.note(LastCommit(number, self._incarnation))
        return write(self, batch, number, seq, alone=alone)

    monkeypatch.setattr(Writer, "_write", eager)

    assert faults(memory, last=120) == {
        "corrupt"
    }  # the next start refuses what it takes for a rollback


@pytest.mark.parametrize("path", ["-wal", "store.db", "-journal"])
def test_a_disk_that_does_not_sync_a_file(memory: Path, path: str) -> None:
    assert faults(memory, {Kind.SYNC: path})


def test_a_disk_that_does_not_sync_folders(memory: Path) -> None:
    assert faults(memory, {Kind.SYNC_FOLDER: ""})


def test_a_start_that_forgets_the_log(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(path: Path) -> None:
        path.with_name(f"{path.name}-wal").unlink(missing_ok=True)
        create(path)

    create = sqlite_disk.create_private
    monkeypatch.setattr(sqlite_disk, "create_private", forgetful)

    assert faults(memory, last=120)


def test_lists_that_are_marked_as_written_before_they_are(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Arrears.write

    def hasty(self: Arrears, db: apsw.Connection, mark: int) -> None:
        self._feeds.clear()
        write(self, db, mark)

    monkeypatch.setattr(Arrears, "write", hasty)

    assert faults(memory, last=120) == {"broken"}


def test_a_log_that_is_filled_before_it_is_cut_durably(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hasty(self: Disk, size_bytes: int) -> None:
        fd = sqlite_disk._open_private(self.path.with_name("store.db-wal"))
        for offset in range(0, size_bytes, 4_096):
            os.pwrite(fd, bytes(4_096), offset)
        os.fsync(fd)
        os.close(fd)

    monkeypatch.setattr(Disk, "grow_log", hasty)
    monkeypatch.setattr(power, "LIFE_STEPS", 40)
    recording = power.recorded("recovery-1", memory / "lives")

    found = power.judged(memory / "judge", recording, mixtures=8, part=None, violations_max=1)

    assert found.violations


def test_a_store_that_goes_on_after_a_failed_sync(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blind(_self: Writer, _error: Any) -> bool:
        return True  # as if it were only a full disk

    monkeypatch.setattr(Writer, "_no_room", blind)

    found = [broken.break_once(memory, Kind.SYNC, number).problems for number in range(12, 40, 4)]

    assert any("goes on" in problem for problems in found for problem in problems)


def test_a_ballast_that_is_not_given_up(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Disk, "free_ballast", lambda _self: False)

    found = full.fill(memory, full.Point(100_000, after_open=True))

    assert any("reports found room" in problem for problem in found.problems)
