"""What happened in a run: counts, a hash that repeats with the seed, and the newest lines."""

import hashlib
from collections import Counter, deque
from typing import Final

from agentcom.testing.simulation.kernel import SECOND, Kernel

LINES_MAX: Final = 4_000
"""Lines that are kept: what leads to a violation is rarely further back."""


class Violation(AssertionError):
    """A promise was broken: the invariant's name, and what was seen."""

    def __init__(self, invariant: str, detail: str) -> None:
        super().__init__(f"{invariant}: {detail}")
        self.invariant = invariant
        self.detail = detail

    def __reduce__(self) -> tuple[type["Violation"], tuple[str, str]]:
        """Cross from a worker's process whole."""
        return Violation, (self.invariant, self.detail)


class Trace:
    """Every event of a run passes here once."""

    def __init__(self, kernel: Kernel, *, keep: int = LINES_MAX) -> None:
        self.counts: Counter[str] = Counter()
        """Faults by kind, and what else is worth a figure."""
        self.checks: Counter[str] = Counter()
        """How often each invariant was looked at."""
        self._kernel = kernel
        self._hash = hashlib.blake2b(digest_size=16)
        self._lines: deque[tuple[int, str, str]] = deque(maxlen=keep)

    @property
    def digest(self) -> str:
        """The hash of all events so far."""
        return self._hash.hexdigest()

    @property
    def lines(self) -> list[str]:
        """The newest events, oldest first."""
        return [f"{at / SECOND:>12.3f} s  {who:<10} {what}" for at, who, what in self._lines]

    def note(self, who: str, what: str) -> None:
        """Take down one event."""
        now = self._kernel.now_us
        self._hash.update(f"{now} {who} {what}\n".encode())
        self._lines.append((now, who, what))

    def message(self, payload: bytes) -> None:
        """Take down one message as it is delivered; only its hash is kept."""
        self._hash.update(payload)

    def check(self, invariant: str, holds: object, detail: object = "") -> None:
        """Count a look at an invariant.

        Raises:
            Violation: it does not hold.
        """
        self.checks[invariant] += 1
        if not holds:
            raise Violation(invariant, str(detail))
