"""`agentcom backup`: copy the hub's data, try the copies out, and put one back.

These work on files of this computer: of the hub that `up` starts, or of another one's folder.
"""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from agentcom.cli import context, output
from agentcom.cli.errors import CommandFailed, Exit
from agentcom.cli.lazy import Group
from agentcom.cli.output import Column

if TYPE_CHECKING:
    from agentcom.hub.config import HubConfig
    from agentcom.model.backup import Backup, Point, Restored

FIELDS: Final = (
    *("name", "at", "number", "incarnation", "bytes", "sha256", "took_ms", "files"),
    "drilled",
)
RESTORED: Final = (
    *("base", "number", "at", "replayed", "incarnation", "states", "held"),
    *("replaced", "lost", "lost_count", "gap", "without_archive"),
)
NICENESS: Final = 10
_MIB: Final = 1 << 20


def _tried(row: output.Row) -> str:
    drilled = row.get("drilled")
    if not drilled:
        return "no"
    from_other = drilled["base"] != row["name"]
    how = f", from {drilled['base']} and the journal" if from_other else ""
    return f"{output.age(drilled['at'])}: {drilled['rows']} rows equal{how}"


_TABLE: Final = (
    Column("COPY", lambda row: row["name"]),
    Column("MADE", lambda row: output.age(row["at"])),
    Column("BATCH", lambda row: row["number"]),
    Column("SIZE", lambda row: f"{row['bytes'] / _MIB:.1f} MiB"),
    Column("TRIED", _tried),
)
_HOME: Final = click.option(
    "--hub-home", "home", type=click.Path(path_type=Path), help="By default that of `up`."
)
_FOLDER: Final = click.option(
    "--folder", type=click.Path(path_type=Path), help="Where copies are, if not as hub.toml says."
)


