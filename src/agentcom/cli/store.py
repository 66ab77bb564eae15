"""`agentcom store`: what the hub's data take, and how they move to another computer or form.

These work on files of this computer: of the hub that `up` starts, or of another one's folder.
"""

import os
import sys
from pathlib import Path
from typing import BinaryIO, Final

import click

from agentcom.cli import context, output
from agentcom.cli.lazy import Group
from agentcom.cli.output import Column

STATS: Final = (
    *("store", "free", "gives_back", "archive", "files", "rows", "records", "first_record"),
    *("oldest_end", "archived"),
)
IMPORTED: Final = ("lines", "rows", "number", "at", "incarnation", "access")
_MIB: Final = 1 << 20
_HOME: Final = click.option(
    "--hub-home", "home", type=click.Path(path_type=Path), help="By default that of `up`."
)


def _mib(name: str) -> Column:
    return Column(name.upper(), lambda row: f"{row[name] / _MIB:.1f} MiB")


_SIZES: Final = (
    _mib("store"),
    _mib("free"),
    _mib("archive"),
    _mib("files"),
    Column("TASKS", lambda row: row["rows"].get("task", 0)),
    Column("ARCHIVED", lambda row: row["archived"]),
    Column("OLDEST", lambda row: output.age(row["oldest_end"])),
    Column("RECORDS FROM", lambda row: row["first_record"]),
)


@click.group(cls=Group)
def store() -> None:
    """Measure, move and tidy up the hub's data.

    \b
    Examples:
      agentcom store stats
      agentcom store export hub.jsonl
      agentcom store import hub.jsonl --hub-home ~/new-hub
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped


@store.command("stats", cls=output.JsonCommand, fields=STATS)
@_HOME
def stats(home: Path | None, as_json: tuple[str, ...] | None) -> None:
    """Show how much room the hub's data take, and what is in them."""
    from agentcom import app

    room = output.row_of(app.open_files(_home(home)).room())
    output.details(room, _SIZES, as_json=as_json)
    if as_json is None and not room["gives_back"]:
        output.talk("note: free room stays in this file: agentcom down, agentcom store compact")


@store.command("export")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@click.option("--with-access", "access", is_flag=True, help="With the hashes of tokens.")
@_HOME
def export(file: Path, *, access: bool, home: Path | None) -> None:
    """Write all that the hub knows to FILE (-: standard output), one JSON object in a line.

    The hub may run. Without --with-access nobody's token is in the file: people and machines
    enrol anew where it is imported. Attached files are not in it: copy the folder `blobs`.
    """
    from agentcom import app

    lines = app.open_files(_home(home)).export(access=access)
    if str(file) == "-":
        for line in lines:
            sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
        return
    count = 0
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as out:
            for count, line in enumerate(lines, 1):  # noqa: B007 - the last one counts
                out.write(line)
            out.flush()
            os.fsync(out.fileno())
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
    click.echo(f"{file}\t{count} lines")


@store.command("import", cls=output.JsonCommand, fields=IMPORTED)
@click.argument("file", type=click.File("rb"))
@_HOME
def load(file: BinaryIO, home: Path | None, as_json: tuple[str, ...] | None) -> None:
    """Make the data of a new hub of an export; there must be none yet.

    All of FILE is checked before anything counts. The incarnation rises, as after a restore.
    """
    from agentcom import app

    made = app.open_files(_home(home)).load(file)
    columns = (
        Column("LINES", lambda row: row["lines"]),
        Column("UP TO", lambda row: f"batch {row['number']}"),
        Column("EXPORTED", lambda row: output.age(row["at"])),
        Column("TASKS", lambda row: row["rows"].get("task", 0)),
        Column("ARCHIVED", lambda row: row["rows"].get("archived", 0)),
    )
    output.details(output.row_of(made), columns, as_json=as_json)
    if as_json is None:
        output.talk(
            "next: agentcom up"
            if made.access
            else "next: agentcom up; no token of before is known here, so people and machines enrol"
        )


@store.command("compact")
@_HOME
def compact(home: Path | None) -> None:
    """Write the data of a hub that does not run anew, without free room.

    A hub does that by itself in small steps, but for a store of before there were such steps.
    """
    from agentcom import app

    before, after = app.open_files(_home(home)).compact()
    click.echo(f"store\t{before / _MIB:.1f} MiB before\t{after / _MIB:.1f} MiB now")


def _home(home: Path | None) -> Path:
    return (home or context.hub_home()).absolute()
