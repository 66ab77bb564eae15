"""`agentcom context`: the hubs that are known here, and which one commands talk to."""

from typing import Final

import click

from agentcom.cli import context, output
from agentcom.cli.errors import CommandFailed, Exit
from agentcom.cli.lazy import Group
from agentcom.cli.output import Column

FIELDS: Final = ("url", "user", "current", "home", "fingerprint")
_TABLE: Final = (
    Column("HUB", lambda row: row["url"]),
    Column("USER", lambda row: row.get("user")),
    Column("CURRENT", lambda row: "yes" if row["current"] else None),
    Column("HERE", lambda row: row.get("home")),
)
_URL: Final = click.argument("url")


@click.group("context", cls=Group)
def context_group() -> None:
    """Show and choose the hub to talk to; AGENTCOM_HUB names one for a single command."""


@context_group.command("ls", cls=output.JsonCommand, fields=FIELDS)
def ls(as_json: tuple[str, ...] | None) -> None:
    """List the hubs that are known here; tokens are not shown."""
    known = context.known()
    rows = [
        {
            "url": it.url,
            "user": it.user,
            "current": at == 0,
            "home": it.home,
            "fingerprint": it.fingerprint,
        }
        for at, it in enumerate(known)
    ]
    output.listing(rows, _TABLE, as_json=as_json)


@context_group.command("use")
@_URL
def use(url: str) -> None:
    """Talk to a known hub from now on."""
    found = context.use(url)
    click.echo(f"{found.url}\t{found.user or ''}")


@context_group.command("add")
@_URL
@click.option("--fingerprint", help="SHA-256 of the hub's certificate, if it is its own.")
@click.option("--replace", is_flag=True, help="Instead of the token that is kept for it.")
def add(url: str, fingerprint: str | None, replace: bool) -> None:
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
    context.save(context.Context(url=url, token=token, fingerprint=pin))


@context_group.command("rm")
@_URL
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(url: str, yes: bool) -> None:
    """Forget a hub and the token that is kept for it."""
    if not yes:
        output.confirm(f"Forget the token for {url}?")
    click.echo(f"{context.forget(url).url}\tforgotten")
