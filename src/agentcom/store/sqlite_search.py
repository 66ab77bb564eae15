"""Search as SQL: an index of words, brought up to date in steps of its own.

Rows that are searched are only inserted, so their row numbers grow and a mark per table in `meta`
says how far the index goes: no commit pays for it. The index keeps words, not texts; what it finds
is read from the rows, and a row that is gone is found no more.
"""

from collections.abc import Sequence
from typing import Any, Final

import apsw

from agentcom.model.batch import Table
from agentcom.store import codec, search
from agentcom.store.search import Findable, Found, Words

STALE_MAX: Final = 1_000  # entries of rows that are gone, per step
_SOURCES: Final = {
    Table.MESSAGE: "SELECT rowid, key, doc FROM message",
    Table.NOTE_VERSION: "SELECT rowid, key, doc FROM note_version",
    Table.BODY: "SELECT rowid, key, doc FROM document",
}
_ONLY: Final = {Table.BODY: " AND kind = 0"}
_MARK: Final = "SELECT value FROM meta WHERE name = ?"
_NEWEST: Final = {
    table: sql.replace("rowid, key, doc", "max(rowid)") for table, sql in _SOURCES.items()
}
_FIND: Final = """
    SELECT findable.source, findable.key FROM found JOIN findable ON findable.id = found.rowid
    WHERE found MATCH ? AND (project = ? OR project IS NULL) AND source IN (%s)
    ORDER BY rank LIMIT ?"""


def find(db: apsw.Connection, asked: Words) -> Found:
    """Return the keys of rows with all words."""
    words = search.words_of(asked.text)
    if not words:
        return Found(())
    match = match_of(words)
    sources = [Table.NOTE if one is Table.NOTE_VERSION else one for one in asked.tables]
    sql = _FIND % ", ".join("?" * len(sources))
    rows: list[Any] = db.execute(sql, (match, asked.project, *sources, asked.limit)).fetchall()
    complete = all(_behind(db, table) == 0 for table in asked.tables)
    return Found([(Table(source), str(key)) for source, key in rows], complete)


def match_of(words: Sequence[str]) -> str:
    """Return what an index of words is asked: all of them, of the last one the beginning."""
    return " ".join(_quoted(word) for word in words) + "*"


def index(db: apsw.Connection, limit: int) -> bool:
    """Look at up to `limit` rows more; return whether all are looked at."""
    left = limit
    with db:
        for table in search.TABLES:
            if left > 0:
                left -= _step(db, table, left)
        _forget(db)
    return left > 0


def _step(db: apsw.Connection, table: Table, limit: int) -> int:
    mark = _mark(db, table)
    sql = f"{_SOURCES[table]} WHERE rowid > ?{_ONLY.get(table, '')} ORDER BY rowid LIMIT ?"
    rows: list[Any] = db.execute(sql, (mark, limit)).fetchall()
    for _, key, doc in rows:
        wanted = search.of(table, key, codec.decode(table, doc))
        if wanted is not None:
            _put(db, wanted)
    if rows:
        _set_mark(db, table, rows[-1][0])
    return len(rows)


def _put(db: apsw.Connection, one: Findable) -> None:
    _drop(db, one.table, one.key)
    if not one.title and not one.text:
        return
    db.execute(
        "INSERT INTO findable (source, key, project) VALUES (?, ?, ?)",
        (one.table, one.key, one.project),
    )
    place = db.last_insert_rowid()
    sql = "INSERT INTO found (rowid, title, text) VALUES (?, ?, ?)"
    db.execute(sql, (place, one.title, one.text))


def _drop(db: apsw.Connection, table: Table, key: str) -> None:
    sql = "SELECT id FROM findable WHERE source = ? AND key = ?"
    known = db.execute(sql, (table, key)).get
    if known is not None:
        _delete(db, [known])


def _forget(db: apsw.Connection) -> None:
    """Take out what is gone: a few at a time, the oldest first."""
    sql = """
        SELECT id FROM findable WHERE source = 'message'
        AND key < (SELECT coalesce(min(key), '~') FROM message) LIMIT ?"""
    stale: list[Any] = db.execute(sql, (STALE_MAX,)).fetchall()
    # Bodies go with their tasks, which are archived the oldest first, but for some.
    sql = """
        SELECT id FROM (SELECT id, key FROM findable WHERE source = 'body' ORDER BY key LIMIT ?)
          AS oldest
        WHERE NOT EXISTS (SELECT 1 FROM document WHERE document.key = oldest.key AND kind = 0)"""
    stale += db.execute(sql, (STALE_MAX,)).fetchall()
    _delete(db, [place for (place,) in stale])


def _delete(db: apsw.Connection, places: Sequence[int]) -> None:
    each = [(place,) for place in places]
    db.executemany("DELETE FROM found WHERE rowid = ?", each)
    db.executemany("DELETE FROM findable WHERE id = ?", each)


def _behind(db: apsw.Connection, table: Table) -> int:
    newest = db.execute(_NEWEST[table]).get or 0
    return max(0, newest - _mark(db, table))


def _mark(db: apsw.Connection, table: Table) -> int:
    return int(db.execute(_MARK, (f"found_{table}",)).get or 0)


def _set_mark(db: apsw.Connection, table: Table, value: int) -> None:
    sql = "INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)"
    db.execute(sql, (f"found_{table}", value))


def _quoted(word: str) -> str:
    return '"' + word.replace('"', '""') + '"'
