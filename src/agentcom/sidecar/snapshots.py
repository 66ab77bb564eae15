"""Pictures of a task's folder, taken without touching the agent's index or branch.

The sidecar looks at the agent's files with its own git directory and its own index; of the
agent's repository only commits are taken (see `importing`). What is about to leave the machine is
searched for secrets first, in the files and in every commit the agent made.
"""

import asyncio
import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agentcom.model import errors
from agentcom.sidecar import git, importing, known, lfs, nested, searching
from agentcom.sidecar.repositories import Cache
from agentcom.sidecar.secrets_scan import Finding
from agentcom.sidecar.trees import Worktree

TREES_MAX: Final = 1_024
"""Commits whose tree is remembered: some hundred bytes each."""

UNRELATED: Final = "has no past in common with the base; its files are in the result as one commit"

UNREAD: Final = "git could not take it"

_AGAIN: Final = "error: unable to add "
"""Git says so of a file of which it has just said why."""
_ABSENT: Final = "0" * 40
_SOME_LEFT_OUT: Final = 1
"""How `git add --ignore-errors` ends if it could not read some files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All files of a folder as a tree, and the agent's last commit."""

    head: str
    tree: str
    index: Path
    unread: tuple[str, ...] = ()
    """What git said of files that it could not take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Safe:
    """What of a snapshot may leave this machine."""

    parent: str
    tree: str
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    path: str
    old_mode: str
    old: str
    new: str


@contextlib.asynccontextmanager
async def taken(worktree: Worktree, *, strict: bool) -> AsyncIterator[Snapshot]:
    """Lend a snapshot of everything that is not ignored, untracked files too.

    `strict` makes a file that cannot be read an error; otherwise it is left out, because files
    come and go while an agent works.

    Raises:
        NotFound: there is no folder any more.
        GitFailed: the folder could not be read at all; with `strict`, a file in it.
    """
    if not worktree.there:
        raise errors.NotFound("the folder of the task is gone: its agent has removed it")
    head, cache = await importing.import_head(worktree), worktree.cache
    await lfs.take(cache, worktree.path / ".git", worktree.start, head)
    index = worktree.state / f"index.{uuid.uuid4().hex}"
    try:
        done = await _add(worktree, index, strict=strict)
        if nested.met(done.err):
            done = await _add(worktree, index, strict=strict, through=True)
        full = os.strerror(errno.ENOSPC) in done.err
        if full or done.returncode > (0 if strict else _SOME_LEFT_OUT):
            raise git.GitFailed("add", done.returncode, done.err)
        tree = (await cache.run("write-tree", env={"GIT_INDEX_FILE": str(index)})).text
        yield Snapshot(head=head, tree=tree, index=index, unread=_unread(done))
        # The next look compares with this one, so that only changed files are read again.
        index.replace(worktree.state / "index")
    finally:
        index.unlink(missing_ok=True)


def _unread(done: git.GitResult) -> tuple[str, ...]:
    """Return what git said of each file that `git add --ignore-errors` left out."""
    if done.returncode == 0:
        return ()
    lines = [line for line in done.err.splitlines() if line.startswith("error: ")]
    said = (line.removeprefix("error: ") for line in lines if not line.startswith(_AGAIN))
    return tuple(dict.fromkeys(said)) or ("some files",)


async def _add(
    worktree: Worktree, index: Path, *, strict: bool, through: bool = False
) -> git.GitResult:
    """Bring all files into a copy of the last index; `through` repositories among them, too."""
    cache, where = worktree.cache, worktree.path
    await asyncio.to_thread(_begin, worktree.state / "index", index)
    env = {"GIT_INDEX_FILE": str(index), "GIT_WORK_TREE": str(where)}
    args = ["add", "--all", *(() if strict else ("--ignore-errors",))]
    if through:
        await nested.open_up(cache, where, index)
        kept = await nested.pointers(cache, where, index)
        args += ["--", ".", *(f":(exclude,literal){path}" for path in kept)]
        env["GIT_LITERAL_PATHSPECS"] = "0"
    return await cache.run(*args, env=env, check=False, config=lfs.filters(cache))


async def safe(worktree: Worktree, shot: Snapshot, *, file_bytes_max: int) -> Safe:
    """Leave out what holds a secret or is too large; if a commit holds it, leave the history out.

    A file that is left out appears as it was at the start of the attempt. A history that does not
    go back to that of the base is left out, too: nothing could be compared or joined with it.
    """
    cache = worktree.cache
    budget = searching.Budget()
    changes = await _changes(cache, shot.index, worktree.start)
    new = {change.new: change.path for change in changes if change.new != _ABSENT}
    bad = await searching.search(cache, new, file_bytes_max=file_bytes_max, budget=budget)
    parent, findings = shot.head, [finding for found in bad.values() for finding in found]
    findings += [Finding(path=said, line=0, kind=UNREAD) for said in shot.unread]
    findings += await nested.histories(worktree.path, [change.path for change in changes])
    if shot.head != worktree.start and not await _are_related(cache, worktree.start, shot.head):
        parent = worktree.start
        findings.append(Finding(path=f"commit {shot.head[:12]}", line=0, kind=UNRELATED))
    elif shot.head != worktree.start:
        past = await searching.published(cache, worktree.start, shot.head)
        past = {oid: path for oid, path in past.items() if oid not in new or oid in bad}
        hidden = await searching.search(cache, past, file_bytes_max=file_bytes_max, budget=budget)
        if hidden:
            parent = worktree.start
            findings += [one for oid, found in hidden.items() if oid not in bad for one in found]
    tree = shot.tree
    if bad:
        tree = await _without(cache, shot.index, [one for one in changes if one.new in bad])
    return Safe(parent=parent, tree=tree, findings=tuple(findings))


async def commit_tree(cache: Cache, tree: str, message: str, *parents: str) -> str:
    """Make a commit object; no branch moves."""
    flags = [word for parent in parents for word in ("-p", parent)]
    return (await cache.run("commit-tree", tree, *flags, data=message.encode())).text


@known.by_commit(TREES_MAX)
async def tree_of(cache: Cache, commit: str) -> str:
    """Return the tree of a commit."""
    return (await cache.run("rev-parse", "--verify", f"{commit}^{{tree}}")).text


async def changed_paths(cache: Cache, before: str, tree: str) -> list[str]:
    """Return the paths in which a tree differs from that of a commit, in git's order."""
    args = ("diff-tree", "-r", "-z", "--name-only", "--no-renames", "--end-of-options")
    return (await cache.run(*args, before, tree)).fields


