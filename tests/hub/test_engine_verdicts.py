"""What the engine does when its store is full, knows better, or does not know."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from agentcom.core import due_facts, facts
from agentcom.core.effects import CloseConnection, SetTimer
from agentcom.core.facts import Fact
from agentcom.model.batch import Table
from agentcom.model.errors import StorageFull, Unavailable
from agentcom.model.ids import AgentId, MachineId, UserId
from agentcom.model.task import Task, TaskState
from agentcom.store.base import Query
from agentcom.store.failures import StoreFailed
from agentcom.testing.simstore import Fault, ScriptedFaults, SimulatedStore
from agentcom.testing.world import person
from tests.hub.engine_house import DONE, M1, GatedStore, Hub, running


@asynccontextmanager
async def simulated(*faults: Fault) -> AsyncIterator[tuple[Hub, ScriptedFaults]]:
    """Run a hub with one connected machine; the faults begin afterwards."""
    script = ScriptedFaults()
    async with running(SimulatedStore(script)) as hub:
        await hub.connect()
        script._faults.extend(faults)
        yield hub, script


async def test_when_the_disk_is_full_submits_are_refused_and_completions_go_through() -> None:
    async with simulated() as (hub, script):
        task = await hub.submit()
        script._faults.append(Fault.FULL)
        row = await hub.stored(task)
        hub.engine.put(Fact(body=facts.Finished(task, row.fence, DONE), actor=M1))

        with pytest.raises(StorageFull):
            await hub.submit("refused")
        await hub.engine.drained()

        assert (await hub.stored(task)).state is TaskState.COMPLETED
        assert [ack.applied for ack in hub.outlet.acks()] == [True]
        assert list(hub.engine.view.tasks) == []


async def test_when_there_is_no_room_at_all_memory_stays_as_it_was() -> None:
    async with simulated() as (hub, script):
        task = await hub.submit()
        script._faults.extend([Fault.FULL, Fault.FULL])
        before = dict(hub.engine.view.tasks)
        hub.engine.put(Fact(body=facts.Finished(task, before[task].fence, DONE), actor=M1))

        with pytest.raises(StorageFull):
            await hub.submit("refused")
        await hub.engine.drained()

        assert hub.engine.view.tasks == before
        assert hub.outlet.acks() == []


async def test_a_request_that_is_no_submit_is_refused_when_there_is_no_room() -> None:
    async with simulated() as (hub, script):
        task = await hub.submit()
        script._faults.append(Fault.FULL)

        with pytest.raises(StorageFull):
            await hub.ask(facts.Cancel(task), person("ann"))


async def test_a_timer_that_came_while_there_was_no_room_comes_again() -> None:
    async with simulated() as (hub, script):
        task = await hub.submit()
        hub.clock.advance(hub.engine.view.tasks[task].deadline_ms)
        script._faults.append(Fault.FULL)
        due = due_facts.DeadlineReached()

        await hub.tell(due, facts.HUB)

        again = [e for e in hub.outlet.effects if isinstance(e, SetTimer) and e.body == due]
        assert again[-1].at == hub.clock.instant + 1_000


async def test_a_socket_that_closed_while_there_was_no_room_is_no_black_hole() -> None:
    async with simulated(Fault.FULL, Fault.FULL) as (hub, _):
        gone = facts.MachineDisconnected(MachineId("m1"), 1)
        hub.engine.put(Fact(body=gone))
        hub.engine.put(Fact(body=facts.Enrol(MachineId("m2"), "m2", UserId("ann"))))

        with pytest.raises(StorageFull):
            await hub.submit("refused")
        (again,) = [e for e in hub.outlet.effects if isinstance(e, SetTimer) and e.body == gone]
        hub.engine.timer(again.body, 0)
        task = await hub.submit("later")

        assert (await hub.stored(task)).state is TaskState.QUEUED


async def test_after_a_conflict_the_rows_are_read_again_and_the_facts_decided_once_more() -> None:
    async with simulated(Fault.CONFLICT) as (hub, _):
        task = await hub.submit()

        assert (await hub.stored(task)).state is TaskState.ASSIGNED
        assert len(hub.outlet.pushes()) == 1


async def test_a_second_conflict_is_given_to_whoever_asked() -> None:
    async with simulated(Fault.CONFLICT, Fault.CONFLICT) as (hub, _):
        with pytest.raises(Unavailable):
            await hub.submit()

        assert hub.engine.view.tasks == {}
        await hub.submit("works")


async def test_a_conflict_while_a_machine_takes_over_still_closes_its_old_socket() -> None:
    async with simulated(Fault.CONFLICT) as (hub, _):
        await hub.connect()

        closed = [e for e in hub.outlet.effects if isinstance(e, CloseConnection)]
        assert [effect.connection for effect in closed] == [1]


@pytest.mark.parametrize("fault", [Fault.UNKNOWN_APPLIED, Fault.UNKNOWN_LOST])
@pytest.mark.parametrize("key", [None, "k1"])
async def test_a_commit_of_unknown_fate_happens_exactly_once(fault: Fault, key: str | None) -> None:
    async with simulated(fault) as (hub, _):
        task = await hub.submit(key=key)

        rows = await hub.store.query(Query(table=Table.TASK))
        assert [row.id for row in rows.rows if isinstance(row, Task)] == [task]
        assert len(hub.outlet.pushes()) == 1
        ((first, _appends),) = hub.outlet.published
        assert first == (await hub.store.read(None, 0, 1))[0].seq


async def test_a_commit_without_records_whose_fate_is_unknown_is_published_as_nothing() -> None:
    async with simulated(Fault.UNKNOWN_APPLIED) as (hub, _):
        await hub.ask(facts.PauseAgent(AgentId("m1"), paused=True), person("ann"))

        assert hub.outlet.published == []


async def test_records_that_say_the_same_keep_their_numbers_when_their_fate_is_unknown() -> None:
    async with simulated() as (hub, script):
        task = await hub.submit()
        script._faults.append(Fault.UNKNOWN_APPLIED)
        fence = hub.engine.view.tasks[task].fence

        for commit in ("a" * 40, "b" * 40):
            hub.engine.put(Fact(body=facts.Checkpointed(task, fence, commit), actor=M1))
        await hub.engine.drained()

        first, appends = hub.outlet.published[-1]
        assert appends[0] == appends[1]
        stored = await hub.store.read(None, 0, 100)
        assert [r.seq for r in stored][-2:] == [first, first + 1]


async def test_a_completion_of_unknown_fate_is_acknowledged_once_as_applied() -> None:
    async with simulated() as (hub, script):
        task = await hub.submit()
        script._faults.append(Fault.UNKNOWN_APPLIED)

        await hub.tell(facts.Finished(task, hub.engine.view.tasks[task].fence, DONE))

        assert [ack.applied for ack in hub.outlet.acks()] == [True]


async def test_a_hub_that_lost_its_term_ends_and_leaves_nobody_waiting() -> None:
    store = SimulatedStore(ScriptedFaults(Fault.TERM_LOST))
    hub = Hub(store)
    await hub.engine.start(await store.open())
    answer = asyncio.ensure_future(hub.submit())

    with pytest.raises(Unavailable, match="another hub"):
        await hub.engine.run()

    with pytest.raises(Unavailable):
        await answer


async def test_a_store_that_fails_ends_the_loop() -> None:
    store = SimulatedStore(ScriptedFaults(Fault.CRASH_LOST))
    hub = Hub(store)
    await hub.engine.start(await store.open())
    answer = asyncio.ensure_future(hub.submit())

    with pytest.raises(StoreFailed):
        await hub.engine.run()
    with pytest.raises(Unavailable):
        await answer


async def test_repeated_reports_in_one_batch_have_one_effect_and_one_answer() -> None:
    store = GatedStore()
    async with running(store) as hub:
        await hub.connect()
        task = await hub.submit()
        report = Fact(body=facts.Finished(task, hub.engine.view.tasks[task].fence, DONE), actor=M1)
        for _ in range(3):
            hub.engine.put(report)
        await hub.engine.drained()

        assert [ack.applied for ack in hub.outlet.acks()] == [True, True, True]
        kept = await store.query(Query(table=Table.RESULT))
        assert len(kept.rows) == 1
