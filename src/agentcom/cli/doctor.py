"""`agentcom doctor`: looks at what is set up here, tries the program, and names the fixes."""

from typing import Final

import click

from agentcom.cli import output
from agentcom.cli.output import Column

FIELDS: Final = ("check", "state", "id", "found", "fix")
_TABLE: Final = (
    Column("CHECK", lambda row: row["check"]),
    Column("STATE", lambda row: row["state"]),
    Column("FINDING", lambda row: row["id"]),
    Column("FOUND", lambda row: row["found"]),
    Column("FIX", lambda row: row["fix"]),
)


@click.command(cls=output.JsonCommand, fields=FIELDS)
@click.option("--quick", is_flag=True, help="Only look at what is set up here; try nothing.")
@click.option("--scratch", is_flag=True, help="Only try the program, in a scratch folder.")
@click.option("--fix", "mend", is_flag=True, help="Mend what can be mended without any loss.")
def doctor(quick: bool, scratch: bool, mend: bool, as_json: tuple[str, ...] | None) -> int:
    """Look at hub, machine, agents and files here, try the program, and name what mends it.

    What is tried happens in a scratch folder, on loopback. Exit code 1 if something is FAIL.

    \b
    Examples:
      agentcom doctor
      agentcom doctor --quick --json id,state,fix
      agentcom doctor --fix
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped
    from agentcom.cli import checkup, findings

    if quick and scratch:
        raise click.UsageError("--quick and --scratch leave nothing to do")
    scope = checkup.Scope.ALL
    if quick or scratch:
        scope = checkup.Scope.QUICK if quick else checkup.Scope.SCRATCH
    rows = checkup.run(scope, mend=mend)
    output.listing(rows, _TABLE, as_json=as_json)
    return int(any(row["state"] == findings.FAIL for row in rows))
