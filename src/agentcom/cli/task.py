"""`agentcom task`: show tasks, follow them, explain them; how to steer them is in `steering.py`."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from agentcom.cli import attaching, branches, graphs, output, steering, telling
from agentcom.cli.errors import CommandFailed, Exit
from agentcom.cli.lazy import Group
from agentcom.cli.output import Column
from agentcom.cli.steering import CHANGED_FIELDS, TASK_FIELDS, changed, state_of

if TYPE_CHECKING:
    from agentcom.cli import api

STATES: Final = ("waiting", "queued", "assigned", "running", "completed", "failed", "cancelled")
EVENT_FIELDS: Final = ("seq", "kind", "state", "at", "attempt", "agent", "machine", "detail")
RESULT_FIELDS: Final = ("task", "fence", "agent", "machine", "at", "applied", "refused", "result")
WAITS_FIELDS: Final = ("task", "title", "by", "what", "on", "more", "until")
WHY_FIELDS: Final = (
    *(
        "summary",
        "next_action",
        "next_at",
        "agents",
        "blocked_by",
        "missing",
        "position",
        "starts_at",
    ),
    *("activity", "task"),
)


def attempt_of(row: Mapping[str, Any]) -> int:
    """Return the attempt that a result belongs to."""
    return int(row["fence"][1])


_LIMIT: Final = 50

_TABLE: Final = (
    Column("ID", lambda row: output.short(row["id"])),
    Column("STATE", state_of),
    Column("AGENT", lambda row: row.get("agent")),
    Column("TRY", lambda row: row.get("attempt") or ""),
    Column("CHANGED", lambda row: output.age(row.get("changed_at"))),
    Column("TITLE", lambda row: row["title"]),
)
_DETAILS: Final = (
    Column("ID", lambda row: row["id"]),
    Column("TITLE", lambda row: row["title"]),
    Column("STATE", state_of),
    Column("REASON", lambda row: row.get("reason")),
    Column("PAUSED", steering.pause_of),
    Column("AGENT", lambda row: row.get("agent")),
    Column("ATTEMPT", lambda row: row.get("attempt") or ""),
    Column("NEEDS", lambda row: row.get("needs")),
    Column("BRANCH", lambda row: row.get("branch")),
    Column("PULL REQUEST", lambda row: row.get("pull_request")),
    Column("COMMIT", lambda row: row.get("commit")),
    Column("VERIFIED", lambda row: row.get("verified") if row["state"] == "completed" else None),
    Column("SUBMITTER", lambda row: row.get("submitter")),
    Column("GROUP", lambda row: row.get("group")),
    Column("PARENT", lambda row: (row.get("parents") or (None,))[-1]),
    Column("CHANGED", lambda row: output.age(row.get("changed_at"))),
    Column("ARCHIVED", lambda row: output.age(row.get("archived_at"))),
    Column("EXPIRES", lambda row: output.age(row.get("expires_at"))),
    Column("REPO", lambda row: (row.get("spec") or {}).get("repo")),
    Column("BASE", lambda row: (row.get("spec") or {}).get("base")),
    Column("COST", lambda row: output.cost(row["cost"]) if row.get("cost") else None),
    Column("NOTE", lambda row: row.get("note")),
)
_RESULTS: Final = (
    Column("ATTEMPT", attempt_of),
    Column("MACHINE", lambda row: row["machine_name"] or output.short(row["machine"])),
    Column("AGENT", lambda row: row.get("agent")),
    Column("STATUS", lambda row: row["result"]["status"]),
    Column("APPLIED", lambda row: "applied" if row["applied"] else f"kept ({row.get('refused')})"),
    Column("COMMIT", lambda row: (row["result"].get("commit") or "")[:12]),
    Column("BRANCH", lambda row: row["result"].get("branch")),
)
_WAITS: Final = (
    Column("TASK", lambda row: output.short(row["task"])),
    Column("BY", lambda row: row["by"]),
    Column("WHAT", lambda row: row["what"]),
    Column(
        "FOR",
        lambda row: [
            *map(output.short, row["on"]),
            *([f"{row['more']} others"] if row["more"] else ()),
            *([output.age(row["until"])] if row["until"] else ()),
        ],
    ),
    Column("TITLE", lambda row: row["title"]),
)
_RULES: Final = (
    Column("AGENT", lambda row: row["agent"]),
    Column("RULE", lambda row: row["rule"]),
    Column("DETAIL", lambda row: row.get("detail")),
)
_ID: Final = click.argument("task_id", metavar="ID")


@click.group(cls=Group)
def task() -> None:
    """Show and steer tasks. ID is an id, any unambiguous part of one, or @last."""


@task.command("ls", cls=output.JsonCommand, fields=TASK_FIELDS)
@click.option("--state", type=click.Choice(STATES), multiple=True, help="May be repeated.")
@click.option("--mine", is_flag=True, help="Only what I submitted.")
@click.option("-q", "--query", help="Words of the title.")
@click.option("--archived", is_flag=True, help="Those in the archive, instead of the others.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=_LIMIT, show_default=True)
def ls(as_json: tuple[str, ...] | None, **options: Any) -> None:
    """List tasks, the newest first.

    \b
    Examples:
      agentcom task ls --state failed
      agentcom task ls --json id,state
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped
    from agentcom.cli import api

    hub = api.connect()
    submitter = hub.whoami()["user"] if options["mine"] else None
    rows = hub.tasks(
        states=options["state"],
        submitter=submitter,
        q=options["query"],
        archived="true" if options["archived"] else None,
        limit=options["limit"],
    )
    output.listing(rows, _TABLE, as_json=as_json)


