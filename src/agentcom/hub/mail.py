"""Mail: messages to agents and people by name, and how their readers take them.

Broadcasts are in `hub/broadcasts.py`; single messages and threads in `hub/mail_reading.py`.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from agentcom.core import asking, mail
from agentcom.core.view import PoolView
from agentcom.core.waking import Verdict
from agentcom.hub.blobs import Blobs
from agentcom.hub.clock import Clock
from agentcom.hub.mailboxes import Mailboxes
from agentcom.hub.recipients import Recipients
from agentcom.hub.speaking import Speaker
from agentcom.hub.talk import Answer, Handler
from agentcom.hub.waking import Waking
from agentcom.hub.writing import Asked, Draft, Writer
from agentcom.model import address, limits
from agentcom.model.address import HUB, Address
from agentcom.model.batch import Table
from agentcom.model.errors import MailboxFull, NotFound
from agentcom.model.ids import IdSource, ProjectId, TaskId, WallTime
from agentcom.model.message import (
    Delivery,
    Entry,
    Message,
    MessageId,
    Sort,
    Why,
    mail_log,
    owner_of,
)
from agentcom.protocol import calls, told
from agentcom.protocol.calls import Call
from agentcom.store.base import Store

Sees = Callable[[Speaker, Message], Awaitable[bool]]
"""Whether someone may see a message, wherever it stands."""
_LOOP: Final = (
    "you and {} only answer each other: neither is woken for it any more; do something else, or ask"
    " a person"
)
_OFTEN: Final = "{} was woken often in the last hour: it gets this when it reads"
_LOOP_NOTICE: Final = (
    "{} and {} wrote to each other again and again while nothing else happened. Their messages wake"
    " neither of them now, until you write to one of them or an attempt begins or ends."
)
_NOT_THERE: Final = "there is no such message, or not for you"


class Mail:
    """All mail of a hub."""

    def __init__(
        self,
        store: Store,
        writer: Writer,
        boxes: Mailboxes,
        recipients: Recipients,
        *,
        blobs: Blobs,
        sees: Sees,
        view: Callable[[], PoolView],
        clock: Clock,
        ids: IdSource,
    ) -> None:
        self._store = store
        self._writer = writer
        self._boxes = boxes
        self._recipients = recipients
        self._blobs = blobs
        self._sees = sees
        self._view = view
        self._waking = Waking(view, clock)
        self._clock = clock
        self._ids = ids

    def handlers(self) -> Mapping[type[Call], Handler]:
        """Return what is answered here."""
        return {
            calls.MessageSend: self.send,
            calls.InboxRead: self.inbox,
            calls.MessageAck: self.ack,
            calls.Whoami: self.whoami,
        }

    # Calls --------------------------------------------------------------------------------------

    async def send(self, who: Speaker, call: calls.MessageSend, asked: Asked) -> Answer:
        """Store a message in all its mailboxes, or in none."""
        mail.check_content(call.body, call.subject, call.attachments)

        async def decide(draft: Draft) -> told.Sent:
            to = await self._recipients.all_of(call.to, who.project, but=who.address)
            answered = None if call.reply_to is None else await self.find(who, call.reply_to)
            message = await self.write(draft, who, call, asked, to=to, answered=answered)
            warning = await self._warning(draft, message)
            entries = [await self.put(draft, message, one, Why.DIRECT) for one in to]
            return told.Sent(
                message=message.id,
                thread=message.thread,
                to=tuple(map(told_of, entries)),
                count=len(to),
                warning=warning,
            )

        return await self._writer.once(who.address, asked, decide)

    async def inbox(self, who: Speaker, call: calls.InboxRead, _asked: Asked) -> Answer:
        """Return the next part of one's own mailbox, and wait for it if asked to."""
        log = mail_log(who.project, who.address)
        if call.after is not None and not call.all:
            await self._boxes.settle(log, call.after)
        with self._boxes.arrivals(log) as arrival:
            found = await self._read(log, call)
            if call.wait_ms and not found.letters and not found.more:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(call.wait_ms / 1_000):
                        await arrival.wait()
                found = await self._read(log, call)
        return found

    async def ack(self, who: Speaker, call: calls.MessageAck, asked: Asked) -> Answer:
        """Acknowledge messages of one's own mailbox; all or none."""
        log = mail_log(who.project, who.address)
        wanted = tuple(dict.fromkeys(call.messages))

        async def decide(draft: Draft) -> told.Acked:
            entries = await self._boxes.find(log, wanted)
            if len(entries) < len(wanted):
                raise NotFound("one of these is not in your mailbox; nothing was acknowledged")
            head = await self._boxes.move(draft, log, entries, Delivery.ACKED)
            late = sum(entry.state is Delivery.EXPIRED for entry in entries)
            return told.Acked(acked=len(entries) - late, open=head.open)

        return await self._writer.once(who.address, asked, decide)

    async def whoami(self, who: Speaker, _call: calls.Whoami, _asked: Asked) -> Answer:
        """Return who calls."""
        head = await self._boxes.head(mail_log(who.project, who.address))
        return told.Me(
            address=who.address,
            role=who.identity.role,
            project=who.project,
            task=who.task,
            attempt=None if who.fence is None else who.fence.attempt,
            unread=head.open,
            asks=self._asks(who),
        )

    # For other services -------------------------------------------------------------------------

    async def put(self, draft: Draft, message: Message, to: Address, why: Why) -> Entry:
        """Put a message into a mailbox; the message itself is the caller's to write.

        Raises:
            MailboxFull: there is no room.
        """
        verdict = self._waking.verdict(message, to, why)
        wakes = verdict is Verdict.WAKES
        entry = await self._boxes.put(draft, message, to, why, wakes=wakes)
        draft.after.append(lambda: self._waking.sent(message, to, verdict))
        return entry

    async def notice(
        self,
        draft: Draft,
        project: ProjectId,
        to: Address,
        text: str,
        *,
        task: TaskId | None = None,
    ) -> None:
        """Tell someone something in the hub's name; who has a full mailbox is not told."""
        at = self._clock.now().wall
        name = MessageId(self._ids.new())
        message = Message(
            id=name,
            sender=HUB,
            at=at,
            body=text,
            thread=name,
            project=project,
            to=(to,),
            sort=Sort.NOTICE,
            expires_at=WallTime(at + limits.MESSAGE_EXPIRES_MS),
            task=task,
        )
        with contextlib.suppress(MailboxFull):
            await self.put(draft, message, to, Why.NOTICE)
            draft.put(Table.MESSAGE, name, message, None)

    async def may_see(self, who: Speaker, message: Message) -> bool:
        """Return whether someone sent a message or has it in the own mailbox."""
        if message.project != who.project:
            return False
        if who.address == message.sender or who.address in message.to:
            return True
        return bool(await self._boxes.find(mail_log(who.project, who.address), [message.id]))

    async def write(
        self,
        draft: Draft,
        who: Speaker,
        call: calls.MessageSend | calls.MessageBroadcast,
        asked: Asked,
        *,
        to: tuple[Address, ...] = (),
        answered: Message | None = None,
    ) -> Message:
        """Write the message itself; what it says was checked.

        Raises:
            NotFound: an attachment is not there.
        """
        await self._blobs.check(who.project, call.attachments)
        name, at = MessageId(self._ids.new()), self._clock.now().wall
        message = Message(
            id=name,
            sender=who.address,
            at=at,
            body=call.body,
            thread=name if answered is None else answered.thread,
            project=who.project,
            to=to,
            subject=call.subject,
            reply_to=None if answered is None else answered.id,
            urgency=call.urgency,
            ack_required=call.ack_required,
            expires_at=WallTime(at + (call.expires_in_ms or limits.MESSAGE_EXPIRES_MS)),
            attachments=call.attachments,
            task=who.task,
            fence=who.fence,
            cause=asked.cause,
        )
        draft.put(Table.MESSAGE, name, message, None)
        return message

    async def find(self, who: Speaker, message: str) -> Message:
        """Return a message that someone may see; raises `NotFound`."""
        (row,) = await self._store.get([(Table.MESSAGE, message)])
        if not isinstance(row, Message) or not await self._sees(who, row):
            raise NotFound(_NOT_THERE)
        return row

    def _asks(self, who: Speaker) -> int:
        """Return how many open questions someone may answer."""
        view, count = self._view(), 0
        for ask in view.asks.values():
            task = view.tasks.get(ask.task) if ask.task is not None else None
            submitter = None if task is None else task.submitter
            if ask.project == who.project:
                count += asking.may_answer(ask, who.address, who.identity, submitter)
        return count

    async def _warning(self, draft: Draft, message: Message) -> str:
        """Return why a message wakes nobody that it would wake; of a new loop people are told."""
        said: list[str] = []
        for one in message.to:
            match self._waking.verdict(message, one, Why.DIRECT):
                case Verdict.LOOP:
                    said.append(_LOOP.format(one))
                    if self._waking.begins_loop(message, one):
                        await self._tell_of_loop(draft, message, one)
                case Verdict.OFTEN:
                    said.append(_OFTEN.format(one))
                case Verdict.WAKES | Verdict.WAITS:
                    pass
        return "; ".join(said)

    async def _tell_of_loop(self, draft: Draft, message: Message, other: Address) -> None:
        task = None if message.task is None else self._view().tasks.get(message.task)
        if task is not None:
            text = _LOOP_NOTICE.format(message.sender, other)
            to = address.of_user(task.submitter)
            await self.notice(draft, message.project, to, text, task=task.id)

    async def _read(self, log: str, call: calls.InboxRead) -> told.Inbox:
        head = await self._boxes.head(log)
        start = (0 if call.all else head.settled) if call.after is None else call.after
        mail.check_cursor(head, start)
        part = await self._boxes.read(log, start, call.limit, closed=call.all)
        await self._boxes.show(log, part.letters)
        return told.Inbox(
            letters=tuple(part.letters), cursor=part.cursor, more=part.more, open=head.open
        )


def told_of(entry: Entry) -> told.Recipient:
    """Return how far a message has come in one mailbox, as its sender sees it."""
    return told.Recipient(
        address=owner_of(entry.log),
        state=entry.state,
        wakes=entry.wakes,
        delivered_at=entry.delivered_at,
        seen_at=entry.seen_at,
        acked_at=entry.acked_at,
    )
