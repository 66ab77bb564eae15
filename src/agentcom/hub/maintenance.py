"""Housekeeping of the store while the hub runs: what has expired goes, the log is folded in."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from agentcom.hub.clock import Clock
from agentcom.model.ids import WallTime
from agentcom.model.limits import INDEX_STEP
from agentcom.store.base import Store

FIRST_MS: Final = 300_000  # a start has other things to do
EVERY_MS: Final = 3_600_000

Prune = Callable[[WallTime], Awaitable[int]]
"""Deletes what is over of other parts, and returns how many rows went."""

log = structlog.get_logger(__name__)


async def run(
    store: Store, clock: Clock, prune: Prune | None = None, *, every_ms: int = EVERY_MS
) -> None:
    """Tidy up until cancelled; a supervisor's child."""
    await asyncio.sleep(min(FIRST_MS, every_ms) / 1_000)
    while True:
        await tidy(store, clock, prune)
        await asyncio.sleep(every_ms / 1_000)


async def tidy(store: Store, clock: Clock, prune: Prune | None = None) -> None:
    """Delete what is over, make the newest rows searchable, and keep the next start quick."""
    now = clock.now().wall
    gone = await store.prune(now)
    if prune is not None:
        gone += await prune(now)
    while not await store.index(INDEX_STEP):
        pass
    await store.checkpoint()
    log.info("store.tidied", rows=gone)
