"""`agentcom channel`: talk where many read."""

from typing import Any, Final

import click

from agentcom.cli import output
from agentcom.cli.lazy import Group
from agentcom.cli.output import Column

FIELDS: Final = ("name", "kind", "topic", "seq", "seen", "joined", "archived_at", "created_by")
_TABLE: Final = (
    Column("CHANNEL", lambda row: row["name"]),
    Column("KIND", lambda row: row["kind"]),
    Column("MEMBER", lambda row: row["joined"]),
    Column("UNREAD", lambda row: row["seq"] - row["seen"] if row["joined"] else ""),
    Column("POSTS", lambda row: row["seq"]),
    Column("TOPIC", lambda row: row["topic"]),
)
_MEMBERS: Final = (
    Column("ADDRESS", lambda row: row["address"]),
    Column("ROLE", lambda row: row["role"]),
    Column("IS TOLD", lambda row: row["notify"]),
)


@click.group(cls=Group)
def channel() -> None:
    """Talk where many read: make channels, post, read, and say who may."""


@channel.command("ls", cls=output.JsonCommand, fields=FIELDS)
@click.option("--joined", is_flag=True, help="Only those that you are a member of.")
@click.option("--archived", is_flag=True, help="Archived ones, too.")
def ls(*, joined: bool, archived: bool, as_json: Any) -> None:
    """List channels, and what you have not read of them."""
    from agentcom.cli import api
    from agentcom.protocol import calls, told

    rows: list[dict[str, Any]] = []
    hub, after = api.connect(), None
    for _ in range(api.PAGES_MAX):
        call = calls.ChannelList(joined=joined, archived=archived, after=after, limit=100)
        found = hub.do(call, told.ChannelsShown)
        rows += [_row(one) for one in found.channels]
        after = found.next
        if after is None:
            break
    output.listing(rows, _TABLE, as_json=as_json)


@channel.command("create")
@click.argument("name")
@click.option("--private", is_flag=True, help="Only members see it.")
@click.option("--task", help="It belongs to this task.")
@click.option("--topic", default="")
def create(name: str, task: str | None, topic: str, *, private: bool) -> None:
    """Make a channel; it is yours."""
    from agentcom.cli import api, letters
    from agentcom.model.channel import ChannelKind
    from agentcom.protocol import calls, told

    hub = api.connect()
    kind = ChannelKind.PRIVATE if private else ChannelKind.PUBLIC
    named = hub.resolve(task) if task else None
    call = calls.ChannelCreate(
        channel=name, kind=ChannelKind.TASK if named else kind, topic=topic, task=named
    )
    made = hub.do(call, told.ChannelShown, key=letters.key())
    click.echo(f"{made.channel.name}\tcreated")


@channel.command("show")
@click.argument("name")
def show(name: str) -> None:
    """Show a channel with its members and pins."""
    from agentcom.cli import api, letters
    from agentcom.protocol import calls, told

    found = api.connect().do(calls.ChannelShow(channel=name), told.ChannelShown)
    row = _row(found)
    heads = [(field, row[field]) for field in FIELDS if row[field] not in (None, "")]
    for field, value in heads:
        click.echo(f"{field}\t{output.plain(value)}")
    click.echo("")
    output.listing([output.row_of(one) for one in found.members], _MEMBERS, as_json=None)
    for letter in found.pinned:
        click.echo("")
        letters.show(letter.message, seq=letter.seq)


@channel.command("post")
@click.argument("name")
@click.argument("text", nargs=-1)
@click.option("--reply-to", metavar="NUMBER", help="The post that this one answers.")
@click.option("--subject", default="")
def post(name: str, text: tuple[str, ...], reply_to: str | None, subject: str) -> None:
    """Post to a channel; `@name` in the text tells that agent or person."""
    from agentcom.cli import api, letters
    from agentcom.protocol import calls, told

    hub = api.connect()
    call = calls.ChannelPost(
        channel=name,
        body=letters.body(text),
        subject=subject,
        reply_to=letters.message_id(hub, reply_to, channel=name) if reply_to else None,
    )
    sent = hub.do(call, told.Sent, key=letters.key())
    click.echo(f"{sent.seq}\tposted")
    if sent.warning:
        output.talk(f"note: {sent.warning}")


