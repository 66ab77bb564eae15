"""A bare origin in a temporary folder, and a person who pushes to it."""

import os
import shutil
import subprocess
from pathlib import Path

from agentcom.model import refs
from agentcom.model.declaring import of_line
from agentcom.model.ids import AgentId, Fence, TaskId
from agentcom.sidecar import landing, protected, workspace
from agentcom.sidecar.landing import Landed
from agentcom.sidecar.repositories import Cache, Repositories
from agentcom.sidecar.trees import Worktree

TASK = TaskId("t1")
ADA = AgentId("ada")
BOB = AgentId("bob")
FIRST = Fence(7, 1)
SECOND = Fence(7, 2)

_ENV = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "person",
    "GIT_AUTHOR_EMAIL": "person@example.com",
    "GIT_COMMITTER_NAME": "person",
    "GIT_COMMITTER_EMAIL": "person@example.com",
    "PATH": os.environ["PATH"],
}


def git(where: Path, *args: str, check: bool = True) -> str:
    """Run git as a person would; no part of the product."""
    done = subprocess.run(
        ["git", "-c", "protocol.file.allow=always", *args],
        cwd=where,
        env=_ENV,
        check=False,
        capture_output=True,
        text=True,
    )
    assert not check or done.returncode == 0, done.stderr
    return done.stdout.strip()


class Origin:
    """A repository whose `main` has one file, and a clone to change it from."""

    def __init__(self, folder: Path, like: "Origin | None" = None) -> None:
        self.path = folder / "origin.git"
        self.clone = folder / "person"
        if like is not None:
            shutil.copytree(like.path.parent, folder)
            config = self.clone / ".git/config"
            config.write_text(config.read_text().replace(str(like.path), str(self.path)))
            return
        folder.mkdir(parents=True, exist_ok=True)
        git(folder, "init", "-q", "--bare", "-b", "main", str(self.path))
        git(folder, "init", "-q", "-b", "main", str(self.clone))
        git(self.clone, "remote", "add", "origin", str(self.path))
        self.push({"README": "hello\n", "tests/test_a.py": "def test_a(): ...\n"})

    @property
    def url(self) -> str:
        return str(self.path)

    def push(self, files: dict[str, str], branch: str = "main") -> str:
        """Commit `files` on top of origin's `branch` and return the commit."""
        git(self.clone, "fetch", "-q", "origin")
        known = self.tip(branch) or self.tip("main")
        git(self.clone, "checkout", "-q", "--detach", *([known] if known else []), check=False)
        for name, text in files.items():
            place = self.clone / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        git(self.clone, "add", "-A")
        git(self.clone, "commit", "-q", "-m", f"change {' '.join(files)}")
        git(self.clone, "push", "-q", "origin", f"HEAD:refs/heads/{branch}")
        return git(self.clone, "rev-parse", "HEAD")

    def tip(self, branch: str = "main") -> str:
        return self.ref(f"refs/heads/{branch}")

    def ref(self, name: str) -> str:
        return git(self.path, "rev-parse", "-q", "--verify", name, check=False)

    def files(self, commit: str) -> list[str]:
        return git(self.path, "ls-tree", "-r", "--name-only", commit).splitlines()

    def show(self, commit: str, path: str) -> str:
        return git(self.path, "show", f"{commit}:{path}")

    def log_commits(self, tip: str = "main") -> list[str]:
        return git(self.path, "log", "--format=%H", tip).splitlines()

    def log(self, tip: str = "main") -> list[str]:
        return git(self.path, "log", "--format=%s", tip).splitlines()


async def prepare(
    fleet: Repositories, origin: Origin, fence: Fence = FIRST, **more: object
) -> Worktree:
    cache = await fleet.fetch(origin.url)
    options = {"task": TASK, "base_branch": "main", "agent": ADA} | more
    return await workspace.prepare(cache, fence=fence, **options)  # type: ignore[arg-type] # test


async def reasons_of(cache: Cache, base: str, commit: str, *commands: str) -> list[str]:
    """Return why a person must look at a commit, if the base declares these checks."""
    checks = [of_line("verify", command) for command in commands]
    found = await protected.changes(cache, base, commit, checks)
    return [one.reason for one in found]


def agent(worktree: Worktree, *args: str) -> str:
    """Run git as the agent does: in its folder, with its configuration."""
    return git(worktree.path, *args)


class Machine:
    """One sidecar's view: its own clone cache, one task at a time."""

    def __init__(self, folder: Path, origin: Origin, agent: AgentId) -> None:
        self.repositories = Repositories(folder)
        self.origin = origin
        self.agent = agent

    async def cache(self) -> Cache:
        return await self.repositories.fetch(self.origin.url)

    async def prepare(self, fence: Fence) -> Worktree:
        return await workspace.prepare(
            await self.cache(), task=TASK, base_branch="main", fence=fence, agent=self.agent
        )

    async def work(self, fence: Fence, files: dict[str, str]) -> str:
        """Do an attempt's work and push its branch, as far as landing."""
        worktree = await self.prepare(fence)
        for name, text in files.items():
            (worktree.path / name).write_text(text)
        saved = await workspace.finish(worktree, f"work of {self.agent}")
        branch = refs.branch_name(agent=self.agent, task=TASK, title="x", fence=fence)
        await workspace.push_branch(worktree, branch, saved.commit)
        return saved.commit

    async def land(
        self,
        fence: Fence,
        commit: str,
        verify: landing.Verify | None = None,
        *,
        review: str | None = None,
    ) -> Landed:
        cache = self.repositories.cache(self.origin.url)
        return await landing.land(
            cache,
            task=TASK,
            fence=fence,
            commit=commit,
            base_branch="main",
            verify=verify,
            review=review,
        )
