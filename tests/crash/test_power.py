from pathlib import Path

import pytest

from agentcom.testing.crash import life, power
from agentcom.testing.crash.life import Plan
from agentcom.testing.crash.power import Case
from agentcom.testing.crash.recording import Begun, Done, Recording, load


def operations(recording: Recording) -> list[str]:
    return [str(entry.operation) for entry in recording.entries if isinstance(entry, Done)]


def record(
    folder: Path, name: str = "short", steps: int = 12, *, migrates: bool = False
) -> Recording:
    folder.mkdir()
    return life.record(folder, Plan(name, 1, steps, migrates))


def test_a_life_is_the_same_every_time(memory: Path) -> None:
    first, second = (record(memory / name, steps=60) for name in "ab")

    assert operations(first) == operations(second)
    assert first.contents == second.contents
    assert len(first.contents) > 40


def test_no_power_loss_in_a_short_life_loses_or_breaks_anything(memory: Path) -> None:
    found = power.judged(memory / "judge", record(memory / "life", steps=8), mixtures=1, part=None)

    assert found.violations == []
    assert len(found.digests) > 400


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", ["migration-1", "recovery-1", "recovery-3"])
def test_no_power_loss_in_a_migration_or_a_recovery_does(memory: Path, name: str) -> None:
    recording = power.recorded(name, memory / "lives")

    found = power.judged(memory / "judge", recording, mixtures=2, part=None)

    assert found.violations == []
    assert len(found.digests) > 300


def test_a_recording_can_be_kept(memory: Path) -> None:
    made = record(memory / "life", steps=2)
    made.save(memory / "file")

    assert load(memory / "file") == made


def test_one_state_can_be_built_again(memory: Path) -> None:
    place = power.Place(600, 1)

    case, problem = power.judged_again(memory, "life-1", place, mixtures=4)

    assert isinstance(case, Case)
    assert case.place == place
    assert case.acked > 20
    assert problem is None
    with pytest.raises(LookupError):
        power.judged_again(memory, "life-1", power.Place(600, 999), mixtures=4)


def test_a_life_asks_for_all_that_a_hub_does(memory: Path) -> None:
    made = record(memory / "life", steps=90)

    asked = set(operations(made))
    begun = [entry.step for entry in made.entries if isinstance(entry, Begun)]
    assert begun == sorted(begun)
    assert "make-folder home" in asked
    assert any(one.startswith("truncate home/store.db-wal at 0") for one in asked)
    assert {
        "sync home/store.db",
        "sync home/store.db-wal",
        "sync home/store.db-last-commit",
    } <= asked
    assert {"sync-folder home", "sync-folder .", "unlink home/store.db-wal"} <= asked
