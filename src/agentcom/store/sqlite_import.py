"""A new store made of the lines of `store/sqlite_export.py`, for a hub that has none yet.

Everything is made beside the hub's folder's other files, and looked through; only then the files
get their names. The incarnation rises, as after a restore.
"""

import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

import apsw
import msgspec

from agentcom.model.archive import Dossier
from agentcom.model.batch import Insert, Table
from agentcom.model.errors import AgentComError, Conflict
from agentcom.model.ids import WallTime
from agentcom.model.task import Task
from agentcom.store import (
    codec,
    rules,
    sqlite_archive,
    sqlite_copying,
    sqlite_disk,
    sqlite_open,
    sqlite_rows,
)
from agentcom.store.sqlite import SMALL, SqliteStore
from agentcom.store.sqlite_archive import ARCHIVE_FILE
from agentcom.store.sqlite_backups import STORE_FILE
from agentcom.store.sqlite_disk import Disk
from agentcom.store.sqlite_export import (
    ARCHIVED,
    END,
    FORMAT,
    HEAD,
    RECORDS,
    ArchivedLine,
    Chain,
    EndLine,
    Head,
    RecordsLine,
    RowLine,
)

LINE_BYTES_MAX: Final = 64 << 20  # a batch of 10,000 tasks with their records has some 10 MB
PART_LINES: Final = 1_000  # in one transaction
_T = TypeVar("_T")


class ImportRefused(AgentComError):
    """The file is not a whole export, as it was written; nothing was imported."""

    code = "import_refused"
    status = 422


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """What an import made."""

    lines: int
    rows: dict[str, int]
    """By table; the archive's tasks are those of `archived`."""
    number: int
    """Of the newest batch."""
    at: WallTime
    """When it was exported."""
    incarnation: int
    access: bool
    """Whether tokens of before are known."""


async def load(home: Path, lines: Iterable[bytes]) -> Imported:
    """Make the data of a hub in `home`, which has none.

    Raises:
        Conflict: there is a hub in `home`.
        ImportRefused: the lines are not a whole export; the message says which line.
        StoreRefused: a hub starts there.
    """
    sqlite_disk.make_folder(home)
    store, archive = home / STORE_FILE, home / ARCHIVE_FILE
    disk = Disk(store)
    disk.lock()
    try:
        sqlite_copying.sweep(home, (".restoring-*", ".importing-*"))
        for path in (store, archive):
            if path.exists():
                raise Conflict(
                    f"{path} exists, and an import makes a new hub: name another folder"
                    " (--hub-home), or move the file away"
                )
        with tempfile.TemporaryDirectory(prefix=".importing-", dir=home) as folder:
            made = await _made(Path(folder), lines)
            (Path(folder) / ARCHIVE_FILE).replace(archive)
            sqlite_disk.sync_folder(home)
            disk.last_commit.unlink(missing_ok=True)
            (Path(folder) / STORE_FILE).replace(store)
            sqlite_disk.sync_folder(home)
    finally:
        disk.close()
    return made


async def _made(folder: Path, lines: Iterable[bytes]) -> Imported:
    path = folder / STORE_FILE
    empty = SqliteStore(path, options=SMALL)
    await empty.open()
    await empty.close()
    archive = sqlite_archive.opened(folder / ARCHIVE_FILE)
    db = sqlite_open.connect(path)
    try:
        loading = _Loading(db, archive)
        loading.all(lines)
        head, rows, count = loading.head, loading.rows, loading.count
    finally:
        db.close()
        archive.close()
    store = SqliteStore(path, options=SMALL)
    await store.open()
    try:
        for problem in await store.verify():
            raise ImportRefused(f"what the file holds is not whole: {problem.what}")
        incarnation = await store.raise_incarnation()
    finally:
        await store.close()
    return Imported(
        lines=count,
        rows=rows,
        number=head.number,
        at=head.at,
        incarnation=incarnation,
        access=head.access,
    )


