"""Copies of a hub's data: taken while it works, listed, checked, and thinned out.

A copy is made by a process of its own, from the files of the hub, so the hub does nothing for it.
The folder may be on any disk:

    copies/NAME/hub.sqlite, manifest.json     NAME is the time and the number of the last batch
    journal/INCARNATION/NUMBER.journal        the batches since, if wanted: `sqlite_journal.py`
    blobs/..                                  attached files, by their content, for all copies
    archive.sqlite                            the archive as it was last, for all copies

A copy counts once it was restored and compared (`store/sqlite_restore.py`).
"""

import contextlib
import errno
import hashlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import apsw
import msgspec

from agentcom.model.archive import ArchiveDamaged
from agentcom.model.audit import Head, Verdict
from agentcom.model.backup import ArchiveMark, Backup, BackupDamaged, Drilled
from agentcom.model.errors import NotFound
from agentcom.model.ids import Now, WallTime
from agentcom.store import (
    sqlite_archive,
    sqlite_audit,
    sqlite_copies,
    sqlite_copying,
    sqlite_disk,
    sqlite_journal,
    sqlite_open,
)
from agentcom.store.sqlite_archive import ARCHIVE_FILE

STORE_FILE: Final = "hub.sqlite"
BLOBS: Final = "blobs"
"""Attached files, beside the store."""
CHUNK_BYTES: Final = 1 << 20
MANY: Final = 1_000  # copies of one second, each made by a process of its own
JOURNAL: Final = "journal"
_MANIFEST: Final = "manifest.json"