def _begin(last: Path, index: Path) -> None:
    index.unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        # With its time: git compares times by the second, and reads again what changed in that of
        # the index. A younger copy would hide a change of the same length for ever.
        shutil.copy2(last, index)


async def _are_related(cache: Cache, one: str, other: str) -> bool:
    return bool((await cache.run("merge-base", one, other, check=False)).text)


async def _changes(cache: Cache, index: Path, start: str) -> list[_Change]:
    env = {"GIT_INDEX_FILE": str(index)}
    args = ("diff-index", "--cached", "--raw", "--no-renames", "--no-abbrev", "-z", start)
    fields = (await cache.run(*args, env=env)).fields
    changes = []
    for meta, path in zip(fields[::2], fields[1::2], strict=True):
        old_mode, new_mode, old, new, _ = meta.removeprefix(":").split(" ")
        if new_mode != "160000":  # a nested repository is a pointer: nothing to search
            changes.append(_Change(path=path, old_mode=old_mode, old=old, new=new))
    return changes


async def _without(cache: Cache, index: Path, changes: list[_Change]) -> str:
    """Return the tree of `index` with `changes` undone."""
    copy = index.with_name(f"{index.name}.safe")
    await asyncio.to_thread(shutil.copyfile, index, copy)
    env = {"GIT_INDEX_FILE": str(copy)}
    lines = [
        f"0 {_ABSENT}\t{change.path}\0"
        if change.old == _ABSENT
        else f"{change.old_mode} {change.old}\t{change.path}\0"
        for change in changes
    ]
    try:
        data = "".join(lines).encode("utf-8", "surrogateescape")
        await cache.run("update-index", "-z", "--index-info", env=env, data=data)
        return (await cache.run("write-tree", env=env)).text
    finally:
        copy.unlink(missing_ok=True)
