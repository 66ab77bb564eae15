"""The loop of a pool on stores that hang, fill up, disagree and crash."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentcom.core import due_facts, facts
from agentcom.core.effects import Acknowledge, CloseConnection, Continue, Effect, Push, SetTimer
from agentcom.core.facts import Fact
from agentcom.hub.engine import Engine
from agentcom.model import limits
from agentcom.model.agent import AgentSpec
from agentcom.model.batch import Append, Batch, Table
from agentcom.model.errors import NotFound, RateLimited, StorageFull, Unavailable
from agentcom.model.identity import Identity
from agentcom.model.ids import DEFAULT_POOL, AgentId, Fence, MachineId, TaskId, UserId
from agentcom.model.replies import Reply, Submitted
from agentcom.model.result import Result, ResultStatus
from agentcom.model.task import Task, TaskSpec, TaskState
from agentcom.store.base import Query, Verdict
from agentcom.store.failures import StoreFailed
from agentcom.store.memory import MemoryStore
from agentcom.testing import invariants
from agentcom.testing.simstore import Fault, ScriptedFaults, SeededFaults, SimulatedStore
from agentcom.testing.waiting import PATIENCE_S
from agentcom.testing.world import machine, person
from tests.hub.doubles import CountingIds, FixedRng, ManualClock

M1 = machine("m1")
DONE = Result(status=ResultStatus.DONE, commit="c" * 40)
_REPLY: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply)


class Recorder:
    """Keeps effects; timers wait until they are rung."""

    def __init__(self) -> None:
        self.effects: list[Effect] = []
        self.published: list[tuple[int, Sequence[Append]]] = []
        self.put: Callable[[Fact], object] = lambda _fact: None

    def perform(self, effects: Sequence[Effect]) -> None:
        self.effects += effects
        for effect in effects:
            if isinstance(effect, Continue):
                self.put(Fact(body=effect.body))

    def publish(self, first: int, appends: Sequence[Append]) -> None:
        if appends:
            self.published.append((first, appends))

    def pushes(self) -> list[Push]:
        return [effect for effect in self.effects if isinstance(effect, Push)]

    def acks(self) -> list[Acknowledge]:
        return [effect for effect in self.effects if isinstance(effect, Acknowledge)]


class GatedStore(MemoryStore):
    """Commits when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = asyncio.Event()
        self.batches: list[Batch] = []

    async def commit(self, batch: Batch) -> Verdict:
        self.batches.append(batch)
        self.asked.set()
        await self.gate.wait()
        return await super().commit(batch)

    def hang(self) -> None:
        self.gate.clear()
        self.asked.clear()


class Hub:
    """An engine with everything around it."""

    def __init__(self, store: MemoryStore | SimulatedStore, ids: CountingIds | None = None) -> None:
        self.store = store
        self.clock = ManualClock()
        self.outlet = Recorder()
        self.engine = Engine(
            store,
            self.outlet,
            pool_id=DEFAULT_POOL,
            holder="hub",
            clock=self.clock,
            ids=ids or CountingIds(),
            rng=FixedRng(0.5),
        )
        self.outlet.put = self.engine.put
        self.connections = 0

    async def ask(self, body: facts.Body, actor: Identity = M1, key: str | None = None) -> Reply:
        answer = await self.engine.ask(
            Fact(body=body, actor=actor, key=key, payload=repr(body) if key else None)
        )
        return _REPLY.decode(bytes(answer)) if isinstance(answer, msgspec.Raw) else answer

    async def tell(self, body: facts.Body, actor: Identity = M1) -> None:
        self.engine.put(Fact(body=body, actor=actor))
        await self.engine.drained()

    async def connect(self, name: str = "m1", slots: int = 1) -> None:
        if MachineId(name) not in self.engine.view.machines:
            await self.ask(facts.Enrol(MachineId(name), name, UserId("ann")), person("ann"))
        self.connections += 1
        spec = AgentSpec(name=AgentId(name), runtime="command", slots=slots)
        body = facts.MachineConnected(
            agents=(spec,), held=(), ttl_ms=20_000, connection=self.connections
        )
        await self.ask(body, machine(name))

    async def submit(self, title: str = "t", key: str | None = None) -> TaskId:
        reply = await self.ask(a_submit(title), person("ann"), key)
        assert isinstance(reply, Submitted)
        return reply.tasks[0]

    async def stored(self, task: TaskId) -> Task:
        (row,) = await self.store.get([(Table.TASK, task)])
        assert isinstance(row, Task)
        return row


