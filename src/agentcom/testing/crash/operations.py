"""What a store asks of the disk, and who looks at it; how it is seen: `calls.py` and `vfs.py`."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol

import msgspec

IGNORED: Final = ("-shm", "hub.lock")
"""Ends of names whose content means nothing to the next process."""


class Kind(StrEnum):
    """The operations of a disk."""

    MAKE_FOLDER = "make-folder"
    CREATE = "create"
    WRITE = "write"
    TRUNCATE = "truncate"
    SYNC = "sync"
    UNLINK = "unlink"
    RENAME = "rename"
    SYNC_FOLDER = "sync-folder"
    READ = "read"


class Operation(msgspec.Struct, frozen=True, array_like=True):
    """One call; `path` is relative to the folder that is watched."""

    kind: Kind
    path: str
    offset: int = 0
    """Of a truncation: the new size."""
    data: bytes = b""
    target: str = ""
    """Of a renaming: the new path."""

    def __str__(self) -> str:
        if self.kind is Kind.RENAME:
            return f"{self.kind} {self.path} to {self.target}"
        if self.kind in (Kind.WRITE, Kind.TRUNCATE):
            return f"{self.kind} {self.path} at {self.offset}, {len(self.data)} bytes"
        return f"{self.kind} {self.path}"


class DiskFault(OSError):
    """What a watcher raises before an operation to let it fail."""

    def __init__(self, number: int, written: int = 0) -> None:
        super().__init__(number, os.strerror(number))
        self.written = written
        """Bytes of a write that still find room."""


class Watcher(Protocol):
    """Sees each operation, in the thread that makes it."""

    def before(self, operation: Operation) -> None:
        """Look at what is about to happen.

        Raises:
            DiskFault: it shall fail.
        """
        ...

    def after(self, operation: Operation) -> None:
        """Look at what has happened."""
        ...

    def room(self) -> int | None:
        """Return how many bytes are free; None: as many as there really are."""
        ...


class Watched:
    """A folder whose operations are shown to a watcher."""

    def __init__(self, root: Path, watcher: Watcher) -> None:
        self.root = root.resolve()
        self.watcher = watcher
        self._prefix = f"{self.root}{os.sep}"

    def name(self, path: str | os.PathLike[str]) -> str | None:
        """Return the name of a path below the folder; None if nobody wants to know of it."""
        text = os.fspath(path)
        if text == str(self.root):
            return "."
        if not text.startswith(self._prefix) or text.endswith(IGNORED):
            return None
        return text.removeprefix(self._prefix)
