"""`agentcom schedule`: tasks that come again and again, by the clock."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import click

from agentcom.cli import output, steering
from agentcom.cli.errors import CommandFailed, Exit
from agentcom.cli.lazy import Group
from agentcom.cli.output import Column

FIELDS: Final = (
    *("name", "cron", "zone", "next_at", "last_at", "last_task", "paused", "reason", "runs"),
    *("failures", "missed", "overlap", "start_within_ms", "owner", "project", "id", "task"),
)
NEXT_FIELDS: Final = ("at", "local", "zone")


def state_of(row: Mapping[str, Any]) -> str:
    """Return whether a schedule goes on, and what it says."""
    state = "paused" if row["paused"] else "active" if row["next_at"] else "over"
    return f"{state} ({row['reason']})" if row.get("reason") else state


def local_time(wall_ms: int | None, zone: str) -> str:
    """Return a time as a clock in `zone` shows it."""
    if wall_ms is None:
        return ""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        place = UTC if zone == "UTC" else ZoneInfo(zone)
    except ZoneInfoNotFoundError:  # the hub's computer knows it, ours does not
        place = UTC
    return datetime.fromtimestamp(wall_ms / 1_000, place).strftime("%a %Y-%m-%d %H:%M %Z")


_TABLE: Final = (
    Column("NAME", lambda row: row["name"]),
    Column("CRON", lambda row: row["cron"]),
    Column("ZONE", lambda row: row["zone"]),
    Column("NEXT", lambda row: "" if row["paused"] else output.age(row["next_at"])),
    Column("RUNS", lambda row: row["runs"]),
    Column("FAILED", lambda row: row["failures"] or ""),
    Column("STATE", state_of),
)
_DETAILS: Final = (
    Column("NAME", lambda row: row["name"]),
    Column("STATE", state_of),
    Column("CRON", lambda row: row["cron"]),
    Column("ZONE", lambda row: row["zone"]),
    Column("NEXT", lambda row: "" if row["paused"] else local_time(row["next_at"], row["zone"])),
    Column("LAST", lambda row: local_time(row["last_at"], row["zone"])),
    Column("LAST TASK", lambda row: output.short(row["last_task"])),
    Column("RUNS", lambda row: row["runs"]),
    Column("FAILED IN A ROW", lambda row: row["failures"] or ""),
    Column("MISSED", lambda row: row["missed"]),
    Column("OVERLAP", lambda row: row["overlap"]),
    Column("OWNER", lambda row: row["owner"]),
    Column("TITLE", lambda row: row["task"]["title"]),
    Column("REPO", lambda row: row["task"].get("repo")),
)
_NEXT: Final = (
    Column("AT", lambda row: output.age(row["at"])),
    Column("LOCAL", lambda row: row["local"]),
)
_NAME: Final = click.argument("name")
_MISSED: Final = click.Choice(["skip", "once", "all"])
_OVERLAP: Final = click.Choice(["skip", "queue"])


@click.group(cls=Group)
def schedule() -> None:
    """Have tasks submitted by the clock."""


@schedule.command("add", cls=output.JsonCommand, fields=FIELDS)
@_NAME
@click.argument("cron")
@click.argument("words", nargs=-1, metavar="[PROMPT]")
@click.option("--zone", help="IANA name; by default this computer's time zone.")
@click.option(
    "--missed",
    type=_MISSED,
    help="Times at which no hub ran: none, one for all (default), or each.",
)
@click.option(
    "--overlap",
    type=_OVERLAP,
    help="While the last run is live: skip (default), or queue up.",
)
@click.option("--start-within", metavar="30m", help="A run that has not started by then expires.")
@click.option("--command", is_flag=True, help="Run what follows `--` instead of a prompt.")
@click.option("--title", help="By default the prompt's first line.")
@click.option("--needs", multiple=True, help="What the agent must have: gpu, lang=go, ...")
@click.option("--verify", multiple=True, help="A check that must pass; may be repeated.")
@click.option("--priority", type=click.IntRange(-10, 10), help="-10 to 10.")
@click.option("--repo", help="By default the repository of this folder.")
@click.option("--base", help="The branch to start from, and to land on.")
@click.option("--no-repo", is_flag=True, help="Work in an empty folder.")
@click.option(
    "--land",
    type=click.Choice(["branch", "merge", "queue", "pull-request"]),
    help="Keep the branch, merge it alone or with others in a queue, or open a pull request.",
)
@click.option("--allow-repeat", is_flag=True, help="It is meant to run without changing anything.")
def add(
    name: str,
    cron: str,
    words: tuple[str, ...],
    as_json: tuple[str, ...] | None,
    **options: Any,
) -> None:
    """Have a task submitted whenever its time comes.

    CRON is five fields (minute, hour, day, month, weekday) or @hourly, @daily, @weekly, @monthly.

    \b
    Examples:
      agentcom schedule add tidy "0 3 * * MON-FRI" "Fix what the linters say"
      agentcom schedule add check @daily --allow-repeat --command -- make check
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped
    from agentcom.cli import api, specs, zones

    task = specs.from_options(words, options, resolve=str)
    wanted: dict[str, Any] = {"name": name, "cron": cron, "task": task}
    wanted["zone"] = options["zone"] or zones.local_zone()
    wanted |= {key: options[key] for key in ("missed", "overlap") if options[key]}
    if options["start_within"]:
        wanted["start_within_ms"] = specs.duration(options["start_within"], "--start-within")
    found = api.connect().add_schedule(wanted)
    _tell(found, as_json)
    if task.get("repo") and not options["allow_repeat"] and as_json is None:
        output.talk("note: it pauses itself if it changes nothing many times: --allow-repeat")


