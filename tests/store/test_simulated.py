import asyncio
import random

import pytest

from agentcom.model.batch import Table
from agentcom.model.ids import DEFAULT_POOL, BatchId
from agentcom.store.base import Committed, Conflict, Full, TermLost
from agentcom.store.failures import CommitUnknown, StoreFailed
from agentcom.testing.simstore import Fault, ScriptedFaults, SeededFaults, SimulatedStore
from agentcom.testing.store_rows import batch, committed, new_task, one, task
from agentcom.testing.store_suite import Make, StoreSuite


class TestSimulatedStore(StoreSuite):
    @pytest.fixture
    def make(self) -> Make:
        return lambda: SimulatedStore(ScriptedFaults())


async def _opened(*faults: Fault) -> SimulatedStore:
    store = SimulatedStore(ScriptedFaults(*faults))
    await store.open()
    return store


async def test_an_injected_conflict_writes_nothing_and_shows_the_rows() -> None:
    store = await _opened(Fault.CONFLICT)

    verdict = await store.commit(batch("b1", *new_task("t1")))

    assert verdict == Conflict([(Table.TASK, "t1", None), (Table.BODY, "t1", None)])
    assert await one(store, Table.TASK, "t1") is None


async def test_an_injected_full_disk_writes_nothing() -> None:
    store = await _opened(Fault.FULL)

    assert await store.commit(batch("b1", *new_task("t1"))) == Full()
    assert await one(store, Table.TASK, "t1") is None


async def test_a_lost_term_stays_lost() -> None:
    store = await _opened(Fault.TERM_LOST)
    term = await store.acquire(DEFAULT_POOL, "a")

    for name in ("b1", "b2"):
        assert await store.commit(batch(name, *new_task("t1"), term=term)) == TermLost()

    term = await store.acquire(DEFAULT_POOL, "a")
    await committed(store, batch("b3", *new_task("t1"), term=term))


@pytest.mark.parametrize(
    ("fault", "applied"), [(Fault.UNKNOWN_APPLIED, True), (Fault.UNKNOWN_LOST, False)]
)
async def test_an_unknown_outcome_can_be_asked(fault: Fault, applied: bool) -> None:
    store = await _opened(fault)

    with pytest.raises(CommitUnknown):
        await store.commit(batch("b1", *new_task("t1")))

    assert await store.outcome(BatchId("b1")) is applied
    assert (await one(store, Table.TASK, "t1") is not None) is applied


@pytest.mark.parametrize(
    ("fault", "applied"), [(Fault.CRASH_APPLIED, True), (Fault.CRASH_LOST, False)]
)
async def test_after_a_crash_only_opening_helps(fault: Fault, applied: bool) -> None:
    store = await _opened(Fault.NONE, fault)
    await committed(store, batch("b1", *new_task("t1")))

    with pytest.raises(StoreFailed):
        await store.commit(batch("b2", *new_task("t2")))
    with pytest.raises(StoreFailed):
        await store.scan(DEFAULT_POOL)

    await store.open()
    assert await one(store, Table.TASK, "t1") == task("t1")
    assert (await one(store, Table.TASK, "t2") is not None) is applied


async def test_a_crash_loses_the_commit_that_is_on_its_way() -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def wait(_duration_ms: int) -> None:
        asked.set()
        await go.wait()

    store = SimulatedStore(ScriptedFaults(Fault.SLOW), sleep_ms=wait)
    await store.open()
    commit = asyncio.create_task(store.commit(batch("b1", *new_task("t1"))))
    await asked.wait()
    store.crash()
    await store.open()
    go.set()

    with pytest.raises(StoreFailed):
        await commit
    assert await one(store, Table.TASK, "t1") is None


async def test_slow_commits_keep_their_order() -> None:
    async def wait(_duration_ms: int) -> None:
        await asyncio.sleep(0)

    store = SimulatedStore(ScriptedFaults(Fault.SLOW), sleep_ms=wait)
    await store.open()

    verdicts = await asyncio.gather(
        store.commit(batch("b1", appends=["t1"])), store.commit(batch("b2", appends=["t1"]))
    )

    assert list(verdicts) == [Committed(1), Committed(2)]


def test_seeded_faults_repeat() -> None:
    rates = {Fault.CONFLICT: 0.3, Fault.FULL: 0.3}

    runs = []
    for _ in range(2):
        faults = SeededFaults(random.Random(7), rates)
        runs.append([faults.next() for _ in range(100)])

    assert runs[0] == runs[1]
    assert set(runs[0]) == {Fault.CONFLICT, Fault.FULL, Fault.NONE}
