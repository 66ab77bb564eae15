"""An engine on a store that can be held back, or fails as it is told to."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import msgspec

from agentcom.core import facts
from agentcom.core.effects import Acknowledge, Continue, Effect, Push
from agentcom.core.facts import Fact
from agentcom.hub.engine import Engine
from agentcom.model.agent import AgentSpec
from agentcom.model.batch import Append, Batch, Table
from agentcom.model.errors import Unavailable
from agentcom.model.identity import Identity
from agentcom.model.ids import DEFAULT_POOL, AgentId, MachineId, TaskId, UserId
from agentcom.model.replies import Reply, Submitted
from agentcom.model.result import Result, ResultStatus
from agentcom.model.task import Task, TaskSpec
from agentcom.store.base import Verdict
from agentcom.store.failures import StoreFailed
from agentcom.store.memory import MemoryStore
from agentcom.testing.simstore import SimulatedStore
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
