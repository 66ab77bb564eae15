"""How much of a computer's disk a machine uses, and what it gives back first.

Work is kept under a ref, and brought to origin if that answers, before its folder goes; a clone
cache goes only if origin has every commit that it keeps. What an attempt holds is never touched.
"""

import asyncio
import contextlib
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec
import structlog

from agentcom.model import errors, refs
from agentcom.model.ids import TaskId, WallTime
from agentcom.sidecar import git, repositories, setting_up, trees, workspace
from agentcom.sidecar.config import Home, Settings
from agentcom.sidecar.repositories import Cache, Repositories

QUOTA_SHARE: Final = 2
"""Without a setting, a machine takes up to this part of its disk: a half."""
FREE_SHARE: Final = 20
FREE_BYTES: Final = 2 << 30
"""Below a twentieth of the disk, or 2 GiB if that is less, other programs begin to fail."""
LOOK_MS: Final = 600_000
"""A folder of a million files takes seconds to measure, so it is not done for each attempt."""
SAVE_S_MAX: Final = 60.0
"""Of one folder's way to origin; what is under a ref by then is safe on this machine."""
ENTRIES_MAX: Final = 5_000_000
"""Files that are measured in one place; a larger one is shown as large as these."""
TIPS_MAX: Final = 20_000
"""Refs of origin that are compared; with more, a cache stays."""

log = structlog.get_logger(__name__)


class NoRoom(errors.AgentComError):
    """The disk, or the part of it that AgentCom may use, is full of what must not be deleted."""

    code = "no_room"
    status = 507
    retryable = True


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Something on the disk that comes and goes as a whole."""

    kind: str
    """`worktree`, `aside`, `scratch`, `setup`, `cache`, or `log`."""
    name: str
    """The task, the attempt, or the address."""
    path: str
    size_bytes: int
    used_at: WallTime
    """When something was last put into it, or taken from it."""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What lies where, the largest first, and what may be used."""

    places: tuple[Place, ...]
    used_bytes: int
    quota_bytes: int
    free_bytes: int
    """Of the file system."""
    free_bytes_min: int

    @property
    def excess_bytes(self) -> int:
        """How much must go, so that both quota and file system have room again."""
        over = self.used_bytes - self.quota_bytes
        return max(0, over, self.free_bytes_min - self.free_bytes)


