"""Files that Git LFS keeps: fetched into the clone cache, put in place, and pushed with commits.

The one filter that git may run is the `git-lfs` of this machine, by its absolute path, and only for
a repository whose base asks for it. While it runs on an agent's files it has no server: what is
missing was fetched before, from origin or from where the base's `.lfsconfig` says.
"""

import asyncio
import hashlib
import os
import re
import shlex
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog

from agentcom.model import refs
from agentcom.sidecar import git, known, repositories
from agentcom.sidecar.repositories import Cache, Move

POINTER_BYTES_MAX: Final = 1_024
"""A longer file is none, by the specification of Git LFS."""
FILE_BYTES_MAX: Final = 2 << 30
"""Of one file that an agent committed: what common forges take."""
READ_BYTES_MAX: Final = 16 << 20
"""What is read of such a file to look for secrets: they stand in texts, and these are small."""
PUSHED_AT_ONCE: Final = 500
"""Names in one command: some 32 KiB."""
FETCHED_MAX: Final = 256
"""Commits whose files are known to be here."""

_POINTER: Final = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\noid sha256:([0-9a-f]{64})\nsize (\d{1,18})\n?"
)
_NOWHERE: Final = "file:///dev/null"
_CHOSEN: Final = "lfs"
"""The file beside a clone cache that says what becomes of such files."""
_FETCHED: Final = "fetch"
_LEFT: Final = "pointers"


log = structlog.get_logger(__name__)


def program() -> str | None:
    """Return where `git-lfs` is on this machine; None: nowhere."""
    found = shutil.which("git-lfs")
    return str(Path(found).absolute()) if found else None


async def choose(cache: Cache, base: str, *, wanted: bool) -> None:
    """Remember whether the files are wanted, and where the base says that they are."""
    place = await _endpoint(cache, base) if wanted else ""
    text = f"{_FETCHED}\n{place}\n" if wanted else f"{_LEFT}\n"
    repositories.write(cache.path.parent / _CHOSEN, text)


def chosen(cache: Cache) -> bool:
    """Tell whether it is known yet what becomes of such files."""
    return (cache.path.parent / _CHOSEN).exists()


def used(cache: Cache) -> bool:
    """Tell whether the files themselves are wanted."""
    return _choice(cache)[0] == _FETCHED


def filters(cache: Cache) -> Sequence[str]:
    """Return the settings by which git puts the files in place, and takes them up again."""
    found = program() if used(cache) else None
    if found is None:
        return ()
    # What was not there when it was fetched stays a pointer.
    here = (f"lfs.url={_NOWHERE}", "lfs.fetchinclude=", "lfs.fetchexclude=")
    return (*_commands(found), *here, "lfs.skipdownloaderrors=true")


def configuration(cache: Cache) -> str:
    """Return what the repository of an agent needs, so that its own git does the same."""
    found = program() if used(cache) else None
    if found is None:
        return ""
    rows = (setting.removeprefix("filter.lfs.").partition("=") for setting in _commands(found))
    lines = "".join(f"\t{name} = {_quoted(value)}\n" for name, _, value in rows)
    return f'[filter "lfs"]\n{lines}'


def borrowed(objects: Path) -> tuple[Path, ...]:
    """Return the folders of a clone cache that the repositories which borrow from it read."""
    files = objects.parent / "lfs"
    return (objects, files) if files.is_dir() else (objects,)


@known.by_commit(FETCHED_MAX)
async def fetch(cache: Cache, commit: str) -> None:
    """Bring the files of a commit that are not here yet.

    Raises:
        GitFailed: the server did not answer, or lacks one.
    """
    await cache.run("lfs", "fetch", "origin", commit, config=_remote(cache), remote=True)


async def fetch_if_there(cache: Cache, commit: str) -> None:
    """Bring the files of a commit, as far as the server has them: an agent may name what is not.

    Raises:
        GitFailed: the server did not answer, or does not let us in.
    """
    try:
        await fetch(cache, commit)
    except git.GitFailed as failure:
        if failure.away or failure.denied or failure.returncode is None:
            raise
        log.warning("lfs.missing", commit=commit, reason=failure.message)


