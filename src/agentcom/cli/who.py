"""`agentcom who`: who is there, and what they do now."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from agentcom.cli import output
from agentcom.cli.output import Column

if TYPE_CHECKING:
    from agentcom.cli import api
    from agentcom.client.hub import HubClient
    from agentcom.protocol.live import PresenceFrame

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
@click.option("--watch", is_flag=True, help="Go on, and say what changes; Ctrl-C ends it.")
def who(
    needs: tuple[str, ...], states: tuple[str, ...], as_json: Any, *, watch: bool
) -> int | None:
    """Show who is there, and what they do."""
    from agentcom.cli import api
    from agentcom.protocol import calls, told

    if watch:
        return _watch(api.connect(), needs, states)
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
    return None


def _watch(hub: "api.Hub", needs: tuple[str, ...], states: tuple[str, ...]) -> int:
    from agentcom.cli.errors import Exit

    async def follow(client: "HubClient") -> int:
        async with client.watching(needs=needs, states=states) as news:
            async for frame in news:
                for line in _lines(frame):
                    click.echo(output.plain(line))
        return Exit.DONE

    try:
        return hub.with_client(follow)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED


def _lines(frame: "PresenceFrame") -> Iterator[str]:
    """Yield a line for each whose state is told; one that begins anew says so."""
    stamp = time.strftime("%H:%M:%S")
    if frame.first:
        yield f"{stamp}  there are:"
    for one in frame.present:
        state = "suspect" if one.suspect else one.state
        task = f"  {output.short(one.task)} {one.title}" if one.task else ""
        yield f"{stamp}  {one.address:<24} {state}{task}"
    for address in frame.gone:
        yield f"{stamp}  {address:<24} -"
