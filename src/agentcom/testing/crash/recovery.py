"""What SQLite's own recovery makes of a state: the same of many, which then need one judgement."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import apsw

from agentcom.store import sqlite_open
from agentcom.testing.crash.recording import STORE

_MAGIC: Final = b"SQLite format 3\0"
_FLAGS: Final = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOMUTEX
_MIB: Final = 1 << 20


class Recovered(NamedTuple):
    """What is on a disk once the log is in the database, and how it came there."""

    frames: int
    """Of the log that were written into the database."""
    log: bool | None
    """Whether the log has bytes; None: there is none."""
    was_there: bool
    """Whether the database was the same before."""
    beside: Mapping[str, bytes]
    """The other files."""
    database: bytes


def recovered(path: Path, files: Mapping[str, bytes], name: str = STORE) -> Recovered | None:
    """Recover a database and its log, which lie at `path`; None: its owner does more than that.

    None stands for what is not a whole database in one file and its log: one whose making was
    cut short, or that is damaged.
    """
    log = f"{name}-wal"
    before = files.get(name, b"")
    if f"{name}-journal" in files or not before.startswith(_MAGIC):
        return None
    try:
        frames = _folded(path)
    except apsw.Error:
        return None
    if frames is None:
        return None
    fd = os.open(path, os.O_RDONLY)
    database = os.read(fd, len(before) + len(files.get(log, b"")) + _MIB)
    os.close(fd)
    beside = {other: data for other, data in files.items() if other not in (name, log)}
    has_log = bool(files[log]) if log in files else None
    return Recovered(frames, has_log, database == before, beside, database)


def _folded(path: Path) -> int | None:
    """Bring the log into the database as the store's start does; return how many frames it had."""
    sqlite_open.load_checksums()
    db = apsw.Connection(str(path), flags=_FLAGS, vfs=sqlite_open.CHECKSUM_VFS)
    try:
        db.execute("PRAGMA locking_mode=EXCLUSIVE")  # quicker: it needs no memory to share
        if not sqlite_open.pragma(db, "application_id"):
            return None
        frames, _ = db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    finally:
        db.close()
    return frames