def measure(home: Home, settings: Settings) -> Usage:
    """Return what a machine's home takes; blocking, and slow where there are many files."""
    places = sorted(_places(home), key=lambda place: -place.size_bytes)
    disk = shutil.disk_usage(home.root)
    return Usage(
        places=tuple(places),
        used_bytes=sum(place.size_bytes for place in places),
        quota_bytes=settings.disk_bytes_max or disk.total // QUOTA_SHARE,
        free_bytes=disk.free,
        free_bytes_min=min(FREE_BYTES, disk.total // FREE_SHARE),
    )


class Room:
    """Keeps one machine within its part of the disk."""

    def __init__(self, home: Home, settings: Settings) -> None:
        self._home = home
        self._settings = settings
        self._looked_at = WallTime(0)
        self._lock = asyncio.Lock()

    async def make(self, now: WallTime) -> None:
        """Give back what nobody needs until there is room for another attempt.

        Raises:
            NoRoom: what is left is needed, or not at origin yet.
        """
        async with self._lock:
            disk = shutil.disk_usage(self._home.root)
            low = disk.free < min(FREE_BYTES, disk.total // FREE_SHARE)
            if not low and now - self._looked_at < LOOK_MS:
                return
            excess = await self._cleared()
            if excess > 0:
                raise NoRoom(
                    f"{excess / (1 << 20):.1f} MiB too many are in use and none of it may go: see "
                    "`agentcom machine disk`, free some, or raise `disk_bytes_max`"
                )
            self._looked_at = now

    async def _cleared(self) -> int:
        usage = await asyncio.to_thread(measure, self._home, self._settings)
        excess = usage.excess_bytes
        for place in _in_order(usage.places):
            if excess <= 0:
                break
            if await self._given_back(place):
                log.info("room.given_back", kind=place.kind, name=place.name, size=place.size_bytes)
                excess -= place.size_bytes
        return excess

    async def _given_back(self, place: Place) -> bool:
        path, held = Path(place.path), _held(self._home)
        try:
            match place.kind:
                case "setup":
                    gone = path.with_name(f"{setting_up.DRAFT}{path.name}")
                    # Whoever copies it finds it whole, or not at all.
                    await asyncio.to_thread(path.rename, gone)
                    await asyncio.to_thread(trees.discard, gone)
                case "worktree" if place.name not in held:
                    return await remove(self._home, TaskId(place.name))
                case "scratch" | "log" if place.name.partition(".")[0] not in held:
                    await asyncio.to_thread(trees.discard, path)
                case "cache":
                    return await self._dropped(path)
                case _:
                    return False
        except (errors.AgentComError, OSError, msgspec.DecodeError) as error:
            log.warning("room.not_given_back", path=place.path, reason=str(error))
            return False
        return True

    async def _dropped(self, path: Path) -> bool:
        """Delete a clone cache that no folder borrows from, if origin has all that it keeps."""
        url = address_of(path)
        if url is None or self._borrowed(url):
            return False
        cache = Repositories(self._home.repositories).cache(url)
        async with repositories.locked(path / "lock"):
            if await unsaved(cache) != 0:
                return False
            await asyncio.to_thread(trees.discard, cache.path)
            return True

    def _borrowed(self, url: str) -> bool:
        found = (trees.load(self._home.repositories, TaskId(task)) for task in _tasks(self._home))
        return any(worktree is not None and worktree.url == url for worktree in found)


async def remove(home: Home, task: TaskId) -> bool:
    """Remove a task's folder once its work is under a ref, and at origin if that answers."""
    worktree = trees.load(home.repositories, task)
    if worktree is None:
        return False
    if worktree.ready and worktree.there:
        try:
            async with asyncio.timeout(SAVE_S_MAX):
                await workspace.checkpoint(worktree)
        except (errors.AgentComError, OSError, TimeoutError) as error:
            log.info("worktree.kept_here_only", task=task, reason=str(error))
    await workspace.remove(worktree)
    return True


async def unsaved(cache: Cache) -> int | None:
    """Return how many commits of attempts origin does not have; None if that cannot be told."""
    kept = (refs.RESCUES, refs.WORK)
    own = (await cache.run("for-each-ref", "--format=%(objectname)", *kept)).text.split()
    if not own:
        return 0
    try:
        args = ("ls-remote", "--refs", "--end-of-options", cache.url)
        rows = (await cache.run(*args, remote=True)).text.splitlines()
    except git.GitFailed:
        return None
    tips = {row.partition("\t")[0] for row in rows}
    if len(tips) > TIPS_MAX:
        return None
    names = "".join(f"{tip}\n" for tip in sorted(tips)).encode()
    found = (await cache.run("cat-file", "--batch-check", data=names)).text.splitlines()
    there = [row.split(" ")[0] for row in found if row.split(" ")[1] == "commit"]
    asked = "".join(f"{name}\n" for name in (*own, *(f"^{tip}" for tip in there)))
    count = await cache.run("rev-list", "--count", "--stdin", data=asked.encode())
    return int(count.text)


def address_of(path: Path) -> str | None:
    """Return the address of the clone cache in a folder, if it is known."""
    with contextlib.suppress(OSError):
        return (path / repositories.ADDRESS).read_text("utf-8").strip() or None
    return None


def _in_order(places: Iterable[Place]) -> list[Place]:
    """Return what may go, in the order in which it goes: what costs least to have again first."""
    order = {"scratch": 0, "log": 0, "setup": 1, "worktree": 2, "cache": 3}
    mine = [place for place in places if place.kind in order]
    return sorted(mine, key=lambda place: (order[place.kind], place.used_at))


def _held(home: Home) -> set[str]:
    """Return the tasks whose attempts are on this machine, as the records on disk name them."""
    return {path.name.partition(".")[0] for path in (home.outbox / "held").glob("*.json")}


def _tasks(home: Home) -> list[str]:
    state = home.repositories / "state"
    return sorted(path.name for path in state.iterdir()) if state.is_dir() else []


def _places(home: Home) -> Iterator[Place]:
    top = home.repositories
    for kind, folder in (
        ("worktree", top / "worktrees"),
        ("aside", trees.aside(top)),
        ("scratch", home.root / "scratch"),
        ("log", home.root / "attempts"),
    ):
        for path in _inside(folder):
            yield _place(kind, path.name, path)
    for path in _inside(top / "caches"):
        for stock in _inside(path / setting_up.STOCKS):
            yield _place("setup", f"{address_of(path) or path.name} {stock.name[:8]}", stock)
        yield _place("cache", address_of(path) or path.name, path, without=setting_up.STOCKS)


def _place(kind: str, name: str, path: Path, *, without: str = "") -> Place:
    used_at = WallTime(0)
    with contextlib.suppress(OSError):
        used_at = WallTime(int(path.lstat().st_mtime * 1_000))
    size = _size(path, without)
    return Place(kind=kind, name=name, path=str(path), size_bytes=size, used_at=used_at)


def _size(path: Path, without: str) -> int:
    """Return what a folder takes on the disk; a file with several names counts once."""
    total, room, waiting, seen = 0, ENTRIES_MAX, [path], set[tuple[int, int]]()
    while waiting and room > 0:
        try:
            entries = list(os.scandir(waiting.pop()))
        except OSError:
            continue
        for entry in entries:
            with contextlib.suppress(OSError):
                found = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(found.st_mode):
                    if entry.name != without:
                        waiting.append(Path(entry.path))
                elif found.st_nlink > 1:
                    if (found.st_dev, found.st_ino) in seen:
                        continue
                    seen.add((found.st_dev, found.st_ino))
                total += found.st_blocks * 512
        room -= len(entries)
    return total


def _inside(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
