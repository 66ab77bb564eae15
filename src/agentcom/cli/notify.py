"""`agentcom notify`: who is told of what, and where; and people's accounts in chats."""

import sys
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import click

from agentcom.cli import output
from agentcom.cli.errors import CommandFailed, Exit
from agentcom.cli.lazy import Group
from agentcom.cli.output import Column
from agentcom.model.numerals import whole

FIELDS: Final = (
    *("name", "kind", "shown", "topics", "severity", "rules", "projects", "waiting", "sent"),
    *("sent_at", "parked", "parked_at", "failures", "failed_at", "problem", "next_at", "lost"),
    *("people", "owner", "at", "mail"),
)
_KINDS: Final = ("email", "slack", "discord", "teams", "webhook", "telegram")
_NAME: Final = click.argument("name")


def _state(row: Mapping[str, Any]) -> str:
    if row["parked"]:
        return f"parked: {row['parked']}"
    if row["problem"]:
        return (
            f"failed {row['failures']} times, again {output.age(row['next_at'])}: {row['problem']}"
        )
    return "ok" if row["sent"] else "new"


_TABLE: Final = (
    Column("NAME", lambda row: row["name"]),
    Column("KIND", lambda row: row["kind"]),
    Column("WHERE", lambda row: row["shown"]),
    Column("TOPICS", lambda row: ", ".join(row["topics"])),
    Column("FROM", lambda row: row["severity"]),
    Column("PEOPLE", lambda row: ", ".join(row["people"])),
    Column("WAITING", lambda row: row["waiting"] or ""),
    Column("SENT", lambda row: row["sent"]),
    Column("LOST", lambda row: row["lost"] or ""),
    Column("STATE", _state),
)


@click.group(cls=Group)
def notify() -> None:
    """Say who is told of what, and where: mail, chats, webhooks."""


@notify.command("add")
@_NAME
@click.option("--kind", type=click.Choice(_KINDS), required=True)
@click.option(
    "--topic",
    "topics",
    multiple=True,
    type=click.Choice(["alerts", "asks", "approvals", "tasks"]),
    help="What of; repeatable.  [default: alerts]",
)
@click.option(
    "--severity",
    type=click.Choice(["info", "warning", "critical"]),
    help="Alerts from here on.  [default: warning]",
)
@click.option("--rule", "rules", multiple=True, help="Alerts of this rule only; repeatable.")
@click.option("--project", "projects", multiple=True, help="Of this project only; repeatable.")
@click.option("--to", multiple=True, metavar="ADDRESS", help="email: who gets it; repeatable.")
@click.option("--sender", metavar="ADDRESS", help="email: in whose name.")
@click.option("--server", metavar="HOST:PORT", help="email: the mail server.")
@click.option(
    "--security",
    type=click.Choice(["starttls", "tls", "none"]),
    help="email: how its connection is made safe.  [default: starttls]",
)
@click.option("--user", help="email: who logs in at the server.")
@click.option("--api", metavar="URL", help="telegram: a server of your own.")
def add(name: str, **options: Any) -> None:
    """Add a destination. What is secret of it is read from standard input.

    That is the address of a chat's or your own webhook, the token of a bot, or the password of a
    mail server.

    \b
    Examples:
      agentcom notify add team --kind slack < slack-webhook-url
      agentcom notify add oncall --kind email --server smtp.example.org:587 \\
        --sender agentcom@example.org --to ann@example.org --user agentcom < password
      agentcom notify add phone --kind telegram --topic asks --topic approvals < bot-token
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped
    from agentcom.cli import asking
    from agentcom.protocol import alerting

    given = ("topics", "severity", "rules", "projects")
    body = {"name": name, "kind": options["kind"]}
    body |= {key: options[key] for key in given if options[key]}
    body |= _secrets(options)
    made = asking.ask("POST", "/destinations", alerting.DestinationAdded, body=body)
    click.echo(f"{name}\t{made.destination.shown}")
    _show_key(made.key)


def _secrets(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what goes with a kind, the secret from standard input among it."""
    if options["kind"] == "email":
        host, _, written = (options["server"] or "").rpartition(":")
        port = whole(written)
        if not host or port is None or not options["to"] or not options["sender"]:
            raise CommandFailed(
                "mail needs --server HOST:PORT, --sender and --to",
                exit_code=Exit.USAGE,
                hint="agentcom notify add --help",
            )
        mail = {"host": host, "port": port, "sender": options["sender"], "to": options["to"]}
        mail |= {key: options[key] for key in ("security", "user") if options[key]}
        return {"mail": mail, "password": _stdin("the password") if options["user"] else ""}
    if options["kind"] == "telegram":
        return {"token": _stdin("the bot's token"), "url": options["api"] or ""}
    return {"url": _stdin("the address to send to")}


