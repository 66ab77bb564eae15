"""`agentcom msg`: write to agents and people, and read one's own mailbox."""

from typing import Any, Final

import click

from agentcom.cli import output
from agentcom.cli.lazy import Group
from agentcom.cli.output import Column

_SENT: Final = ("message", "thread", "count", "to", "warning")
_URGENCIES: Final = ("low", "normal", "high", "urgent")
_STATES: Final = (
    Column("ADDRESS", lambda row: row["address"]),
    Column("STATE", lambda row: row["state"]),
    Column("WAKES", lambda row: row["wakes"]),
    Column("SEEN", lambda row: output.age(row["seen_at"])),
    Column("ACKED", lambda row: output.age(row["acked_at"])),
)


@click.group(cls=Group)
def msg() -> None:
    """Write to agents and people, and read your own mailbox.

    Messages are named by their number in your mailbox, or by their id.
    """


@msg.command("send", cls=output.JsonCommand, fields=_SENT)
@click.argument("to")
@click.argument("text", nargs=-1)
@click.option("--subject", default="")
@click.option("--urgency", type=click.Choice(_URGENCIES), default="normal")
@click.option("--reply-to", metavar="NUMBER", help="The message that this one answers.")
@click.option("--ack", is_flag=True, help="Its recipients must acknowledge it.")
@click.option("--expires", metavar="TIME", help="Take it back if nobody took it: 30m, 2h, 7d.")
@click.option("--file", "files", type=click.Path(exists=True, dir_okay=False), multiple=True)
def send(to: str, text: tuple[str, ...], as_json: Any, **asked: Any) -> None:
    """Send a message to one or more names, separated by commas.

    \b
    Examples:
      agentcom msg send ada "the parser is yours; I take the printer"
      agentcom msg send ada,bob --ack --subject freeze "main is closed until 15:00"
      git diff | agentcom msg send user:ann -
    """  # noqa: D301 - the backspace is click's mark of a block that is not re-wrapped
    from agentcom.cli import api, letters, specs
    from agentcom.model.message import MessageId, Urgency
    from agentcom.protocol import calls, told

    hub = api.connect()
    reply_to, expires = asked["reply_to"], asked["expires"]
    call = calls.MessageSend(
        to=tuple(name.strip() for name in to.split(",")),
        body=letters.body(text),
        subject=asked["subject"],
        urgency=Urgency[asked["urgency"].upper()],
        reply_to=MessageId(letters.message_id(hub, reply_to)) if reply_to else None,
        ack_required=asked["ack"],
        expires_in_ms=specs.duration(expires, "--expires") if expires else None,
        attachments=_attached(hub, asked["files"]),
    )
    _said(hub.do(call, told.Sent, key=letters.key()), as_json)


@msg.command("broadcast", cls=output.JsonCommand, fields=_SENT)
@click.argument("text", nargs=-1)
@click.option("--needs", multiple=True, help="Only agents that fit: python>=3.11, team=api.")
@click.option("--subject", default="")
@click.option("--urgency", type=click.Choice(_URGENCIES), default="normal")
@click.option("--ack", is_flag=True, help="Its recipients must acknowledge it.")
def broadcast(
    text: tuple[str, ...], needs: tuple[str, ...], subject: str, urgency: str, *, ack: bool,
    as_json: Any,
) -> None:  # fmt: skip
    """Send a message to every agent of the project that fits."""
    from agentcom.cli import api, letters
    from agentcom.model.message import Urgency
    from agentcom.protocol import calls, told

    call = calls.MessageBroadcast(
        body=letters.body(text),
        needs=needs,
        subject=subject,
        urgency=Urgency[urgency.upper()],
        ack_required=ack,
    )
    _said(api.connect().do(call, told.Sent, key=letters.key()), as_json)


