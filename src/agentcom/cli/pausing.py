"""`agentcom pause` and `agentcom resume`: projects, pools, everything; and waiting for quiet."""

import time
from collections.abc import Callable
from typing import Any, Final

import click

from agentcom.cli import output
from agentcom.cli.errors import CommandFailed, Exit
from agentcom.cli.output import Column

FIELDS: Final = ("key", "name", "by", "at", "reason")
_LOOK_S: Final = 0.5
_SINGLE: Final = ("agent:", "machine:", "user:")


def _scope(row: output.Row) -> str:
    kind, colon, name = str(row["key"]).partition(":")
    return f"{kind}{colon}{row.get('name') or name}"


_TABLE: Final = (
    Column("SCOPE", _scope),
    Column("BY", lambda row: row["by"]),
    Column("SINCE", lambda row: output.age(row["at"])),
    Column("REASON", lambda row: row.get("reason")),
)


def _scoped(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--all", "everything", is_flag=True, help="The whole fleet (an admin)."),
        click.option("--pool", metavar="NAME", help="All tasks of a pool (an admin)."),
        click.option("--project", metavar="NAME", help="All tasks of a project."),
    ):
        command = option(command)
    return command


def _stoppable(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--user", metavar="NAME", help="All tasks of a person."),
        click.option("--machine", metavar="NAME", help="A machine, whose token is refused then."),
        click.option("--agent", metavar="NAME", help="An agent."),
    ):
        command = option(command)
    return command


@click.command(cls=output.JsonCommand, fields=FIELDS)
@_scoped
@click.option("--reason", default="", help="For those who wonder why nothing starts.")
@click.option("--stop", is_flag=True, help="Have running attempts stopped, too.")
@click.option("--wait", is_flag=True, help="Return when nothing runs there any more.")
@click.option("--timeout", type=click.FloatRange(min=0), help="With --wait: seconds; then 124.")
def pause(as_json: tuple[str, ...] | None, **options: Any) -> int:
    """Give a project, a pool or everything no new work; without a name, list what is paused.

    Tasks keep their place. What runs goes on, unless you say --stop.

    \b
    Examples:
      agentcom pause --project default --reason "code freeze"
      agentcom pause --all --wait
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped
    from agentcom.cli import api

    hub = api.connect()
    if not (options["everything"] or options["pool"] or options["project"]):
        output.listing(hub.pauses(), _TABLE, as_json=as_json)
        return Exit.DONE
    scope, path = _place(options)
    hub.pause_scope(path, {"reason": options["reason"], "stop": options["stop"]})
    click.echo(f"{scope}\tpaused")
    if not options["wait"]:
        return Exit.DONE

    def running() -> int:
        if options["project"]:
            return len(hub.tasks(states=("assigned", "running"), limit=1_000))
        counts = hub.status()["tasks"]
        return int(counts.get("assigned", 0)) + int(counts.get("running", 0))

    return until_quiet(running, timeout_s=options["timeout"])


@click.command()
@_scoped
@_stoppable
def resume(**options: Any) -> None:
    """Let what was paused or stopped go on."""
    from agentcom.cli import api
    from agentcom.model.replies import Done

    scope, path = _place(options)
    hub = api.connect()
    if scope.startswith(_SINGLE):
        hub.call("POST", f"{path}/release", Done, body={})
    else:
        hub.resume_scope(path)
    click.echo(f"{scope}\tresumed")


@click.command()
@_scoped
@_stoppable
@click.option("--reason", default="", help="For those who wonder why nothing starts.")
def stop(reason: str, **options: Any) -> None:
    """End at once what runs there, keep its work, and start nothing new until `agentcom resume`.

    A machine that is stopped is cut off, too: its token is refused. It has ten seconds to say
    what it has saved.

    \b
    Examples:
      agentcom stop --machine build-7 --reason "it is not where it should be"
      agentcom stop --all
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped
    from agentcom.cli import api
    from agentcom.model.replies import Done

    scope, path = _place(options)
    hub = api.connect()
    if scope.startswith(_SINGLE):
        hub.call("POST", f"{path}/stop", Done, body={"reason": reason})
    else:
        hub.pause_scope(path, {"reason": reason, "stop": True})
    click.echo(f"{scope}\tstopped")


def until_quiet(running: Callable[[], int], *, timeout_s: float | None) -> int:
    """Wait until nothing runs; return the exit code."""
    began = time.monotonic()
    told = -1
    while left := running():
        if left != told:
            output.talk(f"waits for {left} running")
            told = left
        if timeout_s is not None and time.monotonic() - began >= timeout_s:
            output.talk("it is still running; new work stays away")
            return Exit.TIMEOUT
        time.sleep(_LOOK_S)
    return Exit.DONE


def _place(options: dict[str, Any]) -> tuple[str, str]:
    """Return the scope that is named, and its path."""
    from urllib.parse import quote

    kinds = ("project", "pool", "user", "machine", "agent")
    named = [(kind, options.get(kind)) for kind in kinds]
    found = [(f"{kind}:{name}", f"/{kind}s/{quote(name, safe='')}") for kind, name in named if name]
    if options["everything"]:
        found.append(("all", ""))
    if len(found) != 1:
        raise CommandFailed(
            "name one thing, or everything",
            hint="--project NAME or --all; --help lists the others",
            exit_code=Exit.USAGE,
            code="usage",
        )
    return found[0]
