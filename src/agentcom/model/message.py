"""Messages, and the logs in which they stand: one log, many readers.

A message is stored once. An entry is its place in a log: the mailbox of one recipient, or a
channel, whose readers share it. Sequences of a log have no gaps; its head says how far it goes.
"""

from enum import IntEnum, StrEnum
from typing import Final, NewType

import msgspec

from agentcom.model.address import Address
from agentcom.model.ids import DEFAULT_PROJECT, Fence, ProjectId, TaskId, WallTime

MessageId = NewType("MessageId", str)
DUE: Final = "due/"
"""Begins the lists of messages of which something is due."""


class Urgency(IntEnum):
    """How much a message matters to whoever gets it."""

    LOW = 0
    """Waits until its reader looks."""
    NORMAL = 1
    HIGH = 2
    URGENT = 3
    """Comes before all others."""


class Sort(StrEnum):
    """What a message is."""

    TEXT = "text"
    ASK = "ask"
    ANSWER = "answer"
    NOTICE = "notice"
    """The hub tells it."""


class Delivery(StrEnum):
    """How far a message has come with one recipient. It only goes forward."""

    QUEUED = "queued"
    DELIVERED = "delivered"
    """The recipient's machine, or connected program, has it."""
    SEEN = "seen"
    """It was shown to the recipient: read, or part of a turn."""
    ACKED = "acked"
    """The recipient said that it has it."""
    EXPIRED = "expired"
    """Nobody took it in time."""

    @property
    def over(self) -> bool:
        """Whether nothing more is to be brought."""
        return self in (Delivery.ACKED, Delivery.EXPIRED)


class Why(StrEnum):
    """Why a message stands in a mailbox."""

    DIRECT = "direct"
    BROADCAST = "broadcast"
    MENTION = "mention"
    NOTICE = "notice"


class Attachment(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A file that goes with a message, by its content."""

    digest: str
    """SHA-256 of the bytes, in hexadecimal."""
    name: str = ""
    bytes: int = 0


class Message(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Something that one said to others; never changed."""

    id: MessageId
    sender: Address
    at: WallTime
    body: str
    thread: MessageId
    """The message that began the thread; its own id if it did."""
    project: ProjectId = DEFAULT_PROJECT
    to: tuple[Address, ...] = ()
    """Direct recipients; of a broadcast none are listed."""
    channel: str = ""
    """The channel it was posted to; empty: it is mail."""
    subject: str = ""
    reply_to: MessageId | None = None
    sort: Sort = Sort.TEXT
    urgency: Urgency = Urgency.NORMAL
    ack_required: bool = False
    expires_at: WallTime | None = None
    mentions: tuple[Address, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    task: TaskId | None = None
    """The task that its sender worked on, or that it is about."""
    fence: Fence | None = None
    cause: str = ""
    version: int = 1


class Entry(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """The place of a message in a log. Of a channel's it never changes."""

    log: str
    seq: int
    message: MessageId
    why: Why = Why.DIRECT
    state: Delivery = Delivery.QUEUED
    wakes: bool = False
    """Whether its agent may be woken for it."""
    bytes: int = 0
    delivered_at: WallTime | None = None
    seen_at: WallTime | None = None
    acked_at: WallTime | None = None
    version: int = 1


class Head(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """How far a log goes, and what of it is still on its way."""

    log: str
    seq: int = 0
    """The newest entry's."""
    settled: int = 0
    """Of a mailbox: all entries up to here are acknowledged or expired."""
    passed: int = 0
    """Of a mailbox: up to here only what has to be acknowledged by name can be open."""
    open: int = 0
    """Of a mailbox: entries that are not."""
    open_bytes: int = 0
    version: int = 1


def mail_log(project: ProjectId, address: Address) -> str:
    """Return the log that is someone's mailbox."""
    return f"mail/{project}/{address}"


def owner_of(log: str) -> Address:
    """Return whose mailbox a log is."""
    return Address(log.split("/", 2)[2])


def due_log(at: WallTime) -> str:
    """Return the list of messages of which something is due at a time; sorts by it."""
    return f"{DUE}{at:015d}"


def channel_log(project: ProjectId, channel: str) -> str:
    """Return the log of a channel."""
    return f"channel/{project}/{channel}"


def entry_key(log: str, seq: int) -> str:
    """Return the key of an entry's row; sorts by sequence."""
    return f"{log}/{str(seq).zfill(12)}"
