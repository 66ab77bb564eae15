"""Work in progress on its way to origin: once, and again and again while an agent works."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
import structlog

from agentcom.model import errors
from agentcom.model.result import Clash
from agentcom.sidecar import machine_values as values
from agentcom.sidecar import trying, workspace
from agentcom.sidecar.machine_values import Record
from agentcom.sidecar.trees import Worktree
from agentcom.sidecar.watching import Watch

Tell = Callable[[values.OwnWork], Awaitable[None]]

log = structlog.get_logger(__name__)


async def checkpoint(
    record: Record,
    worktree: Worktree,
    session: str | None,
    tell: Tell,
    *,
    note: str | None = None,
) -> str | None:
    """Bring the work so far to origin and return the commit that is there now.

    What is new is told as `Saved`, with the agent's newest words; a failure is logged, no more.
    """
    try:
        saved = await workspace.checkpoint(worktree)
    except (errors.AgentComError, OSError) as error:
        log.warning("checkpoint.failed", task=record.key.task, reason=str(error))
        return None
    if saved is None:
        return await workspace.saved(worktree)
    for finding in saved.findings:
        log.warning("checkpoint.left_out", task=record.key.task, finding=str(finding))
    told = values.Saved(record.key, saved.commit, session, note, saved.touched, saved.touched_count)
    await tell(told)
    clashes = await _clashes(worktree, saved.commit)
    if clashes:
        await tell(msgspec.structs.replace(told, clashes=clashes))
    return saved.commit


async def _clashes(worktree: Worktree, commit: str) -> tuple[Clash, ...]:
    """Return what others have made meanwhile that does not go together with this."""
    try:
        return await trying.clashes(worktree, commit)
    except (errors.AgentComError, OSError) as error:
        log.info("trial.failed", task=worktree.task, reason=str(error))
        return ()


@contextlib.asynccontextmanager
async def often(
    record: Record, worktree: Worktree, watch: Watch, *, interval_ms: int, tell: Tell
) -> AsyncIterator[None]:
    """Save at the end of each turn and every `interval_ms`, as long as the context lasts.

    A checkpoint that has begun ends first, since the final commit is next in its place; one that
    is in the way of a cancellation is cut short.
    """
    over = asyncio.Event()

    async def save() -> None:
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(interval_ms / 1000):
                    await watch.turn_ended.wait()
            watch.turn_ended.clear()
            if not over.is_set():
                await checkpoint(record, worktree, watch.session, tell, note=watch.note)

    saver = asyncio.create_task(save())
    try:
        yield
        over.set()
        watch.turn_ended.set()
        await saver
    finally:
        saver.cancel()
        await asyncio.gather(saver, return_exceptions=True)
