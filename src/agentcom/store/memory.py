"""A store that forgets at the end of the process: for tests, simulation and demonstrations."""

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import islice
from operator import add
from pathlib import Path
from typing import Self, cast

import msgspec

from agentcom.model.agent import Account, Agent, Machine
from agentcom.model.ask import Ask, AskState
from agentcom.model.audit import AuditEntry
from agentcom.model.batch import Batch, Change, Delete, Insert, Row, Table
from agentcom.model.budget import ScopeBudget
from agentcom.model.graph import Edge, Tally
from agentcom.model.hold import Hold
from agentcom.model.identity import RequestRecord
from agentcom.model.ids import BatchId, PoolId, WallTime
from agentcom.model.limit import Limit, Usage
from agentcom.model.lock import Lock, numbers_log
from agentcom.model.message import Head
from agentcom.model.pause import Pause
from agentcom.model.snapshot import Snapshot
from agentcom.model.task import Task
from agentcom.model.todo import Todo
from agentcom.store import audit_chain, codec, invariants, rules, search
from agentcom.store.base import (
    Committed,
    Conflict,
    LogRecord,
    Page,
    Problem,
    Query,
    TermLost,
    Verdict,
)
from agentcom.store.search import Found, Words
from agentcom.store.sums import Sum, Sums

_Staged = dict[tuple[Table, str], Row | None]