@task.command(cls=output.JsonCommand, fields=TASK_FIELDS)
@_ID
def show(task_id: str, as_json: tuple[str, ...] | None) -> None:
    """Show one task, and what its checks found."""
    from agentcom.cli import api, verdicts

    hub = api.connect()
    found = hub.resolve(task_id)
    row = hub.task(found)
    output.details(row, _DETAILS, as_json=as_json)
    if as_json is not None:
        return
    verdicts.show_report(hub.results(found))
    if row.get("agent") and _unboxed(hub, row["agent"]):
        output.talk(f"note: {row['agent']} runs without a sandbox: agentcom doctor, at its machine")


def _unboxed(hub: "api.Hub", agent: str) -> bool:
    from agentcom.model.errors import NotFound

    try:
        return (hub.agent(agent).get("labels") or {}).get("sandbox") == "off"
    except NotFound:  # it has left the fleet
        return False


@task.command()
@_ID
@click.option("--timeout", type=click.FloatRange(min=0), help="Seconds; then exit 124.")
def watch(task_id: str, timeout: float | None) -> int:
    """Follow a task, and exit with its verdict.

    Exit codes: 0 completed, 1 failed or cancelled, 8 it waits for a person, 124 time-out.
    Ctrl-C leaves the task running.
    """
    from agentcom.cli import api
    from agentcom.cli import watch as watching

    hub = api.connect()
    return watching.follow(hub, hub.resolve(task_id), timeout_s=timeout)


@task.command()
@_ID
@click.option("-f", "--follow", is_flag=True, help="Go on until the task ends.")
@click.option("--all", "whole", is_flag=True, help="From its beginning, which its machine has.")
@click.option("--attempt", type=click.IntRange(min=1), help="All of an earlier attempt's log.")
def logs(task_id: str, follow: bool, whole: bool, attempt: int | None) -> int:
    """Print the newest part of the log of a task's agent.

    The hub keeps the newest part; the whole stays on the machine for a week after the end.
    """
    from agentcom.cli import api, reading

    hub = api.connect()
    found = hub.resolve(task_id)
    if whole or attempt is not None:
        tail = reading.whole(hub, found, attempt)
    else:
        tail = hub.logs(found)
        if tail.text and tail.attempt != hub.task(found)["attempt"]:
            output.talk(f"note: of attempt {tail.attempt}; the newest has logged nothing yet")
        click.echo(output.lines(tail.text), nl=False)
    if not follow or attempt is not None:
        return Exit.DONE
    from agentcom.cli import watch as watching

    return watching.follow(hub, found, log=tail)


@task.command(cls=output.JsonCommand, fields=WHY_FIELDS)
@_ID
def why(task_id: str, as_json: tuple[str, ...] | None) -> None:
    """Explain why a task is where it is, and what happens next.

    \b
    Example:
      agentcom task why @last
    """  # noqa: D301 - as above
    from agentcom.cli import api

    hub = api.connect()
    found = hub.why(hub.resolve(task_id))
    if as_json is not None:
        output.details(found, (), as_json=as_json)
        return
    click.echo(output.plain(found["summary"]))
    for label, value in (
        ("doing", found.get("activity")),
        ("last event", _last(found["task"])),
        ("waits for", [output.short(one) for one in found.get("blocked_by") or ()]),
        ("nobody has", found.get("missing")),
        ("place", found.get("position")),
        ("starts", output.age(found.get("starts_at"))),
        ("next", _next(found)),
    ):
        if value:
            click.echo(f"  {label}: {output.plain(value)}")
    if found.get("agents"):
        output.listing(found["agents"], _RULES, as_json=None)


