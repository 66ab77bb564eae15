"""Which of a batch of candidates may land, found by few checks. Pure.

Candidates stand on each other in their order. If all pass together, one verification served them
all. If not, halving finds the first one that fails with those before it; they land, it is thrown
out, and those behind it are a new batch.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """Verify the first `count` together."""

    count: int


@dataclass(frozen=True, slots=True)
class Land:
    """All passed together."""

    count: int


@dataclass(frozen=True, slots=True)
class ThrowOut:
    """The first `good` pass together; with the next one they fail."""

    good: int


Step = Check | Land | ThrowOut


@dataclass(slots=True)
class Search:
    """What is known of a batch of `size` candidates, 1 or more."""

    size: int
    good: int = 0
    """So many first ones pass together; with 0 it is the base that is taken to."""
    bad: int | None = None
    """So many first ones fail together; None: no such prefix is known."""

    def step(self) -> Step:
        """Return what to do next."""
        if self.bad is None:
            return Land(self.size) if self.good == self.size else Check(self.size)
        if self.bad - self.good > 1:
            return Check((self.good + self.bad) // 2)
        return ThrowOut(self.good)

    def found(self, count: int, *, passed: bool) -> None:
        """Take what the verification of the first `count` has found."""
        if passed:
            self.good = max(self.good, count)
        else:
            self.bad = count if self.bad is None else min(self.bad, count)
