"""An archive that forgets at the end of the process, beside a store that does."""

from collections.abc import Sequence

from agentcom.model.archive import ArchiveSize, Dossier
from agentcom.model.batch import Table
from agentcom.model.ids import WallTime
from agentcom.store import search
from agentcom.store.archive import Dropped, made_before
from agentcom.store.base import Page, Query
from agentcom.store.memory import MemoryStore
from agentcom.store.search import Found, Words


class MemoryArchive:
    """Dossiers in a dictionary."""

    def __init__(self) -> None:
        self.dossiers: dict[str, Dossier] = {}

    async def close(self) -> None:
        return

    async def put(self, dossiers: Sequence[Dossier]) -> None:
        self.dossiers |= {one.task.id: one for one in dossiers}

    async def get(self, task: str) -> Dossier | None:
        return self.dossiers.get(task)

    async def drop(self, until: WallTime, after: str, limit: int) -> Dropped:
        old = sorted(key for key in self.dossiers if after < key < made_before(until))
        page = old[:limit]
        gone = [key for key in page if self.dossiers[key].task.changed_at <= until]
        for key in gone:
            del self.dossiers[key]
        return Dropped(page[-1] if len(old) > limit else None, len(gone))

    async def tasks(self, query: Query) -> Page:
        return await MemoryStore.of(
            Table.TASK, {key: one.task for key, one in self.dossiers.items()}
        ).query(query)

    async def search(self, asked: Words) -> Found:
        words = search.words_of(asked.text)
        found = [
            (Table.BODY, key)
            for key, one in sorted(self.dossiers.items(), reverse=True)
            if one.task.project == asked.project and _has(one, words)
        ]
        return Found(found[: asked.limit] if words else [])

    async def size(self) -> ArchiveSize:
        return ArchiveSize(tasks=len(self.dossiers), bytes=0)


def _has(dossier: Dossier, words: Sequence[str]) -> bool:
    spec = dossier.body.spec if dossier.body is not None else None
    text = f"{dossier.task.title} {spec.prompt if spec is not None else ''}".lower()
    return all(word in text for word in words)
