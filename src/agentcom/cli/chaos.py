"""`agentcom chaos`: the fault suite, run by whoever wants to see it on the own machine."""

import sys
from pathlib import Path

import click

from agentcom.cli import output, scratch
from agentcom.cli.errors import Exit


@click.command()
@click.option("--kills", type=click.IntRange(1), default=200, show_default=True)
@click.option("--seed", type=int, help="By default a new one; a run prints the one it had.")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), default=15, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), help="By default a new one in /tmp.")
@click.option("--keep", is_flag=True, help="Keep the folder, also on success.")
def chaos(*, kills: int, seed: int | None, minutes: float, folder: Path | None, keep: bool) -> int:
    """Kill a hub, machines and agents under load, and count what was lost.

    A hub on a real store and three machines start as processes of yours, on loopback only. The
    hub, the sidecars and the agents are killed at random moments, each KILLS times at least. They
    are stopped for a while, too, their lines are cut, stalled and left half-open, and a second
    sidecar uses a machine's identity. Then everything comes to rest, and the promises are
    checked. Exit code 1 and a folder with all logs if one does not hold.

    \b
    Examples:
      agentcom chaos --kills 20
      agentcom chaos --seed 7
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped
    import asyncio
    import logging
    import random
    import shutil
    import signal

    import structlog

    from agentcom.sidecar import processes
    from agentcom.testing.chaos import run

    if not processes.has_table():
        raise click.UsageError("this needs /proc, to be sure that nothing is left running")
    seed = random.SystemRandom().randrange(1 << 32) if seed is None else seed
    root = scratch.folder(folder, "agentcom-chaos-")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    click.echo(f"chaos: {kills} kills of each kind, seed {seed}, lease 3 s (normally 20 s)")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    plan = run.Plan(kills=kills, seed=seed, seconds_max=minutes * 60)
    good = False
    try:
        outcome = asyncio.run(run.run(root, plan, _say))
        good = not outcome.problems
        _show(outcome)
        if outcome.fewest_kills < kills:
            output.talk(f"note: time was up before {kills} kills of each kind; see --minutes")
    finally:
        if good and not keep:
            shutil.rmtree(root, ignore_errors=True)
        else:
            output.talk(f"kept: {root} (logs, faults.jsonl, hub/, a folder per machine)")
    return Exit.DONE if good else Exit.FAILED


def _show(outcome: "run.Outcome") -> None:  # type: ignore[name-defined]  # noqa: F821
    click.echo("faults survived" if not outcome.problems else "faults")
    for name, count in outcome.faults:
        click.echo(f"  {name:<48} {count:>7}")
    click.echo("what happened")
    for name, value in outcome.figures:
        click.echo(f"  {name:<48} {value:>7}")
    click.echo("invariants checked")
    for it in sorted(outcome.checked, key=lambda one: int(one.number[1:])):
        mark = "ok" if not it.violations else f"VIOLATED {it.violations} times"
        click.echo(f"  {it.number:<4}{it.name:<46} {it.checks:>5} checks  {mark}")
    for problem in outcome.problems[:50]:
        click.echo(f"! {problem}")
    word = "PASS" if not outcome.problems else "FAIL"
    faults = sum(count for _, count in outcome.faults)
    click.echo(
        f"{word} {outcome.hub_kills} hub kills and {faults - outcome.hub_kills} other faults"
        f" survived, {len(outcome.problems)} violations"
    )


def _say(text: str) -> None:
    click.echo(text)
    sys.stdout.flush()


def _interrupt(number: int, _frame: object) -> None:
    raise KeyboardInterrupt(number)
