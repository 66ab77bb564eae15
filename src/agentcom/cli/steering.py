"""`agentcom task cancel, retry, edit, pause, resume`: commands that change tasks, one or many."""

import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from agentcom.cli import output
from agentcom.cli.errors import CommandFailed, Exit

TASK_FIELDS: Final = (
    *("id", "title", "state", "phase", "wait", "until", "agent", "machine", "attempt", "priority"),
    *("submitter", "project", "needs", "failure", "reason", "verified", "branch", "commit"),
    *("base_commit", "checkpoint", "changed_at", "failures", "leases_lost", "stop_reason"),
    *("deadline_at", "cause", "incarnation", "spec", "created_at", "emergency", "version"),
    *("group", "parents", "approval", "author"),
    *("paused", "lost_on", "crashed_on"),
    *("expires_at", "lineage"),
    *("note", "pull_request", "rounds"),
    "paused",
    "cost",
    "archived_at",
)
CHANGED_FIELDS: Final = tuple(
    name for name in TASK_FIELDS if name not in ("spec", "created_at", "cost", "archived_at")
)
STATES: Final = ("waiting", "queued", "assigned", "running", "completed", "failed", "cancelled")
_LOOK_S: Final = 0.2
_F = TypeVar("_F", bound=Callable[..., Any])


def state_of(row: Mapping[str, Any]) -> str:
    """Return a task's state with what qualifies it."""
    state = str(row["state"])
    detail = {
        "waiting": row.get("wait"),
        "running": row.get("phase"),
        "failed": row.get("failure"),
        "completed": None if row.get("verified") else "unverified",
    }.get(state)
    if detail is None and row.get("paused") and state == "queued":
        detail = "paused"
    return f"{state} ({detail})" if detail else state


def pause_of(row: Mapping[str, Any]) -> str | None:
    """Return who paused a task by itself, and why."""
    paused = row.get("paused")
    if not paused:
        return None
    reason = paused.get("reason")
    return f"by {paused['by']}" + (f": {reason}" if reason else "")


def changed(row: Mapping[str, Any], as_json: Sequence[str] | None) -> None:
    """Print a task after what was done to it."""
    if as_json is not None:
        output.details(row, (), as_json=as_json)
    elif output.is_terminal():
        click.echo(f"{output.short(row['id'])}  {output.paint(state_of(row))}")
    else:
        click.echo(f"{row['id']}\t{row['state']}")


def _chosen(command: _F) -> _F:
    """Add the options that choose many tasks."""
    for option in (
        click.option("--dry-run", is_flag=True, help="Only say which it would be."),
        click.option("--mine", is_flag=True, help="Only what I submitted."),
        click.option("--since", metavar="SPAN", help="Changed within: 30m, 2h, 1d."),
        click.option("--label", "labels", multiple=True, metavar="K=V", help="May be repeated."),
        click.option("--project", help="All of a project."),
        click.option("--state", type=click.Choice(STATES), multiple=True, help="May be repeated."),
    ):
        command = option(command)
    return command


