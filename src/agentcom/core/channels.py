"""Channels: what a name may be, who may do what in one, and who is mentioned in a text. Pure."""

import re
from typing import Final

import msgspec

from agentcom.model import address, limits
from agentcom.model.address import Address, AddressKind
from agentcom.model.channel import Channel, ChannelKind, ChannelRole, Notify, Reader
from agentcom.model.errors import Conflict, InvalidInput, NotAllowed
from agentcom.model.ids import NAME_PATTERN, ProjectId, WallTime

PROJECT_CHANNEL: Final = "project"
"""The name of the channel that each project has by itself."""
_NAME: Final = re.compile(NAME_PATTERN)
_MENTION: Final = re.compile(r"(?<![\w@./:-])@(?:(agent|user):)?([a-z0-9][a-z0-9-]{0,62})(?![\w@])")

Mention = tuple[AddressKind | None, str]
"""As it stands in a text: kind (None: a bare name) and name."""

replace: Final = msgspec.structs.replace


class Archived(Conflict):
    """The channel is archived: it is read and not written."""

    code = "channel_archived"


def check_name(name: str) -> str:
    """Return `name` if a channel may have it.

    Raises:
        InvalidInput: it has other characters than a-z, 0-9 and hyphen, or is too long.
    """
    if _NAME.fullmatch(name) is None:
        raise InvalidInput("channel", "use 1-63 of a-z, 0-9 and -")
    return name


def of_project(project: ProjectId) -> Channel:
    """Return the channel that a project has before anybody changed it; no row yet."""
    return Channel(
        name=PROJECT_CHANNEL,
        kind=ChannelKind.PROJECT,
        project=project,
        created_by=address.HUB,
        created_at=WallTime(0),
        version=0,
    )


def told_of(who: Address) -> Notify:
    """Return what a new member is told of: people of everything, agents of mentions."""
    return Notify.MENTIONS if address.agent_of(who) is not None else Notify.ALL


def mentions(text: str) -> tuple[Mention, ...]:
    """Return whom a text mentions, each once.

    Raises:
        InvalidInput: they are too many.
    """
    found = dict.fromkeys(
        (AddressKind(match[1]) if match[1] else None, match[2].rstrip("-"))
        for match in _MENTION.finditer(text)
    )
    if len(found) > limits.RECIPIENTS_MAX:
        raise InvalidInput("body", f"it mentions more than {limits.RECIPIENTS_MAX}")
    return tuple(found)


def check_post(channel: Channel, reader: Reader | None) -> None:
    """Return if someone who sees a channel may post to it; `reader` is their place in it.

    Raises:
        Archived: nobody may.
        NotAllowed: they only read.
    """
    if channel.archived_at is not None:
        raise Archived(f"channel {channel.name} is archived; its owner can reopen it")
    if reader is not None and reader.role is ChannelRole.READER:
        raise NotAllowed(f"you read channel {channel.name} only; its owner can change that")


def check_leave(channel: Channel, reader: Reader | None) -> None:
    """Return if a member may go, as far as its own row says.

    Raises:
        Conflict: everyone is a member, whoever they are.
        NotAllowed: who may not post would get around that.
    """
    if channel.kind is ChannelKind.PROJECT:
        raise Conflict("everyone of the project is a member; be told of nothing instead")
    reads = reader is not None and reader.role is ChannelRole.READER
    if reads and channel.kind is not ChannelKind.PRIVATE:
        raise NotAllowed("an owner made you a reader here; only an owner can change that")


def changed(
    channel: Channel,
    *,
    topic: str | None,
    archived: bool | None,
    pin: int | None,
    unpin: int | None,
    at: WallTime,
) -> Channel:
    """Return the next version of a channel.

    Raises:
        Conflict: it can have no more pins, or is the project's, which is never archived.
        InvalidInput: that post is not pinned.
    """
    if archived and channel.kind is ChannelKind.PROJECT:
        raise Conflict("the project's own channel stays")
    since = channel.archived_at
    if archived is not None:
        since = (since or at) if archived else None
    return replace(
        channel,
        topic=channel.topic if topic is None else topic,
        archived_at=since,
        pins=_pinned(channel.pins, pin, unpin),
        version=channel.version + 1,
    )


def check_delete(channel: Channel) -> None:
    """Return if a channel may be deleted.

    Raises:
        Conflict: it is not archived, or is the project's.
    """
    if channel.kind is ChannelKind.PROJECT:
        raise Conflict("the project's own channel stays")
    if channel.archived_at is None:
        raise Conflict(f"archive channel {channel.name} first")


def _pinned(pins: tuple[int, ...], pin: int | None, unpin: int | None) -> tuple[int, ...]:
    if unpin is not None:
        if unpin not in pins:
            raise InvalidInput("unpin", f"post {unpin} is not pinned")
        pins = tuple(seq for seq in pins if seq != unpin)
    if pin is None or pin in pins:
        return pins
    if len(pins) >= limits.PINS_MAX:
        raise Conflict(f"a channel has at most {limits.PINS_MAX} pins; unpin one")
    return (*pins, pin)
