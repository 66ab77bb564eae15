"""A hub's services and its engine at work, on a store in memory, with a clock set by hand."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from agentcom.core import facts
from agentcom.core.facts import Fact
from agentcom.hub import speaking
from agentcom.hub.config import HubConfig
from agentcom.hub.services import Services
from agentcom.hub.speaking import Speaker
from agentcom.model.agent import AgentSpec
from agentcom.model.identity import Identity, Role
from agentcom.model.ids import AgentId, MachineId, ProjectId, UserId
from agentcom.model.replies import Submitted
from agentcom.model.task import TaskSpec
from agentcom.protocol import calls
from agentcom.store.memory import MemoryStore
from agentcom.testing.world import machine
from tests.hub.doubles import ManualClock

M1 = machine("m1")
MINUTE_MS = 60_000


def person(name: str, role: Role = Role.SUBMITTER, project: str = "default") -> Speaker:
    who = Identity(role=role, user=UserId(name), credential=name, project=ProjectId(project))
    return speaking.person(who)


ANN, BOB, OLGA = person("ann"), person("bob"), person("olga", Role.OPERATOR)


class ServiceHouse:
    """The services of one hub."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        config = HubConfig(home=Path("/nowhere"), store="memory")
        self.services = Services(config, MemoryStore(), self.clock)

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Let the engine run."""
        await self.services.engine.start(1)
        engine = asyncio.create_task(self.services.engine.run())
        yield
        engine.cancel()
        await asyncio.gather(engine, return_exceptions=True)

    async def do(self, who: Speaker, call: calls.Call, key: str | None = None) -> Any:
        return await self.services.conversation.talk.do(who, call, cause="t", key=key)

    async def connect(self, *names: str, ttl_ms: int) -> None:
        """Let the machine m1 come, with agents."""
        ask = self.services.engine.ask
        await ask(Fact(body=facts.Enrol(MachineId("m1"), "m1", M1.user), actor=OLGA.identity))
        agents = tuple(AgentSpec(name=AgentId(name), runtime="command") for name in names)
        body = facts.MachineConnected(agents=agents, held=(), ttl_ms=ttl_ms, connection=1)
        await ask(Fact(body=body, actor=M1))

    async def agent(self, name: str = "coder") -> Speaker:
        """Return an agent at work for Ann."""
        submit = facts.Submit((TaskSpec(title="t", prompt="p", needs=(f"agent={name}",)),))
        reply = await self.services.engine.ask(Fact(body=submit, actor=ANN.identity))
        assert isinstance(reply, Submitted)
        view = self.services.engine.view
        return speaking.attempt(view, M1, reply.tasks[0], view.tasks[reply.tasks[0]].fence)

    def pass_time(self, ms: int) -> None:
        self.clock.advance(ms)
        self.services.timers.check()
