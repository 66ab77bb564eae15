"""Channels, and who reads them."""

from enum import StrEnum

import msgspec

from agentcom.model.address import Address
from agentcom.model.ids import DEFAULT_PROJECT, ProjectId, TaskId, WallTime


class ChannelKind(StrEnum):
    """Who may see a channel."""

    PUBLIC = "public"
    """Everyone of the project may read, join and post."""
    PRIVATE = "private"
    """Only members; for others it does not exist."""
    PROJECT = "project"
    """The one that each project has: every agent and person of it is a member."""
    TASK = "task"
    """Of one task: whoever asked for it, works on it, or joins."""


class ChannelRole(StrEnum):
    """What a member may do."""

    OWNER = "owner"
    """Also rename, archive, delete, invite, remove, pin."""
    MEMBER = "member"
    READER = "reader"
    """Reads, and does not post."""


class Notify(StrEnum):
    """What of a channel a member is told of by itself."""

    ALL = "all"
    MENTIONS = "mentions"
    NONE = "none"


class Channel(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A log that many write and many read."""

    name: str
    created_by: Address
    created_at: WallTime
    kind: ChannelKind = ChannelKind.PUBLIC
    project: ProjectId = DEFAULT_PROJECT
    topic: str = ""
    task: TaskId | None = None
    archived_at: WallTime | None = None
    deleted_at: WallTime | None = None
    """It is there for nobody any more; its posts are being taken out of the store."""
    pins: tuple[int, ...] = ()
    """Sequences of pinned posts, in the order in which they were pinned."""
    version: int = 1


class Reader(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A member of a channel, with its place in the log."""

    channel: str
    address: Address
    joined_at: WallTime
    project: ProjectId = DEFAULT_PROJECT
    role: ChannelRole = ChannelRole.MEMBER
    notify: Notify = Notify.MENTIONS
    seen: int = 0
    """The newest post that was shown to this member; only goes forward."""
    version: int = 1


def channel_key(project: ProjectId, name: str) -> str:
    """Return the key of a channel's row."""
    return f"{project}/{name}"


def reader_key(project: ProjectId, channel: str, address: Address) -> str:
    """Return the key of a member's row; begins with that of the channel and a slash."""
    return f"{project}/{channel}/{address}"
