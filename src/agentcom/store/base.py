"""The contract of every store, and nothing else.

A store keeps rows and logs. Rows change only by batches, and a batch is atomic: its verdict says
what became of it. `Committed` means durable against power loss. Anything a store cannot put into
a verdict is fatal: the hub stops, and starts again from what is stored.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from agentcom.model.batch import Batch, Row, Table
from agentcom.model.event import TaskEvent
from agentcom.model.ids import BatchId, PoolId, WallTime
from agentcom.model.snapshot import Snapshot
from agentcom.store.search import Found, Words
from agentcom.store.sums import Sum, Sums


class Committed(msgspec.Struct, frozen=True, gc=False):
    """The batch is durable; its records got consecutive sequence numbers from `first`."""

    first: int


class TermLost(msgspec.Struct, frozen=True, gc=False):
    """Another writer leads the pool now; nothing was written."""


class Conflict(msgspec.Struct, frozen=True, gc=False):
    """A row was not as expected; nothing was written. `images` are the rows as they are."""

    images: Sequence[tuple[Table, str, Row | None]]


class Full(msgspec.Struct, frozen=True, gc=False):
    """There is no room; nothing was written, and reading goes on."""


Verdict = Committed | TermLost | Conflict | Full


class LogRecord(msgspec.Struct, frozen=True, gc=False):
    """A record with its place; sequences grow within every log, with gaps."""

    seq: int
    log: str
    record: TaskEvent


class Page(msgspec.Struct, frozen=True, gc=False):
    """Rows of a query in its order, and the key to go on with (None: no more)."""

    rows: Sequence[Row]
    next: str | None = None


class Query(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A listing: rows of one table, by key downwards, filtered by exact column values.

    With `after` it goes by key upwards from there; `before` bounds it then, too.
    """

    table: Table
    where: dict[str, Sequence[str]] = {}
    """Column -> accepted values. Columns: `store/schema.py`."""
    prefix: str | None = None
    fragment: str | None = None
    """Part of the key, as people type it."""
    before: str | None = None
    after: str | None = None
    limit: int = 100


class Problem(msgspec.Struct, frozen=True, gc=False):
    """Something `verify` found."""

    what: str
    fix: str


class Store(Protocol):
    """Durable state. One writer at a time; readers at any time."""

    async def open(self) -> int:
        """Open, migrate if older, and return the incarnation.

        Raises:
            StoreRefused: damaged, foreign, newer than this program, rolled back, or in use.
        """
        ...

    async def close(self) -> None:
        """Finish what was begun and let go of the store."""
        ...

    async def acquire(self, pool: PoolId, holder: str) -> int:
        """Return a new term: from now on only batches with it are accepted for `pool`."""
        ...

    async def scan(self, pool: PoolId) -> Snapshot:
        """Return everything live in `pool`."""
        ...

    async def get(self, keys: Sequence[tuple[Table, str]]) -> list[Row | None]:
        """Return the committed rows of `keys`, in order."""
        ...

    async def query(self, query: Query) -> Page:
        """Return one page of a listing."""
        ...

    async def sums(self, asked: Sums) -> Sequence[Sum]:
        """Return sums, the largest of the first column first; those of no rows are left out."""
        ...

    async def search(self, asked: Words) -> Found:
        """Return the keys of rows with all words, as far as they are indexed."""
        ...

    async def index(self, limit: int) -> bool:
        """Make up to `limit` more rows searchable; return whether all are."""
        ...

    async def commit(self, batch: Batch) -> Verdict:
        """Write `batch` durably, whole or not at all."""
        ...

    async def outcome(self, batch: BatchId) -> bool:
        """Return whether a recent batch of unknown fate is committed."""
        ...

    async def read(self, log: str | None, after: int, limit: int) -> Sequence[LogRecord]:
        """Return records of `log` (None: of all logs) with a sequence above `after`, in order."""
        ...

    async def prune(self, now: WallTime) -> int:
        """Delete expired request keys, and give free room back; return how many rows went."""
        ...

    async def snapshot(self, path: str) -> None:
        """Write a consistent copy to `path` while writing goes on."""
        ...

    async def verify(self) -> Sequence[Problem]:
        """Look for damage and broken invariants; empty means sound."""
        ...

    async def checkpoint(self) -> None:
        """Tidy up while idle, so that the next start is quick."""
        ...
