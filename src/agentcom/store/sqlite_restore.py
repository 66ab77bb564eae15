"""A copy becomes a hub's data again: as it was, or with the journal up to any batch after it.

Everything is built beside the hub's data, and looked through, before those are touched; and they
are not deleted but put aside. The incarnation rises, so that attempts which the store does not
know are refused, and machines offer the results that they have kept.
"""

import asyncio
import errno
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import apsw
import msgspec

from agentcom.model.archive import ArchiveDamaged
from agentcom.model.backup import (
    COPY_ONLY,
    NEWEST,
    Backup,
    BackupDamaged,
    Drilled,
    Point,
    PointNotReached,
    Restored,
)
from agentcom.model.batch import Delete, Table
from agentcom.model.errors import StorageFull, StoreRefused
from agentcom.model.ids import DEFAULT_POOL, Now
from agentcom.model.task import Task
from agentcom.store import (
    sqlite_archive,
    sqlite_copies,
    sqlite_copying,
    sqlite_disk,
    sqlite_journal,
)
from agentcom.store.base import Committed, Full
from agentcom.store.dossiers import gather
from agentcom.store.failures import StoreFailed
from agentcom.store.sqlite import SMALL, SqliteStore
from agentcom.store.sqlite_archive import ARCHIVE_FILE
from agentcom.store.sqlite_backups import STORE_FILE, Backups
from agentcom.store.sqlite_disk import Disk

LOST_SHOWN: Final = 100
_BESIDE: Final = ("-wal", "-shm")


def base_for(backups: Backups, name: str | None, point: Point) -> Backup:
    """Return the copy to begin with: the one named, or the newest before the point.

    Raises:
        NotFound: there is none of that name.
        PointNotReached: all are newer.
    """
    if name is not None or point in (NEWEST, COPY_ONLY):
        return backups.find(name)
    backups.find(None)
    for one in backups.listed():
        before = one.number <= point.number if point.number is not None else True
        if before and (point.at is None or one.at <= point.at):
            return one
    raise PointNotReached("every copy is newer than that")


async def restore(backups: Backups, home: Path, *, name: str | None, point: Point) -> Restored:
    """Put data back in `home`, whose hub must not run.

    Raises:
        NotFound: there is no such copy.
        BackupDamaged: the copy, or the journal behind it, is damaged.
        PointNotReached: the journal does not go so far.
        StoreRefused: the hub runs.
    """
    base = base_for(backups, name, point)
    sqlite_disk.make_folder(home)
    disk = Disk(home / STORE_FILE)
    disk.lock()
    try:
        sqlite_copying.sweep(home, (".restoring-*", ".importing-*"))
        with tempfile.TemporaryDirectory(prefix=".restoring-", dir=home) as folder:
            path = Path(folder) / STORE_FILE
            archive = await asyncio.to_thread(_archive_of, home, backups)
            try:
                made = await _build(backups, base, path, point, archive=archive)
            finally:
                archive.close()
            lost = await asyncio.to_thread(sqlite_copies.only_in, disk.path, path)
            await asyncio.to_thread(backups.restore_blobs, home)
            replaced = _put_in_place(disk, path, base)
    except (apsw.FullError, StorageFull) as error:
        raise _full(home) from error
    except OSError as error:
        raise _full(home) if error.errno == errno.ENOSPC else error from None
    finally:
        disk.close()
    return msgspec.structs.replace(
        made,
        replaced=None if replaced is None else str(replaced),
        lost=() if lost is None else tuple(lost[:LOST_SHOWN]),
        lost_count=None if lost is None else len(lost),
        without_archive=base.archive is not None and not backups.has_archive(base.archive),
    )


def _full(path: Path) -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


async def drill(backups: Backups, *, name: str | None, clock: Callable[[], Now]) -> Backup:
    """Restore a copy aside and compare it; only then it counts.

    If the journal leads to it from the copy before, that one is restored and replayed, and must
    be equal, row by row.

    Raises:
        NotFound: there is no such copy.
        BackupDamaged: it cannot be restored, or is not equal.
    """
    with backups.changing():
        return await _drill(backups, backups.find(name), clock)


async def _drill(backups: Backups, wanted: Backup, clock: Callable[[], Now]) -> Backup:
    older = [one for one in backups.listed() if one.number < wanted.number]
    with tempfile.TemporaryDirectory(prefix=".drill-", dir=backups.folder) as folder:
        path = Path(folder) / STORE_FILE
        backups.check(wanted)
        try:
            base = next((one for one in older if _leads(backups, one, wanted)), wanted)
        except sqlite_journal.JournalDamaged as error:
            raise BackupDamaged(str(error)) from error
        made = await _build(backups, base, path, Point(number=wanted.number), archive=None)
        if made.number != wanted.number:
            raise BackupDamaged(f"{base.name} leads to {made.number}, not to {wanted.number}")
        try:
            rows = await asyncio.to_thread(sqlite_copies.equal, path, backups.path(wanted))
        except sqlite_copies.Different as error:
            raise BackupDamaged(
                f"{wanted.name} is not what {base.name} leads to: {error}"
            ) from error
    return backups.note(wanted, Drilled(at=clock().wall, rows=rows, base=base.name))


def _leads(backups: Backups, base: Backup, to: Backup) -> bool:
    """Return whether the journal has every batch between two copies."""
    if base.incarnation != to.incarnation:
        return False
    number = base.number
    for entry in sqlite_journal.entries(backups.journal(base), base.number):
        number = entry.number
        if number >= to.number:
            return True
    return number >= to.number


