"""What a commit holds, as far as it decides whether an agent can work on it.

It is looked at before anything is checked out, and read from objects alone.
"""

import asyncio
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from agentcom.model import errors, project_file, refs
from agentcom.model.project_file import Lfs, ProjectFile
from agentcom.sidecar import known, lfs
from agentcom.sidecar.repositories import Cache

FILES_MAX: Final = 1_000_000
"""Files of one commit. A tree may hold itself so often that no disk holds what it means."""
FOLDERS_MAX: Final = 300_000
"""Different folders of one commit: reading more takes longer than a checkout may."""

LOOKS_MAX: Final = 256
"""Commits of which is remembered what they hold: some bytes each."""

_ENTRY: Final = re.compile(rb"([0-7]{5,6}) ([^\0]+)\0(.{20})", re.DOTALL)
_LFS: Final = re.compile(rb"^[ \t]*[^#\n]*\bfilter=lfs\b", re.MULTILINE)
_FOLDER: Final = b"40000"
_SUBMODULE: Final = b"160000"


class Unfit(errors.AgentComError):
    """A repository holds what this machine cannot give an agent; the message names the way out."""

    code = "repository_unfit"
    status = 422


class Contents(NamedTuple):
    """What matters of one commit."""

    files: int
    """At most `FILES_MAX` + 1."""
    submodules: bool
    """Whether it has any."""
    lfs: bool
    """Whether Git LFS keeps some of its files."""


class _Folder(NamedTuple):
    files: int
    folders: frozenset[str]
    several: tuple[str, ...]
    """Folders by each of their names, so that one that comes twice counts twice."""


@known.by_commit(LOOKS_MAX)
async def look(cache: Cache, commit: str) -> Contents:
    """Return what `commit` holds.

    Raises:
        Unfit: it has too many folders to look at.
    """
    args = ("rev-list", "--objects", "--no-walk", "--filter=blob:none", refs.check_commit(commit))
    rows = (await cache.run(*args)).text.splitlines()[1:]
    if len(rows) > FOLDERS_MAX:
        raise Unfit(f"the repository has {len(rows)} folders, more than {FOLDERS_MAX}")
    names = "".join(f"{row.partition(' ')[0]}\n" for row in rows)
    out = (await cache.run("cat-file", "--batch", data=names.encode())).out
    files, linked, attributes = await asyncio.to_thread(_read, out)
    return Contents(
        files=files,
        submodules=linked,
        lfs=await _uses_lfs(cache, attributes),
    )


async def settle(cache: Cache, base: str, commit: str, says: ProjectFile) -> Contents:
    """Return what `commit` holds, once it is known that all of it can be had here.

    Raises:
        Unfit: the message names the way out.
        GitFailed: the base's files in Git LFS could not be fetched.
    """
    held = await look(cache, commit)
    check(held, says)
    wanted = held.lfs and says.lfs is Lfs.FETCH
    await lfs.choose(cache, base, wanted=wanted)
    if wanted:
        await lfs.fetch(cache, base)
    return held


def check(contents: Contents, says: ProjectFile) -> None:
    """Refuse what an agent would find only in part.

    Raises:
        Unfit: the message names the way out.
    """
    name = project_file.FILE_NAME
    if contents.files > FILES_MAX:
        raise Unfit(f"the repository has more than {FILES_MAX} files: no agent can work on it")
    if contents.lfs and says.lfs is Lfs.FETCH and lfs.program() is None:
        raise Unfit(
            "Git LFS keeps files of the repository, and this machine has no git-lfs. Install it "
            "there (apt-get install git-lfs, brew install git-lfs), or, to have pointers in the "
            f'place of the files, write `lfs = "pointers"` into {name}'
        )


def _read(out: bytes) -> tuple[int, bool, list[str]]:
    """Return how many files the first tree holds, whether repositories too, and attributes."""
    folders: dict[str, _Folder] = {}
    attributes: set[str] = set()
    linked, root = False, ""
    for tree, body in _trees(out):
        root = root or tree
        inner: list[str] = []
        files = 0
        for mode, name, oid in _ENTRY.findall(body):
            if mode == _FOLDER:
                inner.append(oid.hex())
                continue
            files += 1
            linked = linked or mode == _SUBMODULE
            if name == b".gitattributes":
                attributes.add(oid.hex())
        folders[tree] = _Folder(files, frozenset(inner), tuple(inner))
    return _count(folders, root), linked, sorted(attributes)


def _trees(out: bytes) -> Iterator[tuple[str, bytes]]:
    at = 0
    while at < len(out):
        end = out.index(b"\n", at)
        oid, _, size = out[at:end].decode().split(" ")
        at = end + 1 + int(size) + 1
        yield oid, out[end + 1 : at - 1]


def _count(folders: dict[str, _Folder], root: str) -> int:
    counts: dict[str, int] = {}
    waiting = [root] if root else []
    while waiting:
        folder = folders[waiting[-1]]
        missing = [inner for inner in folder.folders if inner not in counts]
        if missing:
            waiting += missing
            continue
        found = folder.files + sum(counts[inner] for inner in folder.several)
        counts[waiting.pop()] = min(found, FILES_MAX + 1)
    return counts.get(root, 0)


async def _uses_lfs(cache: Cache, attributes: list[str]) -> bool:
    if not attributes:
        return False
    names = "".join(f"{oid}\n" for oid in attributes).encode()
    return _LFS.search((await cache.run("cat-file", "--batch", data=names)).out) is not None