async def take(cache: Cache, git_dir: Path, start: str, head: str) -> None:
    """Copy from an agent's own repository what it committed since `start`, as far as it is there.

    A file is what its name says, or nothing: the name is its hash.
    """
    if not used(cache) or start == head:
        return
    for oid, size in await _pointers(cache, head, f"^{start}"):
        target = _stored(cache, oid)
        if size <= FILE_BYTES_MAX and not target.exists():
            source = _place(git_dir, oid)
            await asyncio.to_thread(_copy, source, target, oid=oid, size_bytes=size)


async def push(cache: Cache, *moves: Move) -> None:
    """Set refs on origin, all or none, once the files that their commits name are there.

    Raises:
        PushRejected: origin has something else than expected, or does not allow it.
        GitFailed: the outcome is unknown, or origin could not be reached.
    """
    news = [refs.check_commit(move.new) for move in moves if move.new]
    if news and used(cache):
        found = await _pointers(cache, *news)
        names = [oid for oid, _ in found if _stored(cache, oid).exists()]
        for at in range(0, len(names), PUSHED_AT_ONCE):
            some = names[at : at + PUSHED_AT_ONCE]
            args = ("lfs", "push", "--object-id", "origin", *some)
            await cache.run(*args, config=_remote(cache), remote=True)
    await repositories.push(cache, *moves)


def content(cache: Cache, blob: bytes) -> bytes:
    """Return the start of the file that a pointer stands for; anything else is what it is."""
    found = _POINTER.fullmatch(blob)
    if found is None:
        return blob
    try:
        with _stored(cache, found[1].decode()).open("rb") as file:
            return file.read(READ_BYTES_MAX)
    except FileNotFoundError:
        return blob


def _commands(found: str) -> tuple[str, ...]:
    name = shlex.quote(found)
    return (
        f"filter.lfs.process={name} filter-process",
        f"filter.lfs.smudge={name} smudge -- %f",
        f"filter.lfs.clean={name} clean -- %f",
        "filter.lfs.required=true",
    )


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _choice(cache: Cache) -> tuple[str, str]:
    what, _, place = (repositories.read(cache.path.parent / _CHOSEN) or "").partition("\n")
    return what, place


def _remote(cache: Cache) -> Sequence[str]:
    url = f"file://{cache.url}" if cache.url.startswith("/") else cache.url
    place = _choice(cache)[1]
    named = (f"lfs.url={place}",) if place else ()
    return (f"remote.origin.url={url}", "lfs.locksverify=false", *named)


async def _endpoint(cache: Cache, base: str) -> str:
    """Return the server that the base's `.lfsconfig` names; empty: origin is it."""
    args = ("config", "--blob", f"{refs.check_commit(base)}:.lfsconfig", "--get", "lfs.url")
    found = (await cache.run(*args, check=False)).text
    return found if re.fullmatch(r"https://[^\s@]{1,2000}", found) else ""


async def _pointers(cache: Cache, *commits: str) -> list[tuple[str, int]]:
    """Return hash and size of the files that commits name and origin's branches do not."""
    args = ("rev-list", "--objects", "--no-object-names", *commits, "--not", "--remotes=origin")
    names = (await cache.run(*args)).out
    sizes = (await cache.run("cat-file", "--batch-check", data=names)).text.splitlines()
    rows = (row.split(" ") for row in sizes)
    small = [row[0] for row in rows if row[1:2] == ["blob"] and int(row[2]) <= POINTER_BYTES_MAX]
    if not small:
        return []
    data = "".join(f"{oid}\n" for oid in small).encode()
    out = (await cache.run("cat-file", "--batch", data=data)).out
    found = {match[1].decode(): int(match[2]) for match in _POINTER.finditer(out)}
    return sorted(found.items())


def _stored(cache: Cache, oid: str) -> Path:
    return _place(cache.path, oid)


def _place(git_dir: Path, oid: str) -> Path:
    return git_dir / "lfs" / "objects" / oid[:2] / oid[2:4] / oid


def _copy(source: Path, target: Path, *, oid: str, size_bytes: int) -> None:
    try:
        handle = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    draft = target.with_name(f"{oid}.{os.getpid()}.new")
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_size != size_bytes:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        hashed = hashlib.sha256()
        try:
            with draft.open("wb") as copy:
                # It may grow while it is read.
                while chunk := file.read(min(1 << 20, size_bytes - copy.tell())):
                    hashed.update(chunk)
                    copy.write(chunk)
            if hashed.hexdigest() == oid:
                draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
