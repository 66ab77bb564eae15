"""`agentcom user` and `agentcom token`: who may use the hub."""

from typing import Any, Final
from urllib.parse import quote

import click

from agentcom.cli import output
from agentcom.cli.lazy import Group
from agentcom.cli.output import Column

ROLES: Final = ("viewer", "submitter", "operator", "admin")
SCOPES: Final = ("read", "submit", "talk", "metrics")
USER_FIELDS: Final = ("id", "role", "created_at", "removed", "project", "service")
TOKEN_FIELDS: Final = (
    *("id", "kind", "role", "owner", "note", "created_at", "expires_at", "last_used"),
    *("revoked_at", "machine", "uses_left", "scopes", "service", "replaced_by", "idle_ms"),
)
_NEVER: Final = "never"


def ends_of(row: output.Row) -> str:
    """Return when a token ends, or why it has."""
    if row.get("revoked_at"):
        return "revoked"
    if row.get("uses_left") == 0:
        return "used up"
    at = row.get("expires_at")
    if at is None:
        return _NEVER if output.is_terminal() else ""
    return output.age(at)


def _role_of(row: output.Row) -> str:
    scopes = row.get("scopes") or ()
    return f"{row['role']} ({', '.join(scopes)})" if scopes else str(row["role"])


LEAVES: Final = (
    *("user", "role", "removed", "last_admin", "connections", "tokens", "codes", "machines"),
    *("schedules", "tasks", "asks", "channels"),
)
_LEAVES: Final = (
    Column("USER", lambda row: f"{row['user']} ({row['role']})"),
    Column("LAST ADMIN", lambda row: "yes: cannot be removed" if row["last_admin"] else None),
    Column("CONNECTIONS", lambda row: row["connections"]),
    Column("TOKENS", lambda row: row["tokens"]),
    Column("CODES", lambda row: row["codes"]),
    Column("MACHINES", lambda row: ", ".join(row["machines"])),
    Column("SCHEDULES", lambda row: ", ".join(row["schedules"])),
    Column("TASKS", lambda row: ", ".join(f"{n} {state}" for state, n in row["tasks"].items())),
    Column("QUESTIONS", lambda row: row["asks"]),
    Column("CHANNELS", lambda row: ", ".join(row["channels"])),
    Column("KEEPS THE NAME", lambda _: "tasks that have ended, also archived; messages; audit log"),
)
_USERS: Final = (
    Column("USER", lambda row: row["id"]),
    Column("ROLE", lambda row: row["role"]),
    Column("KIND", lambda row: "program" if row.get("service") else "person"),
    Column("SINCE", lambda row: output.age(row.get("created_at"))),
)
_TOKENS: Final = (
    Column("ID", lambda row: row["id"]),
    Column("KIND", lambda row: row["kind"]),
    Column("OWNER", lambda row: row["owner"]),
    Column("ROLE", _role_of),
    Column("USED", lambda row: output.age(row.get("last_used"))),
    Column("ENDS", ends_of),
    Column("NOTE", lambda row: row.get("note")),
)


_SCOPE: Final = click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(SCOPES),
    help="Only this of the role; several add up.",
)
_EXPIRES: Final = click.option(
    "--expires",
    metavar="TIME",
    help="12h, 30d, ... from now, or never. By default after 90 days without use.",
)
_NOTE: Final = click.option("--note", default="", help="What it is for.")


def _lifetime_ms(expires: str | None) -> int | None:
    from agentcom.cli import specs

    if expires is None:
        return None
    return 0 if expires == _NEVER else specs.duration(expires, "--expires")


@click.group(cls=Group)
def user() -> None:
    """Invite, list and remove people."""


@user.command()
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), default="submitter", show_default=True)
@click.option("--project", metavar="NAME", help="By default your own.")
def invite(name: str, role: str, project: str | None) -> None:
    """Print a one-time code by which a person becomes user NAME, or gets one more token.

    \b
    Example:
      agentcom user invite ada --role operator
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped
    from agentcom.cli import api

    hub = api.connect()
    click.echo(f"agentcom join '{hub.invite_user(name, role, project)['join']}'")
    output.talk("note: it works once, and for 15 minutes")


@user.command()
@click.argument("name")
@click.option("--service", is_flag=True, help="It is a program's account.")
@click.option("--role", type=click.Choice(ROLES), default="submitter", show_default=True)
@click.option("--project", metavar="NAME", help="By default your own.")
@_SCOPE
@_EXPIRES
@_NOTE
def add(
    name: str,
    service: bool,
    role: str,
    project: str | None,
    scopes: tuple[str, ...],
    expires: str | None,
    note: str,
) -> None:
    """Make an account for a program, and print its first token. Nobody can see it again.

    It has no code to log in with, and lets nobody in. `agentcom token create --for NAME` makes
    more tokens for it, `agentcom user remove NAME` ends them all.

    \b
    Example:
      agentcom user add nightly --service --role submitter --scope submit
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped
    from agentcom.cli import api
    from agentcom.cli.errors import CommandFailed, Exit

    if not service:
        raise CommandFailed(
            "people come in by a code of their own",
            hint=f"agentcom user invite {name}, or --service for a program",
            exit_code=Exit.USAGE,
            code="usage",
        )
    made = api.connect().add_service(
        name=name,
        role=role,
        project=project,
        scopes=scopes or None,
        ttl_ms=_lifetime_ms(expires),
        note=note,
    )
    click.echo(made["token"])


