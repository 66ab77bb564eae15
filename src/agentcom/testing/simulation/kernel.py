"""Virtual time: one heap of what comes next. Nothing here waits, and nothing reads a real clock."""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, Final

SECOND: Final = 1_000_000
"""Virtual time counts microseconds."""
MS: Final = 1_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE


class Entry(list[Any]):
    """Something that will happen, unless it is cancelled before: when, a number, what, with what.

    A list, so that the heap compares entries without a call of Python's.
    """

    __slots__ = ()

    def cancel(self) -> None:
        """Let it not happen."""
        self[2:] = None, ()


class Kernel:
    """What comes next, in order of time and then of asking."""

    def __init__(self) -> None:
        self.now_us = 0
        self.steps = 0
        self._heap: list[Entry] = []
        self._asked = 0

    def at(self, when_us: int, action: Callable[..., object], *arguments: Any) -> Entry:
        """Call `action` at a moment; one that is past means now, after what is asked already."""
        now = self.now_us
        self._asked = number = self._asked + 1
        entry = Entry((max(now, when_us), number, action, arguments))
        heappush(self._heap, entry)
        return entry

    def after(self, delay_us: int, action: Callable[..., object], *arguments: Any) -> Entry:
        """Call `action` after a delay."""
        return self.at(self.now_us + delay_us, action, *arguments)

    def run_until(self, end_us: int) -> None:
        """Let everything happen up to a moment, and stand there."""
        heap, pop = self._heap, heappop
        while heap and heap[0][0] <= end_us:
            when, _, action, arguments = pop(heap)
            if action is None:
                continue
            self.now_us = when
            self.steps += 1
            action(*arguments)
        self.now_us = max(self.now_us, end_us)
