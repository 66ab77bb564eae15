"""Opening a SQLite store: what is refused, how a new file is made, and how an old one migrates."""

import ctypes
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

import apsw
import apsw.sqlite_extra

from agentcom.model.errors import StoreRefused
from agentcom.store import sqlite_disk
from agentcom.store.sqlite_disk import Disk

APPLICATION_ID: Final = 0x41474331  # "AGC1"; in the header of every file of ours
CHECKSUM_VFS: Final = "cksmvfs"
CHECKSUM_BYTES: Final = 8  # at the end of every page
CHECK_PAGES_MAX: Final = 16_384  # larger files are checked by `verify`, so that a start stays quick
BUSY_MS: Final = 5_000
JOURNAL_BYTES_MAX: Final = 67_108_864
FREE_PAGES: Final = 1_024  # 4 MB
FREE_PART: Final = 10  # ... or a tenth of the file stays free
GIVE_BACK_STEPS: Final = 10_000  # an hour's: 5 GB
GIVE_BACK_S: Final = 0.1  # between two steps
STEP_PAGES: Final = 128  # are given back at once: commits wait for some milliseconds
CACHE_KIB: Final = 8_192  # per connection; a commit that splits a page walks all of its cache

_FIXED_IN: Final = (3, 51, 3)  # the WAL-reset bug: two connections could corrupt a database
_BACKPORTS: Final = frozenset({(3, 44, 6), (3, 50, 7)})
_WITHDRAWN: Final = frozenset({(3, 52, 0)})
_DAMAGED: Final = "put a sound copy of it back: agentcom backup ls, then agentcom backup restore"
_MAGIC: Final = b"SQLite format 3\0"
_FLAGS: Final = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOMUTEX
_SETTINGS: Final = (
    f"PRAGMA busy_timeout={BUSY_MS}; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;"
    " PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON; PRAGMA temp_store=MEMORY;"
    f" PRAGMA mmap_size=0; PRAGMA journal_size_limit={JOURNAL_BYTES_MAX};"
    f" PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=-{CACHE_KIB}"
)


DAMAGE: Final = (apsw.NotADBError, apsw.CorruptError, apsw.IOError)
"""What SQLite raises for a file that is not as it wrote it."""


class Migration(NamedTuple):
    """One step of the schema, forward only."""

    number: int
    sql: str


def check_library(version: str) -> None:
    """Refuse a SQLite library that can corrupt the store.

    Raises:
        StoreRefused: it has the WAL-reset bug, or was withdrawn.
    """
    major, minor, patch = (int(part) for part in (version + ".0.0").split(".")[:3])
    number = (major, minor, patch)
    sound = number in _BACKPORTS or (number >= _FIXED_IN and number not in _WITHDRAWN)
    if not sound:
        raise StoreRefused(
            f"SQLite {version} can lose commits in WAL mode: install apsw 3.51.3 or newer"
        )


def connect(path: Path, *, read_only: bool = False) -> apsw.Connection:
    """Return a connection that checks the checksum of every page it reads.

    It has no locks of its own, which cost every call: use it in one thread at a time.
    """
    load_checksums()
    db = apsw.Connection(str(path), flags=_FLAGS, vfs=CHECKSUM_VFS)
    try:
        db.execute(_SETTINGS).fetchall()  # to the last: a row of the first would hold up the rest
        if read_only:
            db.execute("PRAGMA query_only=ON")
    except BaseException:
        db.close()
        raise
    return db


def load_checksums() -> None:
    """Have the VFS that checks checksums, whatever the connection is for."""
    if CHECKSUM_VFS not in apsw.vfs_names():
        # Only once per process: loaded a second time, the module would call itself for ever.
        apsw.sqlite_extra.load(apsw.Connection(":memory:"), "cksumvfs")


def open_database(
    disk: Disk, *, incarnation: int, migrations: Sequence[Migration] | None = None
) -> apsw.Connection:
    """Return the writer's connection to a sound database with the newest schema.

    Raises:
        StoreRefused: not ours, newer than this program, damaged, or on a disk without room.
    """
    steps = load_migrations() if migrations is None else migrations
    check_library(apsw.sqlite_lib_version())
    path = disk.path
    sqlite_disk.create_private(path)
    _check_magic(path)
    try:
        return _open(path, steps, incarnation)
    except apsw.FullError as error:
        raise StoreRefused(
            f"{path} cannot be opened: its disk is full. Make room, and start again"
        ) from error
    except DAMAGE as error:
        raise damaged(path, str(error)) from error


