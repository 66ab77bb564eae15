"""What every store must do, as tests: derive from a suite here and give it `make`.

    class TestMyStore(DurableStoreSuite):
        @pytest.fixture
        def make(self, tmp_path):
            return lambda: MyStore(tmp_path / "store")

`make()` returns a store that is not open yet; of a durable store always over the same place.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import pytest

from agentcom.model.agent import Account, Agent, Machine
from agentcom.model.batch import Change, Delete, Insert, Table, Update, edge_key, hold_key
from agentcom.model.errors import InvalidInput
from agentcom.model.graph import Edge, Member, Tally
from agentcom.model.hold import Hold
from agentcom.model.ids import (
    DEFAULT_POOL,
    AccountId,
    AgentId,
    BatchId,
    MachineId,
    PoolId,
    TaskId,
    UserId,
    WallTime,
)
from agentcom.model.task import TaskState
from agentcom.model.todo import Todo, TodoKind
from agentcom.store.base import Committed, Conflict, Query, Store, TermLost
from agentcom.testing.store_forget import ForgetSuite
from agentcom.testing.store_listings import ListingSuite
from agentcom.testing.store_rows import batch, body, committed, new_task, one, request, task
from agentcom.testing.store_scan import ScanSuite
from agentcom.testing.store_search import SearchSuite
from agentcom.testing.store_sums import SumsSuite
from agentcom.testing.store_verify import VerifySuite

Make = Callable[[], Store]

IN_FLIGHT: Final = 200
MANY: Final = 10_000


class StoreSuite(ForgetSuite, ListingSuite, ScanSuite, SumsSuite, SearchSuite, VerifySuite):
    """For every store."""

    @pytest.fixture
    def make(self) -> Make:
        """Return what makes the store under test."""
        raise NotImplementedError

    @pytest.fixture
    async def store(self, make: Make) -> AsyncIterator[Store]:
        """Yield an open store."""
        store = make()
        await store.open()
        yield store
        await store.close()

    async def test_a_committed_row_can_be_read(self, store: Store) -> None:
        await committed(store, batch("b1", *new_task("t1")))

        assert await store.get([(Table.TASK, "t1"), (Table.BODY, "t1"), (Table.TASK, "t2")]) == [
            task("t1"),
            body("t1"),
            None,
        ]

    async def test_an_update_replaces_the_row_of_the_expected_version(self, store: Store) -> None:
        await committed(store, batch("b1", *new_task("t1")))
        running = task("t1", TaskState.RUNNING, version=2)

        await committed(store, batch("b2", Update(Table.TASK, "t1", running, expected=1)))

        assert await one(store, Table.TASK, "t1") == running

    async def test_a_delete_ends_the_row(self, store: Store) -> None:
        await committed(store, batch("b1", *new_task("t1")))

        await committed(store, batch("b2", Delete(Table.TASK, "t1", expected=1)))

        assert await one(store, Table.TASK, "t1") is None

    @pytest.mark.parametrize(
        "change",
        [
            Insert(Table.TASK, "t1", task("t1")),
            Update(Table.TASK, "t1", task("t1", version=9), expected=8),
            Delete(Table.TASK, "t1", expected=2),
        ],
    )
    async def test_a_wrong_expectation_fails_with_the_row_as_it_is(
        self, store: Store, change: Change
    ) -> None:
        await committed(store, batch("b1", *new_task("t1")))

        verdict = await store.commit(batch("b2", change, appends=["t1"]))

        assert verdict == Conflict([(Table.TASK, "t1", task("t1"))])
        assert await store.read(None, 0, 10) == []

    async def test_a_missing_row_is_an_empty_image(self, store: Store) -> None:
        change = Update(Table.TASK, "t1", task("t1", version=2), expected=1)

        assert await store.commit(batch("b1", change)) == Conflict([(Table.TASK, "t1", None)])

    async def test_one_wrong_change_undoes_the_whole_batch(self, store: Store) -> None:
        await committed(store, batch("b1", *new_task("t1")))
        good = Update(Table.TASK, "t1", task("t1", version=2), expected=1)

        verdict = await store.commit(
            batch("b2", good, *new_task("t2"), Delete(Table.HOLD, "h", expected=1), appends=["t2"])
        )

        assert verdict == Conflict([(Table.HOLD, "h", None)])
        assert await one(store, Table.TASK, "t1") == task("t1")
        assert await one(store, Table.TASK, "t2") is None
        assert await store.read(None, 0, 10) == []
        assert not await store.outcome(BatchId("b2"))

    async def test_changes_of_one_row_apply_in_order(self, store: Store) -> None:
        key = hold_key("t1", "slot")
        first = Hold(task=TaskId("t1"), attempt=1, key="slot")
        second = Hold(task=TaskId("t1"), attempt=2, key="slot")
        await committed(store, batch("b1", Insert(Table.HOLD, key, first)))

        again = batch("b2", Delete(Table.HOLD, key, expected=1), Insert(Table.HOLD, key, second))
        await committed(store, again)

        assert await one(store, Table.HOLD, key) == second

    async def test_a_row_that_is_inserted_updated_and_deleted_is_gone(self, store: Store) -> None:
        changes = (
            Insert(Table.TASK, "t1", task("t1")),
            Update(Table.TASK, "t1", task("t1", version=2), expected=1),
            Delete(Table.TASK, "t1", expected=2),
        )

        await committed(store, batch("b1", *changes))

        assert await one(store, Table.TASK, "t1") is None

    async def test_only_the_newest_term_may_commit(self, store: Store) -> None:
        old = await store.acquire(DEFAULT_POOL, "a")
        new = await store.acquire(DEFAULT_POOL, "b")

        verdict = await store.commit(batch("b1", *new_task("t1"), term=old, appends=["t1"]))

        assert new > old
        assert verdict == TermLost()
        assert await one(store, Table.TASK, "t1") is None
        await committed(store, batch("b2", *new_task("t1"), term=new))

    async def test_terms_of_pools_are_independent(self, store: Store) -> None:
        term = await store.acquire(DEFAULT_POOL, "a")

        await store.acquire(PoolId("other"), "a")

        await committed(store, batch("b1", *new_task("t1"), term=term))

    async def test_sequences_are_consecutive_in_a_batch_and_grow(self, store: Store) -> None:
        first = await committed(store, batch("b1", appends=["t1", "t2", "t1"]))
        second = await committed(store, batch("b2", appends=["t1"]))

        records = await store.read(None, 0, 10)

        assert second >= first + 3
        assert [record.seq for record in records] == [first, first + 1, first + 2, second]
        assert [record.record.task for record in records] == ["t1", "t2", "t1", "t1"]

    async def test_a_log_is_read_alone_and_on_from_a_cursor(self, store: Store) -> None:
        first = await committed(store, batch("b1", appends=["t1", "t2", "t1", "t1"]))

        records = await store.read("task/t1", first, 1)

        assert [(record.seq, record.log) for record in records] == [(first + 2, "task/t1")]
        assert await store.read("task/t1", first + 3, 9) == []
        assert await store.read("task/t3", 0, 9) == []

    async def test_a_refused_batch_leaves_no_gap_that_matters(self, store: Store) -> None:
        first = await committed(store, batch("b1", appends=["t1"]))
        await store.commit(batch("b2", Delete(Table.TASK, "no", expected=1), appends=["t1"]))

        second = await committed(store, batch("b3", appends=["t1"]))

        assert second > first
        seqs = [record.seq for record in await store.read(None, 0, 10)]
        assert seqs == [first, second]

    async def test_the_outcome_of_a_batch_can_be_asked(self, store: Store) -> None:
        await committed(store, batch("b1", appends=["t1"]))

        assert await store.outcome(BatchId("b1"))
        assert await store.outcome(BatchId("b1"))
        assert not await store.outcome(BatchId("b2"))

    async def test_commits_in_flight_together_keep_their_order(self, store: Store) -> None:
        await committed(store, batch("b0", *new_task("t1")))
        steps = [
            batch(
                f"b{n}",
                Update(Table.TASK, "t1", task("t1", version=n + 1), expected=n),
                appends=["t1"],
            )
            for n in range(1, IN_FLIGHT + 1)
        ]

        verdicts = await asyncio.gather(*(store.commit(step) for step in steps))

        firsts = [v.first for v in verdicts if isinstance(v, Committed)]
        assert len(firsts) == IN_FLIGHT
        assert firsts == sorted(set(firsts))
        assert await one(store, Table.TASK, "t1") == task("t1", version=IN_FLIGHT + 1)

    async def test_a_conflict_does_not_touch_its_neighbours(self, store: Store) -> None:
        steps = [batch(f"b{n}", *new_task("same" if n % 2 else f"t{n}")) for n in range(8)]

        verdicts = await asyncio.gather(*(store.commit(step) for step in steps))

        assert [isinstance(v, Committed) for v in verdicts] == [True, True, *[True, False] * 3]
        assert await one(store, Table.TASK, "t6") == task("t6")

    async def test_the_scan_returns_what_is_live(self, store: Store) -> None:
        edge = Edge(task=TaskId("t1"), on=TaskId("t2"))
        hold = Hold(task=TaskId("t2"), attempt=1, key="slot")
        agent = Agent(id=AgentId("bob"), machine=MachineId("m1"), runtime="claude")
        account = Account(id=AccountId("anthropic:ann"), parked_until=WallTime(9))
        machine = Machine(
            id=MachineId("m1"), name="m1", owner=UserId("ada"), created_at=WallTime(1)
        )
        tally = Tally(id="group/default/g", made=2, live=1, states={"queued": 1})
        over = Tally(id="group/default/h", made=2)
        todo = Todo(kind=TodoKind.RELEASE_DEPENDANTS, task=TaskId("t3"))
        await committed(
            store,
            batch(
                "b1",
                *new_task("t1", TaskState.WAITING),
                *new_task("t2", TaskState.RUNNING),
                *new_task("t3", TaskState.COMPLETED),
                Insert(Table.EDGE, edge_key("t1", "t2"), edge),
                Insert(Table.HOLD, hold_key("t2", "slot"), hold),
                Insert(Table.AGENT, "bob", agent),
                Insert(Table.ACCOUNT, account.id, account),
                Insert(Table.MACHINE, "m1", machine),
                Insert(Table.TODO, "t3", todo),
                Insert(Table.MEMBER, "group/default/g/t1", Member(task=TaskId("t1"))),
                Insert(Table.TALLY, tally.id, tally),
                Insert(Table.TALLY, over.id, over),
            ),
        )

        found = await store.scan(DEFAULT_POOL)

        assert sorted(each.id for each in found.tasks) == ["t1", "t2"]
        assert (list(found.edges), list(found.holds)) == ([edge], [hold])
        assert (list(found.agents), list(found.machines)) == ([agent], [machine])
        assert list(found.accounts) == [account]
        assert (list(found.todos), list(found.tallies)) == ([todo], [tally])
        listed = await store.query(Query(table=Table.MEMBER, prefix="group/default/g/"))
        assert list(listed.rows) == [Member(task=TaskId("t1"))]

    async def test_a_task_leaves_the_scan_when_it_ends_and_comes_back_when_reopened(
        self, store: Store
    ) -> None:
        await committed(store, batch("b1", *new_task("t1")))
        failed = task("t1", TaskState.FAILED, version=2)
        await committed(store, batch("b2", Update(Table.TASK, "t1", failed, expected=1)))

        assert (await store.scan(DEFAULT_POOL)).tasks == []

        queued = task("t1", TaskState.QUEUED, version=3)
        await committed(store, batch("b3", Update(Table.TASK, "t1", queued, expected=2)))
        assert (await store.scan(DEFAULT_POOL)).tasks == [queued]

    async def test_ten_thousand_tasks_are_scanned(self, store: Store) -> None:
        for part in range(MANY // 1_000):
            changes = [
                Insert(Table.TASK, name, task(name))
                for name in (f"t{part}{n:03}" for n in range(1_000))
            ]
            await committed(store, batch(f"b{part}", *changes))

        assert len({each.id for each in (await store.scan(DEFAULT_POOL)).tasks}) == MANY

    async def test_large_rows_and_all_of_unicode_come_back_as_they_were(self, store: Store) -> None:
        text = "\u00e4\u4e16\U0001f600\u0000\u2028'\"\\" * 20_000
        row = body("t1", text)

        await committed(store, batch("b1", Insert(Table.BODY, "t1 \u4e16/\U0001f600", row)))

        assert await one(store, Table.BODY, "t1 \u4e16/\U0001f600") == row

    async def test_a_key_with_a_nul_is_refused(self, store: Store) -> None:
        with pytest.raises(InvalidInput):
            await store.commit(batch("b1", Insert(Table.BODY, "t\0", body("t"))))

        await committed(store, batch("b2", *new_task("t1")))

    async def test_prune_deletes_requests_that_expired(self, store: Store) -> None:
        old, new = request("ada/1", expires_at=100), request("ada/2", expires_at=101)
        rows = (Insert(Table.REQUEST, old.key, old), Insert(Table.REQUEST, new.key, new))
        await committed(store, batch("b1", *rows))

        assert await store.prune(WallTime(100)) == 1
        assert await store.get([(Table.REQUEST, "ada/1"), (Table.REQUEST, "ada/2")]) == [None, new]
        assert await store.prune(WallTime(100)) == 0

    async def test_a_sound_store_verifies(self, store: Store) -> None:
        hold = Hold(task=TaskId("t1"), attempt=1, key="slot")
        await committed(
            store,
            batch(
                "b1",
                *new_task("t1", TaskState.RUNNING),
                *new_task("t2"),
                Insert(Table.HOLD, hold_key("t1", "slot"), hold),
                Insert(Table.EDGE, "t2/t1", Edge(task=TaskId("t2"), on=TaskId("t1"))),
            ),
        )

        assert list(await store.verify()) == []

    async def test_a_snapshot_is_a_file_of_its_own(self, store: Store, tmp_path: Path) -> None:
        await committed(store, batch("b1", *new_task("t1")))

        await store.snapshot(str(tmp_path / "copy"))

        assert (tmp_path / "copy").stat().st_size > 0  # a test's own file

    async def test_a_checkpoint_changes_nothing(self, store: Store) -> None:
        await committed(store, batch("b1", *new_task("t1"), appends=["t1"]))

        await store.checkpoint()

        assert await one(store, Table.TASK, "t1") == task("t1")
        await committed(store, batch("b2", *new_task("t2")))


class DurableStoreSuite(StoreSuite):
    """For stores that are still there after the process."""

    async def test_everything_is_there_after_reopening(self, make: Make) -> None:
        store = make()
        incarnation = await store.open()
        term = await store.acquire(DEFAULT_POOL, "a")
        first = await committed(store, batch("b1", *new_task("t1"), appends=["t1"]))
        await store.close()

        store = make()
        assert await store.open() == incarnation
        try:
            assert await one(store, Table.TASK, "t1") == task("t1")
            assert [record.seq for record in await store.read(None, 0, 9)] == [first]
            assert await store.outcome(BatchId("b1"))
            assert await store.acquire(DEFAULT_POOL, "b") > term
            assert await committed(store, batch("b2", appends=["t1"])) > first
        finally:
            await store.close()

    async def test_closing_twice_is_harmless(self, make: Make) -> None:
        store = make()
        await store.open()

        await store.close()
        await store.close()