@user.command("ls", cls=output.JsonCommand, fields=USER_FIELDS)
def ls_users(as_json: tuple[str, ...] | None) -> None:
    """List the people, and the accounts of programs."""
    from agentcom.cli import api

    output.listing(api.connect().users(), _USERS, as_json=as_json)


@user.command("remove", cls=output.JsonCommand, fields=LEAVES)
@click.argument("name")
@click.option("--to", metavar="USER", help="Who gets tasks, schedules, questions; by default you.")
@click.option("--keep-machines", is_flag=True, help="Their machines go to that one, too.")
@click.option("--dry-run", is_flag=True, help="Only show what would happen.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove_user(
    as_json: tuple[str, ...] | None,
    name: str,
    to: str | None,
    keep_machines: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """End a person's access at once, and pass on what they leave behind; shows first what that is.

    Tokens, codes and open connections end. Machines are removed, and what they run goes elsewhere,
    unless you keep them. Tasks go on under the name of --to; schedules go there, paused.
    """
    from agentcom.cli import api
    from agentcom.protocol.leaving import Leaves

    hub, path = api.connect(), f"/users/{quote(name, safe='')}"
    if dry_run or not yes:
        found = hub.call("GET", f"{path}/removal", Leaves)
        _show_leaves(found, as_json if dry_run else None, talks=not dry_run)
        if dry_run:
            return
        output.confirm(f"Remove {name}?")
    params = {"to": to, "machines": "keep" if keep_machines else "remove"}
    done = hub.call("DELETE", path, Leaves, params=params)
    if as_json is not None:
        _show_leaves(done, as_json, talks=False)
    else:
        click.echo(f"{name}\tremoved")


def _show_leaves(found: Any, as_json: tuple[str, ...] | None, *, talks: bool) -> None:
    row = output.row_of(found)
    if not talks:
        output.details(row, _LEAVES, as_json=as_json)
        return
    for column in _LEAVES:
        output.talk(f"{column.head.lower()}: {output.plain(column.cell(row)) or 'none'}")


@click.group(cls=Group)
def token() -> None:
    """Create, list, rotate and revoke tokens."""


@token.command("create")
@click.option("--role", type=click.Choice(ROLES), help="By default that of its owner.")
@click.option("--for", "owner", metavar="NAME", help="Whose it is; by default yours.")
@click.option("--agent", metavar="NAME", help="For an agent that you start, and that uses MCP.")
@_SCOPE
@_EXPIRES
@_NOTE
def create(
    role: str | None,
    owner: str | None,
    agent: str | None,
    scopes: tuple[str, ...],
    expires: str | None,
    note: str,
) -> None:
    """Print a new token. Nobody can see it again.

    \b
    Example:
      agentcom token create --role viewer --scope metrics --expires never --note prometheus
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped
    from agentcom.cli import api

    made = api.connect().create_token(
        role=role,
        owner=owner,
        agent=agent,
        scopes=scopes or None,
        note=note,
        ttl_ms=_lifetime_ms(expires),
    )
    click.echo(made["token"])


@token.command("ls", cls=output.JsonCommand, fields=TOKEN_FIELDS)
def ls_tokens(as_json: tuple[str, ...] | None) -> None:
    """List tokens, the oldest first; the secrets are known to nobody."""
    from agentcom.cli import api

    rows = sorted(api.connect().tokens(), key=lambda row: row["created_at"])
    output.listing(rows, _TOKENS, as_json=as_json)


@token.command()
@click.argument("token_id", required=False, metavar="[ID]")
@click.option(
    "--grace",
    metavar="TIME",
    default="1d",
    show_default=True,
    help="How long the old one still works: 0s, 30m, up to 7d.",
)
def rotate(token_id: str | None, grace: str) -> None:
    """Replace a token; for a time of grace both work. Without ID: the one in use here."""
    from agentcom.cli import api, context, specs

    grace_ms = 0 if grace == "0s" else specs.duration(grace, "--grace")
    hub = api.connect()
    own = token_id is None
    answer = hub.rotate_token(token_id or hub.whoami()["credential"], grace_ms)
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
