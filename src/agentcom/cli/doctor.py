"""`agentcom doctor`: looks at what is set up here, tries the program, and names the fixes."""

from pathlib import Path
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
@click.option("--bundle", type=click.Path(path_type=Path), help="Write an archive for a report.")
def doctor(
    quick: bool, scratch: bool, mend: bool, bundle: Path | None, as_json: tuple[str, ...] | None
) -> int:
    """Look at hub, machine, agents and files here, try the program, and name what mends it.

    What is tried happens in a scratch folder, on loopback. Exit code 1 if something is FAIL.
    A bundle has versions, settings, figures and the newest logs, without secrets; it is made also
    when the hub is down, and what is in it is listed first.

    \b
    Examples:
      agentcom doctor
      agentcom doctor --quick --json id,state,fix
      agentcom doctor --fix
      agentcom doctor --quick --bundle report.tar.gz
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped
    from agentcom.cli import bundling, checkup, findings

    if quick and scratch:
        raise click.UsageError("--quick and --scratch leave nothing to do")
    if bundle is not None:
        bundling.check(bundle)
    scope = checkup.Scope.ALL
    if quick or scratch:
        scope = checkup.Scope.QUICK if quick else checkup.Scope.SCRATCH
    rows = checkup.run(scope, mend=mend)
    output.listing(rows, _TABLE, as_json=as_json)
    if bundle is not None:
        bundling.write(bundle, rows)
    return int(any(row["state"] == findings.FAIL for row in rows))