@task.command(cls=output.JsonCommand, fields=WAITS_FIELDS)
@click.option("--dot", "as_dot", is_flag=True, help="Print a graph for Graphviz.")
def waits(as_dot: bool, as_json: tuple[str, ...] | None) -> None:
    """Show which tasks wait for which: behind limits, files and dependencies.

    \b
    Examples:
      agentcom task waits
      agentcom task waits --dot | dot -Tsvg > waits.svg
    """  # noqa: D301 - as above
    from agentcom.cli import api
    from agentcom.cli import waits as drawing

    found = api.connect().waits()
    if as_dot:
        click.echo(drawing.dot(found))
        return
    output.listing(found["waits"], _WAITS, as_json=as_json)
    if found["left_out"]:
        output.talk(f"note: and {found['left_out']} more waits, which are not shown")


@task.command(cls=output.JsonCommand, fields=RESULT_FIELDS)
@_ID
@click.option("--checks", is_flag=True, help="What the newest attempt's checks printed.")
@click.option("--changes", is_flag=True, help="What a person must see before it counts.")
def results(task_id: str, checks: bool, changes: bool, as_json: tuple[str, ...] | None) -> None:
    """List what each attempt produced, refused results too."""
    from agentcom.cli import api, verdicts

    hub = api.connect()
    rows = hub.results(hub.resolve(task_id))
    if checks or changes:
        show = verdicts.show_changes if changes else verdicts.show_output
        show(rows)
        return
    if as_json is None:
        names = {row["id"]: row["name"] for row in hub.machines()}
        rows = [{**row, "machine_name": names.get(row["machine"])} for row in rows]
    output.listing(rows, _RESULTS, as_json=as_json)


@task.command(cls=output.JsonCommand, fields=EVENT_FIELDS)
@_ID
def events(task_id: str, as_json: tuple[str, ...] | None) -> None:
    """List what happened to a task."""
    from agentcom.cli import api, watch

    hub = api.connect()
    rows = hub.events(hub.resolve(task_id))
    columns = (
        Column("AT", lambda row: output.age(row.get("at"))),
        Column("EVENT", lambda row: row["kind"]),
        Column("WHAT", watch.words),
    )
    output.listing(rows, columns, as_json=as_json)


@task.command(cls=output.JsonCommand, fields=CHANGED_FIELDS)
@_ID
@click.option("--attempt", type=click.IntRange(1), help="By default the newest with a commit.")
@click.option("--machine", metavar="NAME", help="If several machines reported that attempt.")
def adopt(
    task_id: str, attempt: int | None, machine: str | None, as_json: tuple[str, ...] | None
) -> None:
    """Take a kept result as the task's own: it is verified and landed again."""
    from agentcom.cli import api

    hub = api.connect()
    found = hub.resolve(task_id)
    if attempt is None:
        waits = hub.task(found).get("wait") == "approval"
        attempt = _adoptable(hub.results(found), applied=waits)
    changed(hub.adopt(found, attempt=attempt, machine=machine), as_json)


@task.command(cls=output.JsonCommand, fields=CHANGED_FIELDS)
@_ID
@click.option("-m", "--message", default="", help="Kept with the task.")
def approve(task_id: str, message: str, as_json: tuple[str, ...] | None) -> None:
    """Say yes to what waits for a person: a task without an agent, or a result.

    An approved result lands if it was to land; what depends on the task follows.
    """
    _decide(task_id, "approve", message, as_json)


@task.command(cls=output.JsonCommand, fields=CHANGED_FIELDS)
@_ID
@click.option("-m", "--message", default="", help="Kept with the task.")
def reject(task_id: str, message: str, as_json: tuple[str, ...] | None) -> None:
    """Say no to what waits for a person: the task fails, and what depends on it with it."""
    _decide(task_id, "reject", message, as_json)


def _decide(task_id: str, verb: str, message: str, as_json: Sequence[str] | None) -> None:
    from agentcom.cli import api

    hub = api.connect()
    body = {"message": message} if message else {}
    changed(hub.act(hub.resolve(task_id), verb, body), as_json)


task.add_command(graphs.graph)


def _last(task: Mapping[str, Any]) -> str:
    held = task["state"] in ("assigned", "running")
    return output.age(task["changed_at"]) if held else ""


def _next(found: Mapping[str, Any]) -> str:
    action = found.get("next_action") or ""
    at = output.age(found.get("next_at")) if output.is_terminal() else found.get("next_at")
    return f"{action} ({at})" if action and at else action


def _adoptable(rows: list[dict[str, Any]], *, applied: bool) -> int:
    """Return the newest attempt to adopt; `applied`: it waits for approval, and is in place."""
    kept = [row for row in rows if row["applied"] == applied and row["result"].get("commit")]
    if not kept:
        raise CommandFailed(
            "no kept result of this task has a commit",
            hint="agentcom task results ID",
            exit_code=Exit.MISSING,
            code="not_found",
        )
    return max(attempt_of(row) for row in kept)


for _command in (
    *(steering.cancel, steering.retry, steering.edit, steering.pause, steering.resume),
    *(branches.diff, branches.checkout, branches.land),
    *(telling.tell, attaching.attach),
):
    task.add_command(_command)