def _stdin(what: str) -> str:
    """Return a secret; typed at a terminal it is not shown."""
    at_terminal = sys.stdin.isatty()
    text: str = click.prompt(what, hide_input=True, err=True) if at_terminal else sys.stdin.read()
    if not text.strip():
        raise CommandFailed(
            f"{what} is read from standard input, and there is nothing",
            exit_code=Exit.USAGE,
            hint="agentcom notify add NAME --kind KIND < FILE",
        )
    return text.strip()


@notify.command("ls", cls=output.JsonCommand, fields=FIELDS)
def ls(as_json: tuple[str, ...] | None) -> None:
    """List destinations: what waits, what failed, and which are parked."""
    from agentcom.cli import asking
    from agentcom.protocol import alerting

    found = asking.ask("GET", "/destinations", alerting.DestinationList)
    output.listing([_row(one) for one in found.destinations], _TABLE, as_json=as_json)


@notify.command()
@_NAME
def test(name: str) -> None:
    """Send a test; a parked destination goes on."""
    _act(name, "test")


@notify.command()
@_NAME
def resume(name: str) -> None:
    """Let a parked destination go on, with what waits for it."""
    _act(name, "resume")


@notify.command()
@_NAME
def rotate(name: str) -> None:
    """Print a new key of a webhook; the one before signs, too, until the next rotation."""
    from agentcom.cli import asking
    from agentcom.protocol import alerting

    made = asking.ask("POST", f"{_path(name)}/rotate", alerting.DestinationAdded)
    _show_key(made.key)


@notify.command()
@_NAME
@click.option("--yes", is_flag=True, help="Do not ask.")
def rm(name: str, yes: bool) -> None:
    """Remove a destination, with what waits for it."""
    from agentcom.cli import asking
    from agentcom.model.replies import Done

    if not yes:
        output.confirm(f"Remove destination {name}?")
    asking.ask("DELETE", _path(name), Done)
    click.echo(f"{name}\tremoved")


@notify.command()
@_NAME
def link(name: str) -> None:
    """Print a code that makes an account in a chat yours: questions to you come there."""
    from agentcom.cli import asking
    from agentcom.protocol import alerting

    made = asking.ask("POST", f"{_path(name)}/link", alerting.ChatCode)
    click.echo(made.code)
    output.talk(f"send the bot, within {output.span(made.ms)}: /link {made.code}")


@notify.command()
@_NAME
def unlink(name: str) -> None:
    """Forget your accounts in a chat."""
    _act(name, "unlink")


def _act(name: str, verb: str) -> None:
    from agentcom.cli import asking
    from agentcom.model.replies import Done

    click.echo(asking.ask("POST", f"{_path(name)}/{verb}", Done).detail)


def _path(name: str) -> str:
    return f"/destinations/{quote(name, safe='')}"


def _row(shown: Any) -> dict[str, Any]:
    return {**output.row_of(shown.destination), **output.row_of(shown)}


def _show_key(key: str) -> None:
    if key:
        output.talk("its receiver checks signatures by this key, which is shown only now:")
        click.echo(key)
