"""Copies of a database, from outside of the hub that uses it: making one, and comparing two."""

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import apsw

from agentcom.model.ids import TaskId
from agentcom.store import sqlite_log, sqlite_open, sqlite_rows

_NOT_COMPARED: Final = frozenset({"request"})
"""Requests expire by themselves, without a batch."""
_TABLES: Final = """
    SELECT m.name FROM sqlite_schema AS m, pragma_table_info(m.name) AS c
    WHERE m.type = 'table' AND c.name = 'doc' ORDER BY m.name"""


class Made(NamedTuple):
    """What a copy holds."""

    number: int
    """Of its last batch."""
    incarnation: int


class Damaged(Exception):
    """A database cannot be read in full."""


class Different(Exception):
    """They do not hold the same."""


def make(source: Path, target: Path) -> Made:
    """Copy a database as it is at one moment, while others write to it.

    Raises:
        Damaged: it cannot be read in full.
        StoreRefused: its disk or folder cannot be written.
        OSError: there is no room.
    """
    try:
        db = sqlite_open.connect(source, read_only=True)
        try:
            sqlite_open.copy(db, target)
        finally:
            db.close()
        return look(target)
    except apsw.FullError as error:
        raise OSError(errno.ENOSPC, "the disk is full", str(target)) from error
    except apsw.CantOpenError as error:
        raise sqlite_open.unwritable(source) from error
    except sqlite_open.DAMAGE as error:
        raise Damaged(str(error)) from error


def look(path: Path) -> Made:
    """Return what a copy holds."""
    db = sqlite_open.connect(path, read_only=True)
    try:
        return Made(sqlite_log.last_number(db), sqlite_rows.incarnation(db))
    finally:
        db.close()


def last_batch(path: Path) -> str | None:
    """Return the id of the last batch in a copy."""
    db = sqlite_open.connect(path, read_only=True)
    try:
        number = sqlite_log.last_number(db)
        sql = "SELECT batch FROM log WHERE number = ?1 UNION SELECT id FROM batch WHERE number = ?1"
        found = db.execute(sql, (number,)).get
        return None if found is None else str(found)
    finally:
        db.close()


def born_s(path: Path) -> int:
    """Return when data began, or were last put back from a copy: Unix seconds; 0 if unreadable."""
    try:
        db = sqlite_open.connect(path, read_only=True)
        try:
            return sqlite_rows.incarnation(db)
        finally:
            db.close()
    except apsw.Error:
        return 0


def blobs(path: Path) -> frozenset[str]:
    """Return the attached files that a database names, by their digests."""
    db = sqlite_open.connect(path, read_only=True)
    try:
        rows = db.execute("SELECT DISTINCT substr(key, -64) FROM blob")
        return frozenset(str(digest) for (digest,) in rows)
    finally:
        db.close()


def only_in(old: Path, new: Path) -> Sequence[TaskId] | None:
    """Return the tasks that only the older data have; None if those cannot be read."""
    if not old.exists():
        return ()
    db = sqlite_open.connect(new, read_only=True)
    try:
        db.execute("ATTACH ? AS other", (str(old),))
        rows = db.execute("SELECT key FROM other.task EXCEPT SELECT key FROM main.task")
        return [TaskId(key) for (key,) in rows]
    except apsw.Error:
        return None
    finally:
        db.close()


def equal(one: Path, other: Path) -> int:
    """Return how many rows and records both databases have, all of them equal.

    Raises:
        Different: some are not, or cannot be read.
    """
    db = sqlite_open.connect(one, read_only=True)
    try:
        db.execute("ATTACH ? AS other", (str(other),))
        tables = [str(name) for (name,) in db.execute(_TABLES)]
        return sum(_equal_rows(db, name) for name in tables if name not in _NOT_COMPARED)
    except sqlite_open.DAMAGE as error:
        raise Different(f"it cannot be read: {error}") from error
    finally:
        db.close()


def _equal_rows(db: apsw.Connection, table: str) -> int:
    for mine, yours in (("main", "other"), ("other", "main")):
        only = f"SELECT * FROM {mine}.{table} EXCEPT SELECT * FROM {yours}.{table}"
        differing = db.execute(f"SELECT count(*) FROM ({only})").get
        if differing:
            raise Different(f"{differing} rows of {table} differ")
    return int(db.execute(f"SELECT count(*) FROM main.{table}").get)
