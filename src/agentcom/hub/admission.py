"""Whether the hub takes more than it has to do: who asks for more than a share is refused first.

It is judged by how long a new request would wait for its turn: the turns before it, each as long as
the last ones took with deciding, commit and event loop together; and by a loop or a store that
stands still. Three levels:

    calm    everything is taken
    busy    each identity gets a share of what fits; submits and reads beyond it are refused
    full    submits and reads are refused, calls and changes get their shares, progress is skipped

Reports, heartbeats and landings are no requests and are never asked about here. Shares shrink while
the wait is long and grow while it is short; when nobody was refused for some seconds, it is over.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import ClassVar, Final

import structlog

from agentcom.hub.clock import Clock
from agentcom.model import limits
from agentcom.model.errors import RateLimited
from agentcom.telemetry import events

SMOOTH: Final = 4
"""The last turn counts with one part in so many: a single slow fsync is no overload."""
FIRST_SHED: Final = frozenset({"submit", "query"})
SHRINK: Final = (3, 4)
GROW: Final = (5, 4)
LEAST: Final = 4
"""All shares together are at least this part of what fits, else a loop that is late for another
reason would let nobody in."""
FIRST_SHARES: Final = 16
"""Before it is known how many ask, this many share what fits into a window."""

log = structlog.get_logger(__name__)


class Overloaded(RateLimited):
    """The hub has more to do than it can; nothing was done, ask again after `retry_after`."""

    code: ClassVar[str] = "overloaded"


class Load(IntEnum):
    """How much the hub has to do."""

    CALM = 0
    BUSY = 1
    FULL = 2


class Admission:
    """What is taken in, and what is refused; `backlog` tells how many facts wait."""

    def __init__(self, clock: Clock, backlog: Callable[[], int]) -> None:
        self._clock = clock
        self._backlog = backlog
        self.load = Load.CALM
        self.bounded = True
        """False: nothing is refused, for load tests and fuzzing."""
        self.refused = 0
        """Since the start."""
        self._turn_ms = 0.0
        self._spent_ms = 0.0
        self._facts = 1.0
        """Facts that took `spent_ms`; older ones count less and less."""
        self._room = limits.TURN_FACTS_MAX
        """Facts that may wait before it is worth to look closer."""
        self._turns = 0
        self._turns_seen = 0
        self._stands = False
        """Whether facts wait, and there was no turn since the last beat."""
        self._used: dict[str, int] = {}
        """What each identity has had in this window; more than its share is a debt."""
        self._names: set[str] = set()
        """Who has asked in this window."""
        self._share = 0
        self._window = 0
        self._refused_before = 0
        self._refused_at = 0
        self._since = 0

    def turned(self, count: int, seconds: float) -> None:
        """Take note of a turn of the engine that decided `count` facts."""
        spent_ms = seconds * 1_000
        self._turns += 1
        self._stands = False
        self._turn_ms += (spent_ms - self._turn_ms) / SMOOTH
        self._spent_ms += spent_ms - self._spent_ms / SMOOTH
        self._facts += count - self._facts / SMOOTH
        fit = limits.WAIT_BUSY_MS * self._facts / (self._spent_ms + 1)
        self._room = max(limits.TURN_FACTS_MAX, int(fit))
        if self.load or self._turn_ms > limits.WAIT_BUSY_MS:
            self._judge(self._wait_ms())

    def beat(self, lag_s: float) -> None:
        """Take note of how late the pulse was, and whether the engine stands still."""
        backlog = self._backlog()
        self._stands = backlog > 0 and self._turns == self._turns_seen
        self._turns_seen = self._turns
        if self._stands:
            self._judge(limits.WAIT_FULL_MS)
        elif self.load or lag_s * 1_000 > limits.WAIT_BUSY_MS:
            if not backlog:
                self._turn_ms = 0.0  # nobody waits: what turns took before tells nothing any more
            self._judge(max(lag_s * 1_000, self._wait_ms()))

    def check(self, name: str, traffic: str, cost: int = 1) -> None:
        """Let a request in, or not.

        Raises:
            Overloaded: there is too much to do for it.
        """
        if (self.load or self._backlog() > self._room) and self.bounded:
            self._judge(self._wait_ms())
        if self.load and self.bounded and not self._fits(name, traffic, cost):
            self.refused += 1
            wait_ms = limits.OVERLOAD_RETRY_MS * self.load
            raise Overloaded(f"the hub has too much to do; ask again in {wait_ms} ms", wait_ms)

    def skips(self) -> bool:
        """Return whether what may be skipped, such as progress, is."""
        return self.bounded and self.load is Load.FULL

    def sheds(self, method: str, path: str) -> Overloaded | None:
        """Return the refusal of an HTTP request that is not worth to be looked at closely."""
        if not self.skips() or not _first(method, path):
            return None
        self.refused += 1
        wait_ms = limits.OVERLOAD_RETRY_MS * self.load
        return Overloaded(f"the hub has too much to do; ask again in {wait_ms} ms", wait_ms)

    def _fits(self, name: str, traffic: str, cost: int) -> bool:
        self._names.add(name)
        if self.load is Load.FULL and traffic in FIRST_SHED:
            return False
        if self.load is Load.BUSY and traffic not in FIRST_SHED:
            return True
        used = self._used.get(name, 0)
        if used >= self._share:
            return False
        self._used[name] = used + cost
        return True

    def _wait_ms(self) -> float:
        """Return how long a new request would wait for its turn, and for the one under way."""
        if self._stands:
            return limits.WAIT_FULL_MS
        return self._turn_ms + self._backlog() * self._spent_ms / max(1.0, self._facts)

    def _judge(self, wait_ms: float) -> None:
        """Find the level, and at the end of a window the shares of the next one."""
        now = self._clock.now().instant
        if self.load is Load.CALM:
            if wait_ms < limits.WAIT_BUSY_MS:
                return
            self._since, self._window, self._refused_at = now, now, now
            log.warning(events.OVERLOAD_BEGAN, wait_ms=round(wait_ms))
            self.load = Load.BUSY
            self._share = max(1, self._fit() // FIRST_SHARES)
        if wait_ms >= limits.WAIT_FULL_MS:
            self.load = Load.FULL
        elif self.load is Load.FULL and wait_ms < limits.WAIT_BUSY_MS:
            self.load = Load.BUSY
        if now - self._window >= limits.OVERLOAD_WINDOW_MS:
            self._window = now
            self._next_window(wait_ms, now)

    def _fit(self) -> int:
        """Return how many facts fit into a window, by what they cost lately."""
        return int(limits.OVERLOAD_WINDOW_MS * self._facts / (self._spent_ms + 1))

    def _next_window(self, wait_ms: float, now: int) -> None:
        if self.refused != self._refused_before:
            self._refused_at, self._refused_before = now, self.refused
        quiet_ms = now - self._refused_at
        if wait_ms < limits.WAIT_SHORT_MS and quiet_ms >= limits.OVERLOAD_QUIET_MS:
            log.info(events.OVERLOAD_ENDED, ms=now - self._since, refused=self.refused)
            self.load = Load.CALM
            self._used.clear()
            self._names.clear()
            return
        least = max(1, self._fit() // (LEAST * max(1, len(self._names))))
        self._names.clear()
        times, of = (1, 1)
        if wait_ms >= limits.WAIT_BUSY_MS:
            times, of = SHRINK
        elif wait_ms < limits.WAIT_SHORT_MS:
            times, of = GROW
        share = self._share
        self._share = max(least, share * times // of + (1 if times > of else 0))
        self._used = {name: used - share for name, used in self._used.items() if used > share}


def _first(method: str, path: str) -> bool:
    """Return whether a request is a submit or a read of the HTTP interface."""
    if method == "POST":
        return path == "/api/v1/tasks"
    return method in ("GET", "HEAD") and path.startswith("/api/")