def _archive_of(home: Path, backups: Backups) -> apsw.Connection:
    """Return the archive of a home with all that is in the copies of it.

    One that cannot be read is put aside.
    """
    path = home / ARCHIVE_FILE
    try:
        if path.exists():
            sqlite_archive.check(path)
    except ArchiveDamaged:
        for ending in ("", *_BESIDE):
            old = path.with_name(path.name + ending)
            if old.exists():
                old.replace(old.with_name(f"damaged-{old.name}"))
    copies = list(backups.archives())
    try:
        if copies and not path.exists():  # the same one, so that the next copy of it is known
            sqlite_archive.take_copy(copies[0], path)
        db = sqlite_archive.opened(path)
    except ArchiveDamaged as error:
        raise _damaged(copies[0], error) from error
    try:
        for copy in copies:
            try:
                sqlite_archive.bring(db, copy)
            except ArchiveDamaged as error:
                raise _damaged(copy, error) from error
    except BaseException:
        db.close()
        raise
    return db


def _damaged(copy: Path, error: ArchiveDamaged) -> BackupDamaged:
    return BackupDamaged(f"{error.message}; without it: move {copy} away")


async def _build(
    backups: Backups, base: Backup, path: Path, point: Point, *, archive: apsw.Connection | None
) -> Restored:
    """Make the data of a point in `path`; for a hub (with its archive) the incarnation rises."""
    await asyncio.to_thread(backups.check_data, base)
    await asyncio.to_thread(shutil.copyfile, backups.path(base), path)
    async with _opened(path) as store:
        number, at, replayed, gap = base.number, base.at, 0, None
        try:
            if point.number is None or point.number > number:
                _check_follows(backups, base)
            for entry in sqlite_journal.entries(backups.journal(base), base.number):
                if not point.has(entry.number, entry.at):
                    break
                if archive is not None:
                    await _archive_again(store, entry, archive)
                await _replay(store, entry)
                number, at, replayed = entry.number, entry.at, replayed + 1
            else:
                if point.number is None:
                    gap = sqlite_journal.beyond_gap(backups.journal(base), number)
        except sqlite_journal.JournalDamaged as error:
            raise BackupDamaged(str(error)) from error
        if point.number is not None and number < point.number:
            raise PointNotReached(f"the copies and the journal lead to batch {number}, no further")
        if point.at is not None and gap is not None and gap.at <= point.at:
            raise PointNotReached(
                f"the journal has a gap from batch {number + 1} to {gap.number - 1}, before that"
                f" time: --batch {number} leads as far as it can"
            )
        problems = await store.verify()
        if problems:
            raise BackupDamaged(f"what was restored is not whole: {problems[0].what}")
        incarnation = await store.raise_incarnation() if archive is not None else base.incarnation
        live = (await store.scan(DEFAULT_POOL)).tasks
    states = Counter(task.state.value for task in live)
    return Restored(
        base=base.name,
        number=number,
        at=at,
        replayed=replayed,
        incarnation=incarnation,
        states=dict(sorted(states.items())),
        held=tuple(task.id for task in live if task.state.held),
        replaced=None,
        lost=(),
        lost_count=None,
        gap=None if gap is None else gap.number,
    )


def _check_follows(backups: Backups, base: Backup) -> None:
    """Refuse a journal that is of other data; it has the copy's last batch, or begins behind it."""
    entry = sqlite_journal.find(backups.journal(base), base.number)
    if entry is not None and entry.batch.id != sqlite_copies.last_batch(backups.path(base)):
        raise BackupDamaged(
            f"the journal in {backups.journal(base)} is of other data than {base.name}: move it"
            " away, or name the copy to do without it"
        )


@asynccontextmanager
async def _opened(path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path, options=SMALL)
    try:
        await store.open()
    except StoreRefused as error:
        raise BackupDamaged(f"the copy cannot be opened: {error}") from error
    try:
        yield store
    except StoreFailed as error:
        raise BackupDamaged(f"the copy cannot be used: {error}") from error
    finally:
        await store.close()


async def _archive_again(
    store: SqliteStore, entry: sqlite_journal.Entry, archive: apsw.Connection
) -> None:
    """Bring the tasks that a batch takes out of the store to the archive, as the hub had done."""
    gone = [
        (Table.TASK, change.key)
        for change in entry.batch.changes
        if isinstance(change, Delete) and change.table is Table.TASK
    ]
    rows = await store.get(gone) if gone else ()
    found = [await gather(store, row, entry.at) for row in rows if isinstance(row, Task)]
    if found:
        sqlite_archive.put(archive, found)


async def _replay(store: SqliteStore, entry: sqlite_journal.Entry) -> None:
    batch = entry.batch
    # Terms are of the hub that wrote it.
    free = msgspec.structs.replace(batch, term=None)
    verdict = await store.commit(free)
    if isinstance(verdict, Full):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if not isinstance(verdict, Committed):
        raise BackupDamaged(f"batch {entry.number} of the journal does not follow the copy")


def _put_in_place(disk: Disk, made: Path, base: Backup) -> Path | None:
    """Exchange the data; at any moment a hub that starts finds the new ones, or refuses."""
    path, aside = disk.path, None
    if path.exists():
        aside = Path(tempfile.mkdtemp(prefix=f"replaced-by-{base.name}-", dir=path.parent))
        (aside / path.name).hardlink_to(path)
        for ending in _BESIDE:
            old = path.with_name(path.name + ending)
            if old.exists():
                old.replace(aside / old.name)
        shutil.copyfile(disk.last_commit, aside / disk.last_commit.name)
    made.replace(path)
    disk.last_commit.unlink(missing_ok=True)
    sqlite_disk.sync_folder(path.parent)
    return aside
