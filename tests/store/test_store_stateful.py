"""One model of a store, against every store: whatever is done, rows and logs are the model's."""

import asyncio
import random
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agentcom.model.batch import Batch, Change, Delete, Insert, Row, Table, Update
from agentcom.model.ids import DEFAULT_POOL
from agentcom.model.task import Task, TaskState
from agentcom.store import sqlite_lists
from agentcom.store.base import Committed, Conflict, Full, Query, Store, TermLost, Verdict
from agentcom.store.failures import CommitUnknown, StoreFailed
from agentcom.store.memory import MemoryStore
from agentcom.store.sqlite import SMALL, SqliteStore
from agentcom.testing.simstore import Fault, SeededFaults, SimulatedStore
from agentcom.testing.store_rows import batch, task

T = TypeVar("T")
NAMES = st.sampled_from(["t1", "t2", "t3", "t4"])
OPERATION = st.tuples(st.sampled_from(["insert", "update", "delete"]), NAMES, st.booleans())
Plan = list[tuple[str, str, bool]]
RATES = {
    Fault.CONFLICT: 0.1,
    Fault.FULL: 0.1,
    Fault.TERM_LOST: 0.1,
    Fault.UNKNOWN_APPLIED: 0.1,
    Fault.UNKNOWN_LOST: 0.1,
    Fault.CRASH_APPLIED: 0.1,
    Fault.CRASH_LOST: 0.1,
}
PROFILE = settings(
    max_examples=25,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


class StoreModel(RuleBasedStateMachine):
    """What a store must look like after any sequence of calls."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.store = self.make()
        self.rows: dict[str, Task] = {}
        self.log: list[str] = []
        self.batches = 0
        self.term = 0

    def make(self) -> Store:
        return MemoryStore()

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(call)

    @initialize()
    def start(self) -> None:
        self.run(self.store.open())
        self.lead()

    @rule()
    def lead(self) -> None:
        self.term = self.run(self.store.acquire(DEFAULT_POOL, "model"))

    @rule(plan=st.lists(OPERATION, max_size=6), records=st.lists(NAMES, max_size=3))
    def commit(self, plan: Plan, records: list[str]) -> None:
        step, after = self.prepare(plan, records)

        verdict = self.ask(step)

        self.judge(step, verdict, after, records)

    @rule(plan=st.lists(OPERATION, min_size=1, max_size=3))
    def commit_with_an_old_term(self, plan: Plan) -> None:
        step, _ = self.prepare(plan, ["t1"], term=self.term - 1)

        assert not isinstance(self.ask(step), Committed)

    @rule()
    def tidy(self) -> None:
        self.run(self.store.checkpoint())

    @invariant()
    def rows_are_the_models(self) -> None:
        found = self.run(self.store.query(Query(table=Table.TASK))).rows
        assert list(found) == [self.rows[key] for key in sorted(self.rows, reverse=True)]

    @invariant()
    def live_tasks_are_scanned(self) -> None:
        found = self.run(self.store.scan(DEFAULT_POOL)).tasks
        live = [row for row in self.rows.values() if not row.state.terminal]
        assert sorted(found, key=lambda row: row.id) == sorted(live, key=lambda row: row.id)

    @invariant()
    def the_log_is_the_models(self) -> None:
        records = self.run(self.store.read(None, 0, 10_000))
        assert [record.record.task for record in records] == self.log
        assert [record.seq for record in records] == sorted({record.seq for record in records})

    def teardown(self) -> None:
        self.run(self.store.close())
        self.runner.close()

    def prepare(
        self, plan: Plan, records: list[str], term: int | None = None
    ) -> tuple[Batch, dict[str, Task] | None]:
        """Return a batch, and the rows after it (None: it must conflict)."""
        after: dict[str, Task] | None = dict(self.rows)
        seen = dict(self.rows)
        changes: list[Change] = []
        for operation, name, right in plan:
            change, fits = _change(operation, name, right, seen)
            changes.append(change)
            after = seen if after is not None and fits else None
            if not fits:
                break
        self.batches += 1
        own = self.term if term is None else term
        step = batch(f"b{self.batches}", *changes, appends=records, term=own)
        return step, after

    def ask(self, step: Batch) -> Verdict | None:
        """Return the verdict; None if there was none and the batch is not committed."""
        try:
            return self.run(self.store.commit(step))
        except (CommitUnknown, StoreFailed) as error:
            if isinstance(error, StoreFailed):
                self.run(self.store.open())
            return Committed(0) if self.run(self.store.outcome(step.id)) else None

    def judge(
        self,
        step: Batch,
        verdict: Verdict | None,
        after: dict[str, Task] | None,
        records: list[str],
    ) -> None:
        match verdict:
            case Committed():
                assert after is not None
                self.rows = after
                self.log += records
            case Conflict(images):
                assert after is None or self.faulty
                assert all(row == self.rows.get(key) for _, key, row in images)
                assert images or not step.changes
            case TermLost():
                assert self.faulty
                self.lead()
            case Full() | None:
                assert self.faulty
        assert self.run(self.store.outcome(step.id)) is isinstance(verdict, Committed)

    faulty = False


class SimulatedModel(StoreModel):
    faulty = True

    def make(self) -> Store:
        return SimulatedStore(SeededFaults(random.Random(11), RATES))


class SqliteModel(StoreModel):
    def make(self) -> Store:
        self.folder = tempfile.TemporaryDirectory()
        self.few = mock.patch.object(sqlite_lists, "ARREARS_MAX", 3)
        self.few.start()
        return SqliteStore(Path(self.folder.name) / "store.db", options=SMALL)

    @invariant()
    def the_lists_are_right(self) -> None:
        problems = self.run(self.store.verify())
        assert not [each.what for each in problems if "list" in each.what]

    @rule()
    def reopen(self) -> None:
        self.run(self.store.close())
        self.store = SqliteStore(Path(self.folder.name) / "store.db", options=SMALL)
        self.run(self.store.open())

    def teardown(self) -> None:
        super().teardown()
        self.few.stop()
        self.folder.cleanup()


def _change(operation: str, name: str, right: bool, rows: dict[str, Task]) -> tuple[Change, bool]:
    """Return a change, and whether it fits; if so, `rows` are as after it."""
    old: Row | None = rows.get(name)
    version = (old.version if old is not None else 1) + (0 if right else 7)
    if operation == "insert":
        if old is None:
            rows[name] = task(name)
        return Insert(Table.TASK, name, task(name)), old is None
    fits = old is not None and old.version == version
    if operation == "delete":
        if fits:
            del rows[name]
        return Delete(Table.TASK, name, version), fits
    state = TaskState.COMPLETED if version % 3 == 0 else TaskState.RUNNING
    new = task(name, state, version=version + 1)
    if fits:
        rows[name] = new
    return Update(Table.TASK, name, new, version), fits


TestMemory = StoreModel.TestCase
TestMemory.settings = PROFILE
TestSimulated = SimulatedModel.TestCase
TestSimulated.settings = PROFILE
TestSqlite = SqliteModel.TestCase
TestSqlite.settings = settings(PROFILE, max_examples=10)
