from pathlib import Path

import pytest

from agentcom.model.errors import StoreRefused
from agentcom.store.sqlite import SqliteStore
from agentcom.testing.crash import full
from agentcom.testing.crash.vfs import watching


def test_a_disk_that_gets_full_loses_nothing_and_recovers(memory: Path) -> None:
    points = full.points(memory)

    found = [full.fill(memory, point) for point in points[::25]]

    assert len(points) > 400
    assert [problem for one in found for problem in one.problems] == []
    assert any(one.refused and one.reported == full.REPORTS for one in found)
    assert any(not one.opened for one in found)


@pytest.mark.parametrize("room_bytes", [100, 5_000, 60_000])
async def test_a_start_on_a_full_disk_is_refused_in_words(memory: Path, room_bytes: int) -> None:
    store = SqliteStore(memory / "home" / "store.db", options=full.OPTIONS)

    with (
        watching(memory, full.SmallDisk(room_bytes)),
        pytest.raises(StoreRefused, match="disk is full"),
    ):
        await store.open()


async def test_a_start_on_a_disk_that_is_nearly_full_sets_no_room_aside(memory: Path) -> None:
    store = SqliteStore(memory / "home" / "store.db", options=full.OPTIONS)

    with watching(memory, full.SmallDisk(400_000)):
        await store.open()
        size = sum(file.stat().st_size for file in (memory / "home").glob("store.db*"))
        await store.close()

    assert size < 400_000 + 32_768  # of shared memory beside the log
