"""`python -m agentcom.testing.crash`: try all crash states, or one of them again."""

import asyncio
import logging
import shutil
import sys
from pathlib import Path
from typing import Final

import click
import structlog

from agentcom.testing import usage
from agentcom.testing.crash import broken, damage, full, hub, kills, moving, power, suite
from agentcom.testing.crash.operations import Kind
from agentcom.testing.crash.suite import Effort, Outcome

SHOWN_MAX: Final = 30
_MIXTURES: Final = 64


@click.command()
@click.option("--quick", is_flag=True, help="The bounded form: some minutes of CPU.")
@click.option("--seed", type=int, default=1, show_default=True, help="The first of the lives.")
@click.option("--lives", type=click.IntRange(1), help="How many lives lose their power.")
@click.option("--state", help="One state again, as a violation names it.")
def main(*, quick: bool, seed: int, lives: int | None, state: str | None) -> None:
    """Break the disk under the store in every way, and count what was lost.

    Exit code 1 if anything was. Everything happens in a folder of its own, in memory.
    """
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    folder = suite.memory_folder()
    try:
        if state is not None:
            try:
                problems = _again(folder, state)
            except (LookupError, ValueError) as error:
                raise click.UsageError(f"{state} is no state of these: {error}") from error
            click.echo("\n".join(problems) or "sound")
            sys.exit(bool(problems))
        effort = (suite.QUICK if quick else suite.WHOLE)._replace(seed=seed)
        effort = effort if lives is None else effort._replace(lives=lives)
        outcome = suite.run(folder, effort, _say)
        _show(effort, outcome)
        sys.exit(bool(outcome.violations))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _again(folder: Path, state: str) -> list[str]:
    """Return what is wrong with one state, found again."""
    kind, _, rest = state.partition(":")
    if kind == "kill":
        return asyncio.run(_killed_again(folder, hub.parse(rest)))
    if kind == "full":
        room, _, since = rest.partition(":")
        return full.fill(folder, full.Point(int(room), since == "after")).problems
    if kind == "damage":
        name, number, size = rest.split(":")
        bench = damage.Bench(folder)
        return asyncio.run(_damaged_again(bench, damage.Spot(name, int(number), size == "large")))
    if kind == "move":
        return moving.fill(folder, int(rest))
    if kind == "broken":
        what, _, number = rest.partition(":")
        return broken.break_once(folder, Kind(what), int(number)).problems
    operation, _, outcome = rest.partition(":")
    place = power.Place(int(operation), int(outcome))
    case, problem = power.judged_again(folder, kind, place, mixtures=_MIXTURES)
    click.echo(f"{case.choice}; steps acknowledged {case.acked}, begun {case.begun}")
    return [] if problem is None else [problem]


async def _killed_again(folder: Path, strike: hub.Strike) -> list[str]:
    store = kills.Struck(folder / "store", seed=1)
    rounds = [await store.live(None), *await store.struck(strike), await store.live(None)]
    return [problem for one in rounds for problem in one.problems]


async def _damaged_again(bench: damage.Bench, spot: damage.Spot) -> list[str]:
    await bench.prepare()
    problem = await bench.problem(damage.ALL[spot.name], spot.seed, large=spot.large)
    return [] if problem is None else [problem]


def _say(text: str) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r\033[K{text}", nl=False, err=True)


def _show(effort: Effort, outcome: Outcome) -> None:
    last = effort.seed + max(effort.lives, effort.recoveries, effort.migrations, effort.moves) - 1
    rows = {
        "disk operations recorded": outcome.operations,
        "power losses: states built": outcome.built,
        "  of them distinct, each recovered and judged": len(outcome.digests),
        "  opened by the whole store, the others alike": outcome.whole,
        "  of a store and its archive": len(outcome.moves),
        "  lost": outcome.lost,
        "  corrupt": outcome.corrupt,
        "  broken in another way": outcome.broken,
        "hubs killed at a disk operation": outcome.kills,
        "  submits acknowledged, each there once": outcome.acknowledged,
        "sizes of a disk that gets full": outcome.full_points,
        "  of them refused something": outcome.refused,
        "operations that failed once": outcome.failures,
        "  of them syncs": outcome.sync_failures,
        "hubs whose sync failed, each ended with an error": outcome.failed_hubs,
        "files damaged, none of them silently wrong": outcome.damaged,
        "seeds": f"{effort.seed} to {last}",
        "seconds of CPU": round(usage.cpu_s()),
    }
    _say("")
    for name, value in rows.items():
        click.echo(f"  {name:<48} {value}")
    for what, state in outcome.violations[:SHOWN_MAX]:
        click.echo(f"! {what}\n  again: python -m agentcom.testing.crash --state '{state}'")
    word = "FAIL" if outcome.violations else "PASS"
    click.echo(f"{word} {len(outcome.violations)} violations")


if __name__ == "__main__":
    main()
