import os
from pathlib import Path

import msgspec
import pytest

from agentcom.model import errors, refs
from agentcom.model.ids import WallTime
from agentcom.model.result import Landing, LandStatus, Result, ResultStatus
from agentcom.model.task import TaskSpec
from agentcom.sidecar import housekeeping, processes, repositories, trees, workspace
from agentcom.sidecar.config import Home
from agentcom.sidecar.machine_values import Key, Record
from agentcom.sidecar.repositories import Cache
from tests.sidecar.git_origin import Origin, git
from tests.sidecar.machine_world import DONE, LANDS
from tests.sidecar.sidecar_world import WRITE, attempts, config, prompt, record

NOW = WallTime(2_000_000_000_000)
CONFLICT = Landing(status=LandStatus.CONFLICT)
FAILED = Result(status=ResultStatus.FAILED)


async def finished(tmp_path: Path) -> tuple[Home, Record, Path]:
    origin = Origin(tmp_path / "forge")
    machine = config(tmp_path)
    made = record(TaskSpec(title="A task", prompt=prompt(WRITE), repo=origin.url))
    runner, told = attempts(machine)
    await runner.run(made, adopt=False)
    path = machine.home.repositories / "worktrees" / "t1"
    assert path.is_dir()
    return machine.home, msgspec.structs.replace(made, result=told.result), path


@pytest.mark.skipif(not processes.has_table(), reason="looks at /proc")
async def test_the_folder_of_a_good_end_goes(tmp_path: Path) -> None:
    home, record, path = await finished(tmp_path)

    await housekeeping.after(home, record, NOW)

    assert not path.exists()


@pytest.mark.skipif(not processes.has_table(), reason="looks at /proc")
async def test_the_folder_of_a_failed_task_stays(tmp_path: Path) -> None:
    home, record, path = await finished(tmp_path)

    await housekeeping.after(home, msgspec.structs.replace(record, result=FAILED), NOW)

    assert path.exists()


@pytest.mark.parametrize(
    ("result", "landing", "done"),
    [
        (DONE, None, True),
        (FAILED, None, False),
        (LANDS, None, False),
        (LANDS, Landing(status=LandStatus.LANDED), True),
        (LANDS, CONFLICT, False),
        (msgspec.structs.replace(DONE, needs_person=("a test",)), None, False),
        (None, None, False),
    ],
)
def test_only_what_needs_no_more_work_is_done(
    result: Result | None, landing: Landing | None, *, done: bool
) -> None:
    made = record(TaskSpec(title="A task"))

    ended = msgspec.structs.replace(made, result=result, landing=landing)

    assert housekeeping._done(ended) is done


def test_logs_of_old_attempts_go_and_held_ones_stay(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for path in (home.attempt("t1.7.1"), home.attempt("t2.7.1"), home.scratch("t2")):
        path.mkdir(parents=True)
        os.utime(path, (1, 1))
    home.attempt("t3.7.1").mkdir()

    removed = housekeeping.prune_folders(home, {"t2.7.1"}, WallTime(8 * 86_400_000))

    assert removed == 1
    assert not home.attempt("t1.7.1").exists()
    assert home.scratch("t2").exists()


NEVER: tuple[Key, ...] = ()


def age(home: Home, task: str = "t1") -> None:
    for folder in ("state", "worktrees"):
        os.utime(home.repositories / folder / task, (1, 1))


@pytest.mark.skipif(not processes.has_table(), reason="looks at /proc")
async def test_the_old_folder_of_a_failed_task_goes_and_its_work_stays(tmp_path: Path) -> None:
    home, record, path = await finished(tmp_path)
    (path / "unpushed.txt").write_text("precious")
    worktree = trees.load(home.repositories, record.key.task)
    assert worktree is not None
    age(home)

    await housekeeping.sweep(home, lambda: NEVER, NOW)

    assert not path.exists()
    assert not worktree.state.exists()
    kept = refs.rescue_ref(worktree.task, worktree.fence)
    assert git(worktree.cache.path, "show", f"{kept}:unpushed.txt") == "precious"


@pytest.mark.skipif(not processes.has_table(), reason="looks at /proc")
async def test_work_that_cannot_be_rescued_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, _, path = await finished(tmp_path)
    age(home)

    async def broken(_: object) -> None:
        raise errors.Timeout("the disk is slow")

    monkeypatch.setattr(workspace, "rescue", broken)

    await housekeeping.sweep(home, lambda: NEVER, NOW)

    assert path.exists()


@pytest.mark.skipif(not processes.has_table(), reason="looks at /proc")
async def test_folders_that_are_young_or_held_stay(tmp_path: Path) -> None:
    home, record, path = await finished(tmp_path)

    await housekeeping.sweep(home, lambda: NEVER, WallTime(int(path.stat().st_mtime * 1_000)))
    age(home)
    await housekeeping.sweep(home, lambda: [record.key], NOW)

    assert path.exists()


async def test_a_cache_is_packed_only_when_much_has_piled_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path)
    tidied: list[str] = []

    async def tidy(cache: Cache) -> None:
        tidied.append(cache.path.parent.name)

    monkeypatch.setattr(repositories, "tidy", tidy)
    for name, packs in (("full", housekeeping.PACKS_MAX + 1), ("small", 1)):
        folder = home.repositories / "caches" / name / "repo.git" / "objects" / "pack"
        folder.mkdir(parents=True)
        for number in range(packs):
            (folder / f"pack-{number}.pack").touch()

    await housekeeping.sweep(home, lambda: NEVER, NOW)

    assert tidied == ["full"]


def test_what_a_killed_sidecar_left_goes_at_the_start(tmp_path: Path) -> None:
    home = Home(tmp_path)
    scratch = home.repositories / "scratch" / "dead"
    begun, new = (home.repositories / "worktrees" / name for name in ("begun", "new"))
    for path in (scratch, begun, new):
        path.mkdir(parents=True)
    os.utime(begun, (1, 1))

    housekeeping.clear_leftovers(home, (), WallTime(int(new.stat().st_mtime * 1_000)))

    assert not scratch.exists()
    assert not begun.exists()
    assert new.exists()
