"""`agentcom join` and `agentcom machine`: computers come into the fleet, and leave it."""

import time
from pathlib import Path
from typing import Any, Final

import click

from agentcom.cli import context, output
from agentcom.cli.errors import CommandFailed, Exit
from agentcom.cli.lazy import Group
from agentcom.cli.output import Column

FIELDS: Final = (
    *("id", "name", "owner", "connected", "suspect", "draining", "agents", "tasks"),
    *("last_seen", "lease_ttl_ms", "created_at"),
)
DISK_FIELDS: Final = ("kind", "name", "size_bytes", "used_at", "path")


def state_of(row: output.Row) -> str:
    """Return how a machine stands, in one word."""
    if not row.get("connected"):
        return "offline"
    if row.get("suspect"):
        return "suspect"
    return "draining" if row.get("draining") else "ok"


_MINUTE_MS: Final = 60_000
_ROUND_MS: Final = 5_000
"""The way of the answer: a code for 15 minutes is not called one for 14."""
_TABLE: Final = (
    Column("MACHINE", lambda row: row["name"]),
    Column("STATE", state_of),
    Column("AGENTS", lambda row: row.get("agents")),
    Column("TASKS", lambda row: [output.short(str(one)) for one in row.get("tasks") or ()]),
    Column("SEEN", lambda row: output.age(row.get("last_seen"))),
    Column("OWNER", lambda row: row["owner"]),
    Column("ID", lambda row: output.short(row["id"])),
)
_NAME: Final = click.argument("name")


@click.command()
@click.argument("address", metavar="URL#CODE")
@click.option("--name", help="The machine's name; by default the computer's.")
@click.option("--agent", "agents", multiple=True, metavar="NAME=RUNTIME[:SETTINGS]")
@click.option("--home", type=click.Path(path_type=Path), help="By default AGENTCOM_HOME/machine.")
@click.option("--via", metavar="ssh://[USER@]HOST[:PORT]", help="Reach the hub from there.")
@click.option("--no-start", is_flag=True, help="Only enrol.")
@click.option("--replace", is_flag=True, help="As a person: instead of who you are at that hub.")
def join(address: str, **options: Any) -> None:
    """Bring this computer, or yourself, into a fleet with a one-time code.

    \b
    Examples:
      agentcom join 'https://hub.example:7420#acm_enr_...'
      agentcom join URL#CODE --name builder --agent builder-shell=command
      agentcom join 'http://127.0.0.1:7420#acm_enr_...' --via ssh://ada@hub.example
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped
    from agentcom.cli import joining

    url, _, code = address.partition("#")
    if not url or not code:
        raise CommandFailed(
            "the address has no code",
            hint="agentcom join URL#CODE, as `agentcom machine invite` prints it",
            exit_code=Exit.USAGE,
            code="usage",
        )
    joining.join(
        url,
        code,
        name=options["name"],
        agents=options["agents"],
        home=options["home"] or context.machine_home(),
        via=options["via"] or "",
        start=not options["no_start"],
        replace=options["replace"],
    )


@click.group(cls=Group)
def machine() -> None:
    """Invite, show, drain and remove machines."""


@machine.command()
@click.option("--uses", type=click.IntRange(1, 1_000), default=1, show_default=True)
@click.option("--minutes", type=click.IntRange(1, 43_200), help="By default 15.")
@click.option("--name", help="What the machine will be called.")
def invite(uses: int, minutes: int | None, name: str | None) -> None:
    """Print the command by which another computer joins."""
    from agentcom.cli import api

    ttl_ms = minutes * _MINUTE_MS if minutes is not None else None
    answer = api.connect().invite_machine(uses=uses, ttl_ms=ttl_ms, name=name)
    click.echo(f"agentcom join '{answer['join']}'")
    often = "once" if uses == 1 else f"for {uses} machines"
    left_ms = answer["expires_at"] - int(time.time() * 1000) + _ROUND_MS
    output.talk(f"note: it works {often}, and for {output.span(left_ms)}")


@machine.command("ls", cls=output.JsonCommand, fields=FIELDS)
def ls(as_json: tuple[str, ...] | None) -> None:
    """List the machines of the fleet."""
    from agentcom.cli import api

    output.listing(api.connect().machines(), _TABLE, as_json=as_json)


@machine.command(cls=output.JsonCommand, fields=FIELDS)
@_NAME
def show(name: str, as_json: tuple[str, ...] | None) -> None:
    """Show one machine, and which of its agents cannot work."""
    from agentcom.cli import api

    hub = api.connect()
    row = hub.machine(name)
    output.details(row, _TABLE, as_json=as_json)
    if as_json is None:
        here = [agent for agent in hub.agents() if agent["machine"] == row["id"]]
        for agent in here:
            if agent["problem"]:
                output.talk(f"note: {agent['id']} cannot work: {agent['problem']}")


@machine.command(cls=output.JsonCommand, fields=DISK_FIELDS)
@click.option("--home", type=click.Path(path_type=Path), help="By default AGENTCOM_HOME/machine.")
def disk(home: Path | None, as_json: tuple[str, ...] | None) -> None:
    """Show what this computer keeps for tasks, where, and how large it is."""
    from agentcom.cli import disk_usage

    disk_usage.show(home or context.machine_home(), as_json=as_json)


@machine.command()
@_NAME
@click.option("--off", is_flag=True, help="Give it tasks again.")
@click.option("--wait", is_flag=True, help="Return when nothing runs there any more.")
@click.option("--timeout", type=click.FloatRange(min=0), help="With --wait: seconds; then 124.")
def drain(name: str, off: bool, wait: bool, timeout: float | None) -> int:
    """Give a machine no new tasks; what it runs goes on."""
    from agentcom.cli import api, pausing

    hub = api.connect()
    hub.drain(name, off=off)
    click.echo(f"{name}\t{'active' if off else 'draining'}")
    if off or not wait:
        return Exit.DONE
    return pausing.until_quiet(lambda: len(hub.machine(name)["tasks"]), timeout_s=timeout)


@machine.command()
@_NAME
def restart(name: str) -> None:
    """Have a machine's process start anew, with the version that is installed there now.

    What it runs goes on meanwhile, and is taken over.
    """
    from agentcom.cli import api

    api.connect().restart(name)
    click.echo(f"{name}\trestarts")


@machine.command("rm")
@_NAME
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(name: str, yes: bool) -> None:
    """Take a machine out of the fleet; its token ends at once."""
    from agentcom.cli import api

    hub = api.connect()
    found = hub.machine(name)
    if not yes:
        output.confirm(f"Remove {found['name']}?")
    hub.remove_machine(found["id"])
    click.echo(f"{found['name']}\tremoved")
