"""What calls (`protocol/calls.py`) are answered with; the same on every door."""

import msgspec

from agentcom.model.address import Address
from agentcom.model.ask import Ask
from agentcom.model.channel import Channel, ChannelRole, Notify
from agentcom.model.ids import ProjectId, TaskId, WallTime
from agentcom.model.lock import Lock
from agentcom.model.message import Delivery, Message, MessageId, Why
from agentcom.model.shared_note import SharedNote
from agentcom.model.task import TaskSpec


class Told(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Any answer."""


class Recipient(Told, frozen=True, kw_only=True, omit_defaults=True):
    """How far a message has come with one recipient."""

    address: Address
    state: Delivery = Delivery.QUEUED
    wakes: bool = False
    """Whether the recipient is woken for it."""
    delivered_at: WallTime | None = None
    seen_at: WallTime | None = None
    acked_at: WallTime | None = None


class Sent(Told, frozen=True, kw_only=True, omit_defaults=True):
    """A message that was stored: nothing can lose it now."""

    message: MessageId
    thread: MessageId
    seq: int = 0
    """Of a post: its place in the channel."""
    to: tuple[Recipient, ...] = ()
    """Of a broadcast the first 100."""
    count: int = 0
    """How many get it as mail."""
    warning: str = ""
    """Why nobody is woken, for example."""


class Letter(Told, frozen=True, kw_only=True, omit_defaults=True):
    """A message at its place in a log."""

    seq: int
    message: Message
    state: Delivery = Delivery.QUEUED
    why: Why = Why.DIRECT
    wakes: bool = False


class Inbox(Told, frozen=True, kw_only=True, omit_defaults=True):
    """A part of one's mailbox, oldest first."""

    letters: tuple[Letter, ...] = ()
    cursor: int = 0
    """What to give as `after` to acknowledge these and read on."""
    more: bool = False
    open: int = 0
    """How many are not acknowledged, these included."""


class Acked(Told, frozen=True, kw_only=True, omit_defaults=True):
    """What was acknowledged; what was before counts, too."""

    acked: int
    open: int = 0


class MessageShown(Told, frozen=True, kw_only=True, omit_defaults=True):
    """A message, and for its sender how far it has come."""

    message: Message
    to: tuple[Recipient, ...] = ()


class Thread(Told, frozen=True, kw_only=True, omit_defaults=True):
    """Messages of a thread, oldest first."""

    messages: tuple[Message, ...] = ()
    next: MessageId | None = None
    """What to give as `after` to read on."""


class MemberShown(Told, frozen=True, kw_only=True, omit_defaults=True):
    """A member of a channel."""

    address: Address
    role: ChannelRole = ChannelRole.MEMBER
    notify: Notify = Notify.MENTIONS


class ChannelShown(Told, frozen=True, kw_only=True, omit_defaults=True):
    """A channel as its reader sees it."""

    channel: Channel
    seq: int = 0
    """The newest post's."""
    seen: int = 0
    """One's own place in it."""
    joined: bool = False
    members: tuple[MemberShown, ...] = ()
    """The first 100; of a listing none."""
    pinned: tuple[Letter, ...] = ()


class ChannelsShown(Told, frozen=True, kw_only=True, omit_defaults=True):
    """Channels by name."""

    channels: tuple[ChannelShown, ...] = ()
    next: str | None = None


class History(Told, frozen=True, kw_only=True, omit_defaults=True):
    """Posts of a channel, oldest first."""

    letters: tuple[Letter, ...] = ()
    head: int = 0
    """The newest post's sequence."""
    more: bool = False
    """Whether there are more in the direction that was asked for."""


class NoteShown(Told, frozen=True, kw_only=True, omit_defaults=True):
    """A note."""

    note: SharedNote


class NotesShown(Told, frozen=True, kw_only=True, omit_defaults=True):
    """Notes, without their texts."""

    notes: tuple[SharedNote, ...] = ()
    next: str | None = None


class Hit(Told, frozen=True, kw_only=True, omit_defaults=True):
    """Something that was found."""

    kind: str
    id: str
    """A message's or task's id, or a note's name."""
    title: str = ""
    excerpt: str = ""
    at: WallTime | None = None


class Hits(Told, frozen=True, kw_only=True, omit_defaults=True):
    """What was found, best first."""

    hits: tuple[Hit, ...] = ()
    indexed: bool = True
    """False: the newest are not searchable yet; ask again in a moment."""


class LockShown(Told, frozen=True, kw_only=True, omit_defaults=True):
    """A lock, held or waited for."""

    lock: Lock
    held: bool = False
    behind: tuple[str, ...] = ()
    """Locks and tasks that it waits for."""


class LocksShown(Told, frozen=True, kw_only=True, omit_defaults=True):
    """Locks, held ones first."""

    locks: tuple[LockShown, ...] = ()
    left_out: int = 0


class AskShown(Told, frozen=True, kw_only=True, omit_defaults=True):
    """A question."""

    ask: Ask


class AsksShown(Told, frozen=True, kw_only=True, omit_defaults=True):
    """Questions, newest first."""

    asks: tuple[Ask, ...] = ()
    next: str | None = None


class Me(Told, frozen=True, kw_only=True, omit_defaults=True):
    """Who calls."""

    address: Address
    role: str
    project: ProjectId
    task: TaskId | None = None
    attempt: int | None = None
    unread: int = 0
    """Messages of one's mailbox that are not acknowledged."""
    asks: int = 0
    """Open questions that one may answer."""


class Presence(Told, frozen=True, kw_only=True, omit_defaults=True):
    """What someone does now."""

    address: Address
    state: str
    """online (people), idle, assigned, working, blocked, draining, offline."""
    suspect: bool = False
    task: TaskId | None = None
    title: str = ""
    machine: str = ""
    host: dict[str, str] = {}
    """Facts about the machine: os, arch, cpus, memory, ..."""
    last_seen: WallTime | None = None


class Work(Told, frozen=True, kw_only=True, omit_defaults=True):
    """What an external agent works on now; without a task there is nothing."""

    task: TaskId | None = None
    fence: str = ""
    """Goes with all that is said of this attempt."""
    spec: TaskSpec | None = None
    deadline_at: WallTime | None = None
    note: str | None = None
    """The last words of the attempt before, if there was one."""


class PresencesShown(Told, frozen=True, kw_only=True, omit_defaults=True):
    """Agents and people, by address."""

    present: tuple[Presence, ...] = ()
    next: str | None = None
