"""A service that does what is due whenever something came, and again if the store took nothing."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import structlog

from agentcom.model.errors import AgentComError

AGAIN_S: Final = 1.0
"""After so long a store that took nothing is tried again."""

log = structlog.get_logger(__name__)


async def run(
    news: asyncio.Event,
    work: Callable[[], Awaitable[None]],
    *,
    within_s: Callable[[], float | None] = lambda: None,
) -> None:
    """Do `work` each time `news` is set, until cancelled; a supervisor's child.

    And after `within_s`, if it says so: for what is due without news.
    """
    while True:
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s()):
                await news.wait()
        news.clear()
        try:
            await work()
        except AgentComError as error:
            log.warning("mail.waits", error=error.message)
            await asyncio.sleep(AGAIN_S)
            news.set()
