"""The sidecar's clocks: monotonic time that goes on in sleep, and UTC."""

import time
from typing import Final, Protocol

from agentcom.model.ids import Instant, Now, WallTime

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
        """Return both times."""
        return Now(
            Instant(time.clock_gettime_ns(_BOOT) // _NS_PER_MS),
            WallTime(time.time_ns() // _NS_PER_MS),
        )