class _Loading:
    """Writes lines into an empty database and an empty archive."""

    def __init__(self, db: apsw.Connection, archive: apsw.Connection) -> None:
        self._db = db
        self._archive = archive
        self._chain = Chain()
        self._next = 1
        """The sequence that the next records have at least."""
        self._dossiers: list[Dossier] = []
        self.count = 0
        self.rows: dict[str, int] = {}
        self.head = Head(format=0, schema=0, incarnation=0, number=0, at=WallTime(0), access=False)

    def all(self, lines: Iterable[bytes]) -> None:
        """Write everything; raises `ImportRefused`."""
        rest = iter(lines)
        self._begin(self._opened(next(rest, b"")))
        is_over = False
        while not is_over:
            with self._db:
                is_over = self._part(rest)
            sqlite_archive.put(self._archive, self._dossiers)
            self._dossiers.clear()
        for _ in rest:
            self.count += 1
            raise self._refused("it comes after the last line")
        with self._db:
            self._finish()

    def _part(self, rest: Iterator[bytes]) -> bool:
        """Take some lines; return whether the last one was among them."""
        before = self.count
        for sealed in islice(rest, PART_LINES):
            if self._take(self._opened(sealed)):
                return True
        if self.count == before:
            self.count += 1
            raise self._refused("the file ends before its last line: it was cut short")
        return False

    def _take(self, line: bytes) -> bool:
        kind = self._decoded(line, _KIND).type
        if kind == END:
            if self._decoded(line, _ENDS).lines != self.count - 1:
                raise self._refused("lines are missing")
            return True
        if kind == RECORDS:
            self._records(self._decoded(line, _RECORDS))
        elif kind == ARCHIVED:
            raw = bytes(self._decoded(line, _ARCHIVED).dossier)
            self._dossiers.append(self._decoded(raw, _DOSSIERS))
        elif kind in _TABLES:
            self._row(Table(kind), self._decoded(line, _ROWS))
        else:
            raise self._refused(f"{kind!r} is no type of line that this version knows")
        self.rows[kind] = self.rows.get(kind, 0) + 1
        return False

    def _begin(self, line: bytes) -> None:
        if self._decoded(line, _KIND).type != HEAD:
            raise self._refused("an export begins with a line of type agentcom")
        self.head = self._decoded(line, _HEADS)
        if self.head.format != FORMAT:
            raise self._refused(
                f"format {self.head.format} is not {FORMAT}: use the version that wrote it"
            )
        known = sqlite_open.newest_format()
        if self.head.schema > known:
            raise self._refused(
                f"its data have format {self.head.schema}, and this program knows {known}: install"
                " the newer version of agentcom"
            )

    def _row(self, table: Table, line: RowLine) -> None:
        try:
            row = codec.decode(table, bytes(line.row))
            if row.version < 1 or "\0" in line.key:
                raise self._refused("its version or its key cannot be")
            if not sqlite_rows.write(self._db, [Insert(table, line.key, row)]):
                raise self._refused(f"{table} {line.key} is there twice")
        except (msgspec.DecodeError, apsw.ConstraintError) as error:
            raise self._refused(f"{table} {line.key} cannot be read: {error}") from error
        if isinstance(row, Task) and not row.state.terminal:
            self._db.execute("INSERT OR IGNORE INTO live (key) VALUES (?)", (line.key,))

    def _records(self, line: RecordsLine) -> None:
        doc = bytes(line.records)
        try:
            records = codec.decode_records(doc)
        except msgspec.DecodeError as error:
            raise self._refused(f"its records cannot be read: {error}") from error
        if line.first < self._next or not records:
            raise self._refused(f"records from {line.first} on cannot come here")
        self._next = line.first + len(records)
        row = (line.first, len(records), line.number, line.batch, doc)
        self._db.execute("INSERT INTO log VALUES (?, ?, ?, ?, ?)", row)
        feeds = [(log, line.first) for log in dict.fromkeys(each.log for each in records)]
        self._db.executemany("INSERT INTO feed (log, first) VALUES (?, ?)", feeds)

    def _finish(self) -> None:
        """Write what stands beside rows and records."""
        head = self.head
        slot = head.number % rules.RECENT_BATCHES
        self._db.execute("INSERT INTO batch VALUES (?, ?, 'import')", (slot, head.number))
        meta = "INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)"
        self._db.execute(meta, ("listed", self._next))
        self._db.execute(meta, ("incarnation", head.incarnation))

    def _opened(self, sealed: bytes) -> bytes:
        self.count += 1
        if not sealed.endswith(b"\n"):
            raise self._refused("the file ends in the middle of it, or it is longer than any line")
        line = self._chain.opened(sealed[:-1])
        if line is None:
            raise self._refused("it, or the order of lines before it, was changed")
        return line

    def _decoded(self, line: bytes, decoder: "msgspec.json.Decoder[_T]") -> _T:
        try:
            return decoder.decode(line)
        except msgspec.DecodeError as error:
            raise self._refused(str(error)) from error

    def _refused(self, why: str) -> ImportRefused:
        return ImportRefused(f"line {self.count}: {why}; nothing was imported")


def read_lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a file; one that is too long is cut, and so refused."""
    while line := file.readline(LINE_BYTES_MAX):
        yield line


class _Kind(msgspec.Struct, frozen=True):
    type: str


_TABLES: Final = frozenset(table.value for table in Table)
_KIND: Final = msgspec.json.Decoder(_Kind)
_HEADS: Final = msgspec.json.Decoder(Head)
_ROWS: Final = msgspec.json.Decoder(RowLine)
_RECORDS: Final = msgspec.json.Decoder(RecordsLine)
_ARCHIVED: Final = msgspec.json.Decoder(ArchivedLine)
_ENDS: Final = msgspec.json.Decoder(EndLine)
_DOSSIERS: Final = msgspec.json.Decoder(Dossier)
