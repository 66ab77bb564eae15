"""Who sees a channel, who is a member of it, and with which right and place."""

from collections.abc import Sequence
from typing import Final, NamedTuple, cast

import msgspec

from agentcom.core import channels
from agentcom.hub.recipients import Recipients
from agentcom.hub.speaking import Speaker
from agentcom.hub.writing import Asked, Draft, Writer
from agentcom.model import limits, policy
from agentcom.model.address import HUB, Address
from agentcom.model.batch import Table
from agentcom.model.channel import (
    Channel,
    ChannelKind,
    ChannelRole,
    Reader,
    channel_key,
    reader_key,
)
from agentcom.model.errors import Conflict, NotAllowed, NotFound
from agentcom.model.ids import ProjectId, WallTime
from agentcom.model.limits import PAGE_MAX
from agentcom.model.message import Head
from agentcom.model.policy import Action, Reach
from agentcom.model.replies import Done
from agentcom.protocol.told import MemberShown
from agentcom.store.base import Query, Store

PAGE: Final = 500  # members of one read

replace: Final = msgspec.structs.replace


class Place(NamedTuple):
    """A channel as someone sees it."""

    channel: Channel
    reader: Reader | None
    """Their row as a member; not all members have one."""
    joined: bool
    """Whether they are a member."""


