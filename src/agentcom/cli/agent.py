"""`agentcom agent`: show, pause, drain and check agents."""

from pathlib import Path
from typing import Final

import click

from agentcom.cli import output
from agentcom.cli.errors import Exit
from agentcom.cli.lazy import Group
from agentcom.cli.output import Column

_HOME: Final = click.option(
    "--home", type=click.Path(path_type=Path), help="By default AGENTCOM_HOME/machine."
)
FIELDS: Final = (
    *("id", "state", "runtime", "machine", "machine_name", "capabilities", "labels", "slots"),
    *("tasks", "paused", "absent", "suspect", "cli_version", "pool", "project", "account"),
    *("quarantined", "quarantined_at", "tried_at", "problem"),
)
CHECK_FIELDS: Final = (
    *("runtime", "version", "scenario", "passed", "expected", "found", "duration_ms"),
)


def _cure(row: output.Row) -> str | None:
    return f"agentcom agent resume {row['id']}" if row.get("quarantined") else None


def _own(row: output.Row) -> list[str]:
    """Return what tells an agent from others on its computer."""
    from agentcom.sidecar import computer

    names = computer.NAMES
    return [it for it in row.get("capabilities") or () if it.partition("=")[0] not in names]


_TABLE: Final = (
    Column("AGENT", lambda row: row["id"]),
    Column("STATE", lambda row: "paused" if row.get("paused") else row.get("state")),
    Column("RUNTIME", lambda row: row["runtime"]),
    Column("MACHINE", lambda row: row.get("machine_name") or output.short(row["machine"])),
    Column("SLOTS", lambda row: row.get("slots", 1)),
    Column("TASKS", lambda row: [output.short(str(one)) for one in row.get("tasks") or ()]),
    Column("CAPABILITIES", _own),
)
_DETAILS: Final = (
    *_TABLE[:-1],
    Column("CAPABILITIES", lambda row: row.get("capabilities")),
    Column("SANDBOX", lambda row: (row.get("labels") or {}).get("sandbox")),
    Column("PROBLEM", lambda row: row.get("problem")),
    Column("WHY", lambda row: row.get("quarantined")),
    Column("SINCE", lambda row: output.age(row.get("quarantined_at"))),
    Column("TRIAL", lambda row: output.age(row.get("tried_at"))),
    Column("CURE", _cure),
)
_CHECKS: Final = (
    Column("RUNTIME", lambda row: row["runtime"]),
    Column("VERSION", lambda row: row["version"]),
    Column("SCENARIO", lambda row: row["scenario"]),
    Column("RESULT", lambda row: {True: "ok", False: "FAIL", None: "-"}[row["passed"]]),
    Column("TIME", lambda row: f"{row['duration_ms'] / 1000:.1f} s"),
    Column("FOUND", lambda row: row["found"]),
)


@click.group(cls=Group)
def agent() -> None:
    """Show, pause and check agents."""


@agent.command("ls", cls=output.JsonCommand, fields=FIELDS)
def ls(as_json: tuple[str, ...] | None) -> None:
    """List the agents of the fleet."""
    from agentcom.cli import api

    rows = api.connect().agents()
    output.listing(rows, _TABLE, as_json=as_json)
    for row in rows:
        if row.get("quarantined") and as_json is None:
            output.talk(f"note: {row['id']} is quarantined: {_cure(row)}")
        if row.get("problem") and as_json is None:
            output.talk(f"note: {row['id']} cannot work: {row['problem']}")


@agent.command(cls=output.JsonCommand, fields=FIELDS)
@click.argument("name")
def show(name: str, as_json: tuple[str, ...] | None) -> None:
    """Show one agent."""
    from agentcom.cli import api

    output.details(api.connect().agent(name), _DETAILS, as_json=as_json)


@agent.command()
@click.argument("described", metavar="NAME=RUNTIME[:SETTINGS]")
@_HOME
def add(described: str, home: Path | None) -> None:
    """Add an agent to this computer, or change one; what runs goes on.

    \b
    Example:
      agentcom agent add reviewer=claude:accepts=kind=review,slots=2
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped
    from agentcom.cli import agents_here

    click.echo(f"{agents_here.add(described, home)}\tadded")


@agent.command("rm")
@click.argument("name")
@_HOME
def remove(name: str, home: Path | None) -> None:
    """Take an agent of this computer out of the fleet; what it runs comes to its end."""
    from agentcom.cli import agents_here

    agents_here.remove(name, home)
    click.echo(f"{name}\tremoved")


@agent.command()
@click.argument("name")
@click.option("--wait", is_flag=True, help="Return when nothing runs on it any more.")
@click.option("--timeout", type=click.FloatRange(min=0), help="With --wait: seconds; then 124.")
def pause(name: str, wait: bool, timeout: float | None) -> int:
    """Give an agent no new tasks; what it runs goes on."""
    from agentcom.cli import api, pausing

    hub = api.connect()
    hub.pause(name)
    click.echo(f"{name}\tpaused")
    if not wait:
        return Exit.DONE
    return pausing.until_quiet(lambda: len(hub.agent(name)["tasks"]), timeout_s=timeout)


@agent.command()
@click.argument("name")
def resume(name: str) -> None:
    """Give a paused or quarantined agent tasks again."""
    from agentcom.cli import api

    api.connect().unpause(name)
    click.echo(f"{name}\tresumed")


@agent.command("doctor", cls=output.JsonCommand, fields=CHECK_FIELDS)
@click.argument("cli", required=False)
@click.option("--binary", help="The program, if it is not on PATH.")
def doctor(cli: str | None, binary: str | None, as_json: tuple[str, ...] | None) -> int:
    """Run an installed agent CLI against a scripted model: edit, errors, silence, cancel, resume.

    Nothing leaves this computer, and no key is needed. `-` is what this program cannot do at all.

    \b
    Example:
      agentcom agent doctor codex
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped
    from agentcom.cli import agent_doctor

    rows = agent_doctor.check(cli, binary)
    output.listing(rows, _CHECKS, as_json=as_json)
    return int(any(row["passed"] is False for row in rows))
