from pathlib import Path

import pytest

from agentcom.testing.crash import broken
from agentcom.testing.crash.operations import Kind


def problems(folder: Path, kind: Kind, step: int) -> tuple[int, list[str]]:
    """Return how many operations of a short life failed, each in turn, and what was wrong."""
    number, found = 1, list[str]()
    while (one := broken.break_once(folder, kind, number)).failed:
        found += one.problems
        number += step
    return number - 1, found


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "least"), [(Kind.SYNC, 35), (Kind.READ, 40), (Kind.CREATE, 5)])
def test_every_failure_is_fatal_and_nothing_acknowledged_is_lost(
    memory: Path, kind: Kind, least: int
) -> None:
    count, found = problems(memory, kind, 1)

    assert found == []
    assert count >= least


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Kind.WRITE, Kind.TRUNCATE, Kind.UNLINK, Kind.SYNC_FOLDER])
def test_so_is_every_failure_to_change_a_file(memory: Path, kind: Kind) -> None:
    _, found = problems(memory, kind, 5)

    assert found == []


def test_a_failed_sync_is_fatal_and_nothing_acknowledged_is_lost(memory: Path) -> None:
    count, found = problems(memory, Kind.SYNC, 4)

    assert found == []
    assert count >= 35


def test_a_life_whose_disk_does_not_fail_is_told(memory: Path) -> None:
    assert broken.break_once(memory, Kind.SYNC, 10_000) == broken.Breakage(False, [])
