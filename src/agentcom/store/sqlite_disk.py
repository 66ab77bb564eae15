"""The files around a SQLite store: lock, last-commit record, ballast, and the log's room.

SQL has no part here; nothing here reads the database but its header.
"""

import errno
import fcntl
import os
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, Self

from agentcom.model.errors import StoreRefused

LOCK_NAME: Final = "hub.lock"
LAST_COMMIT_SUFFIX: Final = "-last-commit"
BALLAST_SUFFIX: Final = "-ballast"
PRIVATE_FILE: Final = 0o600
PRIVATE_FOLDER: Final = 0o700
BALLAST_ROOM: Final = 4  # room is set aside only if this many times as much is free on the disk

_CHUNK_BYTES: Final = 1 << 20
_LOG_CHUNK_BYTES: Final = 4_096  # cached in larger pieces, every write of a frame costs more (ext4)
_RECORD: Final = struct.Struct(">8sQQI")
_MAGIC: Final = b"agtcom-1"
_MOUNTS: Final = Path("/proc/self/mountinfo")
_NETWORK: Final = frozenset(
    {"9p", "afs", "ceph", "cifs", "coda", "fuse.ceph", "fuse.glusterfs", "fuse.rclone"}
    | {"fuse.s3fs", "fuse.sshfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4"}
    | {"ocfs2", "orangefs", "smb3", "smbfs"}
)


class LastCommit(NamedTuple):
    """What the file beside the database says was committed last."""

    number: int
    incarnation: int


ROOM_BYTES: Final = 1 << 20
"""Less room than this explains a write that failed."""


class Disk:
    """Owns the lock and the small files of one store, from `lock` to `close`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock_fd = -1
        self._record_fd = -1

    @property
    def ballast(self) -> Path:
        """The file that is given up when the disk is full."""
        return self.path.with_name(self.path.name + BALLAST_SUFFIX)

    @property
    def last_commit(self) -> Path:
        """The file that a database rolled back by hand disagrees with."""
        return self.path.with_name(self.path.name + LAST_COMMIT_SUFFIX)

    def is_full(self) -> bool:
        """Return whether the disk has no room for one more batch."""
        return self._room() < ROOM_BYTES

    def lock(self) -> Self:
        """Take the folder for this process.

        Raises:
            StoreRefused: another hub has it, or the folder is on a network file system.
        """
        folder = self.path.parent
        make_folder(folder)
        kind = network_file_system(folder)
        if kind is not None:
            raise StoreRefused(
                f"{folder} is on a network file system ({kind}), where locks cannot be trusted:"
                " put the store on a local disk (AGENTCOM_HOME)"
            )
        self._lock_fd = _open_private(folder / LOCK_NAME)
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._lock_fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._lock_fd)
            self._lock_fd = -1
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            raise StoreRefused(
                f"{self.path} is in use by another hub, process {holder}: stop it first"
                " (agentcom down)"
            ) from error
        os.ftruncate(self._lock_fd, 0)
        os.pwrite(self._lock_fd, f"{os.getpid()}\n".encode(), 0)
        self._record_fd = _open_private(self.last_commit)
        return self

    def close(self) -> None:
        """Let go of the folder."""
        for fd in (self._record_fd, self._lock_fd):
            if fd >= 0:
                os.close(fd)
        self._record_fd = self._lock_fd = -1

    def read_last(self) -> LastCommit | None:
        """Return the record, or None if there is none that can be read."""
        data = os.pread(self._record_fd, _RECORD.size, 0)
        if len(data) != _RECORD.size:
            return None
        magic, number, incarnation, checksum = _RECORD.unpack(data)
        if magic != _MAGIC or checksum != zlib.crc32(data[:-4]):
            return None
        return LastCommit(number, incarnation)

    def note(self, last: LastCommit) -> None:
        """Record a commit that is durable; without an fsync, so it may lag but never lead."""
        data = _RECORD.pack(_MAGIC, last.number, last.incarnation, 0)
        os.pwrite(self._record_fd, data[:-4] + struct.pack(">I", zlib.crc32(data[:-4])), 0)

    def sync(self) -> None:
        """Make the last record durable."""
        os.fsync(self._record_fd)

    def make_ballast(self, size_bytes: int) -> None:
        """Set room aside for completions, unless the disk is nearly full already."""
        have = self.ballast.stat().st_size if self.ballast.exists() else 0
        if have >= size_bytes or self._room() < BALLAST_ROOM * size_bytes:
            return
        fd = _open_private(self.ballast)
        try:
            _allocate(fd, size_bytes)
        finally:
            os.close(fd)

    def free_ballast(self) -> bool:
        """Give the room back to the disk; return whether there was any."""
        if not self.ballast.exists():
            return False
        self.ballast.unlink()
        return True

    def grow_log(self, size_bytes: int) -> None:
        """Give the write-ahead log its size at once: a commit into it then syncs no metadata.

        On a disk that is nearly full it grows as it must: reports may still find room.
        Zeros behind the last frame are no frame (their salt is wrong), so SQLite ignores them.
        No process locks this file, so opening it here drops nobody's lock.
        """
        log = self.path.with_name(self.path.name + "-wal")
        size = log.stat().st_size if log.exists() else size_bytes
        if size >= size_bytes or self._room() < BALLAST_ROOM * size_bytes:
            return
        fd = _open_private(log)
        try:
            os.fsync(fd)  # it was cut: zeros in an old log that comes back would cut it elsewhere
            while size < size_bytes:
                zeros = bytes(min(_LOG_CHUNK_BYTES, size_bytes - size))
                size += os.pwrite(fd, zeros, size)
            os.fsync(fd)
        finally:
            os.close(fd)

    def _room(self) -> int:
        room = os.statvfs(self.path.parent)
        return room.f_bavail * room.f_frsize


def network_file_system(folder: Path, mounts: Path = _MOUNTS) -> str | None:
    """Return the kind of network file system that `folder` is on; None if local or not known."""
    device = folder.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    if not mounts.exists():
        return None
    for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines():
        place, _, kind = line.partition(" - ")
        if place.split(" ", 3)[2] == number and kind.split(" ", 1)[0] in _NETWORK:
            return kind.split(" ", 1)[0]
    return None


def create_private(path: Path) -> None:
    """Make an empty file that only this user can read, if there is none."""
    os.close(_open_private(path))


def make_folder(folder: Path) -> None:
    """Make a folder for this user alone, with a name that is durable, though others made it."""
    if not folder.parent.exists():
        make_folder(folder.parent)
    folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
    with suppress(PermissionError):  # a folder that nobody may list: then its owner made this one
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _open_private(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)


def _allocate(fd: int, size_bytes: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, size_bytes)
        return
    for offset in range(0, size_bytes, _CHUNK_BYTES):  # macOS has no such call: write it out
        os.pwrite(fd, bytes(min(_CHUNK_BYTES, size_bytes - offset)), offset)