@channel.command(
    "history",
    cls=output.JsonCommand,
    fields=(
        "seq",
        "id",
        "sender",
        "at",
        "subject",
        "body",
        "thread",
        "reply_to",
        "mentions",
        "attachments",
    ),
)
@click.argument("name")
@click.option("--after", type=click.IntRange(0), help="Read on after this number.")
@click.option("--before", type=click.IntRange(1), help="Read back from this number.")
@click.option("--unread", is_flag=True, help="Begin at your own place.")
@click.option("--limit", type=click.IntRange(1, 100), default=20, show_default=True)
def history(name: str, as_json: Any, **asked: Any) -> None:
    """Read a channel, oldest first: by default its newest posts."""
    from agentcom.cli import api, letters
    from agentcom.protocol import calls, told

    found = api.connect().do(calls.ChannelHistory(channel=name, **asked), told.History)
    rows = [letters.row_of(letter) for letter in found.letters]
    output.listing(rows, letters.POSTS, as_json=as_json)


@channel.command("watch")
@click.argument("name")
@click.option(
    "--last",
    type=click.IntRange(0, 100),
    default=10,
    show_default=True,
    help="Begin with so many posts that are there.",
)
def watch(name: str, last: int) -> int:
    """Show what is posted to a channel, as it comes; Ctrl-C ends it."""
    from agentcom.cli import api, letters
    from agentcom.protocol import calls, told

    hub = api.connect()
    found = hub.do(calls.ChannelHistory(channel=name, limit=max(1, last)), told.History)
    newest = found.letters[-1].seq if found.letters else found.head
    shown = found.letters[-last:] if last else ()
    return letters.watch(hub, f"channel/{name}", shown=shown, after=newest)


@channel.command("join")
@click.argument("name")
@click.option("--notify", type=click.Choice(["all", "mentions", "none"]))
def join(name: str, notify: str | None) -> None:
    """Become a member, or change what you are told of."""
    from agentcom.cli import api, letters
    from agentcom.model.channel import Notify
    from agentcom.protocol import calls, told

    call = calls.ChannelJoin(channel=name, notify=Notify(notify) if notify else None)
    api.connect().do(call, told.ChannelShown, key=letters.key())
    click.echo(f"{name}\tjoined")


@channel.command("leave")
@click.argument("name")
def leave(name: str) -> None:
    """Be no member any more."""
    from agentcom.cli import api
    from agentcom.model.replies import Done
    from agentcom.protocol import calls

    api.connect().do(calls.ChannelLeave(channel=name), Done)
    click.echo(f"{name}\tleft")


@channel.command("member")
@click.argument("name")
@click.argument("who")
@click.option("--role", type=click.Choice(["owner", "member", "reader"]), default="member")
@click.option("--remove", is_flag=True, help="Remove them.")
def member(name: str, who: str, role: str, *, remove: bool) -> None:
    """Add someone to a channel of yours, change their role, or remove them."""
    from agentcom.cli import api, letters
    from agentcom.model.channel import ChannelRole
    from agentcom.protocol import calls, told

    call = calls.ChannelMember(channel=name, name=who, role=None if remove else ChannelRole(role))
    api.connect().do(call, told.ChannelShown, key=letters.key())
    click.echo(f"{who}\t{'removed' if remove else role}")


@channel.command("set")
@click.argument("name")
@click.option("--topic")
@click.option("--archive/--reopen", "archived", default=None, help="Read-only, or not any more.")
@click.option("--pin", type=click.IntRange(1), metavar="NUMBER")
@click.option("--unpin", type=click.IntRange(1), metavar="NUMBER")
def set_(name: str, **asked: Any) -> None:
    """Change a channel of yours."""
    from agentcom.cli import api, letters
    from agentcom.protocol import calls, told

    call = calls.ChannelChange(channel=name, **asked)
    api.connect().do(call, told.ChannelShown, key=letters.key())
    click.echo(f"{name}\tchanged")


@channel.command("delete")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(name: str, *, yes: bool) -> None:
    """Delete an archived channel of yours, with all its posts."""
    from agentcom.cli import api
    from agentcom.model.replies import Done
    from agentcom.protocol import calls

    if not yes:
        output.confirm(f"delete channel {name} with all its posts?")
    api.connect().do(calls.ChannelDelete(channel=name), Done)
    click.echo(f"{name}\tdeleted")


def _row(found: Any) -> dict[str, Any]:
    own = output.row_of(found)
    return {**own, **output.row_of(found.channel)}