def load_migrations() -> list[Migration]:
    """Return the steps that this program knows, in order."""
    folder = resources.files("agentcom.store") / "migrations"
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    return [Migration(int(file.name[:4]), file.read_text(encoding="utf-8")) for file in files]


def newest_format() -> int:
    """Return the format of the schema that this program makes."""
    return load_migrations()[-1].number


def format_of(path: Path) -> int:
    """Return the format of the schema of a store that nobody may be using.

    Raises:
        StoreRefused: it cannot be read.
    """
    try:
        db = connect(path, read_only=True)
        try:
            return pragma(db, "user_version")
        finally:
            db.close()
    except DAMAGE as error:
        raise damaged(path, str(error)) from error


def check_whole(path: Path) -> None:
    """Read every page of a store that nobody may be using.

    Raises:
        StoreRefused: it is damaged.
    """
    try:
        db = connect(path, read_only=True)
        try:
            found = str(db.execute("PRAGMA quick_check(1)").get)
        finally:
            db.close()
    except DAMAGE as error:
        raise damaged(path, str(error)) from error
    if found != "ok":
        raise damaged(path, found.splitlines()[-1])


def migrate(
    db: apsw.Connection, steps: Sequence[Migration], *, before: Callable[[int], None]
) -> None:
    """Bring the schema up to the last of `steps`, each in a transaction of its own.

    A new file gets them all in one: it is there whole or not at all, however many there are.
    `before(version)` makes a copy of a database that holds something.
    """
    version = pragma(db, "user_version")
    missing = [step for step in steps if step.number > version]
    if missing and version:
        before(version)
    for steps_at_once in [[step] for step in missing] if version else [missing]:
        with transaction(db):
            for step in steps_at_once:
                db.execute(step.sql)
                db.execute(f"PRAGMA user_version={step.number}")


