from pathlib import Path

import msgspec
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
    home = memory / "home"
    bare = SqliteStore(
        memory / "bare" / "store.db", options=msgspec.structs.replace(full.OPTIONS, ballast_bytes=0)
    )
    await bare.open()
    room_bytes = _size(memory / "bare") + full.OPTIONS.ballast_bytes // 2
    await bare.close()
    store = SqliteStore(home / "store.db", options=full.OPTIONS)

    with watching(memory, full.SmallDisk(room_bytes)):
        await store.open()
        size = _size(home)
        await store.close()

    assert size < room_bytes + 32_768  # of shared memory beside the log


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("store.db*"))