class Members:
    """The members of all channels."""

    def __init__(self, store: Store, writer: Writer, recipients: Recipients) -> None:
        self._store = store
        self._writer = writer
        self.recipients = recipients

    async def place(self, who: Speaker, name: str, draft: Draft | None = None) -> Place:
        """Return a channel that someone sees.

        Raises:
            NotFound: there is none of that name, or it is not for them.
        """
        draft = draft if draft is not None else Draft()
        channel = await self.channel(draft, who.project, name)
        if channel is None:
            raise _missing(name)
        reader = await self.reader(draft, channel, who.address)
        if channel.kind is ChannelKind.PRIVATE and reader is None:
            raise _missing(name)
        return place_of(who, channel, reader)

    async def channel(self, draft: Draft, project: ProjectId, name: str) -> Channel | None:
        """Return a channel; that of the project exists by itself."""
        key = channel_key(project, channels.check_name(name))
        row = cast("Channel | None", await self._writer.get(draft, Table.CHANNEL, key))
        if row is None and name == channels.PROJECT_CHANNEL:
            return channels.of_project(project)
        return row if row is not None and row.deleted_at is None else None

    async def reader(self, draft: Draft, channel: Channel, who: Address) -> Reader | None:
        """Return someone's row as a member."""
        key = reader_key(channel.project, channel.name, who)
        return cast("Reader | None", await self._writer.get(draft, Table.READER, key))

    def check_manage(self, who: Speaker, place: Place) -> None:
        """Return if someone may do what the owner of a channel may.

        Raises:
            NotAllowed: they are not its owner.
        """
        owns = place.reader is not None and place.reader.role is ChannelRole.OWNER
        if owns or policy.reach(who.identity, Action.CHANNEL_MANAGE) is Reach.ANY:
            return
        raise NotAllowed(f"only an owner of channel {place.channel.name} may do that")

    async def put(self, draft: Draft, reader: Reader, old: Reader | None) -> Reader:
        """Write a member's row in place of `old` (None: they become one).

        Raises:
            Conflict: the channel has no room for more members.
        """
        row = replace(reader, version=1 if old is None else old.version + 1)
        key = reader_key(row.project, row.channel, row.address)
        if old is None:
            await self._count(draft, row.project, row.channel, 1)
        draft.put(Table.READER, key, row, old)
        return row

    async def drop(self, draft: Draft, reader: Reader) -> None:
        """Delete a member's row."""
        key = reader_key(reader.project, reader.channel, reader.address)
        draft.drop(Table.READER, key, reader)
        await self._count(draft, reader.project, reader.channel, -1)

    async def check_owned(self, channel: Channel, without: Address) -> None:
        """Return if somebody owns a channel without that one.

        Raises:
            Conflict: nobody would.
        """
        prefix, after = reader_key(channel.project, channel.name, Address("")), ""
        while True:
            query = Query(table=Table.READER, prefix=prefix, after=after, limit=PAGE)
            page = await self._store.query(query)
            for row in cast("Sequence[Reader]", page.rows):
                if row.role is ChannelRole.OWNER and row.address != without:
                    return
            if page.next is None:
                raise Conflict("somebody has to own it: make another member owner, or delete it")
            after = page.next

    async def owned(self, who: Address) -> Sequence[str]:
        """Return the names of the channels that somebody owns."""
        rows = await self._rows(who)
        return sorted(row.channel for row in rows if row.role is ChannelRole.OWNER)

    async def pass_on(self, old: Address, new: Address, at: WallTime) -> None:
        """Take somebody out of all channels; those that they own belong to another one then."""
        for row in await self._rows(old):

            async def decide(draft: Draft, row: Reader = row) -> Done:
                channel = await self.channel(draft, row.project, row.channel)
                now = None if channel is None else await self.reader(draft, channel, old)
                if channel is None or now is None:
                    return Done()
                if now.role is ChannelRole.OWNER:
                    heir = await self.reader(draft, channel, new)
                    made = heir or new_reader(channel, new, at)
                    await self.put(draft, replace(made, role=ChannelRole.OWNER), heir)
                await self.drop(draft, now)
                return Done()

            await self._writer.once(HUB, Asked(cause=""), decide)

    async def _rows(self, who: Address) -> Sequence[Reader]:
        found: list[Reader] = []
        query = Query(table=Table.READER, where={"address": [who]}, after="", limit=PAGE)
        while True:
            page = await self._store.query(query)
            found += cast("Sequence[Reader]", page.rows)
            if page.next is None:
                return found
            query = replace(query, after=page.next)

    async def shown(self, channel: Channel) -> tuple[MemberShown, ...]:
        """Return the first members of a channel, by address."""
        if channel.kind is ChannelKind.PROJECT:
            return await self._everyone(channel)
        prefix = reader_key(channel.project, channel.name, Address(""))
        query = Query(table=Table.READER, prefix=prefix, after="", limit=PAGE_MAX)
        rows = cast("Sequence[Reader]", (await self._store.query(query)).rows)
        return tuple(MemberShown(address=r.address, role=r.role, notify=r.notify) for r in rows)

    async def as_reader(self, draft: Draft, channel: Channel, who: Address) -> Reader | None:
        """Return someone's row, or the one they would have; None if they do not see the channel."""
        row = await self.reader(draft, channel, who)
        if row is None and channel.kind is not ChannelKind.PRIVATE:
            return new_reader(channel, who, WallTime(0))
        return row

    async def _everyone(self, channel: Channel) -> tuple[MemberShown, ...]:
        there = await self.recipients.everyone(channel.project, PAGE_MAX)
        keys = [(Table.READER, reader_key(channel.project, channel.name, who)) for who in there]
        rows = cast("Sequence[Reader | None]", await self._store.get(keys))
        readers = [
            row or new_reader(channel, who, WallTime(0))
            for row, who in zip(rows, there, strict=True)
        ]
        return tuple(MemberShown(address=r.address, role=r.role, notify=r.notify) for r in readers)

    async def _count(self, draft: Draft, project: ProjectId, channel: str, more: int) -> None:
        log = members_log(project, channel)
        row = cast("Head | None", await self._writer.get(draft, Table.HEAD, log))
        head = row or Head(log=log, version=0)
        if head.open + more > limits.CHANNEL_MEMBERS_MAX:
            raise Conflict(f"a channel has at most {limits.CHANNEL_MEMBERS_MAX} members")
        after = replace(head, open=head.open + more, version=head.version + 1)
        draft.put(Table.HEAD, log, after, row)


def place_of(who: Speaker, channel: Channel, reader: Reader | None) -> Place:
    """Return a channel as someone sees it; everyone is a member of the project's own one."""
    works = who.task is not None and who.task == channel.task
    everyone = channel.kind is ChannelKind.PROJECT
    return Place(channel, reader, reader is not None or works or everyone)


def new_reader(
    channel: Channel, who: Address, at: WallTime, role: ChannelRole = ChannelRole.MEMBER
) -> Reader:
    """Return the row of a new member."""
    return Reader(
        channel=channel.name,
        project=channel.project,
        address=who,
        joined_at=at,
        role=role,
        notify=channels.told_of(who),
    )


def members_log(project: ProjectId, channel: str) -> str:
    """Return under which head the members of a channel are counted."""
    return f"members/{project}/{channel}"


def _missing(name: str) -> NotFound:
    return NotFound(f"there is no channel {name}, or it is not yours to see")
