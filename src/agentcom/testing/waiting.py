"""Waiting in tests: for a condition that tells nobody when it comes true, with a deadline."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Final

PATIENCE_S: Final = 60.0  # what a loaded machine may take for anything a test waits for
_LOOK_S: Final = 0.01


async def until(
    holds: Callable[[], object] | Callable[[], Awaitable[object]],
    *,
    patience_s: float = PATIENCE_S,
    each: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Return when `holds` does; `each` is done before every look.

    Raises:
        TimeoutError: it did not come true within `patience_s`.
    """
    async with asyncio.timeout(patience_s):
        while True:
            if each is not None:
                await each()
            true = holds()
            if await true if inspect.isawaitable(true) else true:
                return
            await asyncio.sleep(_LOOK_S)
