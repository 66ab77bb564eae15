"""Clocks of one simulated computer: they drift, are set, and tell both kinds of time."""

from typing import Final

from agentcom.model.ids import Instant, Now
from agentcom.testing.simulation.kernel import Kernel

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

    def now(self) -> Now:
        """Return both times, as this computer believes them to be."""
        ran_ms = self._kernel.now_us * self._rate // (_MILLION * 1_000)
        times = (self._booted_ms + ran_ms, EPOCH_MS + ran_ms + self.step_ms)
        return tuple.__new__(Now, times)  # as the real clock makes it

    def us_until(self, at: Instant) -> int:
        """Return how long the world has to wait until this clock shows `at`."""
        left_ms = max(0, at - self._booted_ms) * _MILLION * 1_000
        return max(0, -(-left_ms // self._rate) - self._kernel.now_us)
