"""Rows that are no pool's, written once: one after the other, each request once under its key.

A decision reads what it needs, adds changes to a `Draft`, and returns its answer. All changes of a
draft become durable together, with the answer under its key; only then others hear of it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

import msgspec

from agentcom.hub.clock import Clock
from agentcom.hub.rows import write
from agentcom.model import limits
from agentcom.model.audit import AuditNote
from agentcom.model.batch import Change, Delete, Insert, Row, Table, Update, request_key
from agentcom.model.errors import KeyReused, Unavailable
from agentcom.model.identity import RequestRecord
from agentcom.model.ids import IdSource, WallTime
from agentcom.store.base import Store

WRITE_TRIES: Final = 64  # of a write that met another; each loss is another's progress

_Answer = TypeVar("_Answer", bound=msgspec.Struct)
_ENCODER: Final = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How a call came: what makes a repeat the same, and what ties its traces together."""

    cause: str
    key: str | None = None
    payload: str = ""
    """SHA-256 of the call."""


@dataclass(slots=True)
class Draft:
    """Changes that become durable together, and what follows from them."""

    changes: dict[tuple[Table, str], Change] = field(default_factory=dict)
    after: list[Callable[[], None]] = field(default_factory=list)
    """What to do once they are durable, in order."""
    audits: list[AuditNote] = field(default_factory=list)
    """What the audit log says of them."""
    _rows: dict[tuple[Table, str], Row | None] = field(default_factory=dict)
    _read: dict[tuple[Table, str], Row | None] = field(default_factory=dict)

    def put(self, table: Table, key: str, row: Row, old: Row | None) -> None:
        """Write a row in place of `old` (None: there is none); its version is the next one's.

        A row that changes twice in one draft is given the version that was read first.
        """
        place = (table, key)
        before = self.changes.get(place)
        if isinstance(before, Insert) or (before is None and old is None):
            self.changes[place] = Insert(table, key, row)
        else:
            expected = before.expected if before is not None else _version(old)
            self.changes[place] = Update(table, key, row, expected)
        self._rows[place] = row

    def drop(self, table: Table, key: str, old: Row) -> None:
        """Delete a row."""
        place = (table, key)
        before = self.changes.get(place)
        if isinstance(before, Insert):
            del self.changes[place]
        else:
            expected = before.expected if before is not None else old.version
            self.changes[place] = Delete(table, key, expected)
        self._rows[place] = None

    def keep(self, rows: Mapping[tuple[Table, str], Row | None]) -> None:
        """Take note of rows as they are stored, so that nobody reads them one by one."""
        self._read.update(rows)

    def stored(self, table: Table, key: str) -> tuple[bool, Row | None]:
        """Return whether a row was read before, and the row."""
        place = (table, key)
        return place in self._read, self._read.get(place)

    def seen(self, table: Table, key: str) -> tuple[bool, Row | None]:
        """Return whether the draft wrote a row, and the row as it will be."""
        place = (table, key)
        return place in self._rows, self._rows.get(place)


class Writer:
    """Writes drafts."""

    def __init__(self, store: Store, clock: Clock, ids: IdSource) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids
        self._lock = asyncio.Lock()

    async def once(
        self,
        who: str,
        asked: Asked,
        decide: Callable[[Draft], Awaitable[_Answer]],
    ) -> _Answer | msgspec.Raw:
        """Decide and write; a repeat under the same key of `who` gets the first answer, as bytes.

        Raises:
            KeyReused: the key came with another call before.
            StorageFull: there is no room; nothing was written.
        """
        async with self._lock:
            for _ in range(WRITE_TRIES):
                known = await self._known(who, asked)
                if known is not None:
                    return known
                draft = Draft()
                answer = await decide(draft)
                if await self._write(draft, who, asked, answer):
                    for act in draft.after:
                        act()
                    return answer
        raise Unavailable("too many write at the same time; ask again")

    async def get(self, draft: Draft, table: Table, key: str) -> Row | None:
        """Return a row as it will be after what the draft has so far."""
        written, row = draft.seen(table, key)
        if written:
            return row
        known, row = draft.stored(table, key)
        if known:
            return row
        (row,) = await self._store.get([(table, key)])
        return row

    async def read(self, draft: Draft, table: Table, keys: Sequence[str]) -> None:
        """Read rows at once that `get` will be asked for."""
        places = [(table, key) for key in keys]
        draft.keep(dict(zip(places, await self._store.get(places), strict=True)))

    async def _known(self, who: str, asked: Asked) -> msgspec.Raw | None:
        if asked.key is None:
            return None
        (row,) = await self._store.get([(Table.REQUEST, request_key(who, asked.key))])
        if not isinstance(row, RequestRecord):
            return None
        if row.payload != asked.payload:
            raise KeyReused("this request key came with another request before; use a new one")
        return row.reply

    async def _write(self, draft: Draft, who: str, asked: Asked, answer: msgspec.Struct) -> bool:
        changes = list(draft.changes.values())
        if not changes:
            return True
        if asked.key is not None:
            name = request_key(who, asked.key)
            ends = WallTime(self._clock.now().wall + limits.REQUEST_KEY_KEEP_MS)
            raw = msgspec.Raw(_ENCODER.encode(answer))
            record = RequestRecord(name, asked.payload, raw, ends)
            changes.append(Insert(Table.REQUEST, name, record))
        return await write(self._store, self._ids, *changes, audits=draft.audits)


def _version(row: Row | None) -> int:
    assert row is not None
    return row.version
