"""Measure what the project claims, on this machine: `make bench`, or `python -m bench`.

Everything stays on the loopback, in a folder for temporary files, and ends by itself.
"""

import argparse
import datetime as dt
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agentcom.testing import peers
from bench import channel, floors, idle, plot, report, scale, scenarios, slices

ROOT: Final = Path(__file__).parent.parent
PARTS: Final = ("lifecycles", "dispatch", "idle", "channel", "depth", "scale")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much of everything."""

    workers: tuple[int, ...] = (1, 16, 64)
    rounds: int = 5
    round_s: float = 4.0
    dispatches: int = 1_000
    dispatch_per_s: float = 50.0
    machines: tuple[int, ...] = (1_000, 9_500)
    idle_s: float = 15.0
    depths: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    depth_rounds: int = 5
    depth_round_s: float = 5.0
    sizes: scale.Sizes = scale.Sizes()  # noqa: RUF009 - frozen
    crowd: channel.Sizes = channel.Sizes()  # noqa: RUF009 - likewise


QUICK: Final = Plan(
    rounds=3,
    round_s=1.0,
    dispatches=250,
    machines=(500,),
    idle_s=5.0,
    depths=(5_000, 50_000),
    depth_rounds=3,
    depth_round_s=1.5,
    sizes=scale.QUICK,
    crowd=channel.QUICK,
)
TINY: Final = Plan(
    workers=(4,),
    rounds=1,
    round_s=0.1,
    dispatches=10,
    machines=(3,),
    idle_s=0.1,
    depths=(100, 400),
    depth_rounds=1,
    depth_round_s=0.3,
    sizes=scale.TINY,
    crowd=channel.TINY,
)
"""Only to see that it works."""


def say(line: str) -> None:
    """Tell whoever waits how far it is."""
    print(f"  {line}", file=sys.stderr, flush=True)


def measure(plan: Plan, parts: tuple[str, ...] = PARTS) -> dict[str, Any]:
    """Return everything that was found."""
    peers.more_files()
    found: dict[str, Any] = {
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "short_slices": slices.shorten(),
        "machine": floors.machine(),
        "floors": floors.floors(),
    }
    if "lifecycles" in parts:
        say("lifecycles")
        found["lifecycles"] = scenarios.lifecycles(
            plan.workers, rounds=plan.rounds, seconds=plan.round_s, say=say
        )
    if "dispatch" in parts:
        say("dispatch")
        found["dispatch"] = scenarios.dispatch(
            workers=16, per_s=plan.dispatch_per_s, count=plan.dispatches
        )
    if "idle" in parts:
        say("idle machines")
        found["idle"] = idle.measure(plan.machines, seconds=plan.idle_s)
    if "channel" in parts:
        say("a channel with many readers")
        found["channel"] = channel.measure(plan.crowd)
    if "depth" in parts:
        say("depth")
        found["depth"] = scenarios.depth(
            plan.depths, workers=16, rounds=plan.depth_rounds, seconds=plan.depth_round_s, say=say
        )
    if "scale" in parts:
        say("scale")
        found["scale"] = scale.measure(plan.sizes)
    found["load_average_after"] = floors.load_average()
    return found


def save(found: dict[str, Any], folder: Path) -> list[Path]:
    """Write the figures, their page and their picture; return where."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [name for name in PARTS if name in found]
    what = "results" if len(parts) == len(PARTS) else "-".join(parts)
    stem = f"{what}-{found['date'][:10]}"
    paths = [folder / f"{stem}{suffix}" for suffix in (".json", ".md", ".svg")]
    has_picture = "lifecycles" in found or "depth" in found
    paths[0].write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    paths[1].write_text(report.markdown(found, paths[2].name if has_picture else None), "utf-8")
    if has_picture:
        paths[2].write_text(plot.svg(found), "utf-8")
    return paths[: 3 if has_picture else 2]


def main() -> None:
    """Measure, show, and keep."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="less of everything, in 2 minutes")
    size.add_argument("--tiny", action="store_true", help="only to see that it works")
    parser.add_argument("--only", default=",".join(PARTS), help="some of " + ",".join(PARTS))
    parser.add_argument("--out", type=Path, help="where to write the results")
    options = parser.parse_args()
    parts = tuple(options.only.split(","))
    if not set(parts) <= set(PARTS):
        parser.error(f"--only knows {', '.join(PARTS)}")
    plan = QUICK if options.quick else TINY if options.tiny else Plan()
    published = plan == Plan() and parts == PARTS
    began = time.monotonic()
    found = measure(plan, parts)
    folder = options.out or ROOT / ("docs/benchmarks" if published else "build/bench")
    paths = save(found, folder)
    print(report.terminal(found))
    print(f"\n{time.monotonic() - began:.0f} s; written to " + ", ".join(map(str, paths)))


if __name__ == "__main__":
    main()
