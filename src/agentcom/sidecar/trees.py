"""Folders with files: where an agent works, and clean checkouts.

Each folder is a repository of its own that borrows objects from the clone cache. An agent can
spoil only its own: neither the cache nor another task's folder is within reach of its git, and the
sidecar never takes an agent's repository as its own, so what an agent configures there runs for
the agent alone.
"""

import asyncio
import contextlib
import os
import shutil
import stat
import subprocess
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from agentcom.model import errors, refs
from agentcom.model.ids import AgentId, Fence, TaskId
from agentcom.sidecar import git, lfs, repositories
from agentcom.sidecar.repositories import Cache

_CONFIG: Final = """[core]
\trepositoryformatversion = 0
\tbare = false
\tlogAllRefUpdates = true
[user]
\tname = {name}
\temail = {name}@agentcom.invalid
[commit]
\tgpgSign = false
[gc]
\tauto = 0
[remote "origin"]
\turl = "{url}"
\tpushurl = agentcom-pushes-for-you://
\tfetch = +refs/heads/*:refs/remotes/origin/*
"""


class Worktree(msgspec.Struct, frozen=True, kw_only=True):
    """The folder of one task, as one attempt uses it; a later attempt gets the same path."""

    root: str
    url: str
    task: TaskId
    agent: AgentId
    fence: Fence
    base_branch: str
    base: str
    """Origin's base branch when the attempt began."""
    start: str
    """What the agent found: the base, joined with its dependencies and the checkpoint."""
    joined: str
    """The base and its dependencies, without a checkpoint: what `changed` compares with."""
    resumed: bool = False
    """True if `start` holds an earlier attempt's checkpoint."""
    modules: bool = False
    """Whether the files of its submodules are in the folder."""
    ready: bool = True
    """False while its files are put in place, or taken away: no agent's work is among them."""

    @property
    def path(self) -> Path:
        """Where the files are."""
        return Path(self.root) / "worktrees" / self.task

    @property
    def there(self) -> bool:
        """Whether its folder is there, and is a folder."""
        return stat.S_ISDIR(_mode(self.path))

    @property
    def state(self) -> Path:
        """Where the sidecar keeps its own index of these files, out of the agent's reach."""
        return Path(self.root) / "state" / self.task

    @property
    def cache(self) -> Cache:
        """The clone cache that the files come from."""
        return repositories.Repositories(Path(self.root)).cache(self.url)

    @property
    def branch(self) -> str:
        """The branch that the agent sees checked out."""
        return refs.work_branch(agent=self.agent, task=self.task)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Folder:
    path: Path
    cache: Cache
    commit: str
    index: Path


def load(root: Path, task: TaskId) -> Worktree | None:
    """Return the worktree that the task has on this machine, also after a restart."""
    refs.work_ref(task)
    with contextlib.suppress(FileNotFoundError):
        record = (root / "state" / task / "worktree.json").read_bytes()
        return msgspec.json.decode(record, type=Worktree)
    return None


def save(worktree: Worktree) -> None:
    """Record the attempt that the task's folder belongs to from now on."""
    worktree.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    record = msgspec.json.encode(worktree).decode()
    repositories.write(worktree.state / "worktree.json", record)


def own(worktree: Worktree) -> None:
    """Refuse if the task's folder belongs to another attempt by now.

    Raises:
        Stale: a later attempt uses the folder, or it was removed.
    """
    current = load(Path(worktree.root), worktree.task)
    if current is None or current.fence != worktree.fence:
        raise errors.Stale("another attempt uses the task's folder: stop")


async def populate(worktree: Worktree) -> None:
    """Make the folder hold exactly `start` (and what is ignored), on a branch of its own."""
    path, index = worktree.path, worktree.state / "index"
    folder = _Folder(path=path, cache=worktree.cache, commit=worktree.start, index=index)
    if not await _cleared(worktree, folder):
        await asyncio.to_thread(discard, path)
        await asyncio.to_thread(path.mkdir, parents=True, mode=0o700)
        index.unlink(missing_ok=True)
        await _write_files(folder)
    await asyncio.to_thread(attach, worktree, worktree.start)


async def _cleared(worktree: Worktree, folder: _Folder) -> bool:
    """Put the files into the folder as it is; False if there is none, or git cannot clear it."""
    if not worktree.there:
        return False
    try:
        await _write_files(folder, clean=True)
    except git.GitFailed:
        return False
    return True


def set_aside(worktree: Worktree) -> Path:
    """Move the folder of a task out of the way as it is, for a person; return where it is now."""
    place = aside(Path(worktree.root)) / f"{worktree.task}.{uuid.uuid4().hex[:8]}"
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return worktree.path.rename(place)


def aside(root: Path) -> Path:
    """Return where folders lie that could not be kept under a ref."""
    return root / "aside"


