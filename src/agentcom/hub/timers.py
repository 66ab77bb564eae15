"""Timers of the core: many keys, one handle of the event loop.

Times are of the boot clock, which goes on while the computer sleeps; the loop's own clock may
not. So while there are timers the loop looks at the boot clock now and then, and what became due
in sleep fires at most that much late.
"""

import asyncio
from collections.abc import Callable
from itertools import count
from typing import Final

from agentcom.core.facts import Body
from agentcom.core.lazyheap import LazyHeap
from agentcom.hub.clock import Clock
from agentcom.model.ids import Instant

LOOK_MS: Final = 10_000
"""Longest wait without a look at the boot clock: well below a lease, and no load."""

_Entry = tuple[Instant, int, str, Body]


class Timers:
    """Calls `fire` with a timer's body when its instant has come; a key has one timer.

    `fire` also hears by how many milliseconds it is late: a hub that slept must not blame others.
    """

    def __init__(self, clock: Clock, fire: Callable[[Body, int], None]) -> None:
        self._clock = clock
        self._fire = fire
        self._count = count()
        self._live: dict[str, _Entry] = {}
        self._heap: LazyHeap[str, _Entry] = LazyHeap(self._live, lambda entry: entry[2])
        self._handle: asyncio.TimerHandle | None = None
        self._wakes_at = Instant(0)

    def __len__(self) -> int:
        """Return how many timers are set."""
        return len(self._live)

    def set(self, key: str, at: Instant, body: Body) -> None:
        """Fire `body` at `at`, or at once if that is past; replaces the timer of the same key."""
        old = self._live.get(key)
        entry = (at, next(self._count), key, body)
        self._live[key] = entry
        if old is not None:
            self._heap.dropped(old)
        self._heap.push(entry)
        self._arm()

    def clear(self, key: str) -> None:
        """Forget the timer of `key`, if there is one."""
        entry = self._live.pop(key, None)
        if entry is not None:
            self._heap.dropped(entry)
            self._arm()

    def clear_all(self) -> None:
        """Forget every timer: the view they belong to is gone."""
        self._live.clear()
        self._heap = LazyHeap(self._live, lambda entry: entry[2])
        self._arm()

    def check(self) -> None:
        """Fire what is due now, without waiting for the loop."""
        now = self._clock.now().instant
        try:
            while self._heap.heap and self._heap.heap[0][0] <= now:
                entry = self._heap.heap[0]
                del self._live[entry[2]]
                self._heap.dropped(entry)
                self._fire(entry[3], now - entry[0])
        finally:
            self._arm()

    def _arm(self) -> None:
        if not self._heap.heap:
            self._disarm()
            return
        at = self._heap.heap[0][0]
        # A handle that comes too early finds nothing due and is set again: cheaper than
        # a new handle for every lease that is renewed.
        if self._handle is not None and self._wakes_at <= at:
            return
        self._disarm()
        now = self._clock.now().instant
        wait_ms = min(max(0, at - now), LOOK_MS)
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
