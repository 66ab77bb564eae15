"""The loop of a pool on stores that hang, fill up, disagree and crash."""

import asyncio

import pytest

from agentcom.core import facts
from agentcom.core.facts import Fact
from agentcom.model import limits
from agentcom.model.errors import NotFound, RateLimited, Unavailable
from agentcom.model.ids import MachineId, TaskId
from agentcom.model.replies import Submitted
from agentcom.store.memory import MemoryStore
from agentcom.testing.waiting import PATIENCE_S
from agentcom.testing.world import person
from tests.hub.engine_house import M1, GatedStore, Hub, a_submit, running


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
