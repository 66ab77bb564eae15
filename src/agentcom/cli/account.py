"""`agentcom account`: whose quota agents use up, and which has none left."""

from typing import Final

import click

from agentcom.cli import output
from agentcom.cli.lazy import Group
from agentcom.cli.output import Column

FIELDS: Final = (*("id", "state", "until", "canary", "reason", "strikes", "machines", "agents"),)

_TABLE: Final = (
    Column("ACCOUNT", lambda row: row["id"]),
    Column("STATE", lambda row: row["state"]),
    Column("UNTIL", lambda row: output.age(row.get("until"))),
    Column("CANARY", lambda row: output.short(row.get("canary"))),
    Column("MACHINES", lambda row: row.get("machines")),
    Column("AGENTS", lambda row: row.get("agents")),
)


@click.group(cls=Group)
def account() -> None:
    """Show accounts, and which have no quota left."""


@account.command("ls", cls=output.JsonCommand, fields=FIELDS)
def ls(as_json: tuple[str, ...] | None) -> None:
    """List the accounts that agents use.

    A parked account has no quota until the time shown; then one attempt (its canary) tries it.
    """
    from agentcom.cli import api

    output.listing(api.connect().accounts(), _TABLE, as_json=as_json)


@account.command()
@click.argument("account_id", metavar="ID")
def resume(account_id: str) -> None:
    """Give the agents of an account tasks again: it has quota."""
    from agentcom.cli import api

    api.connect().open_account(account_id)
    click.echo(f"{account_id}\tresumed")