class MemoryStore:
    """Rows in dictionaries; every commit is at once and always fits."""

    def __init__(self, *, incarnation: int = 1) -> None:
        self._incarnation = incarnation
        self._rows: dict[Table, dict[str, Row]] = {table: {} for table in Table}
        self._ordered: dict[Table, list[str]] = {}
        """Keys in order, of the tables that were read in order since they got or lost one."""
        self._log: list[LogRecord] = []
        self._spans: list[tuple[int, int]] = []
        """The first and the last record of each batch that has some."""
        self._terms: dict[PoolId, int] = {}
        self._recent: OrderedDict[BatchId, None] = OrderedDict()

    @classmethod
    def of(cls, table: Table, rows: dict[str, Row]) -> Self:
        """Return a store that holds these rows."""
        store = cls()
        store._rows[table] = rows
        return store

    async def open(self) -> int:
        return self._incarnation

    async def close(self) -> None:
        return

    async def acquire(self, pool: PoolId, holder: str) -> int:  # noqa: ARG002  # nobody asks who
        self._terms[pool] = self._terms.get(pool, 0) + 1
        return self._terms[pool]

    async def scan(self, pool: PoolId) -> Snapshot:
        tasks = cast("Iterable[Task]", self._in_order(Table.TASK))
        agents = cast("Iterable[Agent]", self._in_order(Table.AGENT))
        return Snapshot(
            tasks=[task for task in tasks if not task.state.terminal],
            edges=cast("list[Edge]", self._in_order(Table.EDGE)),
            tallies=[
                tally
                for tally in cast("Iterable[Tally]", self._in_order(Table.TALLY))
                if tally.live
            ],
            holds=cast("list[Hold]", self._in_order(Table.HOLD)),
            limits=cast("list[Limit]", self._in_order(Table.RULE)),
            rates=cast("list[Usage]", self._in_order(Table.RATE)),
            agents=[agent for agent in agents if agent.pool == pool],
            accounts=cast("list[Account]", self._in_order(Table.ACCOUNT)),
            machines=cast("list[Machine]", self._in_order(Table.MACHINE)),
            todos=cast("list[Todo]", self._in_order(Table.TODO)),
            budgets=cast("list[ScopeBudget]", self._in_order(Table.BUDGET)),
            pauses=cast("list[Pause]", self._in_order(Table.PAUSE)),
            locks=cast("list[Lock]", self._in_order(Table.LOCK)),
            lock_numbers=cast("Head | None", self._rows[Table.HEAD].get(numbers_log(pool))),
            asks=[
                ask
                for ask in cast("Iterable[Ask]", self._in_order(Table.ASK))
                if ask.state is AskState.OPEN
            ],
        )

    async def get(self, keys: Sequence[tuple[Table, str]]) -> list[Row | None]:
        return [self._rows[table].get(key) for table, key in keys]

    async def query(self, query: Query) -> Page:
        rules.check_query(query)
        rows = self._rows[query.table]
        least, end = _bounds(query)
        keys = self._keys(query.table)
        near = keys[bisect_left(keys, least) : bisect_left(keys, end)]
        if query.after is None:
            near.reverse()
        plain = query.fragment is None and not query.where
        found = iter(near) if plain else (k for k in near if _matches(query, k, rows[k]))
        page = list(islice(found, query.limit))
        more = next(found, None) is not None
        return Page([rows[key] for key in page], page[-1] if more else None)

    async def sums(self, asked: Sums) -> Sequence[Sum]:
        rules.check_sums(asked)
        added: dict[str | int | None, list[int]] = {}
        wanted = Query(table=asked.table, where=asked.where, prefix=asked.prefix)
        least, end = _bounds(wanted)
        for key, row in self._rows[asked.table].items():
            small = any(getattr(row, name) < much for name, much in asked.least.items())
            if small or not (least <= key < end and _matches(wanted, key, row)):
                continue
            value = None if asked.by is None else getattr(row, asked.by)
            sums = added.setdefault(value, [0] * (len(asked.columns) + 1))
            numbers = [1, *(int(getattr(row, name) or 0) for name in asked.columns)]
            added[value] = [*map(add, sums, numbers)]
        found = [Sum(value, rows, tuple(sums)) for value, (rows, *sums) in added.items()]
        return sorted(found, key=lambda one: (-one.sums[0], str(one.value)))[: asked.limit]

    async def search(self, asked: Words) -> Found:
        words = search.words_of(asked.text)
        found: dict[tuple[Table, str], bool] = {}
        for table in asked.tables:
            for key, row in sorted(self._rows[table].items()):
                one = search.of(table, key, row)
                if one is not None and one.project in (None, asked.project):
                    text = f"{one.title} {one.text}".lower()
                    found[one.table, one.key] = all(word in text for word in words)
        keys = [place for place, fits in found.items() if fits and words]
        return Found(keys[::-1][: asked.limit])

    async def index(self, limit: int) -> bool:  # noqa: ARG002  # it looks at the rows themselves
        return True

    async def commit(self, batch: Batch) -> Verdict:
        rules.check_batch(batch)
        if batch.term is not None and self._terms.get(batch.pool) != batch.term:
            return TermLost()
        staged: _Staged = {}
        changes = (*batch.changes, *self._audits(batch)) if batch.audits else batch.changes
        if not all(self._stage(staged, change) for change in changes):
            return Conflict(self.images(batch))
        for (table, key), row in staged.items():
            rows = self._rows[table]
            if row is None:
                rows.pop(key, None)
                self._ordered.pop(table, None)
                continue
            if key not in rows:
                self._ordered.pop(table, None)
            rows[key] = row
        first = self._log[-1].seq + 1 if self._log else 1  # the newest batch is never forgotten
        self._forget(batch)
        for seq, append in enumerate(batch.appends, first):
            self._log.append(LogRecord(seq, append.log, append.record))
        if batch.appends:
            self._spans.append((first, first + len(batch.appends) - 1))
        self._remember(batch.id)
        return Committed(first)

    async def outcome(self, batch: BatchId) -> bool:
        return batch in self._recent

    async def read(self, log: str | None, after: int, limit: int) -> Sequence[LogRecord]:
        start = bisect_right(self._log, after, key=lambda record: record.seq)
        if log is None:
            return self._log[start : start + limit]
        found = (record for record in self._log[start:] if record.log == log)
        return [record for record, _ in zip(found, range(limit), strict=False)]

    async def prune(self, now: WallTime) -> int:
        requests = cast("dict[str, RequestRecord]", self._rows[Table.REQUEST])
        expired = [key for key, record in requests.items() if record.expires_at <= now]
        for key in expired:
            del requests[key]
        self._ordered.pop(Table.REQUEST, None)
        return len(expired)

    async def snapshot(self, path: str) -> None:
        tables = {
            table: [msgspec.Raw(codec.encode(row)) for row in self._in_order(table)]
            for table in Table
        }
        Path(path).write_bytes(msgspec.json.encode(tables))  # noqa: ASYNC240  # small: tests only

    async def verify(self) -> Sequence[Problem]:
        return invariants.problems(lambda table: self._rows[table].items())

    async def checkpoint(self) -> None:
        return

    def images(self, batch: Batch) -> list[tuple[Table, str, Row | None]]:
        """Return the rows of `batch` that are not as it expects, or all if all are."""
        expected = rules.first_expectations(batch)
        images = [
            (table, key, self._rows[table].get(key), version)
            for (table, key), version in expected.items()
        ]
        return rules.mismatches(images)

    def _stage(self, staged: _Staged, change: Change) -> bool:
        place = (change.table, change.key)
        row = staged[place] if place in staged else self._rows[change.table].get(change.key)
        version = None if row is None else row.version
        new = None if isinstance(change, Delete) else change.row
        expected = None if isinstance(change, Insert) else change.expected
        staged[place] = new
        return version == expected

    def _forget(self, batch: Batch) -> None:
        if not batch.forgets:
            return
        gone = [
            (first, last)
            for first, last in self._spans[:-1]
            if any(low <= first and last <= high for low, high in batch.forgets)
        ]
        if gone:
            seqs = {seq for first, last in gone for seq in range(first, last + 1)}
            self._log = [record for record in self._log if record.seq not in seqs]
            self._spans = [span for span in self._spans if span not in gone]

    def _audits(self, batch: Batch) -> Sequence[Change]:
        log = cast("dict[str, AuditEntry]", self._rows[Table.AUDIT])
        last = log[max(log)] if log else None
        return audit_chain.link(last, batch.audits, self._incarnation)

    def _in_order(self, table: Table) -> list[Row]:
        rows = self._rows[table]
        return [rows[key] for key in self._keys(table)]

    def _keys(self, table: Table) -> list[str]:
        """Return the keys of a table in order."""
        keys = self._ordered.get(table)
        if keys is None:
            keys = self._ordered[table] = sorted(self._rows[table])
        return keys

    def _remember(self, batch: BatchId) -> None:
        self._recent[batch] = None
        if len(self._recent) > rules.RECENT_BATCHES:
            self._recent.popitem(last=False)


def _bounds(query: Query) -> tuple[str, str]:
    """Return the least key that a query may find, and the first one behind all of them."""
    prefix = query.prefix or ""
    end = rules.prefix_end(prefix)
    after = "" if query.after is None else f"{query.after}\0"
    return max(prefix, after), end if query.before is None else min(end, query.before)


def _matches(query: Query, key: str, row: Row) -> bool:
    if query.fragment is not None and _fold(query.fragment) not in _fold(key):
        return False
    return all(str(getattr(row, name)) in accepted for name, accepted in query.where.items())


def _fold(text: str) -> str:
    # As SQL's LIKE does it: only ASCII letters have no case.
    return "".join(char.lower() if char.isascii() else char for char in text)
