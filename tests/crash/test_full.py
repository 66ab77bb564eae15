from pathlib import Path

from agentcom.testing.crash import full


def test_a_disk_that_gets_full_loses_nothing_and_recovers(memory: Path) -> None:
    points = full.points(memory)

    found = [full.fill(memory, point) for point in points[::25]]

    assert len(points) > 400
    assert [problem for one in found for problem in one.problems] == []
    assert any(one.refused and one.reported == full.REPORTS for one in found)
    assert any(not one.opened for one in found)
