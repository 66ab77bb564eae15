"""Shared notes: written, read by name and version, listed. What a version is: `core/notes.py`."""

from collections.abc import Mapping
from typing import Final, cast

import msgspec

from agentcom.core import notes
from agentcom.hub.clock import Clock
from agentcom.hub.speaking import Speaker
from agentcom.hub.talk import Answer, Handler
from agentcom.hub.writing import Asked, Draft, Writer
from agentcom.model import limits
from agentcom.model.batch import Table
from agentcom.model.errors import Conflict, NotFound
from agentcom.model.ids import ProjectId, WallTime
from agentcom.model.message import Head
from agentcom.model.replies import Done
from agentcom.model.shared_note import SharedNote, note_key, note_version_key
from agentcom.protocol import calls, told
from agentcom.protocol.calls import Call
from agentcom.store.base import Query, Store

PRUNE_ROWS: Final = 500
_VERSIONS: Final = "@"

replace: Final = msgspec.structs.replace


class Notes:
    """The notes of all projects."""

    def __init__(self, store: Store, writer: Writer, clock: Clock) -> None:
        self._store = store
        self._writer = writer
        self._clock = clock

    def handlers(self) -> Mapping[type[Call], Handler]:
        """Return what is answered here."""
        return {
            calls.NoteWrite: self.write,
            calls.NoteRead: self.read,
            calls.NoteList: self.list,
            calls.NoteHistory: self.history,
            calls.NoteDelete: self.delete,
        }

    async def write(self, who: Speaker, call: calls.NoteWrite, asked: Asked) -> Answer:
        """Write the next version."""

        async def decide(draft: Draft) -> told.NoteShown:
            row = await self._row(draft, who.project, call.name)
            note = notes.written(
                row,
                name=call.name,
                project=who.project,
                text=call.text,
                author=who.address,
                at=self._clock.now().wall,
                expected=call.version,
            )
            if not notes.newest(row):
                await self._count(draft, who.project, 1)
            await self._put(draft, note, row)
            return told.NoteShown(note=note)

        return await self._writer.once(who.address, asked, decide)

    async def delete(self, who: Speaker, call: calls.NoteDelete, asked: Asked) -> Answer:
        """Write a version that says that the note is gone."""

        async def decide(draft: Draft) -> Done:
            row = await self._row(draft, who.project, call.name)
            now = self._clock.now().wall
            gone = notes.deleted(row, author=who.address, at=now, expected=call.version)
            await self._count(draft, who.project, -1)
            await self._put(draft, gone, row)
            return Done(f"version {gone.version} says so")

        return await self._writer.once(who.address, asked, decide)

    async def read(self, who: Speaker, call: calls.NoteRead, _asked: Asked) -> Answer:
        """Return the newest version, or a certain one."""
        name = notes.check_name(call.name)
        place = (Table.NOTE, note_key(who.project, name))
        if call.version is not None:
            place = (Table.NOTE_VERSION, note_version_key(who.project, name, call.version))
        (row,) = await self._store.get([place])
        if not isinstance(row, SharedNote) or row.deleted:
            raise NotFound("there is no such note, or not that version of it")
        return told.NoteShown(note=row)

    async def list(self, who: Speaker, call: calls.NoteList, _asked: Asked) -> Answer:
        """Return notes by name, without their texts."""
        start = note_key(who.project, "")
        query = Query(
            table=Table.NOTE,
            prefix=start + call.prefix,
            after=start + (call.after or ""),
            limit=call.limit,
        )
        page = await self._store.query(query)
        found = [row for row in cast("list[SharedNote]", page.rows) if not row.deleted]
        after = page.next.removeprefix(start) if page.next is not None else None
        return told.NotesShown(notes=tuple(map(_short, found)), next=after)

    async def history(self, who: Speaker, call: calls.NoteHistory, _asked: Asked) -> Answer:
        """Return the versions of a note, newest first."""
        name = notes.check_name(call.name)
        before = None
        if call.before is not None:
            before = note_version_key(who.project, name, call.before)
        prefix = note_key(who.project, name) + _VERSIONS
        query = Query(table=Table.NOTE_VERSION, prefix=prefix, before=before, limit=call.limit)
        page = await self._store.query(query)
        if not page.rows and before is None:
            raise NotFound("there is no such note")
        after = None if page.next is None else page.next.rpartition(_VERSIONS)[2].lstrip("0")
        rows = cast("list[SharedNote]", page.rows)
        return told.NotesShown(notes=tuple(map(_short, rows)), next=after)

    async def prune(self, now: WallTime) -> int:
        """Take deleted notes that are over out of the store; return how many rows went."""
        gone, after = 0, ""
        while True:
            query = Query(table=Table.NOTE, after=after, limit=PRUNE_ROWS)
            page = await self._store.query(query)
            for row in cast("list[SharedNote]", page.rows):
                if row.deleted and row.at + limits.NOTES_KEEP_MS <= now:
                    gone += await self._forget(row)
            if page.next is None:
                return gone
            after = page.next

    async def _forget(self, row: SharedNote) -> int:
        """Delete a note's versions, a bounded number at a time, and then its name."""
        key, gone = note_key(row.project, row.name), 0
        while True:
            prefix = key + _VERSIONS
            query = Query(table=Table.NOTE_VERSION, prefix=prefix, limit=PRUNE_ROWS)
            page = await self._store.query(query)

            async def decide(draft: Draft, rows: object = page.rows, *, last: bool) -> Done:
                for old in cast("list[SharedNote]", rows):
                    place = note_version_key(old.project, old.name, old.version)
                    draft.drop(Table.NOTE_VERSION, place, old)
                if last:
                    draft.drop(Table.NOTE, key, row)
                return Done()

            last = page.next is None
            await self._writer.once("hub", _NO_KEY, lambda draft: decide(draft, last=last))  # noqa: B023  # awaited in this turn
            gone += len(page.rows)
            if last:
                return gone

    async def _row(self, draft: Draft, project: ProjectId, name: str) -> SharedNote | None:
        key = note_key(project, notes.check_name(name))
        return cast("SharedNote | None", await self._writer.get(draft, Table.NOTE, key))

    async def _put(self, draft: Draft, note: SharedNote, row: SharedNote | None) -> None:
        draft.put(Table.NOTE, note_key(note.project, note.name), note, row)
        place = note_version_key(note.project, note.name, note.version)
        draft.put(Table.NOTE_VERSION, place, note, None)
        old = note.version - limits.NOTE_VERSIONS_MAX
        if old > 0:
            place = note_version_key(note.project, note.name, old)
            (stale,) = await self._store.get([(Table.NOTE_VERSION, place)])
            if stale is not None:
                draft.drop(Table.NOTE_VERSION, place, stale)

    async def _count(self, draft: Draft, project: ProjectId, more: int) -> None:
        log = f"notes/{project}"
        row = cast("Head | None", await self._writer.get(draft, Table.HEAD, log))
        head = row or Head(log=log, version=0)
        if head.open + more > limits.NOTES_MAX:
            raise Conflict(f"a project has at most {limits.NOTES_MAX} notes; delete some")
        after = replace(head, open=head.open + more, version=head.version + 1)
        draft.put(Table.HEAD, log, after, row)


_NO_KEY: Final = Asked(cause="prune")


def _short(row: SharedNote) -> SharedNote:
    return replace(row, text="")
