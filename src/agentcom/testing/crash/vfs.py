"""What SQLite asks of the disk, shown to a watcher: a VFS below the one that makes checksums."""

import contextlib
import errno
import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from unittest import mock

import apsw

from agentcom.store import sqlite_open
from agentcom.testing.crash.calls import patched
from agentcom.testing.crash.operations import DiskFault, Kind, Operation, Watched, Watcher

_NAME: Final = "watched"
_BASE: Final = "unix"
_WITH_FOLDER: Final = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_WAL
"""Files whose first sync also syncs their folder (os_unix.c, UNIXFILE_DIRSYNC)."""
_CODES: Final = MappingProxyType(
    {
        Kind.READ: apsw.SQLITE_IOERR_READ,
        Kind.WRITE: apsw.SQLITE_IOERR_WRITE,
        Kind.SYNC: apsw.SQLITE_IOERR_FSYNC,
        Kind.SYNC_FOLDER: apsw.SQLITE_IOERR_DIR_FSYNC,
        Kind.TRUNCATE: apsw.SQLITE_IOERR_TRUNCATE,
        Kind.UNLINK: apsw.SQLITE_IOERR_DELETE,
    }
)


@contextlib.contextmanager
def watching(root: Path, watcher: Watcher) -> Iterator[None]:
    """Show `watcher` what the stores below `root` ask of the disk; no store may be open yet."""
    watched = Watched(root, watcher)
    _forget_checksums()  # the module stacks itself on whatever is the default when it is loaded
    vfs = _Vfs(watched)
    try:
        with patched(watched), mock.patch.object(sys, "unraisablehook", _say(sys.unraisablehook)):
            yield
    finally:
        gc.collect()  # connections that a failure left open would outlive what they stand on
        _forget_checksums()
        vfs.unregister()


def _say(of_others: Callable[[Any], object]) -> Callable[[Any], None]:
    """Say nothing of a fault in a call whose failure SQLite ignores."""

    def say(what: Any) -> None:
        if not isinstance(what.exc_value.__cause__, DiskFault):
            of_others(what)

    return say


def _forget_checksums() -> None:
    if sqlite_open.CHECKSUM_VFS in apsw.vfs_names():
        apsw.unregister_vfs(sqlite_open.CHECKSUM_VFS)


class _Vfs(apsw.VFS):
    def __init__(self, watched: Watched) -> None:
        super().__init__(_NAME, _BASE, makedefault=True)
        self._watched = watched

    def xOpen(  # noqa: N802 - SQLite's names
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> apsw.VFSFile:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        known = None if path is None else self._watched.name(path)
        if path is None or known is None:
            return apsw.VFSFile(_BASE, name, flags)
        watcher, create = self._watched.watcher, Operation(Kind.CREATE, known)
        is_new = not os.path.exists(path)  # noqa: PTH110 - called often, or with text
        if is_new:
            with _told_to_sqlite(Kind.CREATE):
                watcher.before(create)
        syncs_folder = bool(flags[0] & apsw.SQLITE_OPEN_CREATE and flags[0] & _WITH_FOLDER)
        file = _File(name, flags, known, watcher, syncs_folder=syncs_folder)
        if is_new:
            watcher.after(create)
        return file

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802 - SQLite's name
        known = self._watched.name(filename)
        if known is None or not os.path.exists(filename):  # noqa: PTH110 - called often, or with text
            super().xDelete(filename, syncdir)
            return
        watcher, unlink = self._watched.watcher, Operation(Kind.UNLINK, known)
        with _told_to_sqlite(Kind.UNLINK):
            watcher.before(unlink)
        super().xDelete(filename, syncdir)
        watcher.after(unlink)
        if syncdir:
            watcher.after(Operation(Kind.SYNC_FOLDER, os.path.dirname(known) or "."))  # noqa: PTH120 - called often, or with text


class _File(apsw.VFSFile):
    def __init__(
        self,
        name: str | apsw.URIFilename | None,
        flags: list[int],
        known: str,
        watcher: Watcher,
        *,
        syncs_folder: bool,
    ) -> None:
        super().__init__(_BASE, name, flags)
        self._known = known
        self._watcher = watcher
        self._syncs_folder = syncs_folder

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802 - SQLite's name
        with _told_to_sqlite(Kind.READ):
            self._watcher.before(Operation(Kind.READ, self._known, offset))
        return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
        write = Operation(Kind.WRITE, self._known, offset, bytes(data))
        with _told_to_sqlite(Kind.WRITE):
            try:
                self._watcher.before(write)
            except DiskFault as fault:
                if fault.written:
                    super().xWrite(data[: fault.written], offset)
                raise
        super().xWrite(data, offset)
        self._watcher.after(write)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - SQLite's name
        truncate = Operation(Kind.TRUNCATE, self._known, newsize)
        with _told_to_sqlite(Kind.TRUNCATE):
            self._watcher.before(truncate)
        super().xTruncate(newsize)
        self._watcher.after(truncate)

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        sync = Operation(Kind.SYNC, self._known)
        with _told_to_sqlite(Kind.SYNC):
            self._watcher.before(sync)
        super().xSync(flags)
        self._watcher.after(sync)
        if self._syncs_folder:
            self._syncs_folder = False
            folder = os.path.dirname(self._known) or "."  # noqa: PTH120 - called often, or with text
            self._watcher.after(Operation(Kind.SYNC_FOLDER, folder))


@contextlib.contextmanager
def _told_to_sqlite(kind: Kind) -> Iterator[None]:
    """Turn a fault into what SQLite's own VFS would report."""
    try:
        yield
    except DiskFault as fault:
        if fault.errno == errno.ENOSPC:
            raise apsw.FullError(fault.strerror) from fault
        error = apsw.IOError(fault.strerror)
        # What apsw hands to SQLite; its stubs know it of other classes only.
        error.extendedresult = _CODES.get(kind, apsw.SQLITE_CANTOPEN)  # type: ignore[attr-defined]  # see above
        raise error from fault
