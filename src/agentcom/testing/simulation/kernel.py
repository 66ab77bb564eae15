"""Virtual time: one heap of what comes next. Nothing here waits, and nothing reads a real clock."""

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Any, Final

SECOND: Final = 1_000_000
"""Virtual time counts microseconds."""
MS: Final = 1_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE


class Entry:
    """Something that will happen, unless it is cancelled before."""

    __slots__ = ("action", "arguments")

    def __init__(self, action: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        self.action: Callable[..., object] | None = action
        self.arguments = arguments

    def cancel(self) -> None:
        """Let it not happen."""
        self.action = None
        self.arguments = ()


class Kernel:
    """What comes next, in order of time and then of asking."""

    def __init__(self) -> None:
        self.now_us = 0
        self.steps = 0
        self._heap: list[tuple[int, int, Entry]] = []
        self._number = count()

    def at(self, when_us: int, action: Callable[..., object], *arguments: Any) -> Entry:
        """Call `action` at a moment; one that is past means now, after what is asked already."""
        entry = Entry(action, arguments)
        heappush(self._heap, (max(when_us, self.now_us), next(self._number), entry))
        return entry

    def after(self, delay_us: int, action: Callable[..., object], *arguments: Any) -> Entry:
        """Call `action` after a delay."""
        return self.at(self.now_us + delay_us, action, *arguments)

    def run_until(self, end_us: int) -> None:
        """Let everything happen up to a moment, and stand there."""
        heap = self._heap
        while heap and heap[0][0] <= end_us:
            when, _, entry = heappop(heap)
            action = entry.action
            if action is None:
                continue
            self.now_us = when
            self.steps += 1
            action(*entry.arguments)
        self.now_us = max(self.now_us, end_us)
