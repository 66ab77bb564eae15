"""How a sidecar and its tasks end: by signals, and by being cancelled."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


async def cancel(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """End tasks, and return when they are over, however."""
    ending = list(tasks)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Do something to its end, however often we are cancelled meanwhile; that is raised after."""
    working, cancelled = asyncio.ensure_future(work), None
    while not working.done():
        try:
            await asyncio.wait([working])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    return working.result()


@contextlib.contextmanager
def signals(
    stop: Callable[[], None], reload: Callable[[], None], *, wanted: bool
) -> Iterator[None]:
    """Have SIGTERM and SIGINT call `stop`, and SIGHUP `reload`, while the context lasts."""
    loop = asyncio.get_running_loop()
    calls = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: reload}
    numbers = calls if wanted else {}
    for number, call in numbers.items():
        loop.add_signal_handler(number, call)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