class Backups:
    """The copies in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._journal = folder / JOURNAL
        self._copies = folder / "copies"
        self._blobs = folder / BLOBS
        self.archive = folder / ARCHIVE_FILE
        """The newest copy of the archive, if there is one."""
        self.on_wait: Callable[[str], None] = lambda _why: None
        """Called with whom it waits for that changes the same folder."""

    def changing(self) -> AbstractContextManager[None]:
        """Have the folder for oneself; see `store/sqlite_copying.py`."""
        return sqlite_copying.changing(self.folder, self.on_wait)

    def take(self, home: Path, clock: Callable[[], Now]) -> Backup:
        """Copy the data of the hub in `home`, which may run; blocks.

        Raises:
            NotFound: there is no hub.
            BackupDamaged: the data are damaged, so they cannot be copied.
            OSError: the disk is full, or the folder cannot be written.
        """
        source = home / STORE_FILE
        if not source.exists():
            raise NotFound(f"there is no hub in {home}")
        with self.changing():
            return self._take(home, clock)

    def _take(self, home: Path, clock: Callable[[], Now]) -> Backup:
        source = home / STORE_FILE
        began = clock()
        now = began.wall
        sqlite_disk.make_folder(self._copies)
        draft = Path(tempfile.mkdtemp(prefix=f".{now}-", dir=self._copies))
        try:
            number, incarnation = _copied(source, draft / STORE_FILE)
            path = draft / STORE_FILE
            files = self._keep_blobs(home / BLOBS, path)
            # After the store: what was archived in between is in both, and never in neither.
            archive = _guarded_archive(home / ARCHIVE_FILE, self.archive)
            backup = Backup(
                name=f"{_stamp(now)}-{number}",
                at=now,
                number=number,
                incarnation=incarnation,
                bytes=path.stat().st_size,
                sha256=_digest(path),
                took_ms=clock().instant - began.instant,
                files=files,
                archive=archive,
            )
            backup = self._placed(draft, backup)
            sqlite_disk.sync_folder(self._copies)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return backup

    def listed(self) -> Sequence[Backup]:
        """Return all copies, the newest first; a folder without a manifest is none."""
        return sorted(self._read(), key=lambda one: (one.at, one.number), reverse=True)

    def find(self, name: str | None) -> Backup:
        """Return the copy of that name, or of a part of it; None: the newest.

        Raises:
            NotFound: there is none, or several.
        """
        found = [one for one in self.listed() if name is None or name in one.name]
        if not found:
            which = f"{name} in {self.folder}" if name else f"in {self.folder}: agentcom backup now"
            raise NotFound(f"there is no copy {which}")
        exact = [one for one in found if one.name == name]
        if name is not None and len(found) > 1 and not exact:
            raise NotFound(f"{name} is a part of {len(found)} names: {found[0].name}, ...")
        return (exact or found)[0]

    def journal(self, backup: Backup) -> Path:
        """Return the journal that goes on from a copy."""
        return sqlite_journal.folder_of(self._journal, backup.incarnation)

    def verify_audit(self, path: Path, against: Head | None, key: bytes | None) -> Verdict:
        """Look at the audit log in a copy, or in the data of a hub; blocks.

        Raises:
            StoreRefused: it is no store, or it cannot be read.
        """
        return sqlite_audit.verify_file(path, against, key)

    def is_followed(self, backup: Backup) -> bool:
        """Return whether the newest journal goes on from a copy, without a gap."""
        folders = [path for path in _inside(self._journal) if path.name.isdecimal()]
        newest = max((int(path.name) for path in folders), default=backup.incarnation)
        if newest != backup.incarnation:
            return False
        return sqlite_journal.is_whole(self.journal(backup), backup.number)

    def path(self, backup: Backup) -> Path:
        """Return the database of a copy."""
        return self._copies / backup.name / STORE_FILE

    def check(self, backup: Backup) -> None:
        """Read a copy whole, with the archive, and compare it with its manifest; blocks.

        Raises:
            BackupDamaged: it is not the same.
        """
        self.check_data(backup)
        self._check_archive(backup.archive)

    def check_data(self, backup: Backup) -> None:
        """Do so without the archive."""
        path = self.path(backup)
        try:
            same = _digest(path) == backup.sha256
        except OSError as error:
            raise BackupDamaged(f"{path} cannot be read: {error.strerror}") from error
        if not same:
            raise BackupDamaged(f"{path} is not as it was made: use another copy")
        if sqlite_copies.look(path) != (backup.number, backup.incarnation):
            raise BackupDamaged(f"the manifest of {backup.name} was changed: use another copy")
        self._check_files(backup)

    def _check_archive(self, wanted: ArchiveMark | None) -> None:
        for path in self.archives():
            try:
                sqlite_archive.check(path)
            except ArchiveDamaged as error:
                raise BackupDamaged(
                    f"{path} is damaged: move it away, then agentcom backup now"
                ) from error
        if wanted is not None and not self.has_archive(wanted):
            raise BackupDamaged(
                f"{self.archive} is missing, or older than the copy: agentcom backup now copies"
                " it again, while the hub has it"
            )

    def archives(self) -> Sequence[Path]:
        """Return the copies of archives that there are."""
        return sqlite_archive.kept_copies(self.archive)

    def has_archive(self, wanted: ArchiveMark) -> bool:
        """Return whether all that was in an archive then is in a copy."""
        found = [sqlite_archive.mark_of(path) for path in self.archives()]
        return any(m is not None and m.id == wanted.id and m.puts >= wanted.puts for m in found)

    def _check_files(self, backup: Backup) -> None:
        """Compare the attached files that a copy names with their names."""
        there = 0
        for digest in sqlite_copies.blobs(self.path(backup)):
            path = self._blobs / digest[:2] / digest
            if not path.exists():
                continue
            there += 1
            if _digest(path) != digest:
                raise BackupDamaged(f"{path} is not as it was: delete it, and copy again")
        if there < backup.files:
            raise BackupDamaged(
                f"{backup.files - there} attached files of {backup.name} are missing in"
                f" {self._blobs}: use another copy, or copy again while the hub has them"
            )

    def note(self, backup: Backup, drilled: Drilled) -> Backup:
        """Write into a copy's manifest that it was restored and compared."""
        after = msgspec.structs.replace(backup, drilled=drilled)
        _write(self._copies / backup.name / _MANIFEST, msgspec.json.encode(after))
        return after

    def restore_blobs(self, home: Path) -> None:
        """Bring attached files that a hub lacks back to it; raises `BackupDamaged`."""
        for path in self._blobs.glob("*/*"):
            if _digest(path) != path.name and not path.name.startswith("."):
                raise BackupDamaged(f"{path} is not as it was: delete it, and start again")
        _mirror(self._blobs, home / BLOBS, None)

    def prune(self, keep: int) -> Sequence[Backup]:
        """Delete the oldest copies beyond `keep`, and the journal before what is left.

        The newest copy that was restored and compared stays, however old.
        """
        with self.changing():
            return self._prune(keep)

    def _prune(self, keep: int) -> Sequence[Backup]:
        found = self.listed()
        good = next((one for one in found if one.drilled is not None), None)
        old = [one for one in found[keep:] if one is not good]
        for one in old:
            shutil.rmtree(self._copies / one.name)
        left = [one for one in found if one not in old]
        self._prune_journal(left)
        if old:
            self._prune_blobs(left)
        return old

    def _placed(self, draft: Path, backup: Backup) -> Backup:
        """Give a copy its name, or one beside it if another copy of that second has it."""
        for name in itertools.chain([backup.name], (f"{backup.name}-{n}" for n in range(2, MANY))):
            named = msgspec.structs.replace(backup, name=name)
            _write(draft / _MANIFEST, msgspec.json.encode(named))
            with contextlib.suppress(FileExistsError):
                _rename(draft, self._copies / name)
                return named
        raise FileExistsError(errno.EEXIST, "too many copies of one second", backup.name)

    def _prune_blobs(self, left: Sequence[Backup]) -> None:
        """Delete the attached files that no copy names."""
        try:
            named = {digest for one in left for digest in sqlite_copies.blobs(self.path(one))}
        except sqlite_open.DAMAGE:
            return  # nobody knows what a damaged copy names
        for path in self._blobs.glob("*/*"):
            if path.name not in named:
                path.unlink(missing_ok=True)

    def _prune_journal(self, left: Sequence[Backup]) -> None:
        """Delete what no copy leads into; the newest incarnation's begins before its first copy."""
        folders = _inside(self._journal)
        for folder in folders:
            numbers = [one.number for one in left if str(one.incarnation) == folder.name]
            if numbers:
                sqlite_journal.drop_before(folder, min(numbers))
            elif folder != folders[-1]:
                shutil.rmtree(folder)

    def strange(self) -> Sequence[Path]:
        """Return what looks like a copy, and has no manifest that fits."""
        known = {one.name for one in self._read()}
        return [one for one in self._drafts_apart() if one.name not in known]

    def _read(self) -> Iterator[Backup]:
        for folder in self._drafts_apart():
            with contextlib.suppress(OSError, msgspec.DecodeError):
                found = msgspec.json.decode((folder / _MANIFEST).read_bytes(), type=Backup)
                if found.name == folder.name:
                    yield found

    def _drafts_apart(self) -> Sequence[Path]:
        return [one for one in _inside(self._copies) if not one.name.startswith(".")]

    def _keep_blobs(self, folder: Path, copy: Path) -> int:
        """Copy the attached files that a copy names; return how many it has."""
        named = sqlite_copies.blobs(copy)
        _mirror(folder, self._blobs, named)
        return sum((self._blobs / digest[:2] / digest).exists() for digest in named)


