"""What was measured, and the bars that it must clear."""

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

Say = Callable[[str], None]

_ROUNDED_FROM: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One thing that must be true, what was found, and whether it holds."""

    name: str
    bar: str
    measured: str
    holds: bool
    counted: bool
    """It is a count, which no clock and no busy computer decides."""


@dataclass(slots=True)
class Outcome:
    """What one part found: bars, and figures that have none."""

    part: str
    counts: str = ""
    """How much it was, in a few words."""
    bars: list[Bar] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    def at_most(self, name: str, measured: float, bound: float, unit: str = "") -> None:
        """Something must not be more than a bound."""
        bar = f"<= {bound:g}{_spaced(unit)}"
        self._add(name, bar, _number(measured, unit), holds=measured <= bound, counted=False)

    def exactly(self, name: str, measured: float, wanted: float) -> None:
        """Something must be a number."""
        self._add(name, f"{wanted:,}", f"{measured:,}", holds=measured == wanted)

    def at_least(self, name: str, measured: float, bound: float, unit: str = "") -> None:
        """Something must not be less than a bound."""
        bar = f">= {bound:g}{_spaced(unit)}"
        self._add(name, bar, _number(measured, unit), holds=measured >= bound)

    def none(self, name: str, found: Sequence[str]) -> None:
        """There must be nothing of a kind; the first ones are shown."""
        shown = f"{len(found)}: {'; '.join(found[:3])}" if found else "0"
        self._add(name, "0", shown, holds=not found)

    def _add(
        self, name: str, bar: str, measured: str, *, holds: bool, counted: bool = True
    ) -> None:
        one = Bar(name=name, bar=bar, measured=measured, holds=holds, counted=counted)
        self.bars.append(one)


def table(outcomes: Sequence[Outcome]) -> str:
    """Return all bars as text for a terminal."""
    rows = [
        (one.part, bar.name, bar.bar, bar.measured, "ok" if bar.holds else "MISSED")
        for one in outcomes
        for bar in one.bars
    ]
    widths = [max(len(row[at]) for row in rows) for at in range(4)] if rows else []
    lines = [
        "  ".join(
            f"{text:<{width}}" for text, width in zip(row, [*widths, 0], strict=True)
        ).rstrip()
        for row in rows
    ]
    return "\n".join(lines)


def save(path: Path, outcomes: Sequence[Outcome], **about: Any) -> None:
    """Write everything as JSON, for whoever publishes it."""
    found = {**about, "parts": [asdict(one) for one in outcomes]}
    path.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


def quantile(values: Sequence[float], part: float) -> float:
    """Return the value that `part` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def bound_of(histogram: Mapping[float, int], part: float = 1.0) -> float:
    """Return the upper bound of the bucket in which `part` of all observations are reached."""
    wanted = part * sum(histogram.values())
    seen = 0
    for bound, count in histogram.items():
        seen += count
        if count and seen >= wanted:
            return bound
    return 0.0


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the median slope between all pairs (Theil and Sen); outliers do not move it."""
    pairs = [
        (y2 - y1) / (x2 - x1)
        for at, (x1, y1) in enumerate(points)
        for x2, y2 in points[at + 1 :]
        if x2 > x1
    ]
    return statistics.median(pairs) if pairs else 0.0


def _number(value: float, unit: str) -> str:
    exact = isinstance(value, int) or value >= _ROUNDED_FROM
    return (f"{value:,.0f}" if exact else f"{value:,.3g}") + _spaced(unit)


def _spaced(unit: str) -> str:
    return f" {unit}" if unit else ""