def attach(worktree: Worktree, commit: str) -> None:
    """Make `commit` the head of the agent's branch, without touching its files.

    The agent's git directory is made anew: links that it planted there would lead our writes
    elsewhere. What it held was fetched before.
    """
    git_dir = worktree.path / ".git"
    discard(git_dir)
    repositories.skeleton(
        git_dir,
        config=_config(worktree.cache, worktree.agent),
        head=f"ref: refs/heads/{worktree.branch}",
        borrows=worktree.cache.path / "objects",
    )
    _write_ref(git_dir, f"refs/heads/{worktree.branch}", commit)
    _write_ref(git_dir, refs.origin_ref(worktree.base_branch), worktree.base)
    shutil.copy2(worktree.state / "index", git_dir / "index")


async def clean_checkout(cache: Cache, commit: str, where: Path, *, pointers: bool = False) -> Path:
    """Put the files of `commit`, and nothing else, into the new folder `where`.

    With `pointers`, files that Git LFS keeps are left as they are in the commit.

    Raises:
        Conflict: the folder exists.
    """
    refs.check_commit(commit)
    try:
        await asyncio.to_thread(where.mkdir, parents=True, mode=0o700)
    except FileExistsError:
        raise errors.Conflict(f"{where.name} exists already: name a new folder") from None
    index = where.with_name(f"{where.name}.index")
    try:
        folder = _Folder(path=where, cache=cache, commit=commit, index=index)
        await _write_files(folder, pointers=pointers)
        git_dir = where / ".git"
        text = _config(cache, "agentcom")
        repositories.skeleton(git_dir, config=text, head=commit, borrows=cache.path / "objects")
        index.replace(git_dir / "index")
    except BaseException:
        await asyncio.to_thread(discard, where)
        raise
    finally:
        index.unlink(missing_ok=True)
    return where


@contextlib.asynccontextmanager
async def checkout(cache: Cache, commit: str, *, pointers: bool = False) -> AsyncIterator[Path]:
    """Lend a clean checkout of `commit`, and remove it afterwards, whatever happened in it."""
    async with scratch(cache.root) as where:
        yield await clean_checkout(cache, commit, where, pointers=pointers)


@contextlib.asynccontextmanager
async def scratch(root: Path) -> AsyncIterator[Path]:
    """Lend a name for a folder of no importance; what is there afterwards is removed."""
    where = root / "scratch" / uuid.uuid4().hex
    try:
        yield where
    finally:
        await asyncio.to_thread(discard, where)


def clear_scratch(root: Path) -> None:
    """Remove checkouts that a killed process left; call once, before any is lent."""
    discard(root / "scratch")


def discard(path: Path) -> None:
    """Remove a file, a link or a whole folder; links are never followed."""
    mode = _mode(path)
    if stat.S_ISDIR(mode):
        try:
            shutil.rmtree(path, onerror=_unprotect)
        except RecursionError:
            # Folders in folders without end, which these two walk without a stack.
            for command in (("chmod", "-R", "u+rwX"), ("rm", "-rf")):
                subprocess.run([*command, "--", path], check=False, capture_output=True)  # noqa: S603 - fixed words and our own path
    elif mode:
        path.unlink(missing_ok=True)


async def write_files(cache: Cache, commit: str, where: Path, *, index: Path) -> None:
    """Put the files of `commit` into a folder that is there, and take away what is not in it."""
    await _write_files(_Folder(path=where, cache=cache, commit=commit, index=index), clean=True)


async def _write_files(folder: _Folder, *, clean: bool = False, pointers: bool = False) -> None:
    env = {"GIT_WORK_TREE": str(folder.path), "GIT_INDEX_FILE": str(folder.index)}
    run, filters = folder.cache.run, () if pointers else lfs.filters(folder.cache)
    if filters:
        await lfs.fetch_if_there(folder.cache, folder.commit)
    args = ("read-tree", "--reset", "-u", refs.check_commit(folder.commit))
    done = await run(*args, env=env, check=False, config=filters)
    if done.returncode != 0:
        # A damaged index is worth nothing; one made anew compares every file.
        folder.index.unlink(missing_ok=True)
        await run(*args, env=env, config=filters)
    if clean:
        await run("clean", "-ffdq", env=env)


def _config(cache: Cache, name: str) -> str:
    return _CONFIG.format(name=name, url=cache.url) + lfs.configuration(cache)


def _write_ref(git_dir: Path, ref: str, commit: str) -> None:
    path = git_dir / ref
    path.parent.mkdir(parents=True, exist_ok=True)
    repositories.write(path, f"{commit}\n")


def _mode(path: Path) -> int:
    try:
        return path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _unprotect(function: Callable[..., Any], path: str, _: object) -> None:
    # Module caches of some tools are read-only folders: open parent and child, then try again.
    with contextlib.suppress(OSError):
        Path(path).parent.chmod(0o700)
        if not Path(path).is_symlink():
            Path(path).chmod(0o700)
    with contextlib.suppress(FileNotFoundError):
        if function in (os.rmdir, os.unlink):
            function(path)
        else:
            shutil.rmtree(path, ignore_errors=True)
