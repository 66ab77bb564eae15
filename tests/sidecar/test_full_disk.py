"""A disk that is full in the middle of a step: it fails, nothing is lost, and it works once there
is room again."""

import contextlib
import os
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from agentcom.model import errors, refs
from agentcom.sidecar import trees, workspace
from agentcom.sidecar.repositories import Repositories
from agentcom.sidecar.trees import Worktree
from tests.sidecar import git_origin
from tests.sidecar.git_origin import FIRST, SECOND, TASK, Origin, prepare

pytestmark = pytest.mark.slow  # needs the right to mount, and some seconds

DISK = "6m"
LEFT = (0, 16_384, 262_144)
"""Bytes that are left when the step begins: enough for nothing, for a start, for most of it."""
WORK = os.urandom(300_000)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(place)],
        capture_output=True,
        check=False,
    )
    if made.returncode != 0:
        pytest.skip("this user may not mount a small disk")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return Origin(tmp_path / "forge")


@pytest.fixture
def fleet(disk: Path) -> Repositories:
    return Repositories(disk / "machine")


def fill(disk: Path, left: int) -> Path:
    """Take all room of a disk but `left` bytes."""
    ballast = disk / "ballast"
    room = os.statvfs(disk)
    with ballast.open("wb") as file:
        file.write(b"x" * max(0, room.f_bavail * room.f_frsize - left))
    return ballast


async def on_a_full_disk(disk: Path, left: int, step: Callable[[], Awaitable[object]]) -> None:
    """Take a step while the disk is full, then again when there is room."""
    ballast = fill(disk, left)
    with contextlib.suppress(errors.AgentComError, OSError):
        await step()
    ballast.unlink()
    await step()


async def begun(fleet: Repositories, origin: Origin) -> Worktree:
    worktree = await prepare(fleet, origin)
    (worktree.path / "work").write_bytes(WORK)
    return worktree


@pytest.mark.parametrize("left", LEFT)
async def test_while_a_folder_is_prepared(
    disk: Path, fleet: Repositories, origin: Origin, left: int
) -> None:
    origin.push({"large": "x" * 400_000})

    await on_a_full_disk(disk, left, lambda: prepare(fleet, origin))

    found = trees.load(disk / "machine", TASK)
    assert found is not None
    assert (found.ready, (found.path / "large").stat().st_size) == (True, 400_000)
    assert git_origin.agent(found, "status", "--porcelain") == ""


@pytest.mark.parametrize("left", LEFT)
async def test_while_work_is_saved(
    disk: Path, fleet: Repositories, origin: Origin, left: int
) -> None:
    worktree = await begun(fleet, origin)

    await on_a_full_disk(disk, left, lambda: workspace.checkpoint(worktree))

    ref = refs.checkpoint_ref(TASK, FIRST)
    assert origin.files(ref) == ["README", "tests/test_a.py", "work"]


@pytest.mark.parametrize("left", LEFT)
async def test_while_work_is_committed(
    disk: Path, fleet: Repositories, origin: Origin, left: int
) -> None:
    worktree = await begun(fleet, origin)

    async def step() -> None:
        saved = await workspace.finish(worktree, "x")
        await workspace.push_branch(worktree, "agent/ada/x", saved.commit)

    await on_a_full_disk(disk, left, step)

    assert origin.files("agent/ada/x") == ["README", "tests/test_a.py", "work"]
    assert git_origin.agent(worktree, "status", "--porcelain") == ""


@pytest.mark.parametrize("left", LEFT)
async def test_while_the_next_attempt_takes_over(
    disk: Path, fleet: Repositories, origin: Origin, left: int
) -> None:
    await begun(fleet, origin)

    await on_a_full_disk(disk, left, lambda: prepare(fleet, origin, SECOND))

    found = trees.load(disk / "machine", TASK)
    assert found is not None
    assert (found.fence, found.ready) == (SECOND, True)
    assert sorted(p.name for p in found.path.iterdir()) == [".git", "README", "tests"]
    kept = await found.cache.run(
        "cat-file", "blob", f"{refs.rescue_ref(TASK, FIRST)}:work", check=False
    )
    aside = trees.aside(disk / "machine")
    copies = [place / "work" for place in aside.iterdir()] if aside.is_dir() else []
    assert kept.out == WORK or any(copy.read_bytes() == WORK for copy in copies)


@pytest.mark.parametrize("left", LEFT)
async def test_while_a_folder_is_removed(
    disk: Path, fleet: Repositories, origin: Origin, left: int
) -> None:
    worktree = await begun(fleet, origin)

    async def step() -> None:
        found = trees.load(disk / "machine", TASK)
        if found is not None:
            await workspace.remove(found)

    await on_a_full_disk(disk, left, step)

    assert not worktree.path.exists()
    kept = await worktree.cache.run("cat-file", "blob", f"{refs.rescue_ref(TASK, FIRST)}:work")
    assert kept.out == WORK
