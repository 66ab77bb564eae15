"""Housekeeping of the store while the hub runs: what has expired goes, the log is folded in."""

import asyncio
from typing import Final

import structlog

from agentcom.hub.clock import Clock
from agentcom.store.base import Store

FIRST_MS: Final = 300_000  # a start has other things to do
EVERY_MS: Final = 3_600_000

log = structlog.get_logger(__name__)


async def run(store: Store, clock: Clock, *, every_ms: int = EVERY_MS) -> None:
    """Tidy up until cancelled; a supervisor's child."""
    await asyncio.sleep(min(FIRST_MS, every_ms) / 1_000)
    while True:
        await tidy(store, clock)
        await asyncio.sleep(every_ms / 1_000)


async def tidy(store: Store, clock: Clock) -> None:
    """Delete request keys that are over, and keep the next start quick."""
    gone = await store.prune(clock.now().wall)
    await store.checkpoint()
    log.info("store.tidied", rows=gone)