def a_submit(title: str = "t") -> facts.Submit:
    return facts.Submit((TaskSpec(title=title, prompt="p"),))


@asynccontextmanager
async def running(store: MemoryStore | SimulatedStore) -> AsyncIterator[Hub]:
    hub = Hub(store)
    await hub.engine.start(await store.open())
    loop = asyncio.create_task(hub.engine.run())
    try:
        yield hub
    finally:
        loop.cancel()
        with contextlib.suppress(asyncio.CancelledError, Unavailable, StoreFailed):
            await loop


@asynccontextmanager
async def simulated(*faults: Fault) -> AsyncIterator[tuple[Hub, ScriptedFaults]]:
    """Run a hub with one connected machine; the faults begin afterwards."""
    script = ScriptedFaults()
    async with running(SimulatedStore(script)) as hub:
        await hub.connect()
        script._faults.extend(faults)
        yield hub, script


async def test_before_the_start_there_is_no_view() -> None:
    with pytest.raises(Unavailable):
        _ = Hub(MemoryStore()).engine.view


async def test_no_effect_leaves_before_its_commit() -> None:
    store = GatedStore()
    async with running(store) as hub:
        await hub.connect()
        before = len(hub.outlet.effects)
        store.hang()

        answer = asyncio.ensure_future(hub.ask(a_submit(), person("ann")))
        await store.asked.wait()
        await asyncio.sleep(0)
        assert (len(hub.outlet.effects), answer.done()) == (before, False)
        store.gate.set()

        assert isinstance(await answer, Submitted)
        assert len(hub.outlet.pushes()) == 1


async def test_facts_that_come_during_a_commit_are_the_next_batch() -> None:
    store = GatedStore()
    async with running(store) as hub:
        await hub.connect()
        store.hang()
        first = asyncio.ensure_future(hub.submit("first"))
        await store.asked.wait()
        others = [asyncio.ensure_future(hub.submit(f"t{n}")) for n in range(5)]
        await asyncio.sleep(0)  # each of them comes to its question
        assert hub.engine.backlog == len(others)
        count = len(store.batches)
        store.gate.set()

        await asyncio.gather(first, *others)

        assert len(store.batches) == count + 1


async def test_a_turn_that_changes_nothing_needs_no_commit() -> None:
    store = GatedStore()
    async with running(store) as hub:
        await hub.connect()
        count = len(store.batches)

        await hub.tell(facts.Heartbeat(1, ()))

        assert len(store.batches) == count


async def test_records_are_published_with_their_places() -> None:
    async with running(MemoryStore()) as hub:
        await hub.connect()

        task = await hub.submit()

        ((first, appends),) = hub.outlet.published
        records = await hub.store.read(f"task/{task}", 0, 10)
        assert [(r.seq, r.record) for r in records] == [
            (first + n, append.record) for n, append in enumerate(appends)
        ]


async def test_a_push_of_a_task_from_before_the_start_carries_its_specification() -> None:
    store = MemoryStore()
    async with running(store) as hub:
        task = await hub.submit("old")
    async with running(store) as hub:
        hub.engine._ids.count = 1_000  # type: ignore[attr-defined]  # ids of another process
        await hub.connect()

        (push,) = hub.outlet.pushes()
        assert push.assignment.task == task
        assert push.body is not None
        assert push.body.spec.title == "old"


async def test_few_specifications_are_kept_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentcom.hub.bodies.CHARS_MAX", 1_200)
    async with running(MemoryStore()) as hub:
        for n in range(5):
            await hub.submit(f"t{n}")
        assert len(hub.engine._bodies) == 2

        await hub.connect(slots=5)

        assert [push.body is not None for push in hub.outlet.pushes()] == [True] * 5
        assert len(hub.engine._bodies) == 0


