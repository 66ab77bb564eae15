"""Rows as SQL: how changes are written, and how rows are read back. The log: `sqlite_log.py`.

Statements are narrow and go through `executemany`; what they changed is counted, and a count
that is off is a conflict. No transaction begins or ends here, but for a consistent read.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar, cast

import apsw

from agentcom.model.agent import Account, Agent, Machine
from agentcom.model.ask import Ask
from agentcom.model.batch import Batch, Change, Insert, Row, Table, Update
from agentcom.model.budget import ScopeBudget
from agentcom.model.graph import Edge, Tally
from agentcom.model.hold import Hold
from agentcom.model.ids import PoolId, WallTime
from agentcom.model.limit import Limit, Usage
from agentcom.model.lock import Lock, numbers_log
from agentcom.model.message import Head
from agentcom.model.pause import Pause
from agentcom.model.snapshot import Snapshot
from agentcom.model.task import Task, TaskState
from agentcom.model.todo import Todo
from agentcom.store import codec, rules, sqlite_lists
from agentcom.store.base import Page, Query
from agentcom.store.codec import Columns
from agentcom.store.schema import COLUMNS
from agentcom.store.sums import Sum, Sums

PRUNE_ROWS: Final = 1_000  # per transaction, so that commits wait for milliseconds only

_KINDS: Final[Mapping[Table, int]] = {Table.BODY: 0, Table.RESULT: 1}
"""The tables that are kept in one, `document`; a view shows each as it is named here."""
ALTERED: Final = frozenset({Table.USAGE})
"""Tables to which a migration added a column, so that its place is not that in `COLUMNS`."""
_LIVE_STATES: Final = frozenset(state for state in TaskState if not state.terminal)
_RowT = TypeVar("_RowT")

Binding = tuple[Any, ...]


class _Statements(NamedTuple):
    insert: str
    update: str
    delete: str
    get: str
    columns: Columns


def _statements(table: Table) -> _Statements:
    names = ("version", *COLUMNS[table], "doc")
    marks = ",".join("?" * (len(names) + 1))
    sets = ",".join(f"{name}=?" for name in names)
    into, of_kind = f"{table} VALUES({marks})", ""
    if table in ALTERED:
        into = f"{table}(key,{','.join(names)})VALUES({marks})"
    if table in _KINDS:
        into = f"document(kind,key,{','.join(names)})VALUES({_KINDS[table]},{marks})"
        of_kind = f"kind={_KINDS[table]} AND "
    stored = "document" if of_kind else table
    # Only names from COLUMNS and Table are put into these texts. They are short, since the
    # statement of each row is looked up by its text.
    return _Statements(
        insert=f"INSERT INTO {into}ON CONFLICT DO NOTHING",
        update=f"UPDATE {stored} SET {sets} WHERE {of_kind}key=? AND version=?",
        delete=f"DELETE FROM {stored} WHERE {of_kind}key=? AND version=?",
        get=f"SELECT doc FROM {table} WHERE key=?",
        columns=codec.columns_of(table),
    )


_SQL: Final[Mapping[Table, _Statements]] = {table: _statements(table) for table in Table}


def write(db: apsw.Connection, changes: Sequence[Change]) -> bool:
    """Write changes into the open transaction; return False if a row is not as expected."""
    for statement, bindings in _groups(changes):
        before = db.total_changes()
        db.executemany(statement, bindings)
        if db.total_changes() - before != len(bindings):
            return False
    return True


def term(db: apsw.Connection, pool: PoolId) -> int:
    """Return the newest term of `pool`; 0 if it never had a writer."""
    return int(db.execute("SELECT term FROM term WHERE pool = ?", (pool,)).get or 0)


def raise_term(db: apsw.Connection, pool: PoolId, holder: str) -> int:
    """Give `pool` its next term, in a transaction of its own."""
    with db:
        new = term(db, pool) + 1
        db.execute("INSERT OR REPLACE INTO term VALUES (?, ?, ?)", (pool, new, holder))
    return new


def incarnation(db: apsw.Connection) -> int:
    """Return the incarnation of this store."""
    return int(db.execute("SELECT value FROM meta WHERE name = 'incarnation'").get)


def raise_incarnation(db: apsw.Connection, least: int) -> int:
    """Set the incarnation above the stored one and not below `least`."""
    new = max(incarnation(db) + 1, least)
    db.execute("UPDATE meta SET value = ? WHERE name = 'incarnation'", (new,))
    return new


def images(db: apsw.Connection, batch: Batch) -> list[tuple[Table, str, Row | None]]:
    """Return the rows that are not as `batch` expects them."""
    expected = rules.first_expectations(batch)
    return rules.mismatches(
        [(table, key, get(db, table, key), version) for (table, key), version in expected.items()]
    )


def get(db: apsw.Connection, table: Table, key: str) -> Row | None:
    """Return one row."""
    doc = db.execute(_SQL[table].get, (key,)).get
    return None if doc is None else codec.decode(table, doc)


def get_all(db: apsw.Connection, keys: Sequence[tuple[Table, str]]) -> list[Row | None]:
    """Return rows as they are at one moment."""
    if len(keys) == 1:
        return [get(db, *keys[0])]
    return _consistent(db, lambda: [get(db, table, key) for table, key in keys])


def keys(db: apsw.Connection, table: Table) -> Iterator[str]:
    """Yield every key of a table."""
    for (key,) in db.execute(f"SELECT key FROM {table}"):
        yield str(key)


def scan(db: apsw.Connection, pool: PoolId) -> Snapshot:
    """Return everything live in `pool`, as it is at one moment."""

    def read_all() -> Snapshot:
        agents = _all(db, Table.AGENT, Agent)
        return Snapshot(
            tasks=_all(db, Table.TASK, Task, f" WHERE {sqlite_lists.IS_LIVE}"),
            edges=_all(db, Table.EDGE, Edge),
            tallies=_all(db, Table.TALLY, Tally, " WHERE live > 0"),
            holds=_all(db, Table.HOLD, Hold),
            limits=_all(db, Table.RULE, Limit),
            rates=_all(db, Table.RATE, Usage),
            agents=[agent for agent in agents if agent.pool == pool],
            accounts=_all(db, Table.ACCOUNT, Account),
            machines=_all(db, Table.MACHINE, Machine),
            todos=_all(db, Table.TODO, Todo),
            budgets=_all(db, Table.BUDGET, ScopeBudget),
            pauses=_all(db, Table.PAUSE, Pause),
            locks=_all(db, Table.LOCK, Lock),
            lock_numbers=cast("Head | None", get(db, Table.HEAD, numbers_log(pool))),
            asks=_all(db, Table.ASK, Ask, " WHERE state = 'open'"),
        )

    return _consistent(db, read_all)


def query(db: apsw.Connection, asked: Query) -> Page:
    """Return one page of a listing."""
    rules.check_query(asked)
    terms, bindings = condition(asked)
    parts = [terms]
    if asked.table is Table.TASK and set(asked.where.get("state", ("",))) <= _LIVE_STATES:
        # Finds few among many, and walks through a list in its order until the page is full.
        parts = [[*terms, sqlite_lists.LISTED], [*terms, sqlite_lists.NOT_LISTED]]
    each = [f"SELECT key, doc FROM {asked.table}{where(part)}" for part in parts]
    order = "DESC" if asked.after is None else "ASC"
    sql = f"{' UNION ALL '.join(each)} ORDER BY key {order} LIMIT ?"
    found: list[Any] = db.execute(sql, (*bindings * len(parts), asked.limit + 1)).fetchall()
    page = found[: asked.limit]
    rows = [codec.decode(asked.table, doc) for _, doc in page]
    return Page(rows, page[-1][0] if len(found) > len(page) else None)


def sums(db: apsw.Connection, asked: Sums) -> list[Sum]:
    """Return sums, the largest of the first column first."""
    rules.check_sums(asked)
    terms, bindings = condition(Query(table=asked.table, where=asked.where, prefix=asked.prefix))
    terms += [f"{name} >= ?" for name in asked.least]
    added = ", ".join(f"coalesce(sum({name}), 0)" for name in asked.columns)
    group = f" GROUP BY {asked.by}" if asked.by is not None else ""
    value = asked.by or "NULL"
    sql = f"SELECT {value}, count(*), {added} FROM {asked.table}{where(terms)}{group}"
    ordered = f"{sql} ORDER BY 3 DESC, coalesce(CAST({value} AS TEXT), 'None') LIMIT ?"
    found = db.execute(ordered, (*bindings, *asked.least.values(), asked.limit))
    return [Sum(key, rows, tuple(numbers)) for key, rows, *numbers in found if rows]


def expired(db: apsw.Connection, now: WallTime) -> list[Binding]:
    """Return the keys of requests that nobody may repeat any more.

    It reads the whole table, in the reader's time: an index would cost every submit.
    """
    return db.execute("SELECT key FROM request WHERE expires_at <= ?", (now,)).fetchall()


def delete_expired(db: apsw.Connection, keys: Sequence[Binding], now: WallTime) -> int:
    """Delete requests that are still expired; return how many."""
    before = db.total_changes()
    with db:
        sql = "DELETE FROM request WHERE key = ? AND expires_at <= ?"
        db.executemany(sql, [(*key, now) for key in keys])
    return db.total_changes() - before


def every(db: apsw.Connection, table: Table) -> Iterator[tuple[str, int, bytes]]:
    """Yield key, version and document of every row."""
    yield from db.execute(f"SELECT key, version, doc FROM {table} ORDER BY key")


def _groups(changes: Sequence[Change]) -> Iterator[tuple[str, list[Binding]]]:
    """Yield statements and what to bind to each; a row that changes twice keeps its order."""
    tables: defaultdict[Table, list[Change]] = defaultdict(list)
    for change in changes:
        tables[change.table].append(change)
    for table, part in tables.items():
        sql = _SQL[table]
        if len({change.key for change in part}) == len(part):
            yield from _bound(sql, part)
            continue
        for change in part:
            yield from _bound(sql, (change,))


def _bound(sql: _Statements, part: Sequence[Change]) -> Iterator[tuple[str, list[Binding]]]:
    columns, encode = sql.columns, codec.encode
    inserts: list[Binding] = []
    updates: list[Binding] = []
    deletes: list[Binding] = []
    for change in part:
        if isinstance(change, Insert):
            row = change.row
            inserts.append((change.key, *columns(row), encode(row)))
        elif isinstance(change, Update):
            row = change.row
            updates.append((*columns(row), encode(row), change.key, change.expected))
        else:
            deletes.append((change.key, change.expected))
    for statement, bindings in (sql.insert, inserts), (sql.update, updates), (sql.delete, deletes):
        if bindings:
            yield statement, bindings


def condition(asked: Query) -> tuple[list[str], list[str]]:
    """Return what a row of a listing fulfils, as terms of SQL and what to bind to them."""
    terms: list[str] = []
    bindings: list[str] = []
    if asked.before is not None:
        terms.append("key < ?")
        bindings.append(asked.before)
    if asked.after is not None:
        terms.append("key > ?")
        bindings.append(asked.after)
    if asked.prefix is not None:
        terms.append("key >= ? AND key < ?")
        bindings += [asked.prefix, rules.prefix_end(asked.prefix)]
    if asked.fragment is not None:
        terms.append("key LIKE ? ESCAPE '\\'")
        bindings.append(f"%{_escape(asked.fragment)}%")
    for name, accepted in asked.where.items():
        terms.append(f"{name} IN ({', '.join('?' * len(accepted))})")
        bindings += accepted
    return terms, bindings


def where(terms: Sequence[str]) -> str:
    """Return a clause with all terms."""
    return " WHERE " + " AND ".join(terms) if terms else ""


def _escape(fragment: str) -> str:
    return fragment.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _all(db: apsw.Connection, table: Table, kind: type[_RowT], where: str = "") -> list[_RowT]:
    rows = [codec.decode(table, doc) for (doc,) in db.execute(f"SELECT doc FROM {table}{where}")]
    assert not rows or isinstance(rows[0], kind)
    return rows  # type: ignore[return-value]  # the decoder of the table makes no other kind


def _consistent(db: apsw.Connection, work: Callable[[], _RowT]) -> _RowT:
    db.execute("BEGIN")
    try:
        return work()
    finally:
        db.execute("COMMIT")