@msg.command(
    "ls",
    cls=output.JsonCommand,
    fields=(
        "seq",
        "id",
        "sender",
        "at",
        "subject",
        "body",
        "state",
        "why",
        "urgency",
        "ack_required",
        "thread",
        "channel",
        "sort",
        "task",
    ),
)
@click.option("--all", "all_", is_flag=True, help="Acknowledged ones, too.")
@click.option("--after", type=click.IntRange(0), help="Begin after this number.")
@click.option("--limit", type=click.IntRange(1, 100), default=20, show_default=True)
def ls(after: int | None, limit: int, *, all_: bool, as_json: Any) -> None:
    """List your mailbox, oldest first; nothing is acknowledged by that."""
    from agentcom.cli import api, letters
    from agentcom.protocol import calls, told

    call = calls.InboxRead(after=after if all_ else None, limit=limit, all=all_)
    found = api.connect().do(call, told.Inbox)
    rows = [letters.row_of(letter) for letter in found.letters]
    output.listing(rows, letters.TABLE, as_json=as_json)
    if found.more:
        output.talk(f"there are more: agentcom msg ls --all --after {found.cursor}")


@msg.command("watch")
def watch() -> int:
    """Show what comes to your mailbox, as it comes; Ctrl-C ends it. Nothing is acknowledged."""
    from agentcom.cli import api, letters

    return letters.watch(api.connect(), "mail", after=None)


@msg.command("read")
@click.option("--limit", type=click.IntRange(1, 100), default=20, show_default=True)
@click.option("--wait", metavar="TIME", help="With nothing to read, wait so long.")
def read(limit: int, wait: str | None) -> None:
    """Read what you have not acknowledged, in full, and acknowledge it.

    What its sender wants acknowledged by name stays: agentcom msg ack NUMBER.
    """
    from agentcom.cli import api, letters
    from agentcom.protocol import calls, told

    hub = api.connect()
    found = letters.waiting(
        wait,
        lambda wait_ms: hub.do(calls.InboxRead(limit=limit, wait_ms=wait_ms), told.Inbox),
        lambda inbox: bool(inbox.letters),
    )
    for number, letter in enumerate(found.letters):
        if number:
            click.echo("")
        letters.show(letter.message, seq=letter.seq)
    seen = [one.message.id for one in found.letters if not one.message.ack_required]
    if seen:
        hub.do(calls.MessageAck(messages=tuple(seen)), told.Acked)
    wanted = [one.seq for one in found.letters if one.message.ack_required]
    if wanted:
        output.talk(f"to be acknowledged: agentcom msg ack {' '.join(map(str, wanted))}")
    if not found.letters:
        output.talk("nothing to read")


@msg.command("show")
@click.argument("message")
def show(message: str) -> None:
    """Show a message, and how far it has come with each recipient if it is yours."""
    from agentcom.cli import api, letters
    from agentcom.protocol import calls, told

    hub = api.connect()
    call = calls.MessageShow(message=letters.message_id(hub, message))
    found = hub.do(call, told.MessageShown)
    letters.show(found.message)
    if found.to:
        click.echo("")
        output.listing([output.row_of(one) for one in found.to], _STATES, as_json=None)


@msg.command("ack")
@click.argument("messages", nargs=-1, required=True)
def ack(messages: tuple[str, ...]) -> None:
    """Acknowledge messages: they do not come again."""
    from agentcom.cli import api, letters
    from agentcom.protocol import calls, told

    hub = api.connect()
    ids = tuple(letters.message_id(hub, message) for message in messages)
    found = hub.do(calls.MessageAck(messages=ids), told.Acked)
    click.echo(f"{found.acked}\tacknowledged")


@msg.command("thread")
@click.argument("message")
def thread(message: str) -> None:
    """Read a thread from its beginning."""
    from agentcom.cli import api, letters
    from agentcom.protocol import calls, told

    hub, after = api.connect(), None
    named = letters.message_id(hub, message)
    for _ in range(api.PAGES_MAX):
        found = hub.do(calls.ThreadRead(message=named, after=after, limit=100), told.Thread)
        for one in found.messages:
            letters.show(one)
            click.echo("")
        after = found.next
        if after is None:
            break


def _attached(hub: Any, files: tuple[str, ...]) -> Any:
    from pathlib import Path

    from agentcom.model.message import Attachment

    found = []
    for name in files:
        blob = hub.upload(Path(name))
        found.append(Attachment(digest=blob.digest, name=Path(name).name, bytes=blob.bytes))
    return tuple(found)


def _said(sent: Any, as_json: Any) -> None:
    if as_json is not None:
        row = output.row_of(sent)
        output.print_json({field: row[field] for field in as_json})
        return
    click.echo(f"{sent.message}\tsent to {sent.count}")
    if sent.warning:
        output.talk(f"note: {sent.warning}")
