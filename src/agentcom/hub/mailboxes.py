"""Mailboxes: the logs that have one reader each, who takes letter after letter out of it.

A place in a mailbox only goes forward (`core/mail.py`), and the head counts what is still open.
Reading costs the same however much lies before and behind.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple, cast

import msgspec

from agentcom.core import mail
from agentcom.hub.clock import Clock
from agentcom.hub.logs import Logs
from agentcom.hub.writing import Asked, Draft, Writer
from agentcom.model import address, limits
from agentcom.model.address import Address
from agentcom.model.batch import Table
from agentcom.model.ids import ProjectId, WallTime
from agentcom.model.message import (
    Delivery,
    Entry,
    Head,
    Message,
    MessageId,
    Why,
    due_log,
    entry_key,
    mail_log,
    owner_of,
)
from agentcom.model.replies import Done
from agentcom.protocol.told import Letter
from agentcom.store.base import Query, Store

_READ: Final = Asked(cause="read")
_ENCODER: Final = msgspec.json.Encoder()

replace: Final = msgspec.structs.replace


class Part(NamedTuple):
    """A part of a mailbox, in order."""

    letters: Sequence[Letter]
    cursor: int
    """How far was read."""
    more: bool


class Mailboxes:
    """The mailboxes of all agents and people."""

    def __init__(self, store: Store, writer: Writer, logs: Logs, clock: Clock) -> None:
        self._store = store
        self._writer = writer
        self._logs = logs
        self._clock = clock
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self.on_arrival: Callable[[Address], None] = lambda _to: None
        """Called with whom each letter is for, once it is stored."""
        self.on_read: Callable[[str, Sequence[MessageId]], None] = lambda _log, _read: None
        """Called with what the owner of a log has read by itself."""

    # Writing ------------------------------------------------------------------------------------

    async def look_at(self, draft: Draft, project: ProjectId, owners: Sequence[Address]) -> None:
        """Read the heads of many mailboxes at once, before something is put into each."""
        logs = [mail_log(project, owner) for owner in owners]
        await self._writer.read(draft, Table.HEAD, logs)

    async def put(
        self, draft: Draft, message: Message, to: Address, why: Why, *, wakes: bool
    ) -> Entry:
        """Give a message the next place in a mailbox; the message is the caller's to write.

        Raises:
            MailboxFull: there is no room.
        """
        log = mail_log(message.project, to)
        mail.check_room(await self._logs.head(draft, log), len(message.body.encode()), to)
        entry = await self._logs.append(draft, log, message, why=why, wakes=wakes, kept=True)
        await self.enlist(draft, message, mail.first_due(message))
        draft.after.append(lambda: self._arrived(log, to))
        return entry

    async def enlist(self, draft: Draft, message: Message, at: WallTime) -> None:
        """Take note of when something of a message is due."""
        due = Entry(log=f"{due_log(at)}/{message.id}", seq=0, message=message.id)
        key = entry_key(due.log, due.seq)
        if await self._writer.get(draft, Table.ENTRY, key) is None:
            draft.put(Table.ENTRY, key, due, None)

    async def move(self, draft: Draft, log: str, entries: Iterable[Entry], state: Delivery) -> Head:
        """Bring entries of a mailbox to a state, as far as that is forward; return its head."""
        head = await self._logs.head(draft, log)
        now, closed, size = self._clock.now().wall, 0, 0
        for entry in entries:
            after = mail.moved(entry, state, now)
            if after is not entry:
                draft.put(Table.ENTRY, entry_key(log, entry.seq), after, entry)
                closed += after.state.over
                size += entry.bytes * after.state.over
        if not closed:
            return head
        after_head = replace(
            head,
            open=head.open - closed,
            open_bytes=head.open_bytes - size,
            settled=await self._settled(draft, head, closed),
            version=head.version + 1,
        )
        draft.put(Table.HEAD, log, after_head, head)
        return after_head

    async def show(self, log: str, letters: Sequence[Letter]) -> None:
        """Note that letters were shown to the reader of a mailbox."""
        new = [one for one in letters if one.state in (Delivery.QUEUED, Delivery.DELIVERED)]
        if new:
            await self.reach(log, [one.seq for one in new], Delivery.SEEN)
            self.on_read(log, [one.message.id for one in new])

    async def reach(self, log: str, seqs: Sequence[int], state: Delivery) -> None:
        """Bring places of a mailbox to a state; those that are not there are passed over."""

        async def decide(draft: Draft) -> Done:
            rows = await self._store.get([(Table.ENTRY, entry_key(log, seq)) for seq in seqs])
            await self.move(draft, log, [row for row in rows if isinstance(row, Entry)], state)
            return Done()

        await self._writer.once("hub", _READ, decide)

    async def settle(self, log: str, upto: int) -> None:
        """Acknowledge what is up to a sequence and need not be acknowledged by name.

        Raises:
            CursorAhead: the mailbox does not go so far.
        """
        head = await self.head(log)
        mail.check_cursor(head, upto)
        done = max(head.settled, head.passed)
        while done < upto:
            done = await self._settle_step(log, done, upto)

    async def _settle_step(self, log: str, after: int, upto: int) -> int:
        reached, now = after, self._clock.now().wall

        async def decide(draft: Draft) -> Done:
            nonlocal reached
            rows = await self._entries(log, after, limits.SETTLE_STEP, upto)
            messages = await self._store.get([(Table.MESSAGE, row.message) for row in rows])
            late: list[Entry] = []
            free: list[Entry] = []
            for row, message in zip(rows, messages, strict=True):
                if isinstance(message, Message) and mail.is_late(row.state, message, now):
                    late.append(row)  # it was not shown any more
                elif not (isinstance(message, Message) and message.ack_required):
                    free.append(row)
            await self.move(draft, log, late, Delivery.EXPIRED)
            head = await self.move(draft, log, free, Delivery.ACKED)
            reached = rows[-1].seq if len(rows) == limits.SETTLE_STEP else upto
            if head.passed < reached:
                passed = replace(head, passed=reached, version=head.version + 1)
                draft.put(Table.HEAD, log, passed, head)
            return Done()

        await self._writer.once("hub", _READ, decide)
        return reached

    async def _settled(self, draft: Draft, head: Head, closed: int) -> int:
        """Return up to where everything is over, looking a bounded part further than before.

        Mostly that is what was closed just now.
        """
        settled = head.settled
        for step in (closed + 1, limits.SETTLE_STEP):
            rows = await self._entries(head.log, settled, step)
            for row in rows:
                written, new = draft.seen(Table.ENTRY, entry_key(head.log, row.seq))
                now = new if written else row
                if isinstance(now, Entry) and not now.state.over:
                    return settled
                settled = row.seq
            if len(rows) < step:
                break
        return settled

    # Reading ------------------------------------------------------------------------------------

    async def head(self, log: str) -> Head:
        """Return a mailbox's head."""
        return await self._logs.head(Draft(), log)

    async def tasks(self) -> Sequence[Address]:
        """Return the tasks that were ever written to."""
        found: list[Address] = []
        after: str | None = ""
        while after is not None:
            query = Query(table=Table.HEAD, prefix="mail/", after=after, limit=limits.PAGE_MAX)
            page = await self._store.query(query)
            owners = [owner_of(head.log) for head in cast("list[Head]", page.rows)]
            found += [one for one in owners if address.task_of(one) is not None]
            after = page.next
        return found

    async def places(self, message: str, limit: int, after: str = "") -> list[Entry]:
        """Return some places of a message in mailboxes, by address, after the key of one."""
        query = Query(
            table=Table.ENTRY,
            where={"message": [message]},
            prefix="mail/",
            after=after,
            limit=limit,
        )
        return cast("list[Entry]", (await self._store.query(query)).rows)

    async def find(self, log: str, messages: Sequence[str]) -> list[Entry]:
        """Return the places of messages in one mailbox."""
        where = {"message": messages}
        query = Query(table=Table.ENTRY, where=where, prefix=f"{log}/", limit=len(messages))
        return cast("list[Entry]", (await self._store.query(query)).rows)

    async def read(self, log: str, after: int, limit: int, *, closed: bool = False) -> Part:
        """Return letters after a sequence: open ones, or (`closed`) all.

        With a stretch of closed ones before the next it may find none, and say that there is more.
        """
        found: list[Letter] = []
        size = 0
        for _ in range(limits.INBOX_STEPS):
            asked = limit if not found else limits.PAGE_MAX
            rows = await self._entries(log, after, asked)
            wanted = [row for row in rows if closed or not row.state.over]
            for letter in await self._letters(wanted):
                size += len(_ENCODER.encode(letter))
                if found and size > limits.INBOX_BYTES:
                    return Part(found, after, more=True)
                found.append(letter)
                after = letter.seq
                if len(found) == limit:
                    return Part(found, after, more=after < (await self.head(log)).seq)
            after = rows[-1].seq if rows else after
            if len(rows) < asked:
                return Part(found, after, more=False)
        return Part(found, after, more=after < (await self.head(log)).seq)

    @contextmanager
    def arrivals(self, log: str) -> Iterator[asyncio.Event]:
        """Give an event that is set when something comes into a mailbox from now on."""
        event = asyncio.Event()
        waiting = self._waiting.setdefault(log, set())
        waiting.add(event)
        try:
            yield event
        finally:
            waiting.discard(event)
            if not waiting:
                self._waiting.pop(log, None)

    def _arrived(self, log: str, to: Address) -> None:
        self.on_arrival(to)
        for event in self._waiting.get(log, ()):
            event.set()

    async def _entries(
        self, log: str, after: int, limit: int, upto: int | None = None
    ) -> list[Entry]:
        before = None if upto is None else entry_key(log, upto + 1)
        start = entry_key(log, after)
        query = Query(table=Table.ENTRY, prefix=f"{log}/", after=start, before=before, limit=limit)
        return cast("list[Entry]", (await self._store.query(query)).rows)

    async def _letters(self, entries: Sequence[Entry]) -> list[Letter]:
        letters = await self._logs.letters(entries)
        now = self._clock.now().wall
        return [one for one in letters if not mail.is_late(one.state, one.message, now)]
