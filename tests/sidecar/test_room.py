"""Room on the disk: what is measured, what goes first, and what never goes."""

import os
from pathlib import Path

import msgspec
import pytest

from agentcom.model import refs
from agentcom.model.ids import TaskId, WallTime
from agentcom.model.task import TaskSpec
from agentcom.sidecar import room, setting_up, trees, workspace
from agentcom.sidecar.config import Home, Settings
from agentcom.sidecar.outbox import Outbox
from agentcom.sidecar.repositories import Repositories
from agentcom.sidecar.room import NoRoom, Room
from agentcom.sidecar.trees import Worktree
from tests.sidecar.git_origin import FIRST, Origin, git, prepare
from tests.sidecar.sidecar_world import record

NOW = WallTime(2_000_000_000_000)
SMALL = Settings(disk_bytes_max=1)
"""Everything is too much."""


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return Origin(tmp_path / "forge")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "machine")


@pytest.fixture
async def worktree(home: Home, origin: Origin) -> Worktree:
    made = await prepare(Repositories(home.repositories), origin)
    (made.path / "work").write_text("precious")
    return made


def kinds(usage: room.Usage) -> dict[str, str]:
    return {place.kind: place.name for place in usage.places}


def test_what_lies_where_is_measured(home: Home, worktree: Worktree, origin: Origin) -> None:
    stock = worktree.cache.path.parent / setting_up.STOCKS / "abcdefghij"
    stock.mkdir(parents=True)
    (stock / "file").write_bytes(b"x" * 1_000_000)
    os.link(stock / "file", stock / "again")
    home.scratch("t9").mkdir(parents=True)
    home.attempt("t1.7.1").mkdir(parents=True)

    usage = room.measure(home, Settings(disk_bytes_max=5_000_000))

    assert kinds(usage) == {
        "worktree": "t1",
        "cache": origin.url,
        "setup": f"{origin.url} abcdefgh",
        "scratch": "t9",
        "log": "t1.7.1",
    }
    (largest, *_) = usage.places
    assert largest.kind == "setup"
    assert 1_000_000 <= largest.size_bytes < 1_100_000
    assert usage.used_bytes < usage.quota_bytes == 5_000_000
    assert usage.excess_bytes == 0
    full = msgspec.structs.replace(usage, free_bytes=1, free_bytes_min=1_000)
    assert full.excess_bytes == 999


async def test_a_folder_goes_when_its_work_is_at_origin(
    home: Home, worktree: Worktree, origin: Origin
) -> None:
    await Room(home, SMALL).make(NOW)

    assert not worktree.path.exists()
    assert origin.show(refs.checkpoint_ref(worktree.task, FIRST), "work") == "precious"
    assert not worktree.cache.path.exists()  # nobody borrows from it, and origin has it all


async def test_work_that_origin_does_not_get_stays_on_this_machine(
    home: Home, worktree: Worktree, origin: Origin
) -> None:
    origin.path.rename(origin.path.with_name("away"))

    with pytest.raises(NoRoom, match="agentcom machine disk"):
        await Room(home, SMALL).make(NOW)

    assert not worktree.path.exists()
    kept = refs.rescue_ref(worktree.task, FIRST)
    assert git(worktree.cache.path, "show", f"{kept}:work") == "precious"


async def test_what_an_attempt_holds_is_never_touched(
    home: Home, worktree: Worktree, origin: Origin
) -> None:
    Outbox(home.outbox).store(record(TaskSpec(title="A task", repo=origin.url)))
    home.attempt("t1.7.1").mkdir(parents=True)
    home.scratch("t1").mkdir(parents=True)

    with pytest.raises(NoRoom):
        await Room(home, SMALL).make(NOW)

    assert (worktree.path / "work").read_text() == "precious"
    assert home.attempt("t1.7.1").is_dir()
    assert home.scratch("t1").is_dir()


async def test_what_costs_least_to_have_again_goes_first_and_the_oldest_of_it(
    home: Home, origin: Origin
) -> None:
    fleet = Repositories(home.repositories)
    for number, task in enumerate(("t1", "t2", "t3")):
        made = await prepare(fleet, origin, task=task)
        (made.path / "work").write_text("x" * 100_000)
        os.utime(made.path, (number, number))
    used = room.measure(home, SMALL)
    sizes = {place.name: place.size_bytes for place in used.places}
    settings = Settings(disk_bytes_max=used.used_bytes - sizes["t1"])

    await Room(home, settings).make(NOW)

    left = {place.name for place in room.measure(home, SMALL).places if place.kind == "worktree"}
    assert left == {"t2", "t3"}


async def test_a_cache_with_work_that_only_it_has_is_not_deleted(
    home: Home, worktree: Worktree
) -> None:
    await workspace.remove(worktree)
    assert await room.unsaved(worktree.cache) == 1

    with pytest.raises(NoRoom):
        await Room(home, SMALL).make(NOW)
    assert worktree.cache.path.is_dir()


async def test_a_full_machine_is_not_measured_for_each_attempt(
    home: Home, worktree: Worktree, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Home] = []
    measure = room.measure

    def noted(home: Home, settings: Settings) -> room.Usage:
        looked.append(home)
        return measure(home, settings)

    monkeypatch.setattr(room, "measure", noted)
    keeper = Room(home, Settings(disk_bytes_max=1 << 40))

    await keeper.make(NOW)
    await keeper.make(WallTime(NOW + 1_000))
    await keeper.make(WallTime(NOW + room.LOOK_MS))

    assert len(looked) == 2
    assert trees.load(home.repositories, TaskId("t1")) == worktree