async def test_reports_that_nobody_waits_for_ride_with_the_next_fact() -> None:
    store = GatedStore()
    async with running(store) as hub:
        await hub.connect()
        turns: list[int] = []
        hub.engine.on_turn = lambda count, _seconds: turns.append(count)

        for _ in range(3):
            hub.engine.put(Fact(body=facts.Heartbeat(1, ()), actor=M1))
            await asyncio.sleep(0)
        await hub.submit()

        assert turns == [4]


async def test_a_report_comes_alone_when_nothing_else_does() -> None:
    async with running(MemoryStore()) as hub:
        await hub.connect()
        turn = asyncio.Event()
        hub.engine.on_turn = lambda _count, _seconds: turn.set()

        hub.engine.put(Fact(body=facts.Heartbeat(1, ()), actor=M1))

        async with asyncio.timeout(PATIENCE_S):
            await turn.wait()


async def test_a_full_inbox_refuses_requests_and_takes_reports(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "INBOX_MAX", 2)
    hub = Hub(MemoryStore())
    beat = Fact(body=facts.Heartbeat(1, ()), actor=M1)
    hub.engine.put(beat)
    hub.engine.put(beat)

    with pytest.raises(RateLimited):
        hub.engine.ask(Fact(body=a_submit(), actor=person("ann")))
    hub.engine.put(beat)

    assert (hub.engine.backlog, hub.engine._tickets) == (3, {})


async def test_a_refusal_reaches_whoever_asked() -> None:
    async with running(MemoryStore()) as hub:
        with pytest.raises(NotFound):
            await hub.ask(facts.Cancel(TaskId("none")), person("ann"))


async def test_an_answer_that_nobody_waits_for_any_more_is_dropped() -> None:
    store = GatedStore()
    async with running(store) as hub:
        store.hang()
        future = asyncio.ensure_future(hub.engine.ask(Fact(body=a_submit(), actor=person("ann"))))
        await store.asked.wait()
        future.cancel()
        store.gate.set()
        await hub.engine.drained()

        assert len(hub.engine.view.tasks) == 1


async def test_an_answer_comes_after_the_effects_and_records_of_its_turn() -> None:
    async with running(MemoryStore()) as hub:
        await hub.connect()
        seen: list[tuple[int, int]] = []
        ticket = hub.engine.ticket(
            lambda _answer: seen.append((len(hub.outlet.pushes()), len(hub.outlet.published)))
        )

        hub.engine.put(Fact(body=a_submit(), actor=person("ann"), reply_to=ticket))
        await hub.engine.drained()

        assert seen == [(1, 1)]


async def test_turns_are_counted() -> None:
    async with running(MemoryStore()) as hub:
        seen: list[int] = []
        hub.engine.on_turn = lambda count, _seconds: seen.append(count)

        await hub.submit()
        await hub.engine.drained()

        assert seen == [1]


# No room ----------------------------------------------------------------------------------------


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


# The store knows better -------------------------------------------------------------------------


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


# Late timers ------------------------------------------------------------------------------------


async def test_one_stall_is_forgiven_once_however_many_timers_it_made_late() -> None:
    async with running(MemoryStore()) as hub:
        await hub.connect()
        session = hub.engine.view.sessions[MachineId("m1")]
        before = session.expires_at
        hub.clock.advance(60_000)

        for late_ms in (60_000, 59_000, 30_000):
            hub.engine.timer(facts.LeaseChecked(MachineId("m1")), late_ms)

        assert session.expires_at == before + 60_000


async def test_a_timer_that_is_hardly_late_forgives_nothing() -> None:
    async with running(MemoryStore()) as hub:
        await hub.connect()
        session = hub.engine.view.sessions[MachineId("m1")]
        before = session.expires_at

        hub.engine.timer(facts.LeaseChecked(MachineId("m1")), 1_000)
        await hub.engine.drained()

        assert session.expires_at == before


# Whatever happens -------------------------------------------------------------------------------

