"""Agents that a person starts: they take work by calls, and keep it by calls.

Such an agent is a machine of its own in the pool, with one agent and one slot. It is connected only
while it waits for work, so nothing is pushed to it that it did not ask for. Its lease is ten
minutes; whatever it says of its attempt renews it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from agentcom.core import facts
from agentcom.core.facts import Fact
from agentcom.core.reports import holds
from agentcom.core.view import PoolView
from agentcom.hub import speaking
from agentcom.hub.credentials import Credentials, Grant
from agentcom.hub.engine import Engine
from agentcom.hub.requests import Causes
from agentcom.hub.speaking import Speaker
from agentcom.hub.switchboard import Switchboard
from agentcom.model import address, policy
from agentcom.model.agent import AgentSpec, Held, HeldStage
from agentcom.model.batch import Table
from agentcom.model.errors import (
    AgentComError,
    NameTaken,
    NotAllowed,
    Stale,
    Timeout,
    Unavailable,
)
from agentcom.model.identity import Credential, CredentialKind, Identity, Role
from agentcom.model.ids import AgentId, Fence, IdSource, MachineId, TaskId, check_name
from agentcom.model.limits import LEASE_TTL_MAX_MS
from agentcom.model.policy import Action
from agentcom.model.replies import Welcomed
from agentcom.model.result import Result, ResultStatus
from agentcom.model.task import StopReason, Task, TaskBody, TaskState
from agentcom.protocol.told import Work
from agentcom.store.base import Store

RUNTIME: Final = "external"
UNVERIFIED: Final = "no machine of the fleet ran the checks of this work"
replace: Final = msgspec.structs.replace
TURN_MS: Final = 25_000  # below the usual 30 s of clients and proxies
_NOWHERE: Final = 0
"""No connection has this number."""


def agent_of(view: PoolView, machine: MachineId | None) -> AgentId | None:
    """Return the agent behind the token of an external agent; None: it is no such token."""
    for name in view.agents_of.get(machine, ()) if machine is not None else ():
        if view.agents[name].runtime == RUNTIME:
            return name
    return None


def speaker(view: PoolView, identity: Identity, agent: AgentId) -> Speaker:
    """Return an external agent, with the attempt that it works on if there is one."""
    assert identity.machine is not None
    for row in view.held_tasks(identity.machine):
        if row.state is TaskState.RUNNING:
            return speaking.attempt(view, identity, row.id, row.fence)
    return Speaker(identity=identity, address=address.of_agent(agent), agent=agent)


class Externals:
    """Lets external agents in, gives them work and takes what they made of it."""

    def __init__(
        self,
        engine: Engine,
        switchboard: Switchboard,
        store: Store,
        credentials: Credentials,
        ids: IdSource,
        causes: Causes,
        ask: Callable[[Fact], Awaitable[object]],
    ) -> None:
        self._ask = ask
        self._credentials = credentials
        self._ids = ids
        self._engine = engine
        self._switchboard = switchboard
        self._store = store
        self._causes = causes

    async def invite(
        self, actor: Identity, name: str, *, ttl_ms: int | None, note: str
    ) -> tuple[Credential, str]:
        """Make an external agent, away, and its token; return it and its text.

        Raises:
            NotAllowed: the actor may not bring machines in.
            NameTaken: another agent or machine has the name.
        """
        policy.authorize(actor, Action.MACHINE_INVITE)
        check_name(name)
        grant = Grant(
            owner=actor.user,
            role=Role.AGENT,
            kind=CredentialKind.AGENT,
            machine=MachineId(self._ids.new()),
            project=actor.project,
            ttl_ms=ttl_ms,
            note=note or name,
        )
        credential, text = await self._credentials.mint(grant)
        identity = Identity(
            role=grant.role,
            user=grant.owner,
            credential=credential.id,
            project=grant.project,
            machine=grant.machine,
        )
        try:
            await self._admit(identity, name)
        except (Timeout, Unavailable):
            raise  # it may be in; nobody was told the token, and it ends by itself
        except AgentComError:
            await self._credentials.revoke(credential.id)
            raise
        return credential, text

    async def _admit(self, identity: Identity, name: str) -> None:
        assert identity.machine is not None
        enrol = facts.Enrol(identity.machine, name, identity.user)
        await self._ask(self._fact(identity, enrol))
        welcomed = await self._connect(identity, AgentId(name), _NOWHERE)
        self._leave(identity, _NOWHERE)
        if welcomed.refused:
            raise NameTaken(f"there is an agent {name} already; choose another name")

    async def take(self, identity: Identity, *, wait_ms: int) -> Work:
        """Return the work of an external agent: what it has, or what comes in time.

        Raises:
            NotAllowed: it is no external agent's token.
        """
        agent, machine = self._named(identity)
        seat = _Seat(identity)
        number = self._switchboard.register(seat)
        self._switchboard.bind(machine, number)
        try:
            await self._connect(identity, agent, number)
            row = await self._assigned(machine, seat, wait_ms)
            if row is not None and row.state is TaskState.ASSIGNED:
                row = await self._accept(identity, row)
        finally:
            self._leave(identity, number)
            self._switchboard.unregister(number)
        return Work() if row is None else await self._work(row)

    async def renew(self, identity: Identity, task: TaskId, fence: Fence) -> StopReason | None:
        """Renew the lease of an attempt; return why it shall stop, if it shall.

        Raises:
            Stale: it is over, or another's.
        """
        agent, machine = self._named(identity)
        await self._connect(identity, agent, _NOWHERE, Held(task, fence, HeldStage.RUNNING))
        self._leave(identity, _NOWHERE)
        return self._held(machine, task, fence).stop_reason

    async def finish(
        self, identity: Identity, task: TaskId, fence: Fence, result: Result
    ) -> TaskState:
        """Report the end of an attempt; return what the hub made of it.

        Raises:
            Stale: it is over, or another's.
        """
        _, machine = self._named(identity)
        self._held(machine, task, fence)
        if (await self._body(task)).spec.verify and result.status is ResultStatus.DONE:
            result = replace(result, needs_person=(UNVERIFIED,))
        self._engine.put(self._fact(identity, facts.Finished(task, fence, result)))
        await self._until(lambda: not self._holds(machine, task, fence))
        (row,) = await self._store.get([(Table.TASK, task)])
        assert isinstance(row, Task)
        return row.state

    async def _assigned(self, machine: MachineId, seat: "_Seat", wait_ms: int) -> Task | None:
        try:
            async with asyncio.timeout(wait_ms / 1_000):
                while not self._engine.view.held_tasks(machine) and not seat.closed:
                    seat.news.clear()
                    await seat.news.wait()
        except TimeoutError:
            pass
        rows = self._engine.view.held_tasks(machine)
        return rows[0] if rows else None

    async def _accept(self, identity: Identity, row: Task) -> Task:
        machine = identity.machine
        assert machine is not None
        self._engine.put(self._fact(identity, facts.Accepted(row.id, row.fence)))
        await self._until(
            lambda: (
                not self._holds(machine, row.id, row.fence)
                or self._engine.view.tasks[row.id].state is TaskState.RUNNING
            )
        )
        return self._held(machine, row.id, row.fence)

    async def _work(self, row: Task) -> Work:
        body = await self._body(row.id)
        return Work(
            task=row.id,
            fence=f"{row.incarnation}.{row.attempt}",
            spec=body.spec,
            deadline_at=row.deadline_at,
            note=row.note,
        )

    async def _body(self, task: TaskId) -> TaskBody:
        (body,) = await self._store.get([(Table.BODY, task)])
        assert isinstance(body, TaskBody)
        return body

    async def _connect(
        self, identity: Identity, agent: AgentId, number: int, *more: Held
    ) -> Welcomed:
        assert identity.machine is not None
        rows = self._engine.view.held_tasks(identity.machine)
        running = {
            (row.id, row.fence): Held(row.id, row.fence, HeldStage.RUNNING)
            for row in rows
            if row.state is TaskState.RUNNING
        }
        running |= {(one.task, one.fence): one for one in more}
        body = facts.MachineConnected(
            agents=(AgentSpec(name=agent, runtime=RUNTIME),),
            held=tuple(running.values()),
            ttl_ms=LEASE_TTL_MAX_MS,
            connection=number,
        )
        reply = await self._ask(self._fact(identity, body))
        assert isinstance(reply, Welcomed)
        return reply

    def _leave(self, identity: Identity, number: int) -> None:
        assert identity.machine is not None
        gone = facts.MachineDisconnected(identity.machine, number)
        self._engine.put(self._fact(identity, gone))

    async def _until(self, done: Callable[[], bool]) -> None:
        """Wait for what a fact without an answer leads to."""
        over = asyncio.Event()

        def look() -> bool:
            if done():
                over.set()
            return over.is_set()

        self._switchboard.after_turn(look)
        try:
            async with asyncio.timeout(TURN_MS / 1_000):
                await over.wait()
        except TimeoutError:
            over.set()
            raise Timeout("no answer in time; ask again") from None

    def _named(self, identity: Identity) -> tuple[AgentId, MachineId]:
        agent = agent_of(self._engine.view, identity.machine)
        if agent is None or identity.machine is None:
            raise NotAllowed("only an external agent takes work by itself; make it a token first")
        return agent, identity.machine

    def _holds(self, machine: MachineId, task: TaskId, fence: Fence) -> bool:
        row = self._engine.view.tasks.get(task)
        return row is not None and holds(row, machine, fence)

    def _held(self, machine: MachineId, task: TaskId, fence: Fence) -> Task:
        if not self._holds(machine, task, fence):
            raise Stale("this attempt is not yours, or is over")
        return self._engine.view.tasks[task]

    def _fact(self, identity: Identity, body: facts.Body) -> Fact:
        return Fact(body=body, actor=identity, cause=self._causes.new())


class _Seat:
    """Where the pool reaches an external agent that waits; it only learns that there is news."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.buffered_bytes = 0
        self.closed = False
        self.news = asyncio.Event()

    def send(self, _payload: bytes) -> None:
        """Take note that something came; what it is stands in the pool."""
        self.news.set()

    def close(self, _code: int, _reason: str) -> None:
        """Stop waiting."""
        self.closed = True
        self.news.set()
