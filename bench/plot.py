"""One picture of a run, as SVG made by hand: no library is needed, and it reads well as text."""

from collections.abc import Sequence
from html import escape
from typing import Any, Final, NamedTuple

WIDTH: Final = 860
HEIGHT: Final = 330
PANEL: Final = 400
TOP: Final = 60
BOTTOM: Final = 280
BAR: Final = 56
INK: Final = "#334155"
PALE: Final = "#94a3b8"
BLUE: Final = "#2563eb"
GREEN: Final = "#059669"
RED: Final = "#dc2626"


class Bar(NamedTuple):
    """One value with its spread, and the words under it."""

    label: str
    value: float
    low: float
    high: float
    note: str


def svg(found: dict[str, Any]) -> str:
    """Return the picture: lifecycles by workers, and by length of the queue."""
    workers = [_bar(f"W={row['workers']}", row) for row in found.get("lifecycles", ())]
    depths = [_bar(f"{row['queued']:,}", row) for row in found.get("depth", {}).get("rows", ())]
    body = [
        *_panel(20, "Durable lifecycles/s by number of workers", workers, BLUE, target=6_000),
        *_panel(440, "Durable lifecycles/s by tasks queued, W=16", depths, GREEN, target=None),
    ]
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="system-ui, sans-serif" font-size="13"'
    paper = f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>'
    return "\n".join([head, paper, *body, "</svg>", ""])


def _bar(label: str, row: dict[str, Any]) -> Bar:
    note = f"{row['cpu_us']:.0f} us CPU each"
    return Bar(label, row["per_s"], row["per_s_min"], row["per_s_max"], note)


def _panel(
    left: int, title: str, bars: Sequence[Bar], colour: str, *, target: float | None
) -> list[str]:
    if not bars:
        return []
    top_value = 1.1 * max([bar.high for bar in bars] + ([target] if target else []))
    per_unit = (BOTTOM - TOP) / top_value
    step = PANEL / len(bars)
    parts = [text(left, 30, title, size=15, anchor="start", bold=True)]
    parts.append(line(left, BOTTOM, left + PANEL, BOTTOM, PALE))
    if target is not None:
        y = BOTTOM - target * per_unit
        parts.append(line(left, y, left + PANEL, y, RED, dashes="6 4"))
        parts.append(text(left + PANEL, y - 5, f"target {target:,.0f}", colour=RED, anchor="end"))
    for number, bar in enumerate(bars):
        parts += _column(left + step * (number + 0.5), bar, per_unit, colour)
    return parts


def _column(x: float, bar: Bar, per_unit: float, colour: str) -> list[str]:
    y = BOTTOM - bar.value * per_unit
    low, high = BOTTOM - bar.low * per_unit, BOTTOM - bar.high * per_unit
    place = f'x="{x - BAR / 2:.1f}" y="{y:.1f}" width="{BAR}" height="{BOTTOM - y:.1f}"'
    return [
        f'<rect {place} fill="{colour}" opacity="0.85"/>',
        line(x, low, x, high, INK),
        text(x, high - 6, f"{bar.value:,.0f}", bold=True),
        text(x, BOTTOM + 18, bar.label),
        text(x, BOTTOM + 36, bar.note, colour=PALE),
    ]


def text(
    x: float,
    y: float,
    words: str,
    *,
    size: int = 13,
    anchor: str = "middle",
    colour: str = INK,
    bold: bool = False,
) -> str:
    """Return words at a place."""
    weight = ' font-weight="600"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
        f'fill="{colour}"{weight}>{escape(words)}</text>'
    )


def line(x1: float, y1: float, x2: float, y2: float, colour: str, *, dashes: str = "") -> str:
    """Return a straight line."""
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        f'stroke="{colour}" stroke-width="1.5"{dashed}/>'
    )
