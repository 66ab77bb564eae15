"""`agentcom logs`: one story out of the logs of this computer's hub and sidecars."""

from typing import Any, Final

import click

from agentcom.cli import context, output
from agentcom.cli.errors import CommandFailed, Exit

LINES: Final = 200
FIELDS: Final = ("timestamp", "part", "level", "event", "cause", "task")
_FIRST: Final = ("timestamp", "part", "level", "event")
_LEVELS: Final = ("debug", "info", "warning", "error", "critical")


@click.command(cls=output.JsonCommand, fields=FIELDS)
@click.option("--cause", default="", metavar="ID", help="As error messages name it.")
@click.option("--task", default="", metavar="ID", help="Of a task, or a part of its id; @last.")
@click.option("--level", type=click.Choice(_LEVELS), default="debug", help="From this one on.")
@click.option("--lines", type=click.IntRange(1), default=LINES, show_default=True)
def logs(
    cause: str, task: str, level: str, lines: int, as_json: tuple[str, ...] | None
) -> int | None:
    """Show the newest log records of this computer's hub and sidecars, by time.

    Of a request or a task that is its whole story, as far as it happened here: from the submit
    to the landing. On other machines the same command shows their part.

    \b
    Examples:
      agentcom logs --task @last
      agentcom logs --cause 0dj3kc2 --json
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped
    from agentcom.cli import log_files
    from agentcom.cli.api import LAST

    if task == LAST:
        task = context.last_task()
    least = _LEVELS.index(level)
    found = [
        record
        for record in log_files.merged(context.home())
        if log_files.about(record, cause=cause, task=task) and _level(record) >= least
    ]
    if not found and (cause or task):
        raise CommandFailed(
            f"no record of {cause or task} is in the logs of this computer",
            hint="agentcom logs, or the same command where the hub or the machine runs",
            exit_code=Exit.MISSING,
            code="not_found",
        )
    for record in found[-lines:]:
        if as_json is not None:
            whole = as_json == FIELDS
            output.print_json(dict(record) if whole else {k: record.get(k) for k in as_json})
        else:
            click.echo(_line(record))
    return None


def _level(record: Any) -> int:
    level = record.get("level", "info")
    return _LEVELS.index(level) if level in _LEVELS else _LEVELS.index("info")


def _line(record: Any) -> str:
    if "text" in record:
        return f"{record['part']}: {output.plain(record['text'])}"
    time, part, level, event = (str(record.get(name, "")) for name in _FIRST)
    rest = " ".join(f"{k}={v}" for k, v in record.items() if k not in (*_FIRST, "exception"))
    head = output.plain(f"{time[11:23]} {part:<8} {level:<8} {event:<24} {rest}")
    trace = str(record.get("exception", "")).splitlines()
    return "\n".join([head, *map(output.plain, trace)])