@contextmanager
def transaction(db: apsw.Connection) -> Iterator[None]:
    """Have all that is done inside, or nothing.

    SQLite rolls back by itself where a page cannot be read. A connection's own block wants to do
    that once more, and raises that it cannot in place of what went wrong.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def create(db: apsw.Connection, application_id: int = APPLICATION_ID) -> None:
    """Begin an empty database whose pages have sums, and are given back in steps when free."""
    size = ctypes.c_int(CHECKSUM_BYTES)
    db.file_control("main", apsw.SQLITE_FCNTL_RESERVE_BYTES, ctypes.addressof(size))
    db.execute(f"PRAGMA auto_vacuum=INCREMENTAL; PRAGMA application_id={application_id}; VACUUM")


def copy(db: apsw.Connection, path: Path) -> None:
    """Write a consistent and durable copy to `path`, whole or not at all.

    A database begins with the page that says whether pages have sums. It is written first here:
    `VACUUM INTO` writes what its cache has no room for before it, and a large copy lacked sums.
    """
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    sqlite_disk.create_private(part)
    try:
        _copied(db, part)
        _sync_file(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    sqlite_disk.sync_folder(path.parent)


def _copied(db: apsw.Connection, part: Path) -> None:
    made = connect(part)
    try:
        create(made)
        made.execute("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF").fetchall()  # see below
        with made.backup("main", db, "main") as copying:
            copying.step(-1)
        made.execute("PRAGMA journal_mode=DELETE").fetchall()  # one file, whole by itself
        found = made.execute("PRAGMA integrity_check(1)").fetchall()
    finally:
        made.close()
    if found != [("ok",)]:
        raise apsw.CorruptError(f"the copy is damaged: {found[0][0]}")


def compact(path: Path) -> None:
    """Write a database anew, durably, without its free pages; nobody else may use it.

    Raises:
        StoreRefused: it is damaged.
    """
    try:
        db = connect(path)
        try:
            db.execute("PRAGMA journal_mode=DELETE").fetchall()
            db.execute("PRAGMA auto_vacuum=INCREMENTAL; VACUUM").fetchall()
            found = db.execute("PRAGMA integrity_check(1)").get
        finally:
            db.close()
    except DAMAGE as error:
        raise damaged(path, str(error)) from error
    if found != "ok":
        raise damaged(path, str(found))
    _sync_file(path)


def give_back(db: apsw.Connection) -> bool:
    """Give some free pages back to the disk; return whether there are more to give.

    A part stays free, since new rows fill it. Databases of before keep theirs: `compact`.
    """
    free, pages = pragma(db, "freelist_count"), pragma(db, "page_count")
    if free <= max(FREE_PAGES, pages // FREE_PART) or not pragma(db, "auto_vacuum"):
        return False
    db.execute(f"PRAGMA incremental_vacuum({STEP_PAGES})").fetchall()
    return True


def pragma(db: apsw.Connection, name: str) -> int:
    """Return the number that a setting or property of the database has."""
    return int(db.execute(f"PRAGMA {name}").get)


def unwritable(path: Path) -> StoreRefused:
    """Return the refusal of data whose folder cannot be written: even reading needs an index."""
    return StoreRefused(
        f"{path} cannot be opened where nothing can be written: copy its folder to another disk,"
        " and name that (--hub-home)"
    )


def damaged(path: Path, what: str) -> StoreRefused:
    """Return the refusal of a file that cannot be read in full."""
    return StoreRefused(f"{path} is damaged ({what}): {_DAMAGED}")


def _open(path: Path, steps: Sequence[Migration], incarnation: int) -> apsw.Connection:
    db = connect(path)
    try:
        if _is_new(db):
            create(db)
        _check_ours(db, path, newest=steps[-1].number)
        _begin_log(db, path)
        migrate(db, steps, before=lambda version: copy(db, _copy_path(path, version)))
        _check_schema(db, path, steps)
        db.execute(
            "INSERT INTO meta VALUES ('incarnation', ?) ON CONFLICT DO NOTHING", (incarnation,)
        )
        _check_sound(db, path)
    except BaseException:
        db.close()
        raise
    return db


def _begin_log(db: apsw.Connection, path: Path) -> None:
    mode = str(db.execute("PRAGMA journal_mode=WAL").get)
    if mode != "wal":  # SQLite goes on with the journal that it had, and tells nobody
        raise StoreRefused(
            f"{path} cannot have a write-ahead log (its journal stays: {mode}):"
            " look after its disk, and start again"
        )


def _is_new(db: apsw.Connection) -> bool:
    # A file whose making was cut short has no table yet.
    return pragma(db, "application_id") == 0 and not db.execute("SELECT 1 FROM sqlite_schema").get


def _check_magic(path: Path) -> None:
    if path.with_name(path.name + "-journal").exists():
        return  # its making was cut short, and is undone first
    with path.open("rb") as file:
        magic = file.read(len(_MAGIC))
    if magic and magic != _MAGIC:
        raise StoreRefused(f"{path} is not a SQLite database: name another file, or {_DAMAGED}")


def _check_ours(db: apsw.Connection, path: Path, *, newest: int) -> None:
    if pragma(db, "application_id") != APPLICATION_ID:
        raise StoreRefused(f"{path} is another program's database: name another file")
    version = pragma(db, "user_version")
    if version > newest:
        raise StoreRefused(
            f"{path} has format {version}, and this program knows {newest}:"
            " install the newer version of agentcom"
        )


def _check_schema(db: apsw.Connection, path: Path, steps: Sequence[Migration]) -> None:
    """Refuse what bears our number and was made by a program between two releases."""
    strange = _schema_after(tuple(steps)).items() - _schema(db).items()
    if strange:
        names = ", ".join(sorted(name for name, _ in strange))
        raise StoreRefused(
            f"{path} has format {steps[-1].number} as another build of agentcom made it"
            f" ({names} differ): start that build, or move the file away"
        )


@cache
def _schema_after(steps: Sequence[Migration]) -> Mapping[str, str]:
    fresh = apsw.Connection(":memory:")
    try:
        for step in steps:
            fresh.execute(step.sql)
        return MappingProxyType(_schema(fresh))
    finally:
        fresh.close()


def _schema(db: apsw.Connection) -> dict[str, str]:
    rows = db.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL")
    return {str(name): str(sql) for name, sql in rows}


def _check_sound(db: apsw.Connection, path: Path) -> None:
    db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    pages = pragma(db, "page_count")
    if path.stat().st_size < pages * pragma(db, "page_size"):
        raise damaged(path, "it is cut short")
    if pages > CHECK_PAGES_MAX:
        return
    found = str(db.execute("PRAGMA quick_check(1)").get)
    if found != "ok":
        raise damaged(path, found.splitlines()[-1])


def _copy_path(path: Path, version: int) -> Path:
    return path.with_name(f"{path.stem}-format-{version}{path.suffix}")


def _sync_file(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
