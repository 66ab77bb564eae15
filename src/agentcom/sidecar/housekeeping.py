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

from agentcom.model import errors, refs
from agentcom.model.ids import Fence, TaskId, WallTime
from agentcom.model.result import LandStatus, ResultStatus
from agentcom.sidecar import repositories, room, setting_up, trees, workspace
from agentcom.sidecar.config import Home
from agentcom.sidecar.machine_values import Key, Record
from agentcom.sidecar.repositories import Cache, Move, Repositories

FOLDERS_KEEP_MS: Final = 7 * 86_400_000
"""Logs of attempts are looked at within a week, or never; a task is retried sooner, too."""
EVERY_MS: Final = 86_400_000
"""A day's leftovers are no trouble; a listing of origin's checkpoints costs a connection."""
CHECKPOINT_KEEP_MS: Final = 7 * 86_400_000
"""A week is long enough to adopt what an attempt left."""
EXPIRE_REFS_MAX: Final = 200
"""Checkpoints looked at in one go; the next run takes the rest."""
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


async def expire_checkpoints(cache: Cache, now_ms: WallTime) -> list[str]:
    """Delete origin's checkpoints that are older than a week; return the refs."""
    args = ("ls-remote", "--refs", "--end-of-options", cache.url, f"{refs.CHECKPOINTS}/*")
    listed = (await cache.run(*args, remote=True)).text.splitlines()
    there = [row for line in listed if _ours(row := line.partition("\t")[2])][:EXPIRE_REFS_MAX]
    if not there:
        return []
    await repositories.fetch(cache, *(f"+{ref}:{ref}" for ref in there))
    form = "--format=%(committerdate:unix) %(objectname) %(refname)"
    rows = (await cache.run("for-each-ref", form, f"{refs.CHECKPOINTS}/")).text.splitlines()
    oldest_s = (now_ms - CHECKPOINT_KEEP_MS) // 1_000
    old = [row for when, *row in (line.split(" ") for line in rows) if int(when) < oldest_s]
    for commit, ref in old:
        await repositories.push(cache, Move(ref=ref, new="", old=commit))
        await cache.run("update-ref", "-d", ref, commit)
    return [ref for _, ref in old]


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
        await expire_checkpoints(cache, now)


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


def _ours(ref: str) -> bool:
    return ref.startswith(f"{refs.CHECKPOINTS}/")
