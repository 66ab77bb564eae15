"""All that a hub knows as lines of JSON.

Each line is one object with a type, and ends with the sum of itself and of all lines before it:

    agentcom    the first one: format, format of the database, incarnation, numbers, time
    TABLE       a row: its `key`, and the row as the store has it; tables, then keys, in order
    records     the records that one batch brought, by sequence
    archived    a task in the archive with all that belongs to it
    end         the last one: how many lines there were before it

The database is read as it is at one moment, while a hub may write to it; then the archive. How
lines become a store again: `store/sqlite_import.py`.
"""

import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import apsw
import msgspec

from agentcom.model.batch import Table
from agentcom.model.errors import NotFound, StoreRefused
from agentcom.model.ids import WallTime
from agentcom.store import sqlite_archive, sqlite_log, sqlite_open, sqlite_rows
from agentcom.store.sqlite_archive import ARCHIVE_FILE
from agentcom.store.sqlite_backups import STORE_FILE

FORMAT: Final = 1
SUM_CHARS: Final = 16
HEAD: Final = "agentcom"
RECORDS: Final = "records"
ARCHIVED: Final = "archived"
END: Final = "end"
ACCESS: Final = frozenset({Table.CREDENTIAL})
"""Tables with hashes of secrets."""
_ENCODER: Final = msgspec.json.Encoder(order="deterministic")


class Head(msgspec.Struct, frozen=True, kw_only=True, tag=HEAD, tag_field="type"):
    """The first line."""

    format: int
    schema: int
    incarnation: int
    number: int
    """Of the newest batch."""
    at: WallTime
    access: bool
    """Whether the hashes of tokens are there."""


class RowLine(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the table that is the line's type."""

    type: str
    key: str
    row: msgspec.Raw


class RecordsLine(msgspec.Struct, frozen=True, kw_only=True, tag=RECORDS, tag_field="type"):
    """The records of a batch."""

    first: int
    number: int
    batch: str
    records: msgspec.Raw


class ArchivedLine(msgspec.Struct, frozen=True, kw_only=True, tag=ARCHIVED, tag_field="type"):
    """A task in the archive."""

    dossier: msgspec.Raw


class EndLine(msgspec.Struct, frozen=True, kw_only=True, tag=END, tag_field="type"):
    """The last line."""

    lines: int


Line = Head | RowLine | RecordsLine | ArchivedLine | EndLine


class Chain:
    """The sum of lines, each of which stands in the line itself."""

    def __init__(self) -> None:
        self._sum = hashlib.sha256()

    def seal(self, line: bytes) -> bytes:
        """Return a line (an object) with its sum."""
        return line[:-1] + b',"sum":"' + self._add(line) + b'"}'

    def opened(self, sealed: bytes) -> bytes | None:
        """Return the line without its sum; None: it is not as it was sealed."""
        line, mark, rest = sealed[:-_SEAL], sealed[-_SEAL:-_TAIL], sealed[-_TAIL:]
        whole = line + b"}"
        if mark != _MARK or rest != self._add(whole) + b'"}':
            return None
        return whole

    def _add(self, line: bytes) -> bytes:
        self._sum.update(line)
        return self._sum.hexdigest()[:SUM_CHARS].encode()


_MARK: Final = b',"sum":"'
_TAIL: Final = SUM_CHARS + 2
_SEAL: Final = _TAIL + len(_MARK)


def export(home: Path, *, now: WallTime, access: bool) -> Iterator[bytes]:
    """Yield the lines of a hub's data, each with its end.

    Raises:
        NotFound: there is no hub.
        StoreRefused: the data are damaged, or of another version of this program.
        ArchiveDamaged: the archive is damaged.
    """
    path = home / STORE_FILE
    if not path.exists():
        raise NotFound(f"there is no hub in {home}")
    chain, lines = Chain(), 0
    try:
        db = sqlite_open.connect(path, read_only=True)
        try:
            db.execute("BEGIN")
            for line in _lines(db, path, now, access=access):
                yield chain.seal(_ENCODER.encode(line)) + b"\n"
                lines += 1
        finally:
            db.close()
    except apsw.CantOpenError as error:
        raise sqlite_open.unwritable(path) from error
    except sqlite_open.DAMAGE as error:
        raise sqlite_open.damaged(path, str(error)) from error
    for line in _archived(home / ARCHIVE_FILE):
        yield chain.seal(_ENCODER.encode(line)) + b"\n"
        lines += 1
    yield chain.seal(_ENCODER.encode(EndLine(lines=lines))) + b"\n"


def _lines(db: apsw.Connection, path: Path, now: WallTime, *, access: bool) -> Iterator[Line]:
    schema = sqlite_open.pragma(db, "user_version")
    known = sqlite_open.load_migrations()[-1].number
    if schema != known:
        raise StoreRefused(
            f"{path} has format {schema}, and this program knows {known}: start the hub of this"
            " version once, or use the version that the hub has"
        )
    yield Head(
        format=FORMAT,
        schema=schema,
        incarnation=sqlite_rows.incarnation(db),
        number=sqlite_log.last_number(db),
        at=now,
        access=access,
    )
    for table in Table:
        if access or table not in ACCESS:
            for key, _, doc in sqlite_rows.every(db, table):
                yield RowLine(type=table.value, key=key, row=msgspec.Raw(doc))
    rows = db.execute("SELECT first, number, batch, doc FROM log ORDER BY first")
    for first, number, batch, doc in rows:
        yield RecordsLine(first=first, number=number, batch=batch, records=msgspec.Raw(doc))


def _archived(path: Path) -> Iterator[Line]:
    if not path.exists():
        return
    try:
        db = sqlite_archive.opened(path)
        try:
            for (doc,) in db.execute("SELECT doc FROM task ORDER BY key"):
                yield ArchivedLine(dossier=msgspec.Raw(sqlite_archive.unpacked_doc(doc)))
        finally:
            db.close()
    except (apsw.Error, zlib.error) as error:
        raise sqlite_archive.damaged(path, str(error)) from error
