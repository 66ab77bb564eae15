"""What checks found and what a person must see, as the terminal shows it."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from agentcom.cli import output
from agentcom.cli.output import Column

Row = Mapping[str, Any]


def outcome(check: Row) -> str:
    """Return how a check ended."""
    if check["passed"]:
        return "passed"
    if check.get("timed_out"):
        return "timed out"
    code = check.get("exit_code")
    return "failed" if code is None else f"failed, exit code {code}"


def _took(check: Row) -> str | None:
    duration_ms = check.get("duration_ms") or 0
    return f"{duration_ms / 1_000:.1f} s" if duration_ms else None


_CHECKS: Final = (
    Column("CHECK", lambda row: row["name"]),
    Column("KIND", lambda row: "setup" if row.get("setup") else row.get("kind", "command")),
    Column("OUTCOME", outcome),
    Column("TOOK", _took),
    Column("FOUND", lambda row: row.get("said") or None),
)


def newest(rows: Sequence[Row]) -> Row | None:
    """Return the newest result that has a report of checks."""
    found = (row["result"] for row in rows if (row["result"].get("report") or {}).get("checks"))
    return next(found, None)


def show_report(rows: Sequence[Row]) -> None:
    """Print a line for each check of the newest result that has some."""
    result = newest(rows)
    if result is None:
        return
    click.echo()
    output.listing(result["report"]["checks"], _CHECKS, as_json=None)
    mended = result.get("corrections") or 0
    if mended:
        turns = "1 turn" if mended == 1 else f"{mended} turns"
        click.echo(f"its agent was shown failing checks, and went on for {turns}")


def show_output(rows: Sequence[Row]) -> None:
    """Print what each check of the newest result that has some printed, the failed ones last."""
    result = newest(rows)
    if result is None:
        output.talk("no result of this task has a check")
        return
    for check in sorted(result["report"]["checks"], key=lambda one: not one["passed"]):
        said = f": {check['said']}" if check.get("said") else ""
        click.echo(f"{output.plain(check['name'])}: {outcome(check)}{output.plain(said)}")
        click.echo(output.lines(check.get("output_tail") or ""), nl=False)


def show_changes(rows: Sequence[Row]) -> None:
    """Print what a person must see of the newest result that has such changes."""
    found = next((row["result"] for row in rows if row["result"].get("needs_person")), None)
    if found is None:
        output.talk("no result of this task needs a person")
        return
    shown = found.get("protected") or ()
    for one in shown:
        click.echo(output.plain(one["reason"]))
        click.echo(output.lines(one.get("diff") or ""), nl=False)
    known = {one["reason"] for one in shown}
    for reason in found["needs_person"]:
        if reason not in known:
            click.echo(output.plain(reason))