RATES = {
    Fault.CONFLICT: 0.08,
    Fault.FULL: 0.08,
    Fault.UNKNOWN_APPLIED: 0.08,
    Fault.UNKNOWN_LOST: 0.08,
    Fault.CRASH_APPLIED: 0.05,
    Fault.CRASH_LOST: 0.05,
    Fault.TERM_LOST: 0.03,
}


class Storm:
    """A hub on a bad store: it is started again whenever it ends."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.ids = CountingIds()
        self.store = SimulatedStore(SeededFaults(self.rng, RATES))
        self.hub: Hub
        self.loop: asyncio.Task[None]
        self.connections = 0
        self.acknowledged: dict[str, TaskId] = {}
        self.applied: dict[TaskId, Fence] = {}

    async def start(self) -> None:
        incarnation = await self.store.open()
        self.hub = Hub(self.store, self.ids)
        self.hub.connections = self.connections = self.connections + 100
        await self.hub.engine.start(incarnation)
        self.loop = asyncio.create_task(self.hub.engine.run())

    async def attempt(self, act: Callable[[], object]) -> None:
        work = asyncio.ensure_future(act())  # type: ignore[call-overload]  # coroutines only
        await asyncio.wait([work, self.loop], return_when=asyncio.FIRST_COMPLETED)
        if self.loop.done():
            self.note()
            for _ in range(10):  # answers are on their way; reports have none
                await asyncio.sleep(0)
            work.cancel()
            with contextlib.suppress(Unavailable, StoreFailed, asyncio.CancelledError):
                await work
            assert isinstance(self.loop.exception(), Unavailable | StoreFailed)
            await self.start()
        else:
            with contextlib.suppress(Unavailable, StorageFull):
                await work

    async def submit(self, n: int, *, keyed: bool) -> None:
        title = f"{'keyed' if keyed else 'plain'} {n}"
        task = await self.hub.submit(title, key=title if keyed else None)
        known = self.acknowledged.setdefault(title, task)
        assert known == task, "one request, two tasks"

    async def finish(self) -> None:
        held = [t for t in self.hub.engine.view.tasks.values() if t.state.held]
        if held:
            task = self.rng.choice(held)
            body = facts.Finished(task.id, task.fence, DONE)
            for _ in range(self.rng.choice([1, 1, 2])):
                self.hub.engine.put(Fact(body=body, actor=machine(task.machine or "")))
            await self.hub.engine.drained()

    def note(self) -> None:
        for ack in self.hub.outlet.acks():
            if ack.applied:
                assert self.applied.setdefault(ack.task, ack.fence) == ack.fence
        self.hub.outlet.effects.clear()

    async def check(self) -> None:
        rows = self.store.inner._rows
        titles = [row.title for row in rows[Table.TASK].values() if isinstance(row, Task)]
        assert len(titles) == len(set(titles)), "a submit happened twice"
        for task in self.acknowledged.values():
            assert task in rows[Table.TASK], "an acknowledged task is lost"
        for task, fence in self.applied.items():
            row = rows[Table.TASK][task]
            assert isinstance(row, Task)
            assert (row.state, row.fence) == (TaskState.COMPLETED, fence)
        if not self.hub.engine.backlog:
            invariants.check_tables(self.hub.engine.view, rows)
        assert await self.store.verify() == []


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1 << 32), st.lists(st.sampled_from("sskffcb"), min_size=5, max_size=40))
def test_no_acknowledged_task_is_lost_and_nothing_happens_twice(seed: int, acts: list[str]) -> None:
    async def story() -> None:
        storm = Storm(seed)
        await storm.start()
        for n, act in enumerate(acts):
            match act:
                case "s":
                    await storm.attempt(partial(storm.submit, n, keyed=False))
                case "k":
                    number = n - n % 3
                    await storm.attempt(partial(storm.submit, number, keyed=True))
                case "f":
                    await storm.attempt(storm.finish)
                case "c":
                    name = storm.rng.choice(["m1", "m2"])
                    await storm.attempt(partial(storm.hub.connect, name, slots=2))
                case _:
                    storm.loop.cancel()
                    await asyncio.wait([storm.loop])
                    await storm.start()
            storm.note()
            await storm.check()
        storm.loop.cancel()
        await asyncio.wait([storm.loop])

    asyncio.run(story())
