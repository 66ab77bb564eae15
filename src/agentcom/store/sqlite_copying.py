"""The folder of copies: one process at a time changes it, and what one left half made goes."""

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from agentcom.store import sqlite_disk

LOCK: Final = ".lock"
_NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS})
"""What file systems say that know none (some mounts of other computers)."""
_DRAFTS: Final = ("copies/.*", "blobs/*/.*", ".drill-*", "*.part")


@contextmanager
def changing(folder: Path, waits: Callable[[str], None]) -> Iterator[None]:
    """Have the folder for oneself; `waits` is told whom it waits for.

    Raises:
        OSError: it cannot be written.
    """
    sqlite_disk.make_folder(folder)
    fd = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, sqlite_disk.PRIVATE_FILE)
    try:
        if _is_taken(fd):
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
            waits(f"waits for process {holder or 'unknown'}, which copies or tries out in {folder}")
            fcntl.flock(fd, fcntl.LOCK_EX)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        sweep(folder, _DRAFTS)
        yield
    finally:
        os.close(fd)


def _is_taken(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        return True
    return False


def sweep(folder: Path, patterns: Sequence[str]) -> None:
    """Delete what a process that was killed had begun; nobody else may be at it."""
    for pattern in patterns:
        for path in folder.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
