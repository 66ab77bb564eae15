"""The lists beside rows and log, written in arrears: `feed` and `live`.

`feed` says which documents of the log hold records of a feed, `live` which tasks are not over.
Both are complete up to a mark, a sequence in `meta`. What came later is found in the documents
from the mark on: they name each feed, and each task that changed. A task that changes without a
record in its batch is listed at once. So the lists and the mark can lag, but never be wrong.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import apsw

from agentcom.model.batch import Append, Batch, Change, Delete, Table
from agentcom.model.task import Task, TaskState
from agentcom.store import codec

ARREARS_MAX: Final = 512  # entries of `feed`; a scan or a feed's reader looks through so many

MARK: Final = "(SELECT coalesce(max(value), 0) FROM meta WHERE name = 'listed')"
_TASK: Final = Table.TASK
_TERMINAL: Final = ", ".join(f"'{state}'" for state in TaskState if state.terminal)
_CHANGED: Final = (
    "SELECT record.value ->> '$[1].task' FROM log, json_each(CAST(doc AS TEXT)) AS record"
    f" WHERE first >= {MARK}"
)
LISTED: Final = "key IN (SELECT key FROM live)"
NOT_LISTED: Final = f"key IN ({_CHANGED}) AND key NOT IN (SELECT key FROM live)"
"""With `LISTED`, and among the states that are not terminal: every live task, once."""
IS_LIVE: Final = f"key IN (SELECT key FROM live UNION {_CHANGED}) AND state NOT IN ({_TERMINAL})"
_OPEN: Final = f"SELECT key FROM task WHERE state NOT IN ({_TERMINAL})"


class Arrears:
    """What the lists do not say yet; belongs to the writing connection."""

    def __init__(self, db: apsw.Connection) -> None:
        self._feeds: list[tuple[str, int]] = []
        self._live: dict[str, bool] = {}
        for first, doc in db.execute(f"SELECT first, doc FROM log WHERE first >= {MARK}"):
            appends = codec.decode_records(doc)
            self._feeds += _feeds(appends, first)
            self._live.update(dict.fromkeys((append.record.task for append in appends), False))
        for (key,) in db.execute(f"SELECT key FROM task WHERE {IS_LIVE}"):
            if key in self._live:
                self._live[key] = True

    @property
    def many(self) -> bool:
        """Whether the lists have to be written."""
        return len(self._feeds) >= ARREARS_MAX

    def add(self, batch: Batch, first: int) -> None:
        """Remember what a committed batch brought."""
        self._feeds += _feeds(batch.appends, first)
        _note_fates(self._live, batch.changes)

    def write(self, db: apsw.Connection, mark: int) -> None:
        """Complete the lists in the open transaction; all before `mark` is in them then."""
        db.executemany("INSERT INTO feed (log, first) VALUES (?, ?)", self._feeds)
        _list(db, self._live)
        db.execute("INSERT OR REPLACE INTO meta (name, value) VALUES ('listed', ?)", (mark,))

    def clear(self) -> None:
        """Forget what is written and committed."""
        self._feeds.clear()
        self._live.clear()


def list_unnamed(db: apsw.Connection, batch: Batch) -> None:
    """List the tasks that a batch changes without a record, in the open transaction."""
    named = {append.record.task for append in batch.appends}
    unnamed = [c for c in batch.changes if c.table is _TASK and c.key not in named]
    if unnamed:
        live: dict[str, bool] = {}
        _note_fates(live, unnamed)
        _list(db, live)


def wrong(db: apsw.Connection) -> list[str]:
    """Return tasks that are live but not listed as such, or the other way round."""
    unlisted = f"{_OPEN} EXCEPT SELECT key FROM live EXCEPT {_CHANGED}"
    over = f"SELECT key FROM live EXCEPT {_OPEN} EXCEPT {_CHANGED}"
    return [str(key) for sql in (unlisted, over) for (key,) in db.execute(sql)]


def _feeds(appends: Sequence[Append], first: int) -> list[tuple[str, int]]:
    # In the order of the batch, which is nearly that of the keys.
    return [(log, first) for log in dict.fromkeys([append.log for append in appends])]


def _note_fates(live: dict[str, bool], changes: Iterable[Change]) -> None:
    for change in changes:
        if change.table is _TASK:
            row = None if isinstance(change, Delete) else change.row
            live[change.key] = isinstance(row, Task) and not row.state.terminal


def _list(db: apsw.Connection, live: dict[str, bool]) -> None:
    on = [(key,) for key, alive in live.items() if alive]
    off = [(key,) for key, alive in live.items() if not alive]
    db.executemany("INSERT OR IGNORE INTO live (key) VALUES (?)", on)
    db.executemany("DELETE FROM live WHERE key = ?", off)
