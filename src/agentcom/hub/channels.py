"""Channels: made, listed, changed, joined, deleted. Posts: `hub/channels_posts.py`."""

from collections.abc import Mapping, Sequence
from typing import Final, cast

import msgspec

from agentcom.core import channels
from agentcom.hub.channels_expiry import PRUNE_ROWS, PRUNES, forget_post
from agentcom.hub.channels_members import (
    Members,
    Place,
    members_log,
    new_reader,
    place_of,
)
from agentcom.hub.clock import Clock
from agentcom.hub.logs import Logs
from agentcom.hub.speaking import Speaker
from agentcom.hub.talk import Answer, Handler
from agentcom.hub.writing import Asked, Draft, Writer
from agentcom.model import address, limits
from agentcom.model.batch import Table
from agentcom.model.channel import (
    Channel,
    ChannelKind,
    ChannelRole,
    Reader,
    channel_key,
    reader_key,
)
from agentcom.model.errors import Conflict, InvalidInput, NotFound
from agentcom.model.ids import ProjectId, WallTime
from agentcom.model.message import Entry, Head, channel_log, entry_key
from agentcom.model.replies import Done
from agentcom.model.task import Task
from agentcom.protocol import calls, told
from agentcom.protocol.calls import Call
from agentcom.store.base import Query, Store

PAGE: Final = 200  # channels of one read
PRUNE_NOW: Final = (
    10  # such writes before `channel_delete` answers; the rest goes in the background
)

replace: Final = msgspec.structs.replace


