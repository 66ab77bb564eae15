"""Timers: many keys, one handle of the event loop.

Times are of the boot clock, which goes on while the computer sleeps; the loop's own clock may
not. So while there are timers the loop looks at the boot clock now and then, and what became due
in sleep fires at most that much late.
"""

import asyncio
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Final, Generic, TypeVar

from agentcom.hub.clock import Clock
from agentcom.model.ids import Instant

LOOK_MS: Final = 10_000
"""Longest wait without a look at the boot clock: well below a lease, and no load."""

STALE_SLACK: Final = 64
"""Stale entries allowed beyond half of the heap: small heaps are not rebuilt all the time."""

Body = TypeVar("Body")
_Entry = tuple[Instant, int, str, Body]


class Timers(Generic[Body]):
    """Calls `fire` with a timer's body when its instant has come; a key has one timer.

    `fire` also hears by how many milliseconds it is late: a hub that slept must not blame others.
    """

    def __init__(self, clock: Clock, fire: Callable[[Body, int], None]) -> None:
        self._clock = clock
        self._fire = fire
        self._count = count()
        self._live: dict[str, _Entry[Body]] = {}
        self._heap: list[_Entry[Body]] = []
        """All that were set; an entry that is not live any more leaves when it is the first."""
        self._handle: asyncio.TimerHandle | None = None
        self._wakes_at = Instant(0)

    def __len__(self) -> int:
        """Return how many timers are set."""
        return len(self._live)

    def keys(self) -> list[str]:
        """Return the keys of all timers that are set."""
        return list(self._live)

    def set(self, key: str, at: Instant, body: Body) -> None:
        """Fire `body` at `at`, or at once if that is past; replaces the timer of the same key."""
        entry: _Entry[Body] = (at, next(self._count), key, body)
        self._live[key] = entry
        heappush(self._heap, entry)
        if len(self._heap) > 2 * (len(self._live) + STALE_SLACK):
            self._heap[:] = self._live.values()
            heapify(self._heap)
        # A handle that comes too early finds nothing due and is set again: cheaper than
        # a new handle for every timer that is set and cleared.
        if self._handle is None or at < self._wakes_at:
            self._arm()

    def clear(self, key: str) -> None:
        """Forget the timer of `key`, if there is one."""
        self._live.pop(key, None)
        if self._heap and not self._live:
            self.clear_all()

    def clear_all(self) -> None:
        """Forget every timer: the view they belong to is gone."""
        self._live.clear()
        self._heap.clear()
        self._arm()

    def check(self) -> None:
        """Fire what is due now, without waiting for the loop."""
        now = self._clock.now().instant
        heap, live = self._heap, self._live
        try:
            while heap and heap[0][0] <= now:
                entry = heappop(heap)
                if live.get(entry[2]) is entry:
                    del live[entry[2]]
                    self._fire(entry[3], now - entry[0])
        finally:
            self._arm()

    def _arm(self) -> None:
        """Set the handle for the first timer."""
        self._disarm()
        heap, live = self._heap, self._live
        while heap and live.get(heap[0][2]) is not heap[0]:
            heappop(heap)
        if not heap:
            return
        now = self._clock.now().instant
        wait_ms = min(max(0, heap[0][0] - now), LOOK_MS)
        self._wakes_at = Instant(now + wait_ms)
        loop = asyncio.get_running_loop()
        self._handle = loop.call_at(loop.time() + wait_ms / 1_000, self._wake)

    def _disarm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _wake(self) -> None:
        self._handle = None
        self.check()
