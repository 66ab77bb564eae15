"""Posts go: with their channel, or when they have been there for as long as the hub keeps them."""

from collections.abc import Sequence
from typing import Final, cast

import msgspec

from agentcom.hub.writing import Asked, Draft, Writer
from agentcom.model.address import HUB
from agentcom.model.batch import Table
from agentcom.model.channel import Channel
from agentcom.model.ids import WallTime
from agentcom.model.message import Entry, Head, Message, entry_key
from agentcom.model.replies import Done
from agentcom.store.archive import made_before
from agentcom.store.base import Query, Store

PRUNE_ROWS: Final = 200  # posts or members that one write takes out of the store
PRUNES: Final = Asked(cause="prune")
_CHANNELS: Final = "channel/"
_HEADS: Final = 200  # channels of one read


class PostExpiry:
    """Deletes posts by their age."""

    def __init__(self, store: Store, writer: Writer, *, keep_ms: int) -> None:
        """`keep_ms`: how long a post stays; 0: for ever."""
        self._store = store
        self._writer = writer
        self._keep_ms = keep_ms

    async def work(self, now: WallTime) -> int:
        """Delete what is older, but for pins; return how many posts went."""
        gone, after = 0, "" if self._keep_ms else None
        before = made_before(WallTime(now - self._keep_ms))
        while after is not None:
            query = Query(table=Table.HEAD, prefix=_CHANNELS, after=after, limit=_HEADS)
            page = await self._store.query(query)
            for head in cast("Sequence[Head]", page.rows):
                gone += await self._in_channel(head.log, before)
            after = page.next
        return gone

    async def _in_channel(self, log: str, before: str) -> int:
        """Delete the posts of a channel whose ids, which begin with their time, are below one."""
        gone, after = 0, f"{log}/"
        while True:
            query = Query(table=Table.ENTRY, prefix=f"{log}/", after=after, limit=PRUNE_ROWS)
            page = await self._store.query(query)
            rows = cast("Sequence[Entry]", page.rows)
            old = [entry.seq for entry in rows if entry.message < before]
            gone += await self._delete(log, old) if old else 0
            if len(old) < len(rows) or page.next is None:
                return gone
            after = page.next

    async def _delete(self, log: str, seqs: Sequence[int]) -> int:
        gone: list[int] = []

        async def decide(draft: Draft) -> Done:
            gone.clear()
            channel = await self._writer.get(draft, Table.CHANNEL, log.removeprefix(_CHANNELS))
            pins = channel.pins if isinstance(channel, Channel) else ()
            for seq in seqs:
                entry = await self._writer.get(draft, Table.ENTRY, entry_key(log, seq))
                if isinstance(entry, Entry) and seq not in pins:
                    draft.drop(Table.ENTRY, entry_key(log, seq), entry)
                    await forget_post(self._store, self._writer, draft, entry)
                    gone.append(seq)
            return Done()

        await self._writer.once(HUB, PRUNES, decide)
        return len(gone)


async def forget_post(store: Store, writer: Writer, draft: Draft, entry: Entry) -> None:
    """Delete a post; one that stands in a mailbox, too, is mail from now on, and no post."""
    row = cast("Message | None", await writer.get(draft, Table.MESSAGE, entry.message))
    query = Query(table=Table.ENTRY, where={"message": [entry.message]}, limit=2)
    is_mail = len((await store.query(query)).rows) > 1
    if row is not None and is_mail:
        mail = msgspec.structs.replace(row, channel="", version=row.version + 1)
        draft.put(Table.MESSAGE, entry.message, mail, row)
    elif row is not None:
        draft.drop(Table.MESSAGE, entry.message, row)
