"""How much in how much time: the generic cell rate algorithm, with the clock as an argument.

One number per key says when its bucket will be empty again. Keys that were used least recently
are forgotten first, so a flood of keys costs a bounded amount of memory.
"""

from collections import OrderedDict
from typing import Final, NamedTuple

from agentcom.model.ids import Instant

KEYS_MAX: Final = 16_384  # keys remembered: a fleet three times the largest we promise
_NS_PER_MS: Final = 1_000_000


class Rate(NamedTuple):
    """`units` in `per_ms`, and up to `burst` of them at once after a pause."""

    units: int
    per_ms: int
    burst: int


class Limiter:
    """Buckets of one rate, one for each key."""

    def __init__(
        self, rate: Rate, *, debt_max_ms: int | None = None, keys_max: int = KEYS_MAX
    ) -> None:
        self._unit_ns = max(1, rate.per_ms * _NS_PER_MS // rate.units)
        self._burst = rate.burst
        self._room_ns = self._unit_ns * rate.burst
        self._debt_max_ns = self._room_ns + (debt_max_ms or 0) * _NS_PER_MS
        self._keys_max = keys_max
        self._full_until: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        """Return how many keys are remembered."""
        return len(self._full_until)

    def wait_ms(self, key: str, now: Instant, cost: int = 1) -> int:
        """Return how long until `cost` units fit; 0 means now. Takes nothing."""
        now_ns = now * _NS_PER_MS
        over_ns = self._after(key, now_ns, cost) - now_ns - self._room_ns
        return max(0, -(-over_ns // _NS_PER_MS))

    def take(self, key: str, now: Instant, cost: int = 1) -> int:
        """Take `cost` units and return 0, or take nothing and return the wait in milliseconds."""
        now_ns = now * _NS_PER_MS
        until = self._after(key, now_ns, cost)
        over_ns = until - now_ns - self._room_ns
        if over_ns > 0:
            return -(-over_ns // _NS_PER_MS)
        self._put(key, until)
        return 0

    def charge(self, key: str, now: Instant, cost: int = 1) -> None:
        """Take `cost` units also from an empty bucket: who goes on waits longer, up to the debt."""
        now_ns = now * _NS_PER_MS
        self._put(key, min(self._after(key, now_ns, cost), now_ns + self._debt_max_ns))

    def forget(self, key: str) -> None:
        """Give `key` a full bucket."""
        self._full_until.pop(key, None)

    def _after(self, key: str, now_ns: int, cost: int) -> int:
        start = self._full_until.get(key, 0)
        # More than a burst would never fit; it takes the whole bucket instead.
        taken_ns = self._room_ns if cost > self._burst else cost * self._unit_ns
        return taken_ns + max(start, now_ns)

    def _put(self, key: str, until: int) -> None:
        self._full_until[key] = until
        self._full_until.move_to_end(key)
        if len(self._full_until) > self._keys_max:
            self._full_until.popitem(last=False)