@click.group(cls=Group)
def backup() -> None:
    """Copy the hub's data while it works, try the copies out, and put one back.

    \b
    Examples:
      agentcom backup now
      agentcom backup drill
      agentcom backup restore --at "2026-11-28 14:30"
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped


@backup.command("now", cls=output.JsonCommand, fields=FIELDS)
@_HOME
@_FOLDER
def now(home: Path | None, folder: Path | None, as_json: tuple[str, ...] | None) -> None:
    """Make a copy now, and delete the oldest beyond those that are kept."""
    from agentcom import app
    from agentcom.hub.clock import SystemClock

    config, place = _opened(home, folder)
    copies = app.open_copies(place, on_wait=output.talk)
    os.nice(NICENESS)
    made = _guarded(lambda: copies.take(config.home, SystemClock().now))
    _hand_over(config.home, place)
    for old in copies.prune(config.backups.keep):
        output.talk(f"deleted: {old.name}")
    _show([made], as_json)
    if as_json is None and made.drilled is None:
        output.talk("note: nobody has tried it out: agentcom backup drill")


@backup.command("ls", cls=output.JsonCommand, fields=FIELDS)
@_HOME
@_FOLDER
def ls(home: Path | None, folder: Path | None, as_json: tuple[str, ...] | None) -> None:
    """List the copies, the newest first."""
    from agentcom import app

    _, place = _opened(home, folder)
    copies = app.open_copies(place)
    _show(copies.listed(), as_json)
    for path in copies.strange():
        output.talk(f"note: {path} has no manifest that fits: it is not used, and can be deleted")


@backup.command("verify", cls=output.JsonCommand, fields=FIELDS)
@click.argument("name", required=False)
@_HOME
@_FOLDER
def verify(
    name: str | None, home: Path | None, folder: Path | None, as_json: tuple[str, ...] | None
) -> None:
    """Read copies whole, and compare them with what was noted as they were made.

    All, or the one NAMEd by a part of its name.
    """
    from agentcom import app
    from agentcom.model.backup import BackupDamaged

    _, place = _opened(home, folder)
    copies = app.open_copies(place)
    found = list(copies.listed()) if name is None else []
    found = found or [copies.find(name)]
    os.nice(NICENESS)
    for one in found:
        copies.check(one)
    for path in copies.strange() if name is None else ():
        raise BackupDamaged(f"{path} has no manifest that fits: it is not used; delete it")
    _show(found, as_json)
    if as_json is None:
        output.talk(f"sound: {len(found)} of {len(found)}, read whole, with files and archive")


@backup.command("drill", cls=output.JsonCommand, fields=FIELDS)
@click.argument("name", required=False)
@_HOME
@_FOLDER
def drill(
    name: str | None, home: Path | None, folder: Path | None, as_json: tuple[str, ...] | None
) -> None:
    """Restore a copy aside, look through it, and compare it row by row; by default the newest.

    With a journal the copy before it is restored, and led to it batch by batch.
    """
    from agentcom import app

    config, place = _opened(home, folder)
    os.nice(NICENESS)
    files = app.open_files(config.home)
    made = _guarded(lambda: files.drill(place, name, on_wait=output.talk))
    _hand_over(config.home, place)
    _show([made], as_json)


@backup.command("restore", cls=output.JsonCommand, fields=RESTORED)
@click.argument("name", required=False)
@click.option("--at", "at", metavar="TIME", help="What there was then (UTC, if no zone is named).")
@click.option(
    "--batch", "batch", type=click.IntRange(min=1), help="Up to the batch of this number."
)
@_HOME
@_FOLDER
def restore(
    name: str | None,
    at: str | None,
    batch: int | None,
    home: Path | None,
    folder: Path | None,
    as_json: tuple[str, ...] | None,
) -> None:
    """Put a copy back as the data of a hub that does not run; those of before are kept aside.

    Without NAME, --at and --batch: the newest copy, and the journal as far as it goes. With NAME
    alone: that copy as it is.
    """
    from agentcom import app

    config, place = _opened(home, folder)
    where = _point(at, batch, name)
    files = app.open_files(config.home)
    hint = f"room in {config.home}, or another --hub-home"
    made = _guarded(lambda: files.restore(place, name=name, point=where), hint)
    _hand_over(config.home, config.home, place)
    if as_json is not None:
        output.details(output.row_of(made), (), as_json=as_json)
    else:
        _tell(made)


def _opened(home: Path | None, folder: Path | None) -> "tuple[HubConfig, Path]":
    """Return the settings of a hub, and where its copies are."""
    from agentcom.hub import config as hub_config

    config = hub_config.load(flags={"home": (home or context.hub_home()).absolute()})
    return config, (folder or config.backup_folder).absolute()


def _hand_over(home: Path, *places: Path) -> None:
    """Give what root has made to the account of the hub, which else could not read it."""
    owner = home.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        return
    for path in (one for place in places for one in (place, *place.rglob("*"))):
        if path.lstat().st_uid == 0:
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _guarded(work: Callable[[], Any], hint: str = "another --folder, with room") -> Any:
    try:
        return work()
    except OSError as error:
        raise CommandFailed(
            f"{error.strerror}: {error.filename or ''}".rstrip(": "),
            hint=hint,
            exit_code=Exit.FAILED,
        ) from error


def _point(at: str | None, batch: int | None, name: str | None) -> "Point":
    from agentcom.model import backup as values
    from agentcom.model.ids import WallTime

    if at is not None and batch is not None:
        raise click.UsageError("--at and --batch are two ways to name one point: use one")
    if batch is not None:
        return values.Point(number=batch)
    if at is None:
        return values.NEWEST if name is None else values.COPY_ONLY
    try:
        moment = datetime.fromisoformat(at)
    except ValueError:
        rule = 'a time such as "2026-11-28 14:30"'
        raise click.BadParameter(f"{at!r} is not {rule}", param_hint="--at") from None
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return values.Point(at=WallTime(int(moment.timestamp() * 1_000)))


def _show(made: "list[Backup] | Any", as_json: tuple[str, ...] | None) -> None:
    output.listing([output.row_of(one) for one in made], _TABLE, as_json=as_json)


def _tell(made: "Restored") -> None:
    from agentcom.model.ids import utc

    click.echo(f"restored   {made.base}, and {made.replayed} batches from the journal")
    click.echo(f"up to      batch {made.number}, {utc(made.at)}")
    states = ", ".join(f"{count} {state}" for state, count in made.states.items())
    click.echo(f"live       {states or 'no tasks'}")
    if made.held:
        click.echo(
            f"held       {len(made.held)} attempts: they go on if their machines have them still,"
            " else they are issued again"
        )
    if made.lost_count is None:
        click.echo("lost       not known: the data of before cannot be read")
    elif made.lost_count:
        shown = " ".join(output.short(task) for task in made.lost)
        click.echo(f"lost       {made.lost_count} tasks that came later: {shown}")
    click.echo(f"refused    whatever has a fence below {made.incarnation}, unless it is known here")
    if made.gap is not None:
        click.echo(f"gap        the journal lacks batches from {made.number + 1} to {made.gap - 1}")
    if made.without_archive:
        click.echo(
            "archive    its copy is not there: tasks that were archived are missing, but for those"
            " that this folder's own archive has"
        )
    if made.replaced is not None:
        click.echo(f"kept       the data of before: {made.replaced}")
    output.talk("next: agentcom up; machines then offer the results that they kept")