def _copied(source: Path, target: Path) -> sqlite_copies.Made:
    try:
        return sqlite_copies.make(source, target)
    except sqlite_copies.Damaged as error:
        raise BackupDamaged(f"{source} cannot be copied: {error}") from error


def _rename(folder: Path, target: Path) -> None:
    """Rename a folder to a name that nothing has; raises `FileExistsError`."""
    try:
        folder.rename(target)
    except OSError as error:  # where there is one with files, systems say either of two
        if error.errno != errno.ENOTEMPTY:
            raise
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error


def _stamp(at: WallTime) -> str:
    return f"{datetime.fromtimestamp(at / 1_000, UTC):%Y%m%dT%H%M%SZ}"


def _inside(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _guarded_archive(source: Path, target: Path) -> ArchiveMark | None:
    try:
        return sqlite_archive.keep_copy(source, target)
    except ArchiveDamaged as error:
        raise BackupDamaged(error.message) from error
    except apsw.FullError as error:
        raise OSError(errno.ENOSPC, "the disk is full", str(target)) from error


def _mirror(source: Path, target: Path, named: Container[str] | None) -> None:
    """Bring files that are missing from one tree into another: content never changes.

    Only those `named`; None: all.
    """
    for path in source.rglob("*") if source.is_dir() else ():
        place = target / path.relative_to(source)
        if not path.is_file() or place.exists() or path.name.startswith("."):
            continue
        if named is not None and path.name not in named:
            continue
        sqlite_disk.make_folder(place.parent)
        draft = place.with_name(f".{place.name}.{os.getpid()}")
        try:
            with contextlib.suppress(FileNotFoundError):  # it was pruned meanwhile
                shutil.copy2(path, draft)
                draft.replace(place)
        finally:
            draft.unlink(missing_ok=True)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _write(path: Path, data: bytes) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sqlite_disk.sync_folder(path.parent)
