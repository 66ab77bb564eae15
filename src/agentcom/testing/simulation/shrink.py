"""Makes a failing run smaller: fewer kinds of faults, a calmer network, fewer acts, less time."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from agentcom.testing.simulation.kernel import HOUR, SECOND
from agentcom.testing.simulation.run import Failure, Outcome, simulate

RUNS_MAX: Final = 80
"""Runs that a shrink may take: some minutes."""
LINES: Final = 60
"""Lines of the trace that are shown."""

_OFF: Final[dict[str, Any]] = {
    "lossy": False,
    "drop": 0.0,
    "double": 0.0,
    "spike": 0.0,
    "cut": 0.0,
    "half_open": 0.0,
    "full": 0.0,
    "conflict": 0.0,
    "unknown": 0.0,
    "term_lost": 0.0,
    "sync_fails": 0.0,
    "slow": 0.0,
    "buggify": 0.0,
    "drift_ppm": 0,
    "agent_fails": 0.0,
    "agent_crashes": 0.0,
    "agent_hangs": 0.0,
    "quota": 0.0,
    "accounts": 0,
    "merges": 0.0,
}


def shrink(failed: Outcome, *, runs_max: int = RUNS_MAX) -> Outcome:
    """Return a smaller run that breaks the same promise; at worst the one that was given."""
    search = _Search(failed, runs_max)
    assert failed.failure is not None
    search.try_(hours=failed.failure.at_us / HOUR + 10 * SECOND / HOUR)
    for kind in list(search.best.options.every_us):
        every = {k: v for k, v in search.best.options.every_us.items() if k != kind}
        search.try_(every_us=every)
    for name, off in _OFF.items():
        if getattr(search.best.options, name) != off:
            search.try_(**{name: off})
    _drop_acts(search)
    return search.best


def story(failure: Failure) -> Sequence[str]:
    """Return the lines of a trace that are about what failed, and all that the nemesis did."""
    words = [word for word in _names(failure.detail) if len(word) > 5]
    lines = [
        line
        for line in failure.lines
        if "nemesis" in line or "  hub  " in line or any(word in line for word in words)
    ]
    return lines[-LINES:]


class _Search:
    """The smallest failing run so far."""

    def __init__(self, failed: Outcome, runs_max: int) -> None:
        self.best = failed
        self._left = runs_max

    @property
    def over(self) -> bool:
        """Whether no run is left."""
        return self._left <= 0

    def try_(self, **changes: Any) -> bool:
        """Run with changed options; keep them if the same promise is broken."""
        if self.over:
            return False
        self._left -= 1
        assert self.best.failure is not None
        outcome = simulate(msgspec.structs.replace(self.best.options, **changes))
        same = outcome.failure is not None
        if outcome.failure is None or outcome.failure.invariant != self.best.failure.invariant:
            return False
        self.best = outcome
        return same


def _drop_acts(search: _Search) -> None:
    """Leave out halves, quarters, ... of the acts, as delta debugging does (Zeller, 2002)."""
    count = 2
    while not search.over:
        numbers = [number for number, _ in search.best.acts]
        if len(numbers) < 2 or count > len(numbers):
            return
        size = -(-len(numbers) // count)
        for part in _parts(numbers, size):
            if search.try_(suppressed=(*search.best.options.suppressed, *part)):
                count = max(2, count - 1)
                break
        else:
            if size == 1:
                return
            count = min(2 * count, len(numbers))


def _parts(numbers: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(numbers), size):
        yield numbers[start : start + size]


def _names(detail: str) -> Sequence[str]:
    quoted = detail.split("'")
    return quoted[1::2]
