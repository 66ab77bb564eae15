"""`agentcom who`: who is there, and what they do now."""

from typing import Any, Final

import click

from agentcom.cli import output
from agentcom.cli.output import Column

FIELDS: Final = ("address", "state", "suspect", "task", "title", "machine", "host", "last_seen")
_TABLE: Final = (
    Column("ADDRESS", lambda row: row["address"]),
    Column("STATE", lambda row: "suspect" if row["suspect"] else row["state"]),
    Column("MACHINE", lambda row: row["machine"]),
    Column("SEEN", lambda row: output.age(row["last_seen"])),
    Column("TASK", lambda row: output.short(row["task"])),
    Column("TITLE", lambda row: row["title"]),
)


@click.command("who", cls=output.JsonCommand, fields=FIELDS)
@click.option("--needs", multiple=True, help="Only agents that fit: python>=3.11, team=api.")
@click.option("--state", "states", multiple=True, help="Only those in this state.")
def who(needs: tuple[str, ...], states: tuple[str, ...], as_json: Any) -> None:
    """Show who is there, and what they do."""
    from agentcom.cli import api
    from agentcom.protocol import calls, told

    rows: list[dict[str, Any]] = []
    hub, after = api.connect(), None
    for _ in range(api.PAGES_MAX):
        call = calls.PresenceList(needs=needs, states=states, after=after, limit=100)
        found = hub.do(call, told.PresencesShown)
        rows += map(output.row_of, found.present)
        after = found.next
        if after is None:
            break
    output.listing(rows, _TABLE, as_json=as_json)
