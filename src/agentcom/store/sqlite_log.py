"""The log as SQL: one document of records per batch.

A document is keyed by the sequence of its first record, and carries its batch's id. A batch
without records leaves its id in a ring. Which documents hold records of a feed says `feed`, up to
the mark of `sqlite_lists.py`. No transaction begins or ends here.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

import apsw
import msgspec

from agentcom.model.batch import Append, Batch
from agentcom.model.ids import BatchId
from agentcom.store import codec, rules
from agentcom.store.base import LogRecord
from agentcom.store.sqlite_lists import MARK

DOCUMENTS_KEPT: Final = 4  # tasks that were submitted together also ended together, mostly
_APPEND: Final = "INSERT INTO log (first, records, number, batch, doc) VALUES (?, ?, ?, ?, ?)"
_REMEMBER: Final = "INSERT OR REPLACE INTO batch (slot, number, id) VALUES (?, ?, ?)"

_WITHIN: Final = """
    SELECT first, doc FROM log WHERE first BETWEEN ?1 AND ?2 AND first + records - 1 <= ?2
    AND first < (SELECT max(first) FROM log)"""
_ALL: Final = """
    SELECT first, doc FROM log
    WHERE first >= (SELECT coalesce(max(first), 0) FROM log WHERE first <= ?)
    ORDER BY first"""
_ONE: Final = f"""
    SELECT feed.first, doc FROM feed JOIN log USING (first)
    WHERE feed.log = ?1 AND feed.first >=
      (SELECT coalesce(max(first), 0) FROM feed WHERE log = ?1 AND first <= ?2)
    UNION ALL
    SELECT first, doc FROM log
    WHERE first >= {MARK} AND first + records > ?2 AND instr(doc, ?3)
    ORDER BY first"""


def append(db: apsw.Connection, batch: Batch, *, number: int, first: int) -> None:
    """Write the records of a batch, and that it is the `number`th, into the open transaction."""
    appends = batch.appends
    if not appends:
        db.execute(_REMEMBER, (number % rules.RECENT_BATCHES, number, batch.id))
        return
    doc = codec.encode_records(appends)
    db.execute(_APPEND, (first, len(appends), number, batch.id, doc))


def forget(db: apsw.Connection, ranges: Sequence[tuple[int, int]]) -> None:
    """Delete the documents that lie between sequences, in the open transaction.

    The lists must be complete, so that none names a document that is gone. The newest stays: the
    numbers of what comes next follow from it.
    """
    for low, high in ranges:
        documents: list[Any] = db.execute(_WITHIN, (low, high)).fetchall()
        for first, doc in documents:
            logs = {append.log for append in codec.decode_records(doc)}
            feeds = [(log, first) for log in logs]
            db.executemany("DELETE FROM feed WHERE log = ? AND first = ?", feeds)
            db.execute("DELETE FROM log WHERE first = ?", (first,))


def read(db: apsw.Connection, log: str | None, after: int, limit: int) -> list[LogRecord]:
    """Return records after a sequence, in order."""
    start = after + 1
    if log is None:
        rows = db.execute(_ALL, (start,))
    else:
        rows = db.execute(_ONE, (log, start, msgspec.json.encode(log)))
    found: list[LogRecord] = []
    for first, doc in rows:
        for seq, each in enumerate(_records(doc), first):
            if seq > after and (log is None or each.log == log):
                found.append(LogRecord(seq, each.log, each.record))
        if len(found) >= limit:
            break
    return found[:limit]


@lru_cache(maxsize=DOCUMENTS_KEPT)
def _records(doc: bytes) -> Sequence[Append]:
    """Return the records of a document; who reads feed after feed reads few documents."""
    return codec.decode_records(doc)


def was_committed(db: apsw.Connection, batch: BatchId) -> bool:
    """Return whether a recent batch is committed."""
    newest = f"SELECT batch FROM log ORDER BY first DESC LIMIT {rules.RECENT_BATCHES}"
    sql = f"SELECT 1 FROM batch WHERE id = ?1 UNION ALL SELECT 1 FROM ({newest}) WHERE batch = ?1"
    return db.execute(sql, (batch,)).get is not None


def last_number(db: apsw.Connection) -> int:
    """Return the number of the newest batch."""
    of_log = db.execute("SELECT number FROM log ORDER BY first DESC LIMIT 1").get
    of_ring = db.execute("SELECT max(number) FROM batch").get
    return max(of_log or 0, of_ring or 0)


def next_seq(db: apsw.Connection) -> int:
    """Return the sequence that the next record gets."""
    return db.execute("SELECT first + records FROM log ORDER BY first DESC LIMIT 1").get or 1


def wrong(db: apsw.Connection) -> Iterator[str]:
    """Yield what is wrong with the documents and the list of feeds."""
    expected = 0
    after = 1
    mark = db.execute(f"SELECT {MARK}").get
    for first, records, doc in db.execute("SELECT first, records, doc FROM log ORDER BY first"):
        try:
            appends = codec.decode_records(doc)
        except msgspec.DecodeError as error:
            yield f"the records from {first} on cannot be read: {error}"
            continue
        if len(appends) != records or first < after:
            yield f"the records from {first} on are not {records}"
        after = first + records
        if first < mark:
            logs = {append.log for append in appends}
            expected += len(logs)
            yield from _not_listed(db, logs, first)
    listed = db.execute("SELECT count(*) FROM feed").get
    if listed > expected:
        yield f"the list of feeds has {listed} places, and there are {expected}"


def _not_listed(db: apsw.Connection, logs: set[str], first: int) -> Iterator[str]:
    for log in sorted(logs):
        sql = "SELECT 1 FROM feed WHERE log = ? AND first = ?"
        if db.execute(sql, (log, first)).get is None:
            yield f"the records of {log} from {first} on are missing in the list of feeds"
