"""Lines that break: between the hub and each machine, and the client, is a proxy that misbehaves.

One line is hurt at a time, for a while, and then it is sound again.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Final, assert_never

from agentcom.testing.chaos.fleet import CLIENT, MACHINES
from agentcom.testing.proxy import CHUNK_BYTES, FaultProxy


class LineFault(StrEnum):
    """What can happen to a line."""

    CUT = "line cut"
    RESET = "line reset"
    DEAD = "line dead for a while"
    HALF_OPEN = "line half-open for good"
    STALLED = "line stalled for a while"
    SLOW = "line slow, frames in pieces"


_LASTS: Final = frozenset({LineFault.DEAD, LineFault.STALLED, LineFault.SLOW})
EVERY_S: Final = (0.2, 1.2)
"""How long all lines are sound between two faults."""
LASTS_S: Final = (0.3, 2.5)
LATENCY_MS: Final = 40
PIECE_BYTES: Final = 11

Note = Callable[[str, str], None]


class Lines:
    """The lines of one run."""

    def __init__(self, proxies: Mapping[str, FaultProxy]) -> None:
        self._proxies = proxies

    def url(self, name: str) -> str:
        """Return the address by which `name` reaches the hub."""
        return f"http://127.0.0.1:{self._proxies[name].port}"

    async def hurt_forever(self, rng: random.Random, note: Note) -> None:
        """Hurt one line after the other until cancelled; `heal` them then."""
        while True:
            await asyncio.sleep(rng.uniform(*EVERY_S))
            name, kind = rng.choice(sorted(self._proxies)), rng.choice(list(LineFault))
            note(kind, name)
            await hurt(self._proxies[name], kind, lasts_s=rng.uniform(*LASTS_S))

    def heal(self) -> None:
        """Make every line sound, whatever was being done to it."""
        for proxy in self._proxies.values():
            heal(proxy)


def heal(proxy: FaultProxy) -> None:
    """Make a line sound, but for what is half-open: that stays so."""
    proxy.resume()
    proxy.latency_ms, proxy.chunk_bytes = 0, CHUNK_BYTES
    proxy.open()


async def hurt(proxy: FaultProxy, kind: LineFault, *, lasts_s: float) -> None:
    """Do one thing to a line; what lasts is over when this returns.

    Called off in the middle, it leaves the line as it is.
    """
    match kind:
        case LineFault.CUT:
            proxy.cut()
        case LineFault.RESET:
            proxy.reset()
        case LineFault.HALF_OPEN:
            proxy.freeze()
        case LineFault.DEAD:
            proxy.refuse()
            proxy.reset()
        case LineFault.STALLED:
            proxy.stall()
        case LineFault.SLOW:
            proxy.latency_ms, proxy.chunk_bytes = LATENCY_MS, PIECE_BYTES
        case _:
            assert_never(kind)
    if kind in _LASTS:
        await asyncio.sleep(lasts_s)
        heal(proxy)


@asynccontextmanager
async def lines_to(port: int, names: Sequence[str] = (*MACHINES, CLIENT)) -> AsyncIterator[Lines]:
    """Give a sound line to the hub for everybody."""
    async with contextlib.AsyncExitStack() as stack:
        proxies = {name: FaultProxy("127.0.0.1", port) for name in names}
        for proxy in proxies.values():
            proxy.open()
            stack.push_async_callback(proxy.close)
        yield Lines(proxies)
