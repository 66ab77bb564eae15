"""The contract of archives, where tasks that ended long ago are kept and found.

What is in an archive is only added, or replaced by a newer form of the same task. A task may be
in the store and in the archive at once: then the store is right.
"""

from collections.abc import Sequence
from typing import Protocol

from agentcom.model.archive import ArchiveSize, Dossier
from agentcom.model.errors import StorageFull
from agentcom.store.base import Page, Query
from agentcom.store.search import Found, Words


class Archive(Protocol):
    """Dossiers, durable once `put` has returned.

    Every method raises `ArchiveDamaged` for a file that cannot be read, and `StorageFull`.
    """

    async def close(self) -> None:
        """Let go of the archive."""
        ...

    async def put(self, dossiers: Sequence[Dossier]) -> None:
        """Keep dossiers durably, all or none; one of a task that is there takes its place."""
        ...

    async def get(self, task: str) -> Dossier | None:
        """Return what is kept of a task."""
        ...

    async def tasks(self, query: Query) -> Page:
        """Return one page of a listing of `Table.TASK`."""
        ...

    async def search(self, asked: Words) -> Found:
        """Return the keys of `Table.BODY` of tasks with all words."""
        ...

    async def size(self) -> ArchiveSize:
        """Return how much there is."""
        ...


class NoArchive:
    """What stands for an archive where there is none."""

    async def close(self) -> None:
        return

    async def put(self, dossiers: Sequence[Dossier]) -> None:
        raise StorageFull(f"there is no archive for {len(dossiers)} tasks")

    async def get(self, task: str) -> Dossier | None:  # noqa: ARG002  # it has none
        return None

    async def tasks(self, query: Query) -> Page:  # noqa: ARG002  # as above
        return Page(())

    async def search(self, asked: Words) -> Found:  # noqa: ARG002  # as above
        return Found(())

    async def size(self) -> ArchiveSize:
        return ArchiveSize(tasks=0, bytes=0)
