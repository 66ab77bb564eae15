"""A sidecar that dies between any two steps loses nothing, and the same call again succeeds.

Each case runs a call in a process of its own that is killed at its n-th step, a git command or a
change of the sidecar's own files, for every n; then the call is made again.
"""

import asyncio
import os
import shutil
import signal
import warnings
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from agentcom.model import refs
from agentcom.model.ids import Fence
from agentcom.sidecar import git, repositories, trees, workspace
from agentcom.sidecar.repositories import Cache, Repositories
from agentcom.sidecar.trees import Worktree
from tests.sidecar import git_origin
from tests.sidecar.git_origin import ADA, FIRST, SECOND, TASK, Origin, agent

pytestmark = [
    pytest.mark.slow,  # a hundred processes with a dozen git commands each
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.timeout(600),
]

STEPS_MAX = 80
Call = Callable[[], Coroutine[Any, Any, object]]


class World:
    """An origin and a machine with a task's folder, which can be put back as they were."""

    def __init__(self, root: Path) -> None:
        self.root = root / "world"
        self._copy = root / "copy"
        self.origin = Origin(self.root / "forge")
        self.fleet = Repositories(self.root / "machine")

    def keep(self) -> None:
        shutil.copytree(self.root, self._copy, symlinks=True)

    def restore(self) -> None:
        shutil.rmtree(self.root)
        shutil.copytree(self._copy, self.root, symlinks=True)

    def cache(self) -> Cache:
        return self.fleet.cache(self.origin.url)

    def worktree(self) -> Worktree:
        found = trees.load(self.root / "machine", TASK)
        assert found is not None
        return found

    async def prepare(self, fence: Fence, checkpoint: str | None = None) -> Worktree:
        cache = await Repositories(self.root / "machine").fetch(self.origin.url)
        return await workspace.prepare(
            cache, task=TASK, base_branch="main", fence=fence, agent=ADA, checkpoint=checkpoint
        )


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    worktree = asyncio.run(made.prepare(FIRST))
    (worktree.path / "committed").write_text("1")
    agent(worktree, "add", "committed")
    agent(worktree, "commit", "-qm", "by the agent")
    (worktree.path / "work").write_text("precious")
    made.keep()
    return made


def killed_at(step: int, call: Call) -> bool:
    """Run `call` in a process that is killed at its `step`; False if it ended before."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside idle threads
        child = os.fork()
    if child == 0:
        code = 3
        try:
            count_down(step)
            asyncio.run(call())
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the call itself failed"
    return os.WIFSIGNALED(status)


def count_down(left: int) -> None:
    def tick() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **fields: Any) -> Any:
            tick()
            return function(*args, **fields)

        return called

    def half_way(path: Path) -> None:
        tick()
        if path.is_dir() and not path.is_symlink():
            first = next((one for one in sorted(path.iterdir()) if one.is_file()), None)
            if first is not None:
                first.unlink()
        tick()
        discard(path)

    discard = trees.discard
    git._run_once = wrapped(git._run_once)
    repositories.write = wrapped(repositories.write)
    trees.discard = half_way


def kept_somewhere(world: World) -> bool:
    """Tell whether the agent's files are in the folder, under a ref here, or at origin."""
    cache = world.cache()
    for where in (cache.path, world.origin.path):
        for ref in git_origin.git(where, "for-each-ref", "--format=%(refname)").splitlines():
            if git_origin.git(where, "show", f"{ref}:work", check=False) == "precious":
                return True
    found = trees.load(world.root / "machine", TASK)
    return found is not None and (found.path / "work").is_file()


def every_step(world: World, call: Call, check: Callable[[], None]) -> None:
    step = 0
    while killed_at(step, call):
        assert kept_somewhere(world), f"lost at step {step}"
        try:
            asyncio.run(call())
            assert kept_somewhere(world), f"lost after step {step}"
            check()
        except BaseException as error:
            error.add_note(f"after a kill at step {step}")
            raise
        world.restore()
        step += 1
        assert step < STEPS_MAX
    assert step > 3
    check()


def test_the_next_attempt_takes_the_folder_over(world: World) -> None:
    def check() -> None:
        found = world.worktree()
        assert (found.fence, found.ready) == (SECOND, True)
        assert sorted(p.name for p in found.path.iterdir()) == [".git", "README", "tests"]
        assert agent(found, "status", "--porcelain") == ""
        rescued = git_origin.git(
            world.cache().path, "ls-tree", "--name-only", refs.rescue_ref(TASK, FIRST)
        )
        assert rescued.split() == ["README", "committed", "tests", "work"]

    every_step(world, lambda: world.prepare(SECOND), check)


def test_the_work_is_committed_and_pushed(world: World) -> None:
    async def call() -> None:
        saved = await workspace.finish(world.worktree(), "the rest")
        await workspace.push_branch(world.worktree(), "agent/ada/x", saved.commit)

    def check() -> None:
        assert world.origin.files("agent/ada/x") == [
            "README",
            "committed",
            "tests/test_a.py",
            "work",
        ]
        assert "by the agent" in world.origin.log("agent/ada/x")
        assert agent(world.worktree(), "status", "--porcelain") == ""

    every_step(world, call, check)


def test_a_checkpoint_arrives(world: World) -> None:
    async def call() -> None:
        await workspace.checkpoint(world.worktree())

    def check() -> None:
        files = world.origin.files(refs.checkpoint_ref(TASK, FIRST))
        assert files == ["README", "committed", "tests/test_a.py", "work"]

    every_step(world, call, check)


def test_a_folder_is_removed(world: World) -> None:
    async def call() -> None:
        found = trees.load(world.root / "machine", TASK)
        if found is not None:
            await workspace.remove(found)

    def check() -> None:
        rescued = git_origin.git(
            world.cache().path, "ls-tree", "--name-only", refs.rescue_ref(TASK, FIRST)
        )
        assert rescued.split() == ["README", "committed", "tests", "work"]
        assert not (world.root / "machine/worktrees" / TASK).exists()
        assert not (world.root / "machine/state" / TASK).exists()

    every_step(world, call, check)
