"""What may be removed from a machine's disk, and from origin, once nobody needs it."""

import contextlib
import shutil
from collections.abc import Collection
from typing import Final

import structlog

from agentcom.model import errors
from agentcom.model.ids import WallTime
from agentcom.model.result import LandStatus, ResultStatus
from agentcom.sidecar import machine_attempts, trees, workspace
from agentcom.sidecar.config import Home
from agentcom.sidecar.machine_values import Record
from agentcom.sidecar.repositories import Repositories

FOLDERS_KEEP_MS: Final = 7 * 86_400_000
"""Logs of attempts are looked at within a week, or never."""

EXPIRE_EVERY_MS: Final = 86_400_000
"""Origin's checkpoints are listed once a day; a listing costs a connection."""

log = structlog.get_logger(__name__)


async def after(home: Home, record: Record, now: WallTime) -> None:
    """Remove the folder of a task that came to a good end; a failed one may go on in it."""
    await _expire_checkpoints(home, record.body.spec.repo, now)
    if not _done(record) or record.body.spec.repo is None:
        return
    worktree = trees.load(home.repositories, record.key.task)
    if worktree is None or worktree.fence != record.key.fence:
        return
    try:
        await workspace.remove(worktree)
    except (errors.AgentComError, OSError) as error:
        log.warning("worktree.not_removed", task=record.key.task, reason=str(error))


async def _expire_checkpoints(home: Home, url: str | None, now: WallTime) -> None:
    """Delete checkpoints at origin that are older than a week; look once a day."""
    if url is None:
        return
    with contextlib.suppress(errors.AgentComError, OSError):
        cache = Repositories(home.repositories).cache(url)
        looked = cache.path.parent / "expired"
        if looked.exists() and looked.stat().st_mtime * 1_000 > now - EXPIRE_EVERY_MS:
            return
        looked.touch()
        await workspace.expire_checkpoints(cache, now)


def prune_folders(home: Home, held: Collection[str], now: WallTime) -> int:
    """Delete folders of attempts that ended long ago; return how many."""
    kept = {*held, *(name.partition(".")[0] for name in held)}
    folders = (home.root / "attempts", home.root / "scratch")
    old = [
        path
        for folder in folders
        if folder.is_dir()
        for path in folder.iterdir()
        if path.name not in kept and path.stat().st_mtime * 1_000 < now - FOLDERS_KEEP_MS
    ]
    for path in old:
        shutil.rmtree(path, ignore_errors=True)
    return len(old)


def _done(record: Record) -> bool:
    if record.landing is not None:
        return record.landing.status is LandStatus.LANDED
    result = record.result
    good = result is not None and result.status is ResultStatus.DONE
    return good and not (result and (result.needs_person or machine_attempts.lands(result)))
