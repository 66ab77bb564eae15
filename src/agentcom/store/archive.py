"""The contract of archives, where tasks that ended long ago are kept and found.

What is in an archive is added, replaced by a newer form of the same task, or dropped when its time
is over. A task may be in the store and in the archive at once: then the store is right.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from agentcom.model.archive import ArchiveSize, Dossier
from agentcom.model.errors import StorageFull
from agentcom.model.ids import WallTime, encode_base32
from agentcom.store.base import Page, Query
from agentcom.store.search import Found, Words

TIME_CHARS: Final = 10  # of an id, which begins with its time


class Dropped(NamedTuple):
    """What came of a look for what is over."""

    after: str | None
    """The last that was looked at; None if there are no more."""
    gone: int


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

    async def drop(self, until: WallTime, after: str, limit: int) -> Dropped:
        """Look at up to `limit` tasks with ids above one, and delete those that ended by a time."""
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


def made_before(until: WallTime) -> str:
    """Return what is above the ids of all tasks that were made before a time."""
    return encode_base32(max(0, until), length=TIME_CHARS)


class NoArchive:
    """What stands for an archive where there is none."""

    async def close(self) -> None:
        return

    async def put(self, dossiers: Sequence[Dossier]) -> None:
        raise StorageFull(f"there is no archive for {len(dossiers)} tasks")

    async def get(self, task: str) -> Dossier | None:  # noqa: ARG002  # it has none
        return None

    async def drop(self, until: WallTime, after: str, limit: int) -> Dropped:  # noqa: ARG002  # as above
        return Dropped(None, 0)

    async def tasks(self, query: Query) -> Page:  # noqa: ARG002  # as above
        return Page(())

    async def search(self, asked: Words) -> Found:  # noqa: ARG002  # as above
        return Found(())

    async def size(self) -> ArchiveSize:
        return ArchiveSize(tasks=0, bytes=0)
