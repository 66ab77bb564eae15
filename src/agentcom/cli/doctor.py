"""`agentcom doctor`: does here what the product does, and names the fix of what fails."""

from typing import Final

import click

from agentcom.cli import output
from agentcom.cli.output import Column

FIELDS: Final = ("check", "state", "found", "fix")
_TABLE: Final = (
    Column("CHECK", lambda row: row["check"]),
    Column("STATE", lambda row: row["state"]),
    Column("FOUND", lambda row: row["found"]),
    Column("FIX", lambda row: row["fix"]),
)


@click.command(cls=output.JsonCommand, fields=FIELDS)
@click.option("--quick", is_flag=True, help="Without the run of a task from end to end.")
def doctor(quick: bool, as_json: tuple[str, ...] | None) -> int:
    """Exercise store, network, git, disk, clock and agents, and run a task end to end.

    Everything happens in a scratch folder, on loopback. Exit code 1 if something must be fixed.

    \b
    Examples:
      agentcom doctor
      agentcom doctor --json check,state,fix
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped
    from agentcom.cli import checkup

    rows = checkup.run(end_to_end=not quick)
    output.listing(rows, _TABLE, as_json=as_json)
    return int(any(row["state"] == checkup.FAIL for row in rows))