@click.command(cls=output.JsonCommand, fields=CHANGED_FIELDS)
@click.argument("task_ids", nargs=-1, metavar="[ID...]")
@click.option("--reason", default="", help="Kept with the task.")
@_chosen
def cancel(
    task_ids: tuple[str, ...], reason: str, as_json: tuple[str, ...] | None, **choice: Any
) -> int:
    """End tasks; a running agent is stopped.

    \b
    Examples:
      agentcom task cancel @last --reason "no longer needed"
      agentcom task cancel --state queued --label team=red --dry-run
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped
    body = {"reason": reason} if reason else {}
    return _act("cancel", task_ids, choice, body, as_json)


@click.command(cls=output.JsonCommand, fields=CHANGED_FIELDS)
@click.argument("task_ids", nargs=-1, metavar="[ID...]")
@_chosen
def retry(task_ids: tuple[str, ...], as_json: tuple[str, ...] | None, **choice: Any) -> int:
    """Run failed or cancelled tasks again, as their next attempts; let go on what waits.

    \b
    Examples:
      agentcom task retry @last
      agentcom task retry --state failed --since 2h
    """  # noqa: D301 - as above
    return _act("retry", task_ids, choice, {}, as_json)


def changes_task(command: _F) -> _F:
    """Give a command the options that `change_of` reads."""
    prompt = click.Path(path_type=Path, exists=True, dir_okay=False)
    options = (
        click.option("--priority", type=click.IntRange(-10, 10), help="-10 to 10."),
        click.option(
            "--emergency/--no-emergency", default=None, help="Before everything else, or not."
        ),
        click.option("--title", help="A new title."),
        click.option("--prompt", help="A new prompt; - reads it from standard input."),
        click.option("-f", "--file", type=prompt, help="A file with the new prompt."),
        click.option("--needs", multiple=True, help="Instead of the needs it has; '' for none."),
        click.option("--deadline", metavar="SPAN", help="Time of an attempt: 90s, 30m, 2h."),
        click.option("--label", "labels", multiple=True, metavar="K=V", help="Instead of its own."),
        click.option("--version", type=int, help="Refuse if it has changed since this one."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command(cls=output.JsonCommand, fields=CHANGED_FIELDS)
@click.argument("task_id", metavar="ID")
@changes_task
@click.option("--not-before", metavar="WHEN", help="30m, a time, or now.")
def edit(task_id: str, as_json: tuple[str, ...] | None, **options: Any) -> None:
    """Change a task that has not begun; of a running one, the next attempt's priority.

    \b
    Examples:
      agentcom task edit @last --priority 5
      agentcom task edit @last -f prompt.md --needs gpu
    """  # noqa: D301 - as above
    from agentcom.cli import api

    change = change_of(options)
    if not change:
        raise _usage("nothing is to change", "agentcom task edit ID --priority 5")
    hub = api.connect()
    seen = hub.task(hub.resolve(task_id))
    version = options["version"] or seen["version"]
    answer = hub.edit(seen["id"], {"version": version, **change})
    changed(output.row_of(answer.task), as_json)
    if answer.unschedulable:
        why = f"agentcom task why {output.short(answer.task.id)}"
        output.talk(f"note: no agent can run it now: {why}")


@click.command()
@click.argument("task_ids", nargs=-1, required=True, metavar="ID...")
@click.option("--reason", default="", help="Kept with the task, for those who wonder.")
@click.option("--stop", is_flag=True, help="Have a running attempt stopped, too.")
def pause(task_ids: tuple[str, ...], reason: str, stop: bool) -> None:
    """Give tasks no new attempt; they keep their place in the queue."""
    from agentcom.cli import api

    hub = api.connect()
    for found in [hub.resolve(text) for text in task_ids]:
        hub.pause_scope(f"/tasks/{found}", {"reason": reason, "stop": stop})
        click.echo(f"{found}\tpaused")


@click.command()
@click.argument("task_ids", nargs=-1, required=True, metavar="ID...")
def resume(task_ids: tuple[str, ...]) -> None:
    """Let paused tasks go on."""
    from agentcom.cli import api

    hub = api.connect()
    for found in [hub.resolve(text) for text in task_ids]:
        hub.resume_scope(f"/tasks/{found}")
        click.echo(f"{found}\tresumed")


def _act(
    verb: str,
    task_ids: Sequence[str],
    choice: Mapping[str, Any],
    body: dict[str, Any],
    as_json: tuple[str, ...] | None,
) -> int:
    from agentcom.cli import api

    wanted = _filter(choice)
    if bool(task_ids) == bool(wanted):
        raise _usage("give either ids or a choice", f"agentcom task {verb} --state failed")
    hub = api.connect()
    if len(task_ids) == 1 and not choice["dry_run"]:
        changed(hub.act(hub.resolve(task_ids[0]), verb, body), as_json)
        return Exit.DONE
    if task_ids:
        body |= {"tasks": [hub.resolve(text) for text in task_ids]}
    else:
        body |= {"filter": wanted}
    if choice["dry_run"]:
        taken = hub.act_on_many(verb, body | {"dry_run": True}, key=uuid.uuid4().hex)
        for one in taken.refused:
            click.echo(one.name)
        more = f", {len(taken.refused)} of them shown" if taken.tasks > len(taken.refused) else ""
        output.talk(f"{verb} would be done to {taken.tasks} tasks{more}")
        return Exit.DONE
    return _follow(hub, verb, body, strict=bool(task_ids))


def _follow(hub: Any, verb: str, body: Mapping[str, Any], *, strict: bool) -> int:
    """Ask for it, and tell how far it is until it is over."""
    from agentcom.model.errors import NotFound

    seen = hub.act_on_many(verb, body, key=uuid.uuid4().hex)
    while seen.left:
        if output.is_terminal():
            click.echo(f"\r{seen.tasks - seen.left} of {seen.tasks}", nl=False, err=True)
        time.sleep(_LOOK_S)
        try:
            seen = hub.bulk(seen.id)
        except NotFound:
            output.talk("note: the hub restarted and finished it: agentcom task ls")
            return Exit.DONE
    if output.is_terminal():
        click.echo("\r", nl=False, err=True)
    click.echo(f"{verb}\t{seen.done} done\t{seen.skipped} skipped")
    for one in seen.refused:
        output.talk(f"note: {one.name}: {one.message} ({one.code})")
    return Exit.FAILED if strict and seen.skipped else Exit.DONE


def _filter(choice: Mapping[str, Any]) -> dict[str, Any]:
    from agentcom.cli import specs

    found: dict[str, Any] = {}
    if choice["state"]:
        found["state"] = list(choice["state"])
    if choice["project"]:
        found["project"] = choice["project"]
    if choice["mine"]:
        found["submitter"] = "@me"
    if choice["labels"]:
        found["labels"] = _labels(choice["labels"])
    if choice["since"]:
        found["since"] = int(time.time() * 1000) - specs.duration(choice["since"], "--since")
    return found


def change_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the new values for fields of a task that the command line gives.

    Raises:
        CommandFailed: two of them contradict each other, or one is not understood.
    """
    from agentcom.cli import specs

    names = ("priority", "emergency", "title")
    found = {name: options[name] for name in names if options[name] is not None}
    if options["file"] is not None and options["prompt"] is not None:
        raise _usage("give --prompt or --file, not both", "agentcom task edit ID -f prompt.md")
    if options["file"] is not None:
        found["prompt"] = options["file"].read_text("utf-8")
    elif options["prompt"] is not None:
        found["prompt"] = sys.stdin.read() if options["prompt"] == "-" else options["prompt"]
    if options["needs"]:
        found["needs"] = [need for need in options["needs"] if need]
    if options["deadline"]:
        found["deadline_ms"] = specs.duration(options["deadline"], "--deadline")
    if options.get("not_before"):
        now = options["not_before"] == "now"
        found["not_before"] = None if now else specs.when(options["not_before"])
    if options["labels"]:
        found["labels"] = _labels(options["labels"])
    return found


def _labels(given: Sequence[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    wrong = next((text for text, (name, sign, _) in zip(given, pairs, strict=True)
                  if not (name and sign)), None)  # fmt: skip
    if wrong is not None:
        raise _usage(f"{wrong!r} is no label", "--label team=red")
    return {name: value for name, _, value in pairs}


def _usage(message: str, hint: str) -> CommandFailed:
    return CommandFailed(message, hint=hint, exit_code=Exit.USAGE, code="usage")
