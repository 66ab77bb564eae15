"""Whatever the store does: no acknowledged task is lost, nothing happens twice."""

import asyncio
import contextlib
import random
from collections.abc import Callable
from functools import partial

from hypothesis import given, settings
from hypothesis import strategies as st

from agentcom.core import facts
from agentcom.core.facts import Fact
from agentcom.model.batch import Table
from agentcom.model.errors import StorageFull, Unavailable
from agentcom.model.ids import Fence, TaskId
from agentcom.model.task import Task, TaskState
from agentcom.store.failures import StoreFailed
from agentcom.testing import invariants
from agentcom.testing.simstore import Fault, SeededFaults, SimulatedStore
from agentcom.testing.world import machine
from tests.hub.doubles import CountingIds
from tests.hub.engine_house import DONE, Hub

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
