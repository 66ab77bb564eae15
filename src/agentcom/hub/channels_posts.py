"""Posts: written to a channel once, read by all who see it."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Final

import msgspec

from agentcom.core import channels, mail
from agentcom.hub.blobs import Blobs
from agentcom.hub.channels_members import Members, Place, new_reader
from agentcom.hub.clock import Clock
from agentcom.hub.logs import Logs
from agentcom.hub.mail import Mail
from agentcom.hub.speaking import Speaker
from agentcom.hub.talk import Answer, Handler
from agentcom.hub.writing import Asked, Draft, Writer
from agentcom.model import limits
from agentcom.model.address import Address
from agentcom.model.batch import Table
from agentcom.model.channel import Channel, Notify
from agentcom.model.errors import CursorAhead, InvalidInput, MailboxFull, NotFound
from agentcom.model.ids import IdSource
from agentcom.model.message import Message, MessageId, Why, channel_log
from agentcom.protocol import calls, told
from agentcom.protocol.calls import Call

_ENCODER: Final = msgspec.json.Encoder()

replace: Final = msgspec.structs.replace


class Posts:
    """The posts of all channels."""

    def __init__(
        self,
        writer: Writer,
        members: Members,
        mail: Mail,
        *,
        logs: Logs,
        blobs: Blobs,
        clock: Clock,
        ids: IdSource,
    ) -> None:
        self._writer = writer
        self._members = members
        self._mail = mail
        self._logs = logs
        self._blobs = blobs
        self._clock = clock
        self._ids = ids

    def handlers(self) -> Mapping[type[Call], Handler]:
        """Return what is answered here."""
        return {calls.ChannelPost: self.post, calls.ChannelHistory: self.history}

    async def may_see(self, who: Speaker, message: Message) -> bool:
        """Return whether a message is a post of a channel that someone sees."""
        if not message.channel or message.project != who.project:
            return False
        try:
            await self._members.place(who, message.channel)
        except NotFound:
            return False
        return True

    async def post(self, who: Speaker, call: calls.ChannelPost, asked: Asked) -> Answer:
        """Store a post, and the channel's next place for it."""
        mail.check_content(call.body, call.subject, call.attachments)
        named = channels.mentions(call.body)

        async def decide(draft: Draft) -> told.Sent:
            channel, reader, _ = await self._members.place(who, call.channel, draft)
            channels.check_post(channel, reader)
            await self._blobs.check(who.project, call.attachments)
            identifier = MessageId(self._ids.new())
            before = await self._answered(draft, channel, call.reply_to)
            message = Message(
                id=identifier,
                sender=who.address,
                at=self._clock.now().wall,
                body=call.body,
                thread=identifier if before is None else before.thread,
                project=who.project,
                channel=channel.name,
                subject=call.subject,
                reply_to=None if before is None else before.id,
                urgency=call.urgency,
                mentions=await self._mentioned(draft, channel, named, but=who.address),
                attachments=call.attachments,
                task=who.task,
                fence=who.fence,
                cause=asked.cause,
            )
            draft.put(Table.MESSAGE, identifier, message, None)
            entry = await self._logs.append(draft, _log(channel), message)
            if reader is not None and reader.seen == entry.seq - 1:  # it has read all before it
                await self._members.put(draft, replace(reader, seen=entry.seq), reader)
            sent = told.Sent(message=identifier, thread=message.thread, seq=entry.seq)
            return await self._tell(draft, message, sent)

        return await self._writer.once(who.address, asked, decide)

    async def history(self, who: Speaker, call: calls.ChannelHistory, asked: Asked) -> Answer:
        """Return posts in order, and move the caller's place forward to the last of them."""
        if (call.after is not None) + (call.before is not None) + call.unread > 1:
            raise InvalidInput("after", "give one of after, before and unread")
        place = await self._members.place(who, call.channel)
        head = await self._logs.newest(_log(place.channel))
        for field, seq in (("after", call.after), ("before", call.before)):
            if seq is not None and seq > head + (field == "before"):
                raise CursorAhead(field, f"the newest post of this channel is {head}")
        page = await self._page(place, call)
        letters = page.letters
        if letters and place.joined:
            await self._move(who, place, letters[-1].seq, asked)
        return replace(page, head=head)

    async def _page(self, place: Place, call: calls.ChannelHistory) -> told.History:
        """Return as many posts as were asked for, if they fit into a frame."""
        log, start = _log(place.channel), call.after
        if call.unread:
            start = place.reader.seen if place.reader is not None else 0
        down = start is None
        if start is None:
            found = (await self._logs.before(log, call.before, call.limit + 1))[::-1]
        else:
            found = await self._logs.after(log, start, call.limit + 1)
        sizes = accumulate(len(_ENCODER.encode(letter)) for letter in found)
        fit = max(1, sum(size <= limits.INBOX_BYTES for size in sizes))
        letters = found[: min(fit, call.limit)]
        more = len(letters) < len(found)
        return told.History(letters=tuple(letters[::-1] if down else letters), more=more)

    async def _move(self, who: Speaker, place: Place, seq: int, asked: Asked) -> None:
        """Move a member's place forward."""
        if place.reader is not None and place.reader.seen >= seq:
            return

        async def decide(draft: Draft) -> told.History:
            channel, row, joined = await self._members.place(who, place.channel.name, draft)
            reader = row or new_reader(channel, who.address, self._clock.now().wall)
            if joined and reader.seen < seq:
                await self._members.put(draft, replace(reader, seen=seq), row)
            return told.History()

        await self._writer.once(who.address, Asked(cause=asked.cause), decide)

    async def _tell(self, draft: Draft, post: Message, sent: told.Sent) -> told.Sent:
        """Bring a post to those whom it mentions; a full mailbox does not keep it from others."""
        to: list[told.Recipient] = []
        full: list[Address] = []
        for whom in post.mentions:
            try:
                entry = await self._mail.put(draft, post, whom, Why.MENTION)
            except MailboxFull:
                full.append(whom)
            else:
                to.append(told.Recipient(address=whom, wakes=entry.wakes))
        warning = f"not told, their mailboxes are full: {', '.join(full)}" if full else ""
        return replace(sent, to=tuple(to), count=len(to), warning=warning)

    async def _answered(
        self, draft: Draft, channel: Channel, message: str | None
    ) -> Message | None:
        """Return the post that a new one answers."""
        if message is None:
            return None
        row = await self._writer.get(draft, Table.MESSAGE, message)
        here = (channel.project, channel.name)
        if not isinstance(row, Message) or (row.project, row.channel) != here:
            raise NotFound(f"there is no such post in channel {channel.name}")
        return row

    async def _mentioned(
        self,
        draft: Draft,
        channel: Channel,
        named: Sequence[channels.Mention],
        *,
        but: Address,
    ) -> tuple[Address, ...]:
        """Return who is mentioned, sees the channel, and wants to be told of it."""
        found: dict[Address, None] = {}
        for kind, name in named:
            for whom in await self._members.recipients.named(kind, name, channel.project):
                reader = await self._members.as_reader(draft, channel, whom)
                if whom != but and reader is not None and reader.notify is not Notify.NONE:
                    found[whom] = None
        return tuple(found)


def _log(channel: Channel) -> str:
    return channel_log(channel.project, channel.name)
