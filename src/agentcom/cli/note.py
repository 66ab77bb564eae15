"""`agentcom note` and `agentcom search`: what a fleet knows, by name and by words."""

from typing import Any, Final

import click

from agentcom.cli import output
from agentcom.cli.lazy import Group
from agentcom.cli.output import Column

FIELDS: Final = ("name", "version", "author", "at", "text", "deleted")
_TABLE: Final = (
    Column("NOTE", lambda row: row["name"]),
    Column("VERSION", lambda row: row["version"]),
    Column("BY", lambda row: row["author"]),
    Column("WHEN", lambda row: output.age(row["at"])),
)
_HITS: Final = (
    Column("KIND", lambda row: row["kind"]),
    Column("ID", lambda row: row["id"] if row["kind"] == "note" else output.short(row["id"])),
    Column("WHEN", lambda row: output.age(row["at"])),
    Column("TITLE", lambda row: row["title"]),
    Column("TEXT", lambda row: row["excerpt"]),
)


@click.group(cls=Group)
def note() -> None:
    """Keep what all agents and people shall know, by name, with all its versions."""


@note.command("ls", cls=output.JsonCommand, fields=FIELDS)
@click.argument("prefix", default="")
def ls(prefix: str, as_json: Any) -> None:
    """List notes by name."""
    from agentcom.cli import api
    from agentcom.protocol import calls, told

    rows: list[dict[str, Any]] = []
    hub, after = api.connect(), None
    for _ in range(api.PAGES_MAX):
        call = calls.NoteList(prefix=prefix, after=after, limit=100)
        found = hub.do(call, told.NotesShown)
        rows += map(output.row_of, found.notes)
        after = found.next
        if after is None:
            break
    output.listing(rows, _TABLE, as_json=as_json)


@note.command("show", cls=output.JsonCommand, fields=FIELDS)
@click.argument("name")
@click.option("--version", type=click.IntRange(1), help="A certain version, not the newest.")
def show(name: str, version: int | None, as_json: Any) -> None:
    """Print a note."""
    from agentcom.cli import api
    from agentcom.protocol import calls, told

    found = api.connect().do(calls.NoteRead(name=name, version=version), told.NoteShown).note
    if as_json is not None:
        row = output.row_of(found)
        output.print_json({field: row[field] for field in as_json})
        return
    click.echo(output.lines(found.text), nl=not found.text.endswith("\n"))


@note.command("write")
@click.argument("name")
@click.argument("text", nargs=-1)
@click.option("--version", type=click.IntRange(0), help="Only if this is the newest; 0: none yet.")
def write(name: str, text: tuple[str, ...], version: int | None) -> None:
    """Write a note, from words or standard input.

    \b
    Examples:
      agentcom note write api/style "errors are values; see docs/errors.md"
      agentcom note write api/style --version 3 - < style.md
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped
    from agentcom.cli import api, letters
    from agentcom.protocol import calls, told

    call = calls.NoteWrite(name=name, text=letters.body(text), version=version)
    written = api.connect().do(call, told.NoteShown, key=letters.key()).note
    click.echo(f"{written.name}\tversion {written.version}")


@note.command("history", cls=output.JsonCommand, fields=FIELDS)
@click.argument("name")
@click.option("--limit", type=click.IntRange(1, 100), default=20, show_default=True)
def history(name: str, limit: int, as_json: Any) -> None:
    """List the versions of a note, newest first."""
    from agentcom.cli import api
    from agentcom.protocol import calls, told

    found = api.connect().do(calls.NoteHistory(name=name, limit=limit), told.NotesShown)
    output.listing([output.row_of(one) for one in found.notes], _TABLE, as_json=as_json)


@note.command("rm")
@click.argument("name")
def rm(name: str) -> None:
    """Delete a note; its versions can be read by number for a while."""
    from agentcom.cli import api, letters
    from agentcom.model.replies import Done
    from agentcom.protocol import calls

    api.connect().do(calls.NoteDelete(name=name), Done, key=letters.key())
    click.echo(f"{name}\tdeleted")


@click.command("search", cls=output.JsonCommand, fields=("kind", "id", "title", "excerpt", "at"))
@click.argument("text", nargs=-1, required=True)
@click.option("--in", "kinds", type=click.Choice(["message", "note", "task"]), multiple=True)
@click.option("--limit", type=click.IntRange(1, 100), default=20, show_default=True)
def search(text: tuple[str, ...], kinds: tuple[str, ...], limit: int, as_json: Any) -> None:
    """Find messages, notes and tasks by words."""
    from agentcom.cli import api
    from agentcom.protocol import calls, told

    call = calls.Search(text=" ".join(text), kinds=kinds, limit=limit)
    found = api.connect().do(call, told.Hits)
    output.listing([output.row_of(hit) for hit in found.hits], _HITS, as_json=as_json)
    if not found.indexed:
        output.talk("note: the newest are not searchable yet; ask again in a moment")
