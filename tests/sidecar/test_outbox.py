import errno
import os
import shutil
from pathlib import Path

import pytest

from agentcom.model.ids import WallTime
from agentcom.sidecar import outbox as outbox_module
from agentcom.sidecar.machine_values import Stage
from agentcom.sidecar.outbox import KEEP_MS, DiskRefused, Outbox
from tests.sidecar.machine_world import DONE, T2, key, record

FINISHED = record(stage=Stage.FINISHED, result=DONE)


def test_a_record_is_found_again(tmp_path: Path) -> None:
    Outbox(tmp_path).store(FINISHED)

    assert Outbox(tmp_path).scan() == (FINISHED,)


def test_a_newer_state_of_an_attempt_replaces_the_older_one(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.store(record())

    outbox.store(FINISHED)

    assert outbox.scan() == (FINISHED,)


def test_two_attempts_of_a_task_have_records_of_their_own(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)

    outbox.store(record())
    outbox.store(record(attempt=2))

    assert outbox.scan() == (record(), record(attempt=2))


def test_a_record_is_for_its_owner_alone(tmp_path: Path) -> None:
    Outbox(tmp_path).store(FINISHED)

    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "held").iterdir()}

    assert modes == {0o600}


@pytest.mark.parametrize(
    "data", [b"", b"{", b"\x00" * 64, b"[]", b'{"stage": "finished"}', b"\xff"]
)
def test_a_damaged_record_is_put_aside_and_hides_no_other(tmp_path: Path, data: bytes) -> None:
    outbox = Outbox(tmp_path)
    outbox.store(record(T2))
    (tmp_path / "held/t1.7.1.json").write_bytes(data)

    assert outbox.scan() == (record(T2),)
    assert (tmp_path / "damaged/t1.7.1.json").read_bytes() == data


def test_a_record_under_the_name_of_another_is_put_aside(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.store(record())
    (tmp_path / "held/t1.7.1.json").rename(tmp_path / "held/t1.7.9.json")

    assert outbox.scan() == ()
    assert (tmp_path / "damaged/t1.7.9.json").exists()


def test_a_draft_of_a_crashed_writer_is_no_record(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.store(record())
    (tmp_path / "held/.t1.7.1.json").write_bytes(b'{"half')

    assert outbox.scan() == (record(),)


def test_an_acknowledged_result_is_kept_for_a_week(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.store(FINISHED)

    outbox.forget(key(), keep=True)

    stored_at_ms = int((tmp_path / "kept/t1.7.1.json").stat().st_mtime * 1000)
    assert outbox.scan() == ()
    assert outbox.kept() == (FINISHED,)
    assert outbox.prune(WallTime(stored_at_ms + KEEP_MS - 1_000)) == 0
    assert outbox.prune(WallTime(stored_at_ms + KEEP_MS + 1_000)) == 1
    assert outbox.kept() == ()


def test_an_attempt_without_a_result_leaves_nothing(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.store(record())

    outbox.forget(key(), keep=True)

    assert outbox.scan() == outbox.kept() == ()


def test_forgetting_twice_is_forgetting_once(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.store(FINISHED)
    outbox.forget(key(), keep=True)

    outbox.forget(key(), keep=True)

    assert outbox.kept() == (FINISHED,)


def test_a_full_disk_refuses_and_the_former_record_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = Outbox(tmp_path)
    outbox.store(record())

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskRefused, match="No space left"):
        outbox.store(FINISHED)
    monkeypatch.undo()

    assert outbox.scan() == (record(),)


def test_a_record_is_synced_before_it_is_renamed_and_its_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = Outbox(tmp_path)
    seen: list[bool] = []
    monkeypatch.setattr(
        os, "fsync", lambda _: seen.append((tmp_path / "held/t1.7.1.json").exists())
    )

    outbox.store(FINISHED)

    assert seen == [False, True]


def test_the_newest_kept_results_come_oldest_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "KEPT_OFFERED_MAX", 2)
    outbox = Outbox(tmp_path)
    for attempt, second in ((1, 30), (2, 10), (3, 20)):
        outbox.store(record(attempt=attempt, stage=Stage.FINISHED, result=DONE))
        outbox.forget(key(attempt=attempt), keep=True)
        os.utime(tmp_path / f"kept/t1.7.{attempt}.json", (second, second))

    assert [kept.key.fence.attempt for kept in outbox.kept()] == [3, 1]


def test_a_folder_that_is_gone_is_not_called_a_full_disk(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox")
    outbox.scan()
    shutil.rmtree(tmp_path / "outbox")

    with pytest.raises(DiskRefused, match="No such file or directory: look at"):
        outbox.store(record())
