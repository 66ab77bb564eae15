"""The logs of messages: mailboxes and channels. One is appended to and read here.

An append is part of a draft: entry and head become durable with the message. Who follows a log
hears of it afterwards (`hub/followers.py`).
"""

from collections.abc import Sequence
from typing import Final, cast

import msgspec

from agentcom.hub.followers import Followers
from agentcom.hub.writing import Draft, Writer
from agentcom.model.batch import Table
from agentcom.model.message import Delivery, Entry, Head, Message, Why, entry_key
from agentcom.protocol.told import Letter
from agentcom.store.base import Query, Store

replace: Final = msgspec.structs.replace


class Logs:
    """Mailboxes and channels."""

    def __init__(self, store: Store, writer: Writer) -> None:
        self._store = store
        self._writer = writer
        self.followers = Followers(self.after)

    async def head(self, draft: Draft, log: str) -> Head:
        """Return a log's head as it will be after the draft; an empty one if there is none."""
        row = await self._writer.get(draft, Table.HEAD, log)
        return cast("Head", row) if row is not None else Head(log=log, version=0)

    async def append(
        self,
        draft: Draft,
        log: str,
        message: Message,
        *,
        why: Why = Why.DIRECT,
        wakes: bool = False,
        kept: bool = False,
    ) -> Entry:
        """Give a message the next place in a log; the message itself is the caller's to write.

        `kept` says that the log counts what its one reader has not taken yet: a mailbox.
        """
        head = await self.head(draft, log)
        size = len(message.body.encode())
        seq = head.seq + 1
        entry = Entry(log=log, seq=seq, message=message.id, why=why, wakes=wakes, bytes=size)
        after = replace(
            head,
            seq=seq,
            open=head.open + kept,
            open_bytes=head.open_bytes + size * kept,
            version=head.version + 1,
        )
        draft.put(Table.HEAD, log, after, head if head.version else None)
        draft.put(Table.ENTRY, entry_key(log, seq), entry, None)
        letter = letter_of(entry, message)
        draft.after.append(lambda: self.followers.publish(log, letter))
        return entry

    async def newest(self, log: str) -> int:
        """Return the sequence of a log's newest entry; 0 if it is empty."""
        (row,) = await self._store.get([(Table.HEAD, log)])
        return row.seq if isinstance(row, Head) else 0

    async def after(self, log: str, seq: int, limit: int) -> Sequence[Letter]:
        """Return letters after a sequence, in order."""
        query = Query(table=Table.ENTRY, prefix=f"{log}/", after=entry_key(log, seq), limit=limit)
        page = await self._store.query(query)
        return await self.letters(cast("Sequence[Entry]", page.rows))

    async def before(self, log: str, seq: int | None, limit: int) -> Sequence[Letter]:
        """Return the last letters before a sequence (None: the newest), in order."""
        before = None if seq is None else entry_key(log, seq)
        query = Query(table=Table.ENTRY, prefix=f"{log}/", before=before, limit=limit)
        page = await self._store.query(query)
        return await self.letters(cast("Sequence[Entry]", page.rows)[::-1])

    async def letters(self, entries: Sequence[Entry]) -> Sequence[Letter]:
        """Return the messages of some places, in order."""
        rows = await self._store.get([(Table.MESSAGE, entry.message) for entry in entries])
        return [
            letter_of(entry, row)
            for entry, row in zip(entries, rows, strict=True)
            if isinstance(row, Message)  # one that was pruned meanwhile has no place any more
        ]


def letter_of(entry: Entry, message: Message) -> Letter:
    """Return a message with its place, as its reader sees it."""
    state = entry.state if entry.log.startswith("mail/") else Delivery.QUEUED
    return Letter(seq=entry.seq, message=message, state=state, why=entry.why, wakes=entry.wakes)
