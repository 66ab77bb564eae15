"""The picture of a run with peers: bars on a logarithmic scale, since they differ so much."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from bench.peers.report import DURABLE, HUB, Round, Summary, summary
from bench.plot import BLUE, GREEN, INK, PALE, line, text

WIDTH: Final = 980
NAMES: Final = 210
PANEL: Final = 300
GAP: Final = 80
TOP: Final = 56
STEP: Final = 30
BAR: Final = 16


def svg(rounds: Mapping[str, Sequence[Round]]) -> str:
    """Return the picture: lifecycles a second, and dispatch times."""
    got = {name: summary(each) for name, each in rounds.items()}
    height = TOP + STEP * len(got) + 34
    left, right = NAMES, NAMES + PANEL + GAP
    body = [f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>']
    body += _panel(left, "Lifecycles/s, median and range", got, _rates)
    body += _panel(right, "Dispatch, ms: p50, line to p99", got, _times)
    for row, name in enumerate(got):
        y = TOP + STEP * row + BAR - 3
        body.append(text(NAMES - 12, y, name, anchor="end", bold=name == HUB))
    note = "Logarithmic. Green: durable as measured. Blue: may lose acknowledged tasks."
    body.append(text(NAMES, height - 12, note, anchor="start", colour=PALE))
    size = f'viewBox="0 0 {WIDTH} {height}" font-family="system-ui, sans-serif" font-size="13"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>'
    return "\n".join([head, *body, "</svg>", ""])


def _rates(got: Summary) -> tuple[float, float, float, str]:
    return got.per_s, got.per_s_min, got.per_s_max, f"{got.per_s:,.0f}"


def _times(got: Summary) -> tuple[float, float, float, str]:
    return got.p50_ms, got.p50_ms, got.p99_ms, f"{got.p50_ms:.1f}"


def _panel(
    left: int,
    title: str,
    got: Mapping[str, Summary],
    values: Callable[[Summary], tuple[float, float, float, str]],
) -> list[str]:
    shown = {name: values(each) for name, each in got.items()}
    lowest = min(value[1] for value in shown.values()) / 2
    span = math.log(max(value[2] for value in shown.values()) / lowest)

    def x(value: float) -> float:
        return left + PANEL * math.log(value / lowest) / span

    parts = [text(left, 28, title, size=15, anchor="start", bold=True)]
    for row, (name, (value, low, high, words)) in enumerate(shown.items()):
        y = TOP + STEP * row
        colour = GREEN if name in DURABLE else BLUE
        place = f'x="{left}" y="{y}" width="{x(value) - left:.1f}" height="{BAR}"'
        opacity = 1 if name == HUB else 0.6
        parts.append(f'<rect {place} fill="{colour}" opacity="{opacity}"/>')
        parts.append(line(x(low), y + BAR / 2, x(high), y + BAR / 2, INK))
        parts.append(text(x(high) + 6, y + BAR - 3, words, anchor="start", bold=name == HUB))
    return parts
