"""What Python code asks of the disk, shown to a watcher: the few calls of `os` that stores use."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from agentcom.testing.crash.operations import DiskFault, Kind, Operation, Watched

StrPath = str | os.PathLike[str]


@contextlib.contextmanager
def patched(watched: Watched) -> Iterator[None]:
    """Look at the calls of `os` that concern the folder; all others pass as ever."""
    calls = _Calls(watched)
    names = ("open", "close", "pwrite", "ftruncate", "fsync", "mkdir", "unlink", "replace")
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(mock.patch.object(os, name, getattr(calls, name)))
        stack.enter_context(mock.patch.object(os, "statvfs", calls.statvfs))
        if hasattr(os, "posix_fallocate"):
            stack.enter_context(mock.patch.object(os, "posix_fallocate", calls.posix_fallocate))
        yield


class _Calls:
    """The calls, with the names that they have in `os`; it knows the path of each descriptor."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._paths: dict[int, str] = {}
        self._lock = threading.Lock()
        self._open, self._close, self._pwrite = os.open, os.close, os.pwrite
        self._ftruncate, self._fsync, self._mkdir = os.ftruncate, os.fsync, os.mkdir
        self._unlink, self._replace, self._statvfs = os.unlink, os.replace, os.statvfs
        self._allocate: Callable[[int, int, int], None] = getattr(os, "posix_fallocate", _no_call)

    def open(self, path: StrPath, flags: int, mode: int = 0o777, **more: Any) -> int:
        known = None if isinstance(path, int | bytes) else self._watched.name(path)
        if known is None:
            return self._open(path, flags, mode, **more)
        create = Operation(Kind.CREATE, known)
        is_new = bool(flags & os.O_CREAT) and not os.path.lexists(path)
        if is_new:
            self._watched.watcher.before(create)
        fd = self._open(path, flags, mode, **more)
        self._paths[fd] = known
        if is_new:
            self._watched.watcher.after(create)
        return fd

    def close(self, fd: int) -> None:
        self._paths.pop(fd, None)
        self._close(fd)

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        known = self._paths.get(fd)
        if known is None:
            return self._pwrite(fd, data, offset)
        write = Operation(Kind.WRITE, known, offset, bytes(data))
        try:
            self._watched.watcher.before(write)
        except DiskFault as fault:
            if not fault.written:
                raise
            return self._pwrite(fd, data[: fault.written], offset)
        written = self._pwrite(fd, data, offset)
        self._watched.watcher.after(write)
        return written

    def ftruncate(self, fd: int, length: int) -> None:
        with self._shown(fd, Kind.TRUNCATE, length):
            self._ftruncate(fd, length)

    def posix_fallocate(self, fd: int, offset: int, length: int) -> None:
        with self._shown(fd, Kind.TRUNCATE, offset + length):
            self._allocate(fd, offset, length)

    def fsync(self, fd: int) -> None:
        known = self._paths.get(fd)
        is_folder = known is not None and os.path.isdir(self._watched.root / known)  # noqa: PTH112 - called often, or with text
        with self._shown(fd, Kind.SYNC_FOLDER if is_folder else Kind.SYNC):
            self._fsync(fd)

    def mkdir(self, path: StrPath, mode: int = 0o777, **more: Any) -> None:
        known = self._watched.name(path)
        if known is None or os.path.exists(path):  # noqa: PTH110 - called often, or with text
            self._mkdir(path, mode, **more)
            return
        with self._around(Operation(Kind.MAKE_FOLDER, known)):
            self._mkdir(path, mode, **more)

    def unlink(self, path: StrPath, **more: Any) -> None:
        known = self._watched.name(path)
        if known is None or not os.path.lexists(path):
            self._unlink(path, **more)
            return
        with self._around(Operation(Kind.UNLINK, known)):
            self._unlink(path, **more)

    def replace(self, src: StrPath, dst: StrPath, **more: Any) -> None:
        known, target = self._watched.name(src), self._watched.name(dst)
        if known is None or target is None:
            self._replace(src, dst, **more)
            return
        with self._around(Operation(Kind.RENAME, known, target=target)):
            self._replace(src, dst, **more)

    def statvfs(self, path: StrPath | int) -> os.statvfs_result:
        found = self._statvfs(path)
        room = self._watched.watcher.room()
        if room is None or isinstance(path, int) or self._watched.name(path) is None:
            return found
        values = list(found)
        values[4] = room // found.f_frsize  # f_bavail
        return os.statvfs_result(values)

    def _shown(
        self, fd: int, kind: Kind, offset: int = 0
    ) -> contextlib.AbstractContextManager[None]:
        known = self._paths.get(fd)
        if known is None:
            return contextlib.nullcontext()
        return self._around(Operation(kind, known, offset))

    @contextlib.contextmanager
    def _around(self, operation: Operation) -> Iterator[None]:
        self._watched.watcher.before(operation)
        yield
        self._watched.watcher.after(operation)


def _no_call(_fd: int, _offset: int, _length: int) -> None:
    raise NotImplementedError
