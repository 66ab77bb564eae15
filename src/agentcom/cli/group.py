"""`agentcom group`: show and steer tasks that share a name."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import click

from agentcom.cli import output
from agentcom.cli.errors import Exit
from agentcom.cli.lazy import Group
from agentcom.cli.output import Column

FIELDS: Final = (
    *("name", "tasks", "live", "states", "percent", "created_at", "changed_at", "failures"),
    *("critical_path", "more"),
)
_PAUSE_S: Final = 0.5
"""A group in which much happens is shown twice a second."""


def states_of(row: Mapping[str, Any]) -> str:
    """Return how many tasks are in which state, in words."""
    return ", ".join(f"{count} {state}" for state, count in sorted(row["states"].items()))


_TABLE: Final = (
    Column("GROUP", lambda row: row["name"]),
    Column("DONE", lambda row: f"{row['percent']}%"),
    Column("TASKS", lambda row: row["tasks"]),
    Column("STATES", states_of),
    Column("CHANGED", lambda row: output.age(row["changed_at"])),
)
_DETAILS: Final = (
    *_TABLE,
    Column("LEFT IN A ROW", lambda row: row["critical_path"] or None),
    Column(
        "FAILED",
        lambda row: [f"{output.short(one['id'])} {one['title']}" for one in row["failures"]],
    ),
)
_NAME: Final = click.argument("name")


@click.group(cls=Group)
def group() -> None:
    """Show and steer tasks that share a group: agentcom submit --group NAME."""


@group.command("ls", cls=output.JsonCommand, fields=FIELDS)
def ls(as_json: tuple[str, ...] | None) -> None:
    """List the groups and their progress."""
    from agentcom.cli import api

    output.listing(api.connect().groups(), _TABLE, as_json=as_json)


@group.command(cls=output.JsonCommand, fields=FIELDS)
@_NAME
def show(name: str, as_json: tuple[str, ...] | None) -> None:
    """Show a group: its states, what failed first, and how many tasks have to run in a row."""
    from agentcom.cli import api

    output.details(api.connect().group(name), _DETAILS, as_json=as_json)


@group.command()
@_NAME
def watch(name: str) -> int:
    """Follow a group until all its tasks are over; exit with 1 if one failed or was cancelled."""
    from agentcom.cli import api

    hub = api.connect()
    hub.group(name)
    try:
        return hub.with_client(lambda client: _watch(client, name))
    except KeyboardInterrupt:
        output.talk(f"\ndetached: the tasks go on; agentcom group watch {name} comes back")
        return Exit.INTERRUPTED


@group.command()
@_NAME
@click.option("--reason", default="", help="Kept with the tasks.")
def cancel(name: str, reason: str) -> None:
    """End the live tasks of a group; running agents are stopped."""
    from agentcom.cli import api

    done = api.connect().act_on_group(name, "cancel", {"reason": reason} if reason else {})
    click.echo(f"cancelled: {done}")


@group.command()
@_NAME
def retry(name: str) -> None:
    """Run what failed or was cancelled again, as the next attempts."""
    from agentcom.cli import api

    click.echo(f"reopened: {api.connect().act_on_group(name, 'retry', {})}")


async def _watch(client: Any, name: str) -> Exit:
    from urllib.parse import quote

    from agentcom.protocol import shown

    path = f"/groups/{quote(name, safe='')}"
    said = ""
    async with client.following(live_only=True) as news:
        following = aiter(news)
        while True:
            row = output.row_of(await client.get(path, shown.GroupShown))
            line = f"{row['percent']:>3}%  {states_of(row)}"
            if line != said:
                click.echo(line)
                said = line
            if not row["live"]:
                return Exit.FAILED if {"failed", "cancelled"} & set(row["states"]) else Exit.DONE
            await anext(following)  # something happened, here or elsewhere
            await asyncio.sleep(_PAUSE_S)
