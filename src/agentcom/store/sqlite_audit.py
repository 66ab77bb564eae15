"""The audit log as SQL: its end in a transaction, a restore's entry, a look at a whole file."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import apsw
import msgspec

from agentcom.model import audit
from agentcom.model.audit import AuditEntry, AuditNote, Door, Head, Verdict, Verifier
from agentcom.model.batch import Table
from agentcom.model.errors import StoreRefused
from agentcom.model.ids import WallTime
from agentcom.store import audit_chain, codec, sqlite_open, sqlite_rows

_LAST: Final = "SELECT doc FROM audit ORDER BY key DESC LIMIT 1"
_ALL: Final = "SELECT key, version, at, who, action, outcome, doc FROM audit ORDER BY key"


def append(db: apsw.Connection, notes: Iterable[AuditNote]) -> bool:
    """Write `notes` behind the newest entry, into the open transaction; False: not all fitted."""
    doc = db.execute(_LAST).get
    last = None if doc is None else codec.decode(Table.AUDIT, doc)
    assert last is None or isinstance(last, AuditEntry)
    return sqlite_rows.write(db, audit_chain.link(last, notes, sqlite_rows.incarnation(db)))


def raise_incarnation(db: apsw.Connection, least: int, at: WallTime) -> int:
    """Make every fence of before stale, and begin the segment that says so, at once."""
    with db:
        before = sqlite_rows.incarnation(db)
        new = sqlite_rows.raise_incarnation(db, least)
        note = AuditNote(
            at=at,
            action=audit.RESTORED,
            target=f"incarnation:{new}",
            door=Door.COMMAND,
            detail={"before": str(before)},
        )
        append(db, [note])
    return new


def verify_file(path: Path, against: Head | None = None, key: bytes | None = None) -> Verdict:
    """Look at the log in a database, a copy or one in use, row by row and byte by byte.

    Raises:
        StoreRefused: it is no store, or it cannot be read.
    """
    if not path.is_file():
        raise StoreRefused(f"there is no file {path}")
    try:
        db = sqlite_open.connect(path, read_only=True)
        try:
            return _verify(db, Verifier(against, key))
        finally:
            db.close()
    except apsw.Error as error:
        raise StoreRefused(f"the audit log in {path} cannot be read: {error}") from error


def _verify(db: apsw.Connection, verifier: Verifier) -> Verdict:
    for place, *columns, doc in db.execute(_ALL):
        try:
            entry = codec.decode(Table.AUDIT, doc)
        except msgspec.DecodeError:
            verifier.find(f"entry {place} cannot be read")
            continue
        assert isinstance(entry, AuditEntry)
        if doc != codec.encode(entry):
            verifier.find(f"entry {entry.seq} is not written as the hub writes")
        if columns != [entry.version, entry.at, entry.who, entry.action, entry.outcome.value]:
            verifier.find(f"entry {entry.seq} is listed under other names than its own")
        audit_chain.take(verifier, place, entry)
    return verifier.verdict()
