"""What is taken of the repository that an agent works in: commits, by their hashes.

No git of ours ever runs in it. Its refs are read here, as files that may be anything; its objects
are fetched through a repository that we made, which does no more than borrow them. So neither its
configuration nor its hooks, and nothing that it borrows elsewhere, has a say.
"""

import asyncio
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from agentcom.model import refs
from agentcom.sidecar import git, repositories
from agentcom.sidecar.trees import Worktree

REFS_MAX: Final = 1_000
"""Branches that an agent makes in one task; more is a mistake, or a trick."""
FILES_MAX: Final = 1_000_000
"""Entries of an agent's object store that are looked at: some seconds."""
PACKED_BYTES_MAX: Final = 1 << 20

_HEAD: Final = "refs/agent/head"
_CONFIG: Final = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n"
_NAME: Final = re.compile(r"refs/(?:heads/(?!.*\.\.)[^\x00-\x20\x7f~^:?*\[\\]+|stash)")


async def import_head(worktree: Worktree) -> str:
    """Bring the agent's commits into the cache; a repository it broke counts as unchanged."""
    ref = refs.work_ref(worktree.task)
    known = await repositories.resolve(worktree.cache, ref)
    head = await asyncio.to_thread(_head, worktree.path / ".git")
    if head is not None and head != known:
        await _fetch(worktree, {_HEAD: head}, f"+{_HEAD}*:{ref}*")
        known = await repositories.resolve(worktree.cache, ref)
    return known or worktree.start


async def import_refs(worktree: Worktree, kept: str) -> tuple[str, ...]:
    """Keep all branches and stashes of the agent's own repository in the clone cache.

    What it began with is there, and so is the commit `kept`: if its own branch is the only one, and
    stands at one of these, nothing is to be done.

    Returns:
        The names of those that hold commits which `kept` does not hold.
    """
    target = f"{refs.rescue_ref(worktree.task, worktree.fence)}-refs"
    found = await asyncio.to_thread(_refs, worktree.path / ".git")
    own = f"refs/heads/{worktree.branch}"
    if not found or (found.keys() == {own} and found[own] in {worktree.start, kept}):
        return ()
    # A star where a ref may be missing: without one, git would fetch nothing at all.
    specs = (f"+refs/heads/*:{target}/heads/*", f"+refs/stash*:{target}/stash*")
    await _fetch(worktree, found, *specs)
    asked = [f"--no-merged={commit}" for commit in (worktree.base, worktree.start, kept)]
    rows = await worktree.cache.run("for-each-ref", "--format=%(refname)", *asked, target)
    return tuple(row.removeprefix(f"{target}/") for row in rows.text.splitlines())


async def _fetch(worktree: Worktree, found: Mapping[str, str], *specs: str) -> None:
    git_dir = worktree.path / ".git"
    objects = worktree.cache.path / "objects"
    if not await asyncio.to_thread(_sound, git_dir, objects):
        return
    door = worktree.state / "agent.git"
    repositories.skeleton(door, config=_CONFIG, head="ref: refs/heads/none")
    borrowed = f"{git_dir / 'objects'}\n{objects}\n"
    repositories.write(door / "objects/info/alternates", borrowed)
    names = "".join(f"{commit}\n" for commit in found.values()).encode()
    asked = ("cat-file", "--batch-check")
    rows = await git.run(asked, door, env={"GIT_DIR": str(door)}, input=names, check=False)
    there = {row.split(" ")[0] for row in rows.text.splitlines() if " commit " in row}
    # One branch that is broken would keep git from all others.
    good = sorted((ref, commit) for ref, commit in found.items() if commit in there)
    lines = "".join(f"{commit} {ref}\n" for ref, commit in good)
    repositories.write(door / "packed-refs", f"# pack-refs with: sorted \n{lines}")
    flags = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules")
    args = ("-c", "fetch.fsckObjects=true", "fetch", *flags, "--", str(door), *specs)
    await worktree.cache.run(*args, check=False)


def _sound(git_dir: Path, cache: Path) -> bool:
    """Tell whether a repository holds its own objects, and is not a way into another one."""
    try:
        places = [git_dir.lstat(), (git_dir / "objects").lstat(), (git_dir / "refs").lstat()]
    except OSError:
        return False
    info = git_dir / "objects/info/alternates"
    own = all(stat.S_ISDIR(place.st_mode) for place in places)
    borrows = repositories.read(info) if os.path.lexists(info) else str(cache)
    return own and borrows == str(cache) and _plain(git_dir / "objects")


def _plain(folder: Path) -> bool:
    """Tell whether a folder has files and folders only, and not too many."""
    room, waiting = FILES_MAX, [folder]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    room -= 1
                    folder_here = entry.is_dir(follow_symlinks=False)
                    if room < 0 or not (folder_here or entry.is_file(follow_symlinks=False)):
                        return False
                    if folder_here:
                        waiting.append(Path(entry.path))
        except FileNotFoundError:
            continue  # the agent's git packs it right now
        except OSError:
            return False
    return True


def _head(git_dir: Path) -> str | None:
    """Return the commit that the agent has checked out, if that can be told."""
    head = repositories.read(git_dir / "HEAD") or ""
    name = head.removeprefix("ref: ")
    if name == head:
        return head if repositories.HASH.fullmatch(head) else None
    if _NAME.fullmatch(name) is None:
        return None
    loose = _loose(git_dir, name)
    return loose or dict(_packed(git_dir)).get(name)


def _refs(git_dir: Path) -> dict[str, str]:
    found = dict(_packed(git_dir))
    names, waiting = ["refs/stash"], ["refs/heads"]
    while waiting and len(names) < REFS_MAX:
        place = waiting.pop()
        try:
            with os.scandir(git_dir / place) as entries:
                for entry in entries:
                    folder = entry.is_dir(follow_symlinks=False)
                    (waiting if folder else names).append(f"{place}/{entry.name}")
        except OSError:
            continue
    for name in names[:REFS_MAX]:
        commit = _loose(git_dir, name)
        if commit is not None and _NAME.fullmatch(name):
            found[name] = commit
    return dict(sorted(found.items())[:REFS_MAX])


def _loose(git_dir: Path, name: str) -> str | None:
    commit = repositories.read(git_dir / name) or ""
    return commit if repositories.HASH.fullmatch(commit) else None


def _packed(git_dir: Path) -> Iterator[tuple[str, str]]:
    for line in (repositories.read(git_dir / "packed-refs", PACKED_BYTES_MAX) or "").splitlines():
        commit, _, name = line.partition(" ")
        if repositories.HASH.fullmatch(commit) and _NAME.fullmatch(name):
            yield name, commit
