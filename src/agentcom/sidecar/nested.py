"""Repositories that an agent made inside its folder: their files are part of its work.

Git puts a pointer in their place, and refuses those without a commit, with all else that is to be
added. Here it is made to walk through them like through any folder: an entry in the index that
lies in one says that it is none. No git of ours runs in them, and their history stays there.
"""

import asyncio
import stat
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Final

from agentcom.sidecar.repositories import Cache
from agentcom.sidecar.secrets_scan import Finding

DEPTH_MAX: Final = 8
"""Repositories in repositories."""
NAMED_MAX: Final = 10
POINTERS_MAX: Final = 100
HISTORY: Final = "the history of a repository in the folder; its files are in the result"

_ENTRY: Final = ".agentcom-none"
"""No file has this name, so that git takes the entry away again as it adds what is there."""
_POINTER: Final = "160000"
"""Git's mode for a commit of another repository."""
_BLOB: Final = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
_MET: Final = (
    "embedded git repository",
    "does not have a commit checked out",
    "not a git repository",
)


def met(said: str) -> bool:
    """Tell whether what `git add` said is about repositories in the folder."""
    return any(words in said for words in _MET)


async def open_up(cache: Cache, where: Path, index: Path) -> None:
    """Have the next `git add` with this index walk through the repositories in a folder.

    Those that are but a link to another one, as submodules are, stay what they are.
    """
    env = {"GIT_INDEX_FILE": str(index), "GIT_WORK_TREE": str(where)}
    for _ in range(DEPTH_MAX):
        rows = (await cache.run("ls-files", "--others", "--exclude-standard", "-z", env=env)).fields
        inside = [row for row in rows if row.endswith("/") and _is_folder(where / row / ".git")]
        if not inside:
            return
        lines = "".join(f"100644 {_BLOB}\t{row}{_ENTRY}\0" for row in inside)
        data = lines.encode("utf-8", "surrogateescape")
        await cache.run("update-index", "-z", "--index-info", env=env, data=data)


async def pointers(cache: Cache, where: Path, index: Path) -> list[str]:
    """Return the paths in an index that are but links to a repository.

    Where one leads may be gone: an agent's own repository is made anew after each turn.
    """
    env = {"GIT_INDEX_FILE": str(index)}
    rows = (await cache.run("ls-files", "--stage", "-z", env=env)).fields
    paths = [row.partition("\t")[2] for row in rows if row.startswith(f"{_POINTER} ")]
    return [path for path in paths if (where / path / ".git").is_file()][:POINTERS_MAX]


async def histories(where: Path, changed: Iterable[str]) -> list[Finding]:
    """Return the repositories in a folder that hold some of the changed files."""
    return await asyncio.to_thread(_histories, where, changed)


def _histories(where: Path, changed: Iterable[str]) -> list[Finding]:
    folders = {folder for path in changed for folder in PurePosixPath(path).parents}
    named = sorted(str(one) for one in folders if one.name and _is_folder(where / one / ".git"))
    return [Finding(path=name, line=0, kind=HISTORY) for name in named[:NAMED_MAX]]


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False
