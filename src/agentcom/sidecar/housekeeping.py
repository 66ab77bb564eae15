"""What may be removed from a machine's disk, and from origin, once nobody needs it.

Work is never removed before it is kept under a ref of this machine (`workspace.remove`).
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Final

import msgspec
import structlog

from agentcom.model import errors
from agentcom.model.ids import Fence, TaskId, WallTime
from agentcom.model.result import LandStatus, ResultStatus
from agentcom.sidecar import repositories, room, setting_up, trees, workspace
from agentcom.sidecar.config import Home
from agentcom.sidecar.machine_values import Key, Record
from agentcom.sidecar.repositories import Cache, Repositories

FOLDERS_KEEP_MS: Final = 7 * 86_400_000
"""Logs of attempts are looked at within a week, or never; a task is retried sooner, too."""
EVERY_MS: Final = 86_400_000
"""A day's leftovers are no trouble; a listing of origin's checkpoints costs a connection."""
PACKS_MAX: Final = 20
LOOSE_MAX: Final = 27
"""Packs, and loose objects in one folder of 256, before a clone cache is packed, as git does."""

_RECORD: Final = "worktree.json"

log = structlog.get_logger(__name__)


async def after(home: Home, record: Record, now: WallTime) -> None:
    """Remove the folder of a task that came to a good end; a failed one may go on in it."""
    await _expire_checkpoints(home, record.body.spec.repo, now)
    if _done(record) and record.body.spec.repo is not None:
        await _remove(home, record.key.task, record.key.fence)


async def sweep(home: Home, held: Callable[[], Collection[Key]], now: WallTime) -> None:
    """Remove what lies about for a week and no attempt needs, and pack the clone caches.

    `held` names the attempts of this moment; it is asked again before each removal.
    """
    names = [key.text for key in held()]
    await asyncio.to_thread(prune_folders, home, names, now)
    for path in await asyncio.to_thread(_old, _inside(home.repositories / "state"), now):
        if all(key.task != path.name for key in held()):
            await _remove(home, TaskId(path.name))
    for path in await asyncio.to_thread(_inside, home.repositories / "caches"):
        await asyncio.to_thread(setting_up.clear_drafts, path, now)
        await _tidy(Cache(root=home.repositories, url="", path=path / "repo.git"))


def clear_leftovers(home: Home, held: Iterable[Key], now: WallTime) -> None:
    """Remove what a killed sidecar left; call once, before any checkout is lent."""
    trees.clear_scratch(home.repositories)
    prune_folders(home, [key.text for key in held], now)


def prune_folders(home: Home, held: Collection[str], now: WallTime) -> int:
    """Delete folders of attempts that ended long ago; return how many.

    A worktree without a record of its attempt never had an agent: the record is written first.
    """
    kept = {*held, *(name.partition(".")[0] for name in held)}
    state = home.repositories / "state"
    worktrees = _inside(home.repositories / "worktrees")
    folders = [
        *_inside(home.root / "attempts"),
        *_inside(home.root / "scratch"),
        *(path for path in worktrees if not (state / path.name / _RECORD).exists()),
    ]
    old = [path for path in _old(folders, now) if path.name not in kept]
    for path in old:
        trees.discard(path)
    return len(old)


async def _remove(home: Home, task: TaskId, fence: Fence | None = None) -> None:
    """Rescue and remove the folder of a task, if it is (still) that of the attempt `fence`."""
    try:
        worktree = trees.load(home.repositories, task)
        if worktree is not None and fence is None:
            await room.remove(home, task)
        elif worktree is not None and fence == worktree.fence:
            await workspace.remove(worktree)  # its work is at origin
    except (errors.AgentComError, OSError, msgspec.DecodeError) as error:
        log.warning("worktree.not_removed", task=task, reason=str(error))


async def _expire_checkpoints(home: Home, url: str | None, now: WallTime) -> None:
    """Delete checkpoints at origin that are older than a week; look once a day."""
    if url is None:
        return
    with contextlib.suppress(errors.AgentComError, OSError):
        cache = Repositories(home.repositories).cache(url)
        looked = cache.path.parent / "expired"
        if looked.exists() and looked.stat().st_mtime * 1_000 > now - EVERY_MS:
            return
        looked.touch()
        await workspace.expire_checkpoints(cache, now)


async def _tidy(cache: Cache) -> None:
    """Pack a clone cache in which much has piled up."""
    objects = cache.path / "objects"
    packs = await asyncio.to_thread(lambda: len(list(objects.glob("pack/*.pack"))))
    if packs <= PACKS_MAX and len(_inside(objects / "17")) <= LOOSE_MAX:
        return
    try:
        await repositories.tidy(cache)
    except (errors.AgentComError, OSError) as error:
        log.warning("cache.not_tidied", reason=str(error))


def _inside(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _old(paths: Iterable[Path], now: WallTime) -> list[Path]:
    """Return those that nothing was put into, or taken from, for a week."""
    found = []
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            if path.lstat().st_mtime * 1_000 < now - FOLDERS_KEEP_MS:
                found.append(path)
    return found


def _done(record: Record) -> bool:
    if record.landing is not None:
        return record.landing.status is LandStatus.LANDED
    result = record.result
    good = result is not None and result.status is ResultStatus.DONE
    return good and not (result and (result.needs_person or result.lands))
