"""The archive in a SQLite file of its own, beside the store's: dossiers, compressed, and words.

It is opened when it is first used, and used in one thread. A commit is durable against power loss.
"""

import asyncio
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import apsw
import msgspec

from agentcom.model.archive import ArchiveDamaged, ArchiveSize, Dossier
from agentcom.model.backup import ArchiveMark
from agentcom.model.batch import Table
from agentcom.model.errors import StorageFull
from agentcom.model.ids import WallTime
from agentcom.store import search, sqlite_disk, sqlite_open, sqlite_rows, sqlite_search
from agentcom.store.archive import Dropped, made_before
from agentcom.store.base import Page, Query
from agentcom.store.search import Found, Words

ARCHIVE_FILE: Final = "archive.sqlite"
APPLICATION_ID: Final = 0x41474141  # "AGAA"
FORMAT: Final = 1
BRING_TASKS: Final = 256  # in one transaction
_SCHEMA: Final = """
    CREATE TABLE meta (name TEXT PRIMARY KEY NOT NULL, value INTEGER NOT NULL) STRICT;
    INSERT INTO meta VALUES ('id', random()), ('puts', 0);
    CREATE TABLE task (
      id INTEGER PRIMARY KEY,
      key TEXT NOT NULL UNIQUE,
      project TEXT NOT NULL,
      state TEXT NOT NULL,
      submitter TEXT NOT NULL,
      doc BLOB NOT NULL
    ) STRICT;
    CREATE VIRTUAL TABLE found USING fts5 (
      title, text, content = '', contentless_delete = 1,
      tokenize = 'unicode61 remove_diacritics 2'
    )"""
_PUT: Final = """
    INSERT INTO task (key, project, state, submitter, doc) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (key) DO UPDATE SET project = excluded.project, state = excluded.state,
      submitter = excluded.submitter, doc = excluded.doc
    RETURNING id"""
_FIND: Final = """
    SELECT task.key FROM found JOIN task ON task.id = found.rowid
    WHERE found MATCH ? AND project = ? ORDER BY rank LIMIT ?"""
_OLD: Final = "SELECT id, key, doc FROM task WHERE key > ? AND key < ? ORDER BY key LIMIT ?"
_ENCODER: Final = msgspec.json.Encoder(order="deterministic")
_DECODER: Final = msgspec.json.Decoder(Dossier)
_T = TypeVar("_T")