class Channels:
    """The channels of all projects."""

    def __init__(
        self,
        store: Store,
        writer: Writer,
        clock: Clock,
        *,
        logs: Logs,
        members: Members,
    ) -> None:
        self._store = store
        self._writer = writer
        self._clock = clock
        self._logs = logs
        self._members = members

    def handlers(self) -> Mapping[type[Call], Handler]:
        """Return what is answered here."""
        return {
            calls.ChannelCreate: self.create,
            calls.ChannelList: self.list,
            calls.ChannelShow: self.show,
            calls.ChannelJoin: self.join,
            calls.ChannelLeave: self.leave,
            calls.ChannelMember: self.member,
            calls.ChannelChange: self.change,
            calls.ChannelDelete: self.delete,
        }

    async def create(self, who: Speaker, call: calls.ChannelCreate, asked: Asked) -> Answer:
        """Make a channel that its maker owns, and whoever asked for its task."""
        name = channels.check_name(call.channel)

        async def decide(draft: Draft) -> told.ChannelShown:
            task = await self._task(who, call)
            key = channel_key(who.project, name)
            taken = await self._writer.get(draft, Table.CHANNEL, key) is not None
            if taken or name == channels.PROJECT_CHANNEL:
                raise Conflict(f"the name {name} is taken")
            await self._count(draft, who.project, 1)
            channel = Channel(
                name=name,
                kind=call.kind,
                project=who.project,
                topic=call.topic,
                task=None if task is None else task.id,
                created_by=who.address,
                created_at=self._clock.now().wall,
            )
            draft.put(Table.CHANNEL, key, channel, None)
            owners = [who.address, *([] if task is None else [address.of_user(task.submitter)])]
            for owner in dict.fromkeys(owners):
                row = new_reader(channel, owner, channel.created_at, ChannelRole.OWNER)
                await self._members.put(draft, row, None)
            return told.ChannelShown(channel=channel, joined=True)

        return await self._writer.once(who.address, asked, decide)

    async def list(self, who: Speaker, call: calls.ChannelList, _asked: Asked) -> Answer:
        """Return the channels that someone sees, by name."""
        found: list[Place] = []
        after = call.after or ""
        while len(found) <= call.limit:
            page, more = await self._page(who.project, after)
            for place in await self._places(who, page):
                hidden = place.channel.archived_at is not None and not call.archived
                if not hidden and (place.joined or not call.joined):
                    found.append(place)
            if more is None:
                break
            after = more
        shown = [await self._shown(place) for place in found[: call.limit]]
        rest = found[call.limit - 1].channel.name if len(found) > call.limit else None
        return told.ChannelsShown(channels=tuple(shown), next=rest)

    async def show(self, who: Speaker, call: calls.ChannelShow, _asked: Asked) -> Answer:
        """Return a channel with its members and pins."""
        return await self._in_full(await self._members.place(who, call.channel))

    async def join(self, who: Speaker, call: calls.ChannelJoin, asked: Asked) -> Answer:
        """Make the caller a member, or change what it is told of."""

        async def decide(draft: Draft) -> told.ChannelShown:
            channel, old, _ = await self._members.place(who, call.channel, draft)
            row = old or new_reader(channel, who.address, self._clock.now().wall)
            row = replace(row, notify=call.notify or row.notify)
            if row != old:
                await self._members.put(draft, row, old)
            return await self._shown(place_of(who, channel, row))

        return await self._writer.once(who.address, asked, decide)

    async def leave(self, who: Speaker, call: calls.ChannelLeave, asked: Asked) -> Answer:
        """Make the caller no member any more."""

        async def decide(draft: Draft) -> Done:
            channel, row, _ = await self._members.place(who, call.channel, draft)
            channels.check_leave(channel, row)
            if row is None:
                return Done("you were no member")
            await self._remove(draft, channel, row)
            return Done()

        return await self._writer.once(who.address, asked, decide)

    async def member(self, who: Speaker, call: calls.ChannelMember, asked: Asked) -> Answer:
        """Add someone, give them a role, or remove them."""

        async def decide(draft: Draft) -> told.ChannelShown:
            place = await self._members.place(who, call.channel, draft)
            self._members.check_manage(who, place)
            channel, whom = place.channel, await self._members.recipients.of(call.name, who.project)
            old = await self._members.reader(draft, channel, whom)
            if call.role is not None:
                row = old or new_reader(channel, whom, self._clock.now().wall)
                await self._give(draft, channel, replace(row, role=call.role), old)
            elif channel.kind is ChannelKind.PROJECT:
                raise Conflict("everyone of the project is a member; make them reader instead")
            elif old is not None:
                await self._remove(draft, channel, old)
            return await self._shown(place)

        return await self._writer.once(who.address, asked, decide)

    async def change(self, who: Speaker, call: calls.ChannelChange, asked: Asked) -> Answer:
        """Change topic, archive and pins."""

        async def decide(draft: Draft) -> told.ChannelShown:
            place = await self._members.place(who, call.channel, draft)
            self._members.check_manage(who, place)
            old = place.channel
            if call.pin is not None:
                await self._check_post(old, call.pin)
            channel = channels.changed(
                old,
                topic=call.topic,
                archived=call.archived,
                pin=call.pin,
                unpin=call.unpin,
                at=self._clock.now().wall,
            )
            self._put(draft, channel, old)
            return await self._shown(place._replace(channel=channel))

        return await self._writer.once(who.address, asked, decide)

    async def delete(self, who: Speaker, call: calls.ChannelDelete, asked: Asked) -> Answer:
        """Make an archived channel be there for nobody, then take its posts out of the store."""
        gone: list[Channel] = []

        async def decide(draft: Draft) -> Done:
            place = await self._members.place(who, call.channel, draft)
            self._members.check_manage(who, place)
            channels.check_delete(place.channel)
            marked = replace(
                place.channel,
                deleted_at=self._clock.now().wall,
                version=place.channel.version + 1,
            )
            self._put(draft, marked, place.channel)
            gone.append(marked)
            log = channel_log(marked.project, marked.name)
            draft.after.append(lambda: self._logs.followers.end(log))
            return Done()

        answer = await self._writer.once(who.address, asked, decide)
        for channel in gone[-1:]:
            await self._forget(channel, PRUNE_NOW)
        return answer

    async def prune(self, _now: WallTime) -> int:
        """Take what is left of deleted channels out of the store; return how many rows went."""
        gone, after = 0, ""
        while True:
            page = await self._store.query(Query(table=Table.CHANNEL, after=after, limit=PAGE))
            for row in cast("Sequence[Channel]", page.rows):
                if row.deleted_at is not None:
                    gone += await self._forget(row, None)
            if page.next is None:
                return gone
            after = page.next

    # Members ------------------------------------------------------------------------------------

    async def _give(self, draft: Draft, channel: Channel, row: Reader, old: Reader | None) -> None:
        if old is not None and old.role is ChannelRole.OWNER and row.role is not old.role:
            await self._members.check_owned(channel, old.address)
        await self._members.put(draft, row, old)

    async def _remove(self, draft: Draft, channel: Channel, row: Reader) -> None:
        if row.role is ChannelRole.OWNER:
            await self._members.check_owned(channel, row.address)
        await self._members.drop(draft, row)
        if channel.kind is ChannelKind.PRIVATE:
            log = channel_log(channel.project, channel.name)
            draft.after.append(lambda: self._logs.followers.end(log, row.address))

    async def _task(self, who: Speaker, call: calls.ChannelCreate) -> Task | None:
        """Return the task of a channel that is to be made."""
        if call.kind is ChannelKind.PROJECT:
            raise InvalidInput("kind", f"the project has its channel: {channels.PROJECT_CHANNEL}")
        if (call.kind is ChannelKind.TASK) is not (call.task is not None):
            raise InvalidInput("task", "a channel of kind task has one, others have none")
        if call.task is None:
            return None
        (row,) = await self._store.get([(Table.TASK, call.task)])
        if not isinstance(row, Task) or row.project != who.project:
            raise NotFound(f"there is no task {call.task}")
        return row

    # Reading ------------------------------------------------------------------------------------

    async def _page(self, project: ProjectId, after: str) -> tuple[Sequence[Channel], str | None]:
        """Return channels of a project after a name, its own one too, and where to go on."""
        start = channel_key(project, "")
        query = Query(table=Table.CHANNEL, prefix=start, after=start + after, limit=PAGE)
        page = await self._store.query(query)
        more = None if page.next is None else page.next.removeprefix(start)
        rows = {row.name: row for row in cast("Sequence[Channel]", page.rows)}
        own = channels.PROJECT_CHANNEL
        if after < own and (more is None or own <= more):
            rows.setdefault(own, channels.of_project(project))
        return [rows[name] for name in sorted(rows) if rows[name].deleted_at is None], more

    async def _places(self, who: Speaker, page: Sequence[Channel]) -> Sequence[Place]:
        """Return those channels that someone sees, as they do."""
        keys = [(Table.READER, reader_key(who.project, row.name, who.address)) for row in page]
        readers = cast("Sequence[Reader | None]", await self._store.get(keys))
        return [
            place_of(who, channel, reader)
            for channel, reader in zip(page, readers, strict=True)
            if channel.kind is not ChannelKind.PRIVATE or reader is not None
        ]

    async def _shown(self, place: Place) -> told.ChannelShown:
        channel, reader, joined = place
        return told.ChannelShown(
            channel=channel,
            seq=await self._logs.newest(channel_log(channel.project, channel.name)),
            seen=reader.seen if reader is not None else 0,
            joined=joined,
        )

    async def _in_full(self, place: Place) -> told.ChannelShown:
        channel = place.channel
        log = channel_log(channel.project, channel.name)
        pinned = [await self._logs.after(log, seq - 1, 1) for seq in channel.pins]
        return replace(
            await self._shown(place),
            members=await self._members.shown(channel),
            pinned=tuple(letter for letters in pinned for letter in letters),
        )

    async def _check_post(self, channel: Channel, seq: int) -> None:
        log = channel_log(channel.project, channel.name)
        if not 1 <= seq <= await self._logs.newest(log):
            raise InvalidInput("pin", f"there is no post {seq}")

    # Writing ------------------------------------------------------------------------------------

    def _put(self, draft: Draft, channel: Channel, old: Channel) -> None:
        key = channel_key(channel.project, channel.name)
        draft.put(Table.CHANNEL, key, channel, old if old.version else None)

    async def _count(self, draft: Draft, project: ProjectId, more: int) -> None:
        log = f"channels/{project}"
        row = cast("Head | None", await self._writer.get(draft, Table.HEAD, log))
        head = row or Head(log=log, version=0)
        if head.open + more > limits.CHANNELS_MAX:
            raise Conflict(f"a project has at most {limits.CHANNELS_MAX} channels; delete some")
        after = replace(head, open=head.open + more, version=head.version + 1)
        draft.put(Table.HEAD, log, after, row)

    async def _forget(self, channel: Channel, writes: int | None) -> int:
        """Take a deleted channel out of the store, in at most so many writes; None: wholly."""
        gone = 0
        while writes is None or writes > 0:
            writes = None if writes is None else writes - 1
            count, over = await self._forget_some(channel)
            gone += count
            if over:
                break
        return gone

    async def _forget_some(self, channel: Channel) -> tuple[int, bool]:
        """Delete a bounded number of rows, the channel's own last; return whether that is gone."""
        project, name = channel.project, channel.name
        log = channel_log(project, name)
        page = await self._store.query(Query(table=Table.ENTRY, prefix=f"{log}/", limit=PRUNE_ROWS))
        entries = cast("Sequence[Entry]", page.rows)
        prefix = reader_key(project, name, address.Address(""))
        page = await self._store.query(Query(table=Table.READER, prefix=prefix, limit=PRUNE_ROWS))
        readers = cast("Sequence[Reader]", page.rows)

        async def decide(draft: Draft) -> Done:
            for entry in entries:
                draft.drop(Table.ENTRY, entry_key(log, entry.seq), entry)
                await forget_post(self._store, self._writer, draft, entry)
            for reader in readers:
                key = reader_key(project, name, reader.address)
                draft.drop(Table.READER, key, reader)
            if not entries and not readers:
                for head in (log, members_log(project, name)):
                    row = await self._writer.get(draft, Table.HEAD, head)
                    if row is not None:
                        draft.drop(Table.HEAD, head, row)
                draft.drop(Table.CHANNEL, channel_key(project, name), channel)
                await self._count(draft, project, -1)
            return Done()

        await self._writer.once(address.HUB, PRUNES, decide)
        return len(entries) + len(readers), not entries and not readers
