"""One life of a store, written down: each disk operation, each promise, and what must be there.

A life is a sequence of steps. `Begun` stands where a step was asked for, and `Acked` where it was
acknowledged, among the operations of the disk; `contents[n]` is what readers find after `n` steps.
"""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import apsw
import msgspec

from agentcom.model.batch import Batch, Delete, Row, Table
from agentcom.model.ids import DEFAULT_POOL
from agentcom.store import codec, sqlite_log, sqlite_rows
from agentcom.store.base import LogRecord
from agentcom.testing.crash.operations import Kind, Operation

STORE: Final = "home/store.db"
RECORDS_MAX: Final = 1 << 20
_BALLAST: Final = "-ballast"
_PATIENCE_S: Final = 20.0


class Content(msgspec.Struct, frozen=True, array_like=True):
    """All that a store says of itself to its readers."""

    rows: dict[str, list[tuple[str, int, bytes]]]
    """Table -> key, version and document of each row, by key."""
    records: list[LogRecord]
    number: int
    """Of the newest batch."""
    term: int


class Begun(msgspec.Struct, frozen=True, array_like=True, tag="begun"):
    """A step was asked for."""

    step: int


class Acked(msgspec.Struct, frozen=True, array_like=True, tag="acked"):
    """A step was acknowledged."""

    step: int


class Done(msgspec.Struct, frozen=True, array_like=True, tag="done"):
    """An operation of the disk."""

    operation: Operation


class Failed(msgspec.Struct, frozen=True, array_like=True, tag="failed"):
    """An operation that the disk refused."""

    operation: Operation


Entry = Begun | Acked | Done | Failed


class Recording(msgspec.Struct):
    """A life: what the disk held before it, and all that happened."""

    name: str
    initial: dict[str, bytes]
    """Durable files at the start."""
    entries: list[Entry]
    contents: list[Content]
    """By step; the first is what was there at the start."""
    migrated: bool = False
    """Whether the life ended with a newer schema than this program's."""

    def operations(self) -> int:
        """Return how many operations were recorded."""
        return sum(isinstance(entry, Done) for entry in self.entries)

    def save(self, path: Path) -> None:
        """Write it to a file."""
        path.write_bytes(msgspec.msgpack.encode(self))


def load(path: Path) -> Recording:
    """Read a recording from its file."""
    return msgspec.msgpack.decode(path.read_bytes(), type=Recording)


class Recorder:
    """A watcher that writes everything down.

    `deaf` are operations that the disk of this life does not do, though it says so: for planted
    defects.
    """

    def __init__(self, deaf: Mapping[Kind, str] | None = None) -> None:
        self.entries: list[Entry] = []
        self._deaf = dict(deaf or {})
        self._gate: threading.Event | None = None

    def hold_writer(self) -> threading.Event:
        """Let the writer's thread wait at its next operation until the event is set."""
        self._gate = threading.Event()
        return self._gate

    def before(self, operation: Operation) -> None:
        """Wait, if that was asked for."""
        gate = self._gate
        if gate is not None and threading.current_thread().name == "store-writer":
            assert gate.wait(_PATIENCE_S), f"nobody let {operation} go on"
            self._gate = None

    def after(self, operation: Operation) -> None:
        """Write the operation down; `append` is safe in any thread."""
        if operation.kind is Kind.READ or operation.path.endswith(_BALLAST):
            return
        deaf = self._deaf.get(operation.kind)
        if deaf is None or not operation.path.endswith(deaf):
            self.entries.append(Done(operation))

    def room(self) -> int | None:
        """Return the true room."""
        return None


class Ledger:
    """What a store must contain after each step; it knows of batches, and nothing of SQL."""

    def __init__(self, start: Content | None = None) -> None:
        self._rows: dict[str, dict[str, tuple[int, bytes]]] = {table.value: {} for table in Table}
        self._records: list[LogRecord] = []
        self._number = self._term = 0
        if start is not None:
            for table, rows in start.rows.items():
                self._rows[table] = {key: (version, doc) for key, version, doc in rows}
            self._records = list(start.records)
            self._number, self._term = start.number, start.term
        self.contents = [self._content()]

    def commit(self, batch: Batch) -> int:
        """Note a batch; return its step."""
        for change in batch.changes:
            rows = self._rows[change.table]
            if isinstance(change, Delete):
                del rows[change.key]
            else:
                rows[change.key] = (change.row.version, codec.encode(change.row))
        first = self._records[-1].seq + 1 if self._records else 1
        for seq, append in enumerate(batch.appends, first):
            self._records.append(LogRecord(seq, append.log, append.record))
        self._number += 1
        return self._next()

    def delete(self, table: Table, keys: Sequence[str]) -> int:
        """Note that rows go without a batch; return the step."""
        for key in keys:
            del self._rows[table][key]
        return self._next()

    def lead(self) -> int:
        """Note a new term; return the step."""
        self._term += 1
        return self._next()

    def row(self, table: Table, key: str) -> Row:
        """Return a row as it is now."""
        return codec.decode(table, self._rows[table][key][1])

    def keys(self, table: Table) -> Sequence[str]:
        """Return the keys of a table."""
        return sorted(self._rows[table])

    @property
    def term(self) -> int:
        """The term of the writer."""
        return self._term

    def _next(self) -> int:
        self.contents.append(self._content())
        return len(self.contents) - 1

    def _content(self) -> Content:
        rows = {
            table: [(key, *row) for key, row in sorted(rows.items())]
            for table, rows in self._rows.items()
        }
        return Content(rows, list(self._records), self._number, self._term)


def read_content(db: apsw.Connection) -> Content:
    """Return what a store contains, by the code that reads it."""
    rows = {table.value: list(sqlite_rows.every(db, table)) for table in Table}
    records = sqlite_log.read(db, None, 0, RECORDS_MAX)
    return Content(rows, records, sqlite_log.last_number(db), sqlite_rows.term(db, DEFAULT_POOL))