class SqliteArchive:
    """Dossiers in the file `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, "store-archive")
        self._db: apsw.Connection | None = None

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    async def put(self, dossiers: Sequence[Dossier]) -> None:
        await self._do(lambda db: put(db, dossiers))

    async def get(self, task: str) -> Dossier | None:
        def read(db: apsw.Connection) -> Dossier | None:
            doc = db.execute("SELECT doc FROM task WHERE key = ?", (task,)).get
            return None if doc is None else unpacked(doc)

        return await self._do(read, missing=None)

    async def drop(self, until: WallTime, after: str, limit: int) -> Dropped:
        return await self._do(lambda db: drop(db, until, after, limit), missing=Dropped(None, 0))

    async def tasks(self, query: Query) -> Page:
        return await self._do(lambda db: _page(db, query), missing=Page(()))

    async def search(self, asked: Words) -> Found:
        words = search.words_of(asked.text)
        if not words:
            return Found(())
        match = sqlite_search.match_of(words)

        def read(db: apsw.Connection) -> Found:
            rows = db.execute(_FIND, (match, asked.project, asked.limit))
            return Found([(Table.BODY, str(key)) for (key,) in rows])

        return await self._do(read, missing=Found(()))

    async def size(self) -> ArchiveSize:
        def read(db: apsw.Connection) -> ArchiveSize:
            pages = sqlite_open.pragma(db, "page_count") * sqlite_open.pragma(db, "page_size")
            return ArchiveSize(tasks=db.execute("SELECT count(*) FROM task").get, bytes=pages)

        return await self._do(read, missing=ArchiveSize(tasks=0, bytes=0))

    async def _do(self, run: Callable[[apsw.Connection], _T], *, missing: Any = ...) -> _T:
        """Run something with the connection; `missing`: its answer if there is no file yet."""

        def work() -> _T:
            if self._db is None and missing is not ... and not self._path.exists():
                return missing  # type: ignore[no-any-return]  # the caller's own
            if self._db is None:
                self._db = opened(self._path)
            return run(self._db)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except apsw.FullError:
            raise StorageFull("the archive's disk is full; nothing was archived") from None
        except (apsw.Error, msgspec.DecodeError, zlib.error) as error:
            raise damaged(self._path, str(error)) from error

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None


def opened(path: Path) -> apsw.Connection:
    """Return a connection to an archive, which is made if there is none.

    Raises:
        ArchiveDamaged: it is none, or of a newer program.
        apsw.Error: it cannot be read.
    """
    sqlite_disk.create_private(path)
    db = sqlite_open.connect(path)
    try:
        _make_ready(db, path)
    except BaseException:
        db.close()
        raise
    return db


def _make_ready(db: apsw.Connection, path: Path) -> None:
    if sqlite_open.pragma(db, "application_id") == 0:
        sqlite_open.create(db, APPLICATION_ID)
    _check_ours(db, path)
    db.execute("PRAGMA journal_mode=WAL").fetchall()
    db.execute("PRAGMA wal_autocheckpoint=1000").fetchall()
    if _check_format(db, path) < FORMAT:
        with db:
            db.execute(_SCHEMA)
            db.execute(f"PRAGMA user_version={FORMAT}")
        sqlite_disk.sync_folder(path.parent)


def _check_ours(db: apsw.Connection, path: Path) -> None:
    if sqlite_open.pragma(db, "application_id") != APPLICATION_ID:
        raise damaged(path, "it is another program's")


def _check_format(db: apsw.Connection, path: Path) -> int:
    version = sqlite_open.pragma(db, "user_version")
    if version > FORMAT:
        raise ArchiveDamaged(
            f"{path} has format {version}, and this program knows {FORMAT}:"
            " install the newer version of agentcom"
        )
    return version


def put(db: apsw.Connection, dossiers: Sequence[Dossier]) -> None:
    """Write dossiers in a transaction of their own."""
    with db:
        db.execute("UPDATE meta SET value = value + 1 WHERE name = 'puts'")
        for one in dossiers:
            task = one.task
            row = (task.id, task.project, task.state.value, task.submitter, packed(one))
            place = db.execute(_PUT, row).get
            prompt = one.body.spec.prompt if one.body is not None else ""
            db.execute("DELETE FROM found WHERE rowid = ?", (place,))
            db.execute(
                "INSERT INTO found (rowid, title, text) VALUES (?, ?, ?)",
                (place, task.title, prompt),
            )


def drop(db: apsw.Connection, until: WallTime, after: str, limit: int) -> Dropped:
    """Delete dossiers of tasks that ended by a time, and give some pages back."""
    rows: list[Any] = db.execute(_OLD, (after, made_before(until), limit + 1)).fetchall()
    page = rows[:limit]
    gone = [place for place, _, doc in page if unpacked(doc).task.changed_at <= until]
    if gone:
        with db:
            db.execute("UPDATE meta SET value = value + 1 WHERE name = 'puts'")
            for place in gone:
                db.execute("DELETE FROM found WHERE rowid = ?", (place,))
                db.execute("DELETE FROM task WHERE id = ?", (place,))
    sqlite_open.give_back(db)
    return Dropped(page[-1][1] if len(rows) > limit else None, len(gone))


def keep_copy(source: Path, target: Path) -> ArchiveMark | None:
    """Copy an archive durably, unless the copy has all of it; return which one there is then.

    A copy of another archive, or one that has seen more, may have what this one lacks: it stays
    beside the new one.

    Raises:
        ArchiveDamaged: it cannot be read in full.
        apsw.FullError: there is no room.
    """
    if not source.exists():
        return mark_of(target)
    try:
        db = opened(source)
        try:
            mark, kept = _mark(db), mark_of(target)
            if kept != mark:
                if kept is not None and (kept.id != mark.id or kept.puts > mark.puts):
                    target.replace(_aside(target, kept))
                sqlite_open.copy(db, target)
            return mark
        finally:
            db.close()
    except sqlite_open.DAMAGE as error:
        raise damaged(source, str(error)) from error


def take_copy(copy: Path, path: Path) -> None:
    """Make an archive of a copy; raises `ArchiveDamaged`."""
    check(copy)
    db = _reading(copy)
    try:
        sqlite_open.copy(db, path)
    except sqlite_open.DAMAGE as error:
        raise damaged(copy, str(error)) from error
    finally:
        db.close()


def kept_copies(target: Path) -> Sequence[Path]:
    """Return the copy of an archive, if there is one, and those that stayed beside it."""
    found = [target] if target.exists() else []
    return [*found, *sorted(target.parent.glob(f"{target.stem}-*{target.suffix}"))]


def _aside(target: Path, mark: ArchiveMark) -> Path:
    return target.with_name(f"{target.stem}-{mark.id & 0xFFFFFFFF:08x}-{mark.puts}{target.suffix}")


def count(path: Path) -> int:
    """Return how many tasks an archive has; 0 if there is none yet.

    Raises:
        ArchiveDamaged: it cannot be read.
    """
    if not path.exists():
        return 0
    try:
        db = opened(path)
        try:
            return int(db.execute("SELECT count(*) FROM task").get)
        finally:
            db.close()
    except apsw.Error as error:
        raise damaged(path, str(error)) from error


def check(path: Path) -> None:
    """Read an archive, or a copy of one, whole; raises `ArchiveDamaged`."""
    try:
        db = _reading(path)
        try:
            found = str(db.execute("PRAGMA integrity_check(1)").get)
            if found != "ok":
                raise damaged(path, found)
            for (doc,) in db.execute("SELECT doc FROM task"):
                unpacked(doc)
        finally:
            db.close()
    except (apsw.Error, msgspec.DecodeError, zlib.error) as error:
        raise damaged(path, str(error)) from error


def bring(db: apsw.Connection, copy: Path) -> int:
    """Add what an archive lacks and a copy has; return how many tasks.

    Raises:
        ArchiveDamaged: the copy cannot be read.
    """
    check(copy)
    brought = 0
    other = _reading(copy)
    try:
        part: list[Dossier] = []
        for key, doc in other.execute("SELECT key, doc FROM task ORDER BY id"):
            if db.execute("SELECT 1 FROM task WHERE key = ?", (key,)).get is None:
                part.append(unpacked(doc))
                brought += 1
            if len(part) == BRING_TASKS:
                put(db, part)
                part.clear()
        if part:
            put(db, part)
    finally:
        other.close()
    return brought


def _mark(db: apsw.Connection) -> ArchiveMark:
    found = {str(name): int(value) for name, value in db.execute("SELECT name, value FROM meta")}
    return ArchiveMark(id=found["id"], puts=found["puts"])


def mark_of(path: Path) -> ArchiveMark | None:
    """Return which archive a copy is of; None: there is none, or it cannot be read."""
    if not path.exists():
        return None
    try:
        db = _reading(path)
        try:
            return _mark(db)
        finally:
            db.close()
    except (apsw.Error, ArchiveDamaged, KeyError):
        return None


def _reading(path: Path) -> apsw.Connection:
    """Return a connection that changes nothing, also beside the file.

    Raises:
        ArchiveDamaged: it is none, or of a newer program.
        apsw.Error: it cannot be read.
    """
    db = sqlite_open.connect(path, read_only=True)
    try:
        _check_ours(db, path)
        _check_format(db, path)
    except BaseException:
        db.close()
        raise
    return db


def packed(dossier: Dossier) -> bytes:
    """Return the document of a dossier."""
    return zlib.compress(_ENCODER.encode(dossier))


def unpacked(doc: bytes) -> Dossier:
    """Return the dossier of a document.

    Raises:
        zlib.error, msgspec.DecodeError: it is none.
    """
    return _DECODER.decode(unpacked_doc(doc))


def unpacked_doc(doc: bytes) -> bytes:
    """Return the JSON of a dossier; raises `zlib.error`."""
    return zlib.decompress(doc)


def damaged(path: Path, what: str) -> ArchiveDamaged:
    """Return the refusal of an archive that cannot be read."""
    return ArchiveDamaged(
        f"{path} cannot be read ({what}): put a sound copy of it back with"
        " agentcom backup restore, or move it away to do without what is archived"
    )


def _page(db: apsw.Connection, asked: Query) -> Page:
    terms, bindings = sqlite_rows.condition(asked)
    order = "DESC" if asked.after is None else "ASC"
    sql = f"SELECT key, doc FROM task{sqlite_rows.where(terms)} ORDER BY key {order} LIMIT ?"
    found: list[Any] = db.execute(sql, (*bindings, asked.limit + 1)).fetchall()
    page = found[: asked.limit]
    rows = [unpacked(doc).task for _, doc in page]
    return Page(rows, page[-1][0] if len(found) > len(page) else None)
