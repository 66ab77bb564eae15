"""The hub's clocks, and how a step of the wall clock is noticed."""

import time
from typing import Final, Protocol

from agentcom.model.ids import Now

CLOCK_STEP_MS: Final = 1_000
"""Drift between both clocks that counts as a step; slewing by NTP stays far below."""

_NS_PER_MS: Final = 1_000_000
# macOS: CLOCK_MONOTONIC goes on in sleep there, unlike what `time.monotonic` reads.
_BOOT: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """Where time comes from; injected, so that a test can move it."""

    def now(self) -> Now:
        """Return both times."""
        ...


class SystemClock:
    """The computer's own clocks."""

    def now(self) -> Now:
        times = (time.clock_gettime_ns(_BOOT) // _NS_PER_MS, time.time_ns() // _NS_PER_MS)
        return tuple.__new__(Now, times)  # asked for every frame: `Now()` takes twice as long


class StepWatch:
    """Tells when the wall clock was set: what was mapped from wall time is wrong then."""

    def __init__(self, now: Now) -> None:
        self._offset_ms = now.wall - now.instant

    def step_ms(self, now: Now) -> int:
        """Return by how much the wall clock has moved against boot time; 0 if by no step.

        A step is told once; the next one counts from there.
        """
        step_ms = now.wall - now.instant - self._offset_ms
        if abs(step_ms) <= CLOCK_STEP_MS:
            return 0
        self._offset_ms += step_ms
        return step_ms
