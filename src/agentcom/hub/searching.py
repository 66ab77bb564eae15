"""Search over messages, notes and tasks: what the store finds, as far as the caller may see it."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, cast

from agentcom.hub.speaking import Speaker
from agentcom.hub.talk import Answer, Handler
from agentcom.hub.writing import Asked
from agentcom.model import limits
from agentcom.model.batch import Row, Table
from agentcom.model.errors import InvalidInput
from agentcom.model.ids import TaskId
from agentcom.model.message import Message
from agentcom.model.shared_note import SharedNote
from agentcom.model.task import Task, TaskBody
from agentcom.protocol import calls, told
from agentcom.protocol.calls import Call
from agentcom.store import search
from agentcom.store.archive import Archive
from agentcom.store.base import Store
from agentcom.store.search import Words

LOOKED_AT: Final = 400  # hits of the store that one search looks through
EXCERPT_CHARS: Final = 160
_KINDS: Final[Mapping[str, Table]] = {
    "message": Table.MESSAGE,
    "note": Table.NOTE_VERSION,
    "task": Table.BODY,
}
MaySee = Callable[[Speaker, Message], Awaitable[bool]]


class Searching:
    """Answers `search`."""

    def __init__(self, store: Store, may_see: MaySee, archive: Archive) -> None:
        self._store = store
        self._archive = archive
        self._may_see = may_see

    def handlers(self) -> Mapping[type[Call], Handler]:
        """Return what is answered here."""
        return {calls.Search: self.search}

    async def search(self, who: Speaker, call: calls.Search, _asked: Asked) -> Answer:
        """Return what has all words, best first."""
        strange = set(call.kinds) - _KINDS.keys()
        if strange:
            raise InvalidInput("kinds", f"use some of {', '.join(_KINDS)}")
        for _ in range(limits.INDEX_STEPS):
            if await self._store.index(limits.INDEX_STEP):
                break
        tables = tuple(_KINDS[kind] for kind in call.kinds or _KINDS)
        words = Words(text=call.text, project=who.project, tables=tables, limit=LOOKED_AT)
        found = await self._store.search(words)
        hits: list[told.Hit] = []
        for table, key in found.keys:
            (row,) = await self._store.get([(table, key)])
            hit = await self._hit(who, row, call.text)
            if hit is not None:
                hits.append(hit)
            if len(hits) == call.limit:
                break
        if Table.BODY in tables and len(hits) < call.limit:
            hits += await self._archived(words, call, {hit.id for hit in hits})
        return told.Hits(hits=tuple(hits), indexed=found.complete)

    async def _archived(
        self, words: Words, call: calls.Search, known: set[str]
    ) -> Sequence[told.Hit]:
        """Return tasks that are in the archive, after all others."""
        hits: list[told.Hit] = []
        for _, key in (await self._archive.search(words)).keys:
            kept = await self._archive.get(key) if key not in known else None
            if kept is None or kept.body is None:
                continue
            if await self._store.get([(Table.TASK, key)]) != [None]:
                continue  # it came back with a restore, and is changed there
            hits.append(_task_hit(kept.body, call.text))
            if len(hits) + len(known) == call.limit:
                break
        return hits

    async def _hit(self, who: Speaker, row: Row | None, text: str) -> told.Hit | None:
        match row:
            case Message() if await self._may_see(who, row):
                said = _excerpt(row.body, text)
                return told.Hit(
                    kind="message", id=row.id, title=row.subject, excerpt=said, at=row.at
                )
            case SharedNote(deleted=False):
                said = _excerpt(row.text, text)
                return told.Hit(kind="note", id=row.name, title=row.name, excerpt=said, at=row.at)
            case TaskBody() if await self._is_ours(who, row.id):
                return _task_hit(row, text)
            case _:
                return None

    async def _is_ours(self, who: Speaker, task: TaskId) -> bool:
        (row,) = await self._store.get([(Table.TASK, task)])
        return isinstance(row, Task) and row.project == who.project


def _task_hit(body: TaskBody, text: str) -> told.Hit:
    said = _excerpt(body.spec.prompt, text)
    return told.Hit(
        kind="task", id=body.id, title=body.spec.title, excerpt=said, at=body.created_at
    )


def _excerpt(text: str, wanted: str) -> str:
    """Return the part of a text around the first word that was looked for."""
    flat = " ".join(text.split())
    words = cast("Sequence[str]", search.words_of(wanted))
    found = re.search("|".join(map(re.escape, words)), flat, re.IGNORECASE)
    start = max(0, (found.start() if found else 0) - EXCERPT_CHARS // 3)
    part = flat[start : start + EXCERPT_CHARS]
    return f"{'…' if start else ''}{part}{'…' if start + EXCERPT_CHARS < len(flat) else ''}"
