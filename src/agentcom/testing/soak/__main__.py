"""`make soak`: all parts, or some, and the bars that they must clear.

Everything stays on the loopback, in folders for temporary files, and ends by itself. It needs
Linux, since what processes cost is read from `/proc`.
"""

import datetime as dt
import os
import platform
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from agentcom.sidecar import processes
from agentcom.testing import usage
from agentcom.testing.soak import bars, day, idle, slow, storm
from agentcom.testing.soak.bars import Outcome, Say

CLEAR_LINE: Final = "\r\x1b[2K"
_WIDTH: Final = 110


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much of everything."""

    storm: storm.Plan
    slow: slow.Plan
    day: day.Plan
    idle: idle.Plan

    def parts(self) -> dict[str, Callable[[Say], Outcome]]:
        """Return how each part is run, in order."""
        return {
            "storm": lambda say: storm.run(self.storm, say),
            "slow": lambda say: slow.run(self.slow, say),
            "day": lambda say: day.run(self.day, say),
            "idle": lambda say: idle.run(self.idle, say),
        }


FULL: Final = Plan(storm=storm.Plan(), slow=slow.Plan(), day=day.Plan(), idle=idle.Plan())
QUICK: Final = Plan(
    storm=storm.Plan(roll_s=4.0),
    slow=slow.Plan(rounds=1, round_s=7.0),
    day=day.Plan(tasks=20_000, growth_bytes=day.COLD_GROWTH_BYTES),
    idle=idle.Plan(seconds=60.0),
)
TINY: Final = Plan(
    storm=storm.Plan(machines=60, held=20, roll_s=0.5, roll_share=0.1),
    slow=slow.Plan(sockets=2, streams=1, rounds=1, round_s=0.5, slow_tasks=20, lets_go=False),
    day=day.Plan(tasks=500, machines=6, growth_bytes=1e6, long_away_s=0.1),
    idle=idle.Plan(sidecars=2, seconds=1.0),
)
"""Only to see that it works."""


class Progress:
    """One line that says how far it is; on a pipe, a line now and then."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._live = sys.stderr.isatty()
        self._part = ""

    def begin(self, part: str) -> None:
        """Say which part comes."""
        self._part = part
        if not self._live:
            click.echo(f"soak: {part}", err=True)

    def say(self, text: str) -> None:
        """Say something new."""
        if self._live:
            line = f"{time.monotonic() - self._began:5.0f} s  {self._part}: {text}"
            click.echo(f"{CLEAR_LINE}{line[:_WIDTH]}", err=True, nl=False)

    def end(self) -> None:
        """Make room for what follows."""
        if self._live:
            click.echo(CLEAR_LINE, err=True, nl=False)


@click.command()
@click.option("--quick", is_flag=True, help="Less of everything, in about four minutes.")
@click.option("--tiny", is_flag=True, hidden=True, help="Only to see that it works.")
@click.option("--only", metavar="PARTS", help="Some of storm,slow,day,idle.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Write the figures there.")
def main(*, quick: bool, tiny: bool, only: str | None, path: Path | None) -> None:
    """Storms, slow readers, a day of traffic, and an idle hour, against a hub of your own."""
    if not processes.has_table():
        raise click.UsageError("this needs /proc, where it reads what the hub costs")
    plan = QUICK if quick else TINY if tiny else FULL
    parts = plan.parts()
    wanted = only.split(",") if only else list(parts)
    if not set(wanted) <= set(parts):
        raise click.UsageError(f"--only knows {','.join(parts)}")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)  # so that no process is left behind
    about = _about()
    progress, began, outcomes = Progress(), time.monotonic(), []
    for name in wanted:
        progress.begin(name)
        outcomes.append(parts[name](progress.say))
    progress.end()
    took_s, cpu_s = time.monotonic() - began, usage.cpu_s()
    about |= {"seconds": round(took_s), "cpu_seconds": round(cpu_s), "load_after": _load()}
    if path is not None:
        bars.save(path, outcomes, **about)
    _show(outcomes, took_s, cpu_s)
    sys.exit(not all(bar.holds for one in outcomes for bar in one.bars))


def _show(outcomes: list[Outcome], took_s: float, cpu_s: float) -> None:
    click.echo(bars.table(outcomes))
    missed = sum(not bar.holds for one in outcomes for bar in one.bars)
    held = sum(len(one.bars) for one in outcomes) - missed
    counts = ", ".join(f"{one.part}: {one.counts}" for one in outcomes)
    click.echo(counts)
    word = "FAIL" if missed else "PASS"
    click.echo(f"{word} {held} bars hold, {missed} missed; {took_s:.0f} s")
    click.echo(f"seconds of CPU {cpu_s:.0f}")


def _interrupt(number: int, _frame: object) -> None:
    raise KeyboardInterrupt(number)


def _about() -> dict[str, Any]:
    """Return on what, and when, this runs."""
    return {
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": " ".join(["python -m agentcom.testing.soak", *sys.argv[1:]]),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": _load(),
    }


def _load() -> float:
    """Return how many processes wanted a core during the last minute."""
    return round(os.getloadavg()[0], 1)


if __name__ == "__main__":
    main()
