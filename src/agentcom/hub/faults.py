"""Fault points: where a simulation may have the shell do what is rare, such as a tiny batch.

In production nobody sets `chance`, and every point is False (FoundationDB's BUGGIFY).
"""

from collections.abc import Callable

chance: Callable[[str], bool] | None = None
"""Set by a simulation alone."""


def point(name: str) -> bool:
    """Return whether to do the rare thing here; `name` is for the simulation's counts."""
    return chance is not None and chance(name)
