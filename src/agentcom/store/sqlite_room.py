"""How much room a hub's files take, and giving back what is free in them."""

import shutil
import tempfile
from pathlib import Path
from typing import Final

import apsw
import msgspec

from agentcom.model.batch import Table
from agentcom.model.errors import NotFound, StoreRefused
from agentcom.model.ids import WallTime
from agentcom.store import sqlite_archive, sqlite_disk, sqlite_open
from agentcom.store.sqlite import SMALL, SqliteStore
from agentcom.store.sqlite_archive import ARCHIVE_FILE
from agentcom.store.sqlite_backups import BLOBS, STORE_FILE
from agentcom.store.sqlite_disk import Disk

_BESIDE: Final = ("-wal", "-shm", "-last-commit", "-ballast")


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """What a hub's data take on the disk, in bytes, and what there is."""

    store: int
    """The database with the files beside it."""
    free: int
    """Of it, what is not used: it is filled again, or given back to the disk in steps."""
    gives_back: bool
    """False: the file was made before there were such steps; `agentcom store compact` helps."""
    archive: int
    files: int
    """Attached files."""
    rows: dict[str, int]
    """By table of the store."""
    records: int
    """Documents of the log: one for each batch."""
    first_record: int
    """The sequence of the oldest record that is there."""
    oldest_end: WallTime | None
    """When the task ended that ended first, of those in the store."""
    archived: int
    """Tasks in the archive."""


def measure(home: Path) -> Room:
    """Look through the files of a hub, which may run.

    Raises:
        NotFound: there is no hub.
        StoreRefused: the database is damaged.
        ArchiveDamaged: the archive is.
    """
    path = home / STORE_FILE
    if not path.exists():
        raise NotFound(f"there is no hub in {home}")
    try:
        db = sqlite_open.connect(path, read_only=True)
        try:
            db.execute("BEGIN")
            return _measured(db, home)
        finally:
            db.close()
    except sqlite_open.DAMAGE as error:
        raise sqlite_open.damaged(path, str(error)) from error


def _measured(db: apsw.Connection, home: Path) -> Room:
    path, archive = home / STORE_FILE, home / ARCHIVE_FILE
    rows = {table: db.execute(f"SELECT count(*) FROM {table}").get for table in Table}
    oldest = "SELECT min(doc ->> 'changed_at') FROM task WHERE key NOT IN (SELECT key FROM live)"
    page_bytes = sqlite_open.pragma(db, "page_size")
    return Room(
        store=sum(_bytes(path.with_name(path.name + ending)) for ending in ("", *_BESIDE)),
        free=sqlite_open.pragma(db, "freelist_count") * page_bytes,
        gives_back=bool(sqlite_open.pragma(db, "auto_vacuum")),
        archive=_bytes(archive) + _bytes(archive.with_name(f"{archive.name}-wal")),
        files=sum(_bytes(one) for one in (home / BLOBS).glob("*/*")),
        rows={table.value: count for table, count in rows.items() if count},
        records=db.execute("SELECT count(*) FROM log").get,
        first_record=db.execute("SELECT min(first) FROM log").get or 0,
        oldest_end=db.execute(oldest).get,
        archived=sqlite_archive.count(archive),
    )


async def compact(home: Path) -> tuple[int, int]:
    """Write the database of a hub that does not run anew, without free room.

    Returns its bytes before and after. At any moment the file is the old one or the new one.

    Raises:
        NotFound: there is no hub.
        StoreRefused: it runs, or its data are damaged.
    """
    path = home / STORE_FILE
    if not path.exists():
        raise NotFound(f"there is no hub in {home}")
    store = SqliteStore(path, options=SMALL)
    await store.open()  # recovers what a crash left, and brings the log into the database
    await store.close()
    disk = Disk(path)
    disk.lock()
    try:
        before, log = _bytes(path), path.with_name(f"{path.name}-wal")
        if log.exists() and log.stat().st_size:
            raise StoreRefused(f"another program reads {path}: wait until it is done")
        with tempfile.TemporaryDirectory(prefix=".compacting-", dir=home) as folder:
            made = Path(folder) / STORE_FILE
            shutil.copyfile(path, made)
            made.chmod(sqlite_disk.PRIVATE_FILE)
            sqlite_open.compact(made)
            made.replace(path)
            sqlite_disk.sync_folder(home)
        return before, _bytes(path)
    finally:
        disk.close()


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_blocks * 512
    except FileNotFoundError:
        return 0
