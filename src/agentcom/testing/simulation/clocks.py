"""Clocks of one simulated computer: they drift, are set, and tell both kinds of time."""

from typing import Final

from agentcom.model.ids import Instant, Now, WallTime
from agentcom.testing.simulation.kernel import MINUTE, Kernel

DECIDED_US: Final = 5 * MINUTE
"""What is stored was decided at most this long ago; a hub's process may stand still meanwhile."""
EPOCH_MS: Final = 1_700_000_000_000
_MILLION: Final = 1_000_000


class NodeClock:
    """One computer's boot clock, which may run fast or slow, and its wall clock, which is set."""

    def __init__(self, kernel: Kernel, *, drift_ppm: int = 0, booted_ms: int = 0) -> None:
        self._kernel = kernel
        self._rate = _MILLION + drift_ppm
        self._booted_ms = booted_ms
        self.step_ms = 0
        """By how much the wall clock is wrong now."""
        self._former: list[tuple[int, int]] = []
        """When the wall clock was set, and how wrong it was before."""

    def set_to(self, step_ms: int) -> None:
        """Set the wall clock, to be wrong by as much."""
        self._former.append((self._kernel.now_us, self.step_ms))
        self.step_ms = step_ms

    @property
    def settings(self) -> int:
        """How often the wall clock has been set."""
        return len(self._former)

    @property
    def walls(self) -> list[WallTime]:
        """What the wall clock shows, and would show had it not been set a moment ago."""
        now, since_us = self.now().wall, self._kernel.now_us - DECIDED_US
        former = [step_ms for at_us, step_ms in self._former if at_us >= since_us]
        return [now, *[WallTime(now - self.step_ms + step_ms) for step_ms in former]]

    def now(self) -> Now:
        """Return both times, as this computer believes them to be."""
        ran_ms = self._kernel.now_us * self._rate // (_MILLION * 1_000)
        times = (self._booted_ms + ran_ms, EPOCH_MS + ran_ms + self.step_ms)
        return tuple.__new__(Now, times)  # as the real clock makes it

    def us_until(self, at: Instant) -> int:
        """Return how long the world has to wait until this clock shows `at`."""
        left_ms = max(0, at - self._booted_ms) * _MILLION * 1_000
        return max(0, -(-left_ms // self._rate) - self._kernel.now_us)
