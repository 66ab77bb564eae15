"""`agentcom simulate`: a fleet under virtual time, broken on purpose, one seed after the other."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agentcom.cli.errors import Exit

if TYPE_CHECKING:
    from agentcom.testing.simulation.campaign import Totals
    from agentcom.testing.simulation.run import Outcome

_CLEAR = "\r\x1b[K"


@click.command()
@click.option("--seeds", type=click.IntRange(1), default=20, show_default=True)
@click.option("--from", "first", type=click.IntRange(0), default=1, show_default=True)
@click.option("--hours", type=click.FloatRange(0, min_open=True), default=1, show_default=True)
@click.option("--jobs", type=click.IntRange(1), help="Processes; by default one for each core.")
@click.option("--replay", type=click.Path(path_type=Path), help="Options of one run, as JSON.")
@click.option("--shrink/--no-shrink", default=True, show_default=True, help="Shrink a failure.")
@click.option("--mutants", is_flag=True, help="Plant each known bug, and see that it is caught.")
@click.option("--json", "to", type=click.Path(path_type=Path), help="Write the figures here.")
def simulate(
    *,
    seeds: int,
    first: int,
    hours: float,
    jobs: int | None,
    replay: Path | None,
    shrink: bool,
    mutants: bool,
    to: Path | None,
) -> int:
    """Run hubs, machines and people under virtual time, break them, and check every promise.

    The hub, its protocol and the sidecar's decisions are the real ones; network, disks, clocks
    and processes are simulated, and fail as each seed has it. A seed repeats a run exactly. When
    a promise does not hold, the run is made smaller and its options are printed, for --replay.

    \b
    Examples:
      agentcom simulate --seeds 100 --hours 2
      agentcom simulate --from 4711 --seeds 1
      agentcom simulate --mutants
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped
    import os
    import time

    import msgspec

    from agentcom.testing.simulation import campaign, gate
    from agentcom.testing.simulation.options import Options

    jobs = jobs or os.cpu_count() or 1
    if mutants:
        return Exit.DONE if gate.check_mutants(click.echo, jobs=jobs) else Exit.FAILED
    if replay is not None:
        options = msgspec.json.decode(replay.read_bytes(), type=Options)
        outcome = campaign.replay(options)
        _show_failure(outcome, shrink=False)
        return Exit.DONE if outcome.failure is None else Exit.FAILED
    totals, began = campaign.Totals(), time.monotonic()
    for outcome in campaign.run(range(first, first + seeds), hours, jobs=jobs):
        totals.add(outcome)
        _progress(totals, seeds, time.monotonic() - began)
        if outcome.failure is not None:
            _show_failure(outcome, shrink=shrink)
    report = gate.report(totals, first, time.monotonic() - began)
    _show(report)
    if to is not None:
        to.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    return Exit.DONE if not totals.failed else Exit.FAILED


def _progress(totals: "Totals", seeds: int, seconds: float) -> None:
    line = (
        f"seed {totals.runs}/{seeds}  {totals.hours:.1f} simulated hours  "
        f"{totals.hub_crashes:,} hub crashes  {totals.message_faults:,} message faults  "
        f"{len(totals.failed)} violations  {totals.hours / max(seconds, 0.001) * 3_600:,.0f}x"
    )
    if sys.stderr.isatty():
        click.echo(f"{_CLEAR}{line}", nl=False, err=True)
    elif totals.runs % 50 == 0:
        click.echo(line, err=True)


def _show_failure(outcome: "Outcome", *, shrink: bool) -> None:
    import msgspec

    from agentcom.testing.simulation import campaign
    from agentcom.testing.simulation import shrink as shrinking

    if sys.stderr.isatty():
        click.echo(_CLEAR, nl=False, err=True)
    if outcome.failure is None:
        click.echo(f"seed {outcome.options.seed}: every promise held, {outcome.hours:.2f} h")
        return
    small = campaign.replay(outcome.options, smaller=True) if shrink else outcome
    failure = small.failure
    if failure is None:
        click.echo(f"seed {outcome.options.seed} failed, and did not fail again: {outcome.failure}")
        return
    click.echo(f"VIOLATION seed {outcome.options.seed}: {failure.invariant}")
    click.echo(f"  {failure.detail[:2_000]}")
    for line in shrinking.story(failure):
        click.echo(f"  {line}")
    options = msgspec.json.encode(small.options).decode()
    click.echo(f"  after {small.hours * 3_600:,.0f} simulated seconds and {len(small.acts)} acts")
    click.echo(f"  again: agentcom simulate --replay FILE, where FILE holds\n  {options}")


def _show(report: "dict[str, object]") -> None:
    if sys.stderr.isatty():
        click.echo(_CLEAR, nl=False, err=True)
    for name, value in report.items():
        if isinstance(value, dict):
            click.echo(f"{name}:")
            for key, count in value.items():
                click.echo(f"  {key:<50} {count:>12,}")
        else:
            click.echo(
                f"{name:<52} {value:>12,}" if not isinstance(value, str) else f"{name}: {value}"
            )