@schedule.command(cls=output.JsonCommand, fields=FIELDS)
@_NAME
@click.option("--cron", help="New times, as for `add`.")
@click.option("--zone", help="IANA name of another time zone.")
@click.option("--missed", type=_MISSED, help="Times at which no hub ran.")
@click.option("--overlap", type=_OVERLAP, help="While the last run is live.")
@click.option("--start-within", metavar="30m", help="A bound for the start; none: no bound.")
@steering.changes_task
def edit(name: str, as_json: tuple[str, ...] | None, **options: Any) -> None:
    """Change when a schedule runs, or what its coming runs do.

    \b
    Examples:
      agentcom schedule edit tidy --cron "0 4 * * *"
      agentcom schedule edit tidy -f prompt.md --priority 2
    """  # noqa: D301 - as above
    from agentcom.cli import api, specs

    change = {key: options[key] for key in ("cron", "zone", "missed", "overlap") if options[key]}
    task = steering.change_of(options)
    if task:
        change["task"] = task
    within = options["start_within"]
    if within:
        spoken = None if within == "none" else specs.duration(within, "--start-within")
        change["start_within_ms"] = spoken
    if not change:
        usage = 'agentcom schedule edit NAME --cron "0 4 * * *"'
        raise CommandFailed("nothing is to change", hint=usage, exit_code=Exit.USAGE, code="usage")
    hub = api.connect()
    version = options["version"] or hub.schedule(name)["version"]
    _tell(hub.edit_schedule(name, {"version": version, **change}), as_json)


@schedule.command("ls", cls=output.JsonCommand, fields=FIELDS)
def ls(as_json: tuple[str, ...] | None) -> None:
    """List schedules by name."""
    from agentcom.cli import api

    output.listing(api.connect().schedules(), _TABLE, as_json=as_json)


@schedule.command(cls=output.JsonCommand, fields=FIELDS)
@_NAME
def show(name: str, as_json: tuple[str, ...] | None) -> None:
    """Show one schedule."""
    from agentcom.cli import api

    output.details(api.connect().schedule(name), _DETAILS, as_json=as_json)


@schedule.command("next", cls=output.JsonCommand, fields=NEXT_FIELDS)
@_NAME
def coming(name: str, as_json: tuple[str, ...] | None) -> None:
    """Print the coming times of a schedule."""
    from agentcom.cli import api

    found = api.connect().schedule(name)
    zone = found["zone"]
    rows = [{"at": at, "local": local_time(at, zone), "zone": zone} for at in found["coming"]]
    output.listing(rows, _NEXT, as_json=as_json)
    if found["paused"] and as_json is None:
        output.talk(f"note: it is paused: agentcom schedule resume {name}")


@schedule.command(cls=output.JsonCommand, fields=FIELDS)
@_NAME
def pause(name: str, as_json: tuple[str, ...] | None) -> None:
    """Let a schedule rest; a run that is under way goes on."""
    from agentcom.cli import api

    _tell(api.connect().act_on_schedule(name, "pause"), as_json)


@schedule.command(cls=output.JsonCommand, fields=FIELDS)
@_NAME
def resume(name: str, as_json: tuple[str, ...] | None) -> None:
    """Let a schedule go on; times that passed meanwhile are not made up for."""
    from agentcom.cli import api

    _tell(api.connect().act_on_schedule(name, "resume"), as_json)


@schedule.command(cls=output.JsonCommand, fields=FIELDS)
@_NAME
@click.option("--watch", is_flag=True, help="Follow the task, and exit with its verdict.")
def run(name: str, watch: bool, as_json: tuple[str, ...] | None) -> int:
    """Let a schedule run at once; prints the task's id."""
    from agentcom.cli import api

    hub = api.connect()
    found = hub.act_on_schedule(name, "run", key=uuid.uuid4().hex)
    if as_json is not None:
        output.details(found, (), as_json=as_json)
    else:
        click.echo(output.short(found["last_task"]))
    if not watch:
        return Exit.DONE
    from agentcom.cli import watch as watching

    return watching.follow(hub, found["last_task"])


@schedule.command()
@_NAME
@click.option("--yes", is_flag=True, help="Do not ask.")
def rm(name: str, yes: bool) -> None:
    """Remove a schedule; the tasks that it submitted stay."""
    from agentcom.cli import api

    if not yes:
        output.confirm(f"Remove schedule {name}?")
    api.connect().remove_schedule(name)
    click.echo(f"{name}\tremoved")


def _tell(found: dict[str, Any], as_json: tuple[str, ...] | None) -> None:
    if as_json is not None:
        output.details(found, (), as_json=as_json)
        return
    at = found["next_at"]
    when = local_time(at, found["zone"]) if output.is_terminal() else str(at or "")
    click.echo(f"{found['name']}\t{'paused' if found['paused'] else when}")
