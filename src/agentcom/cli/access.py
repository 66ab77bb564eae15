"""`agentcom user` and `agentcom token`: who may use the hub."""

from typing import Final

import click

from agentcom.cli import output
from agentcom.cli.lazy import Group
from agentcom.cli.output import Column

ROLES: Final = ("viewer", "submitter", "operator", "admin")
USER_FIELDS: Final = ("id", "role", "created_at", "removed", "project")
TOKEN_FIELDS: Final = (
    *("id", "kind", "role", "owner", "note", "created_at", "expires_at", "last_used"),
    *("revoked_at", "machine", "uses_left"),
)
_DAY_MS: Final = 86_400_000


def ends_of(row: output.Row) -> str:
    """Return when a token ends, or why it has."""
    if row.get("revoked_at"):
        return "revoked"
    if row.get("uses_left") == 0:
        return "used up"
    at = row.get("expires_at")
    if at is None:
        return "never" if output.is_terminal() else ""
    return output.age(at)


_USERS: Final = (
    Column("USER", lambda row: row["id"]),
    Column("ROLE", lambda row: row["role"]),
    Column("SINCE", lambda row: output.age(row.get("created_at"))),
)
_TOKENS: Final = (
    Column("ID", lambda row: row["id"]),
    Column("KIND", lambda row: row["kind"]),
    Column("OWNER", lambda row: row["owner"]),
    Column("ROLE", lambda row: row["role"]),
    Column("USED", lambda row: output.age(row.get("last_used"))),
    Column("ENDS", ends_of),
    Column("NOTE", lambda row: row.get("note")),
)


@click.group(cls=Group)
def user() -> None:
    """Invite, list and remove people."""


@user.command()
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), default="submitter", show_default=True)
def invite(name: str, role: str) -> None:
    """Print a one-time code by which a person becomes user NAME, or gets one more token.

    \b
    Example:
      agentcom user invite ada --role operator
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped
    from agentcom.cli import api

    hub = api.connect()
    click.echo(f"agentcom join '{hub.invite_user(name, role)['join']}'")
    output.talk("note: it works once, and for 15 minutes")


@user.command("ls", cls=output.JsonCommand, fields=USER_FIELDS)
def ls_users(as_json: tuple[str, ...] | None) -> None:
    """List the people."""
    from agentcom.cli import api

    output.listing(api.connect().users(), _USERS, as_json=as_json)


@user.command("remove")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove_user(name: str, yes: bool) -> None:
    """End a person's access; their machines drain, and their tasks go on under their name."""
    from agentcom.cli import api

    if not yes:
        output.confirm(f"Remove {name}?")
    api.connect().remove_user(name)
    click.echo(f"{name}\tremoved")


@click.group(cls=Group)
def token() -> None:
    """Create, list, rotate and revoke tokens."""


@token.command("create")
@click.option("--role", type=click.Choice(ROLES), help="By default your own.")
@click.option("--agent", metavar="NAME", help="For an agent that you start, and that uses MCP.")
@click.option("--note", default="", help="What it is for.")
@click.option("--days", type=click.IntRange(1, 3_650), help="How long it is valid.")
def create(role: str | None, agent: str | None, note: str, days: int | None) -> None:
    """Print a new token. Nobody can see it again."""
    from agentcom.cli import api

    ttl_ms = days * _DAY_MS if days is not None else None
    hub = api.connect()
    click.echo(hub.create_token(role=role, agent=agent, note=note, ttl_ms=ttl_ms)["token"])


@token.command("ls", cls=output.JsonCommand, fields=TOKEN_FIELDS)
def ls_tokens(as_json: tuple[str, ...] | None) -> None:
    """List tokens, the oldest first; the secrets are known to nobody."""
    from agentcom.cli import api

    rows = sorted(api.connect().tokens(), key=lambda row: row["created_at"])
    output.listing(rows, _TOKENS, as_json=as_json)


@token.command()
@click.argument("token_id", required=False, metavar="[ID]")
def rotate(token_id: str | None) -> None:
    """Replace a token; the old one works for another day. Without ID: the one in use here."""
    from agentcom.cli import api, context

    hub = api.connect()
    own = token_id is None
    answer = hub.rotate_token(token_id or hub.whoami()["credential"])
    kept = context.find(hub.url)
    if not own or kept is None or kept.token != hub.token:
        click.echo(answer["token"])
        return
    context.renew(kept, answer["token"])
    output.talk("the new token is in use here")


@token.command()
@click.argument("token_id", metavar="ID")
@click.option("--yes", is_flag=True, help="Do not ask, even if it is the one in use here.")
def revoke(token_id: str, yes: bool) -> None:
    """End a token at once, on open connections too."""
    from agentcom.cli import api

    hub = api.connect()
    if not yes and token_id == hub.whoami()["credential"]:
        output.confirm("This token is in use here. Lock yourself out?")
    hub.revoke_token(token_id)
    click.echo(f"{token_id}\trevoked")
