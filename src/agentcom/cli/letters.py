"""How messages are shown, and how they are named: by their place in a log, or by their whole id."""

import secrets
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from agentcom.cli import api, output, specs
from agentcom.cli.errors import CommandFailed, Exit
from agentcom.cli.output import Column
from agentcom.model.limits import WAIT_MAX_MS
from agentcom.model.message import Message
from agentcom.model.numerals import whole
from agentcom.protocol.told import Letter

if TYPE_CHECKING:
    from agentcom.client.hub import HubClient

FIELDS: Final = (
    *("seq", "id", "sender", "at", "subject", "body", "state", "why", "urgency", "ack_required"),
    *("thread", "reply_to", "to", "channel", "sort", "task", "attachments", "mentions"),
)
TABLE: Final = (
    Column("#", lambda row: row["seq"]),
    Column("FROM", lambda row: row["sender"]),
    Column("WHEN", lambda row: output.age(row["at"])),
    Column("STATE", lambda row: row["state"]),
    Column(
        "TEXT", lambda row: f"{row['subject']}: {row['body']}" if row["subject"] else row["body"]
    ),
)
POSTS: Final = tuple(column for column in TABLE if column.head != "STATE")

_Found = TypeVar("_Found")


def row_of(letter: Letter) -> dict[str, Any]:
    """Return a letter as one row."""
    own = output.row_of(letter)
    del own["message"]
    return {**output.row_of(letter.message), **own}


def show(message: Message, *, seq: int | None = None) -> None:
    """Print one message in full."""
    place = f"#{seq}  " if seq is not None else ""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(message.at / 1000))
    to = ", ".join(message.to) or (f"#{message.channel}" if message.channel else "many")
    click.echo(output.plain(f"{place}{message.sender} -> {to}  {when}"))
    if message.subject:
        click.echo(output.plain(f"subject: {message.subject}"))
    for attached in message.attachments:
        click.echo(output.plain(f"file: {attached.name or '-'} {attached.digest}"))
    click.echo(output.lines(message.body))


def watch(hub: api.Hub, log: str, *, shown: Sequence[Letter] = (), after: int | None) -> int:
    """Show letters of a log, and those after them as they come; return the exit code.

    `after` None: from now on.
    """

    async def follow(client: "HubClient") -> int:
        start = after or 0
        async with client.listening(log, start, live_only=after is None) as letters:
            async for frame in letters:
                _print(frame.letter)
        return Exit.DONE

    for letter in shown:
        _print(letter)
    try:
        return hub.with_client(follow)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED


def _print(letter: Letter) -> None:
    show(letter.message, seq=letter.seq)
    click.echo("")


def body(text: Sequence[str]) -> str:
    """Return the text of a message: the words given, or standard input for `-`.

    Raises:
        CommandFailed: there is none.
    """
    given = sys.stdin.read() if text in ((), ("-",)) and not sys.stdin.isatty() else " ".join(text)
    if not given.strip():
        raise CommandFailed(
            "there is no text", hint="give it as words, or pipe it in", exit_code=Exit.USAGE,
            code="usage",
        )  # fmt: skip
    return given


def waiting(
    wait: str | None, ask: Callable[[int], _Found], holds: Callable[[_Found], bool]
) -> _Found:
    """Ask once, or (if `wait` is a time) until what is found holds; return what was found last.

    `ask` gets how many milliseconds the hub may take.
    """
    left_ms = specs.duration(wait, "--wait") if wait is not None else 0
    ends = time.monotonic() + left_ms / 1000
    while True:
        found = ask(min(left_ms, WAIT_MAX_MS))
        left_ms = round((ends - time.monotonic()) * 1000)
        if holds(found) or left_ms <= 0:
            return found


def key() -> str:
    """Return a new request key, so that a repeated try sends once."""
    return secrets.token_hex(12)


def message_id(hub: api.Hub, text: str, *, channel: str | None = None) -> str:
    """Return the id of a message that is named by its number in one's mailbox or a channel.

    Raises:
        CommandFailed: there is no such number.
    """
    from agentcom.protocol import calls, told

    seq = whole(text.lstrip("#"))
    if seq is None:
        return text
    letters: Sequence[Letter]
    if channel is None:
        inbox = hub.do(calls.InboxRead(after=max(0, seq - 1), limit=1, all=True), told.Inbox)
        letters = inbox.letters
    else:
        asked = calls.ChannelHistory(channel=channel, after=max(0, seq - 1), limit=1)
        letters = hub.do(asked, told.History).letters
    for letter in letters:
        if letter.seq == seq:
            return letter.message.id
    where = "your mailbox" if channel is None else f"channel {channel}"
    raise CommandFailed(
        f"there is no message {seq} in {where}", exit_code=Exit.MISSING, code="not_found"
    )
