"""`agentcom context`: the hubs that are known here, and which one commands talk to."""

from pathlib import Path
from typing import Any, Final

import click

from agentcom.cli import context, output
from agentcom.cli.errors import CommandFailed, Exit
from agentcom.cli.lazy import Group
from agentcom.cli.output import Column

FIELDS: Final = ("url", "user", "current", "home", "fingerprint", "name", "folders")
SHOW_FIELDS: Final = ("name", "url", "user", "because", "fingerprint", "home", "token")
_TABLE: Final = (
    Column("HUB", lambda row: row["url"]),
    Column("NAME", lambda row: row["name"]),
    Column("USER", lambda row: row.get("user")),
    Column("CURRENT", lambda row: "yes" if row["current"] else None),
    Column("HERE", lambda row: row.get("home")),
)
_CHOSEN: Final = Column("CHOSEN IN", lambda row: row["folders"])
_SHOWN: Final = (
    Column("NAME", lambda row: row["name"]),
    Column("HUB", lambda row: row["url"]),
    Column("USER", lambda row: row["user"]),
    Column("BECAUSE", lambda row: row["because"]),
    Column("FINGERPRINT", lambda row: row["fingerprint"]),
    Column("HERE", lambda row: row["home"]),
    Column("TOKEN", lambda row: row["token"]),
)
_HUB: Final = click.argument("hub", metavar="NAME|URL")


@click.group("context", cls=Group)
def context_group() -> None:
    """Show and choose the hub to talk to; --context and AGENTCOM_CONTEXT name one for once."""


@context_group.command("ls", cls=output.JsonCommand, fields=FIELDS)
def ls(as_json: tuple[str, ...] | None) -> None:
    """List the hubs that are known here; tokens are not shown."""
    names, folders = context.names(), context.folders()
    rows = [
        {
            "url": it.url,
            "user": it.user,
            "current": at == 0,
            "home": it.home,
            "fingerprint": it.fingerprint,
            "name": names[it.url],
            "folders": [folder for folder, url in folders.items() if url == it.url],
        }
        for at, it in enumerate(context.known())
    ]
    table = (*_TABLE, _CHOSEN) if folders else _TABLE
    output.listing(rows, table, as_json=as_json)


@context_group.command("show", cls=output.JsonCommand, fields=SHOW_FIELDS)
def show(as_json: tuple[str, ...] | None) -> None:
    """Show which hub a command typed here talks to, as whom, and why it is that one."""
    choice = context.choose()
    it = choice.context
    row: dict[str, Any] = {
        "name": context.names().get(it.url),
        "url": it.url,
        "user": it.user,
        "because": choice.because,
        "fingerprint": it.fingerprint,
        "home": it.home,
        "token": "kept here" if it in context.known() else "from the environment",
    }
    output.details(row, _SHOWN, as_json=as_json)


@context_group.command("use")
@click.argument("hub", metavar="[NAME|URL]", required=False)
@click.option("--here", is_flag=True, help="Only in this folder, and below it.")
@click.option("--off", is_flag=True, help="With --here: as everywhere else.")
def use(hub: str | None, here: bool, off: bool) -> None:
    """Talk to a known hub from now on.

    \b
    Examples:
      agentcom context use prod
      agentcom context use staging --here
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped
    if off == (hub is not None) or (off and not here):
        raise click.UsageError("name a hub, or say --here --off")
    if here:
        context.use_in(Path.cwd(), hub)
        found = context.load()
    else:
        assert hub is not None
        found = context.use(hub)
    click.echo(f"{found.url}\t{found.user or ''}")


@context_group.command("add")
@click.argument("url")
@click.option("--name", help="What to call it; by default its host.")
@click.option("--fingerprint", help="SHA-256 of the hub's certificate, if it is its own.")
@click.option("--replace", is_flag=True, help="Instead of the token that is kept for it.")
def add(url: str, name: str | None, fingerprint: str | None, replace: bool) -> None:
    """Keep a token for a hub, and talk to it from now on. Asks for the token."""
    before = context.find(url)
    if before is not None and not replace:
        raise CommandFailed(
            f"{before.user or 'someone'} uses {url} here already",
            hint=f"agentcom context add {url} --replace",
            exit_code=Exit.STALE,
            code="conflict",
        )
    token = click.prompt("Token", hide_input=output.is_terminal(), err=True).strip()
    pin = fingerprint or (before.fingerprint if before is not None else None)
    made = context.Context(url=before.url if before else url, token=token, fingerprint=pin)
    context.save(made)
    if name is not None:
        context.rename(made.url, name)


@context_group.command("rename")
@_HUB
@click.argument("name")
def rename(hub: str, name: str) -> None:
    """Call a known hub by another name."""
    context.rename(context.named(hub).url, name)
    click.echo(f"{context.named(name).url}\t{name}")


@context_group.command("rm")
@_HUB
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(hub: str, yes: bool) -> None:
    """Forget a hub and the token that is kept for it."""
    if not yes:
        output.confirm(f"Forget the token for {hub}?")
    click.echo(f"{context.forget(hub).url}\tforgotten")
