"""A pool without a shell: the real core, a virtual clock, and rows in a dict.

`World` plays the engine: it fetches what facts need, decides, applies the batch to its rows with
the store's own rules, and keeps the effects. Tests drive it with plain calls.
"""

import random
from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec

from agentcom.core import facts, loading, pool
from agentcom.core.effects import (
    Acknowledge,
    Answer,
    ClearTimer,
    Continue,
    Effect,
    Push,
    Refuse,
    SetTimer,
)
from agentcom.core.facts import Fact
from agentcom.core.view import PoolView
from agentcom.model.agent import Account, Agent, AgentSpec, Assignment, Held, Machine
from agentcom.model.ask import Ask, AskState
from agentcom.model.batch import Append, Batch, Delete, Insert, Row, Table, Update
from agentcom.model.budget import ScopeBudget
from agentcom.model.errors import AgentComError
from agentcom.model.graph import Edge, Tally
from agentcom.model.hold import Hold
from agentcom.model.identity import Identity, Role
from agentcom.model.ids import (
    AccountId,
    AgentId,
    Fence,
    Instant,
    MachineId,
    Now,
    TaskId,
    UserId,
    WallTime,
)
from agentcom.model.limit import Limit, Usage
from agentcom.model.lock import Lock
from agentcom.model.message import Head
from agentcom.model.pause import Pause
from agentcom.model.replies import Reply, Submitted
from agentcom.model.result import KeptResult, Result, ResultStatus
from agentcom.model.snapshot import Snapshot
from agentcom.model.task import Task, TaskBody, TaskSpec
from agentcom.model.todo import Todo

R = TypeVar("R")
_REPLY: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply)
EPOCH_MS = 1_700_000_000_000
TTL_MS = 20_000


class Numbers:
    """Ids that count up."""

    def __init__(self) -> None:
        self.last = 0

    def new(self) -> str:
        """Return the next id."""
        self.last += 1
        return f"{self.last:08d}"


class World:
    """One pool under test."""

    def __init__(self, seed: int = 0) -> None:
        self.now_ms = 1_000
        self.ids = Numbers()
        self.rng = random.Random(seed)  # noqa: S311 - chance in a test is drawn from its seed
        self.rows: dict[tuple[Table, str], Row] = {}
        self.feed: list[Append] = []
        self.effects: list[Effect] = []
        self.timers: dict[str, SetTimer] = {}
        self.replies: dict[int, Reply | msgspec.Raw | AgentComError] = {}
        self.tickets = 0
        self.connections = 0
        self.incarnation = 7
        self.view: PoolView
        self.restart()

    @property
    def now(self) -> Now:
        """Both clocks, in step."""
        return Now(Instant(self.now_ms), WallTime(EPOCH_MS + self.now_ms))

    def restart(self) -> None:
        """Throw the memory away and load the rows, as a new process would."""
        live = {t.id: t for t in self._all(Task) if not t.state.terminal}
        snapshot = Snapshot(
            tasks=list(live.values()),
            edges=[edge for edge in self._all(Edge) if edge.task in live],
            tallies=[tally for tally in self._all(Tally) if tally.live],
            holds=self._all(Hold),
            limits=self._all(Limit),
            rates=self._all(Usage),
            agents=self._all(Agent),
            accounts=self._all(Account),
            machines=self._all(Machine),
            todos=self._all(Todo),
            budgets=self._all(ScopeBudget),
            pauses=self._all(Pause),
            locks=self._all(Lock),
            lock_numbers=next(iter(self._all(Head)), None),
            asks=[ask for ask in self._all(Ask) if ask.state is AskState.OPEN],
        )
        self.timers = {}
        self.view, effects = loading.load(
            snapshot, incarnation=self.incarnation, term=1, now=self.now
        )
        self._perform(effects)

    # Facts ------------------------------------------------------------------------------------

    def decide(self, batch: Sequence[Fact], *, commit: bool = True) -> Sequence[Effect]:
        """Decide one batch and (unless told otherwise) commit it; return its effects."""
        ready = [self._fetched(fact) for fact in batch]
        plan = pool.decide(self.view, ready, now=self.now, ids=self.ids, rng=self.rng)
        if not commit:
            self.view.discard()
            return ()
        self.apply(plan.batch)
        self.view.confirm()
        self._perform(plan.effects)
        if plan.deferred:
            again = [msgspec.structs.replace(f, found=facts.NOTHING_FOUND) for f in plan.deferred]
            return [*plan.effects, *self.decide(again)]
        return plan.effects

    def tell(self, body: facts.Body, actor: Identity = facts.HUB) -> Sequence[Effect]:
        """Bring one fact that nobody waits for."""
        return self.decide([Fact(body=body, actor=actor)])

    def ask(
        self, body: facts.Body, actor: Identity | None = None, *, key: str | None = None
    ) -> Reply:
        """Bring one request and return its answer; raises what it was refused with."""
        self.tickets += 1
        ticket = self.tickets
        payload = repr(body) if key else None
        who = actor or person("ann")
        self.decide([Fact(body=body, actor=who, reply_to=ticket, key=key, payload=payload)])
        answer = self.replies.pop(ticket)
        if isinstance(answer, AgentComError):
            raise answer
        if isinstance(answer, msgspec.Raw):
            return _REPLY.decode(bytes(answer))
        return answer

    # Everyday acts ----------------------------------------------------------------------------

    def machine(
        self,
        name: str,
        *agents: AgentSpec | str,
        held: Sequence[Held] = (),
        resources: Mapping[str, int] | None = None,
    ) -> Identity:
        """Enrol (once) and connect a machine; agents may be plain names."""
        actor = machine(name)
        if (Table.MACHINE, name) not in self.rows:
            self.ask(facts.Enrol(MachineId(name), name, UserId("ann")))
        specs = [agent(a) if isinstance(a, str) else a for a in agents or (name,)]
        self.connections += 1
        body = facts.MachineConnected(
            agents=tuple(specs),
            held=tuple(held),
            ttl_ms=TTL_MS,
            connection=self.connections,
            resources=dict(resources or {}),
        )
        self.ask(body, actor)
        return actor

    def submit(
        self, *specs: TaskSpec | str, by: str = "ann", key: str | None = None
    ) -> list[TaskId]:
        """Submit tasks; a plain string is a title."""
        full = [TaskSpec(title=s, prompt="do it") if isinstance(s, str) else s for s in specs]
        reply = self.ask(facts.Submit(tuple(full)), person(by), key=key)
        assert isinstance(reply, Submitted)
        return list(reply.tasks)

    def accept(self, task: TaskId) -> Task:
        """Let the holder accept its assignment."""
        row = self.task(task)
        self.tell(facts.Accepted(task, row.fence), machine(row.machine or ""))
        return self.task(task)

    def finish(self, task: TaskId, result: Result | None = None) -> Task:
        """Let the holder report a result (by default: done, one commit, no checks)."""
        row = self.task(task)
        report = result or Result(status=ResultStatus.DONE, commit="c" * 40, branch="work")
        self.tell(facts.Finished(task, row.fence, report), machine(row.machine or ""))
        return self.task(task)

    def advance(self, ms: int) -> None:
        """Let time pass; timers that come due are facts, in order."""
        end = self.now_ms + ms
        while self.timers:
            first = min(self.timers.values(), key=lambda timer: (timer.at, timer.key))
            if first.at > end:
                break
            del self.timers[first.key]
            self.now_ms = max(self.now_ms, first.at)
            self.tell(first.body)
        self.now_ms = end

    def beat(self, name: str, held: Sequence[Held] = ()) -> Sequence[Effect]:
        """Let a machine send a heartbeat on its newest session."""
        session = self.view.sessions[MachineId(name)].number
        return self.tell(facts.Heartbeat(session, tuple(held)), machine(name))

    # What there is ----------------------------------------------------------------------------

    def task(self, task: TaskId) -> Task:
        """Return a task's stored row."""
        row = self.rows[Table.TASK, task]
        assert isinstance(row, Task)
        return row

    def body(self, task: TaskId) -> TaskBody:
        """Return a task's stored specification."""
        row = self.rows[Table.BODY, task]
        assert isinstance(row, TaskBody)
        return row

    def results(self, task: TaskId) -> list[KeptResult]:
        """Return the results kept of a task, oldest attempt first."""
        rows = [row for row in self.rows.values() if isinstance(row, KeptResult)]
        return sorted((row for row in rows if row.task == task), key=lambda row: row.fence)

    def pushed(self, task: TaskId | None = None) -> list[Assignment]:
        """Return assignments pushed so far, in order."""
        every = [effect.assignment for effect in self.effects if isinstance(effect, Push)]
        return [a for a in every if task is None or a.task == task]

    def acks(self, task: TaskId) -> list[Acknowledge]:
        """Return acknowledgements sent about a task, in order."""
        return [e for e in self.effects if isinstance(e, Acknowledge) and e.task == task]

    def apply(self, batch: Batch) -> None:
        """Write a batch as a store does; a row that is not as expected is a fault of the core."""
        for change in batch.changes:
            place = (change.table, change.key)
            old = self.rows.get(place)
            match change:
                case Insert():
                    assert old is None, f"{place} exists already"
                    self.rows[place] = change.row
                case Update():
                    assert old is not None, f"{place} is missing"
                    assert old.version == change.expected, f"{place} has another version"
                    assert change.row.version > old.version, f"{place} does not move on"
                    self.rows[place] = change.row
                case Delete():
                    assert old is not None, f"{place} is missing"
                    assert old.version == change.expected, f"{place} has another version"
                    del self.rows[place]
        self.feed += batch.appends

    def _all(self, kind: type[R]) -> list[R]:
        return [row for row in self.rows.values() if isinstance(row, kind)]

    def _fetched(self, fact: Fact) -> Fact:
        for _ in range(4):
            keys = pool.wanted(self.view, fact)
            if not keys:
                break
            found = {**fact.found, **{key: self.rows.get(key) for key in keys}}
            fact = msgspec.structs.replace(fact, found=found)
        return fact

    def _perform(self, effects: Sequence[Effect]) -> None:
        self.effects += effects
        for effect in effects:
            match effect:
                case SetTimer(key=key):
                    self.timers[key] = effect
                case ClearTimer(key=key):
                    self.timers.pop(key, None)
                case Answer(ticket=ticket, reply=reply):
                    self.replies[ticket] = reply
                case Refuse(ticket=ticket, error=error):
                    self.replies[ticket] = error
                case Continue(body=body):
                    self.tell(body)
                case _:
                    pass


def person(name: str, role: Role = Role.OPERATOR) -> Identity:
    """Return someone who asks."""
    return Identity(role=role, user=UserId(name), credential=f"token-{name}")


def machine(name: str) -> Identity:
    """Return a machine that reports."""
    return Identity(
        role=Role.AGENT, user=UserId("ann"), credential=f"m-{name}", machine=MachineId(name)
    )


def agent(name: str, *capabilities: str, slots: int = 1, account: str | None = None) -> AgentSpec:
    """Return an agent as its machine describes it."""
    return AgentSpec(
        name=AgentId(name),
        runtime="command",
        capabilities=capabilities,
        slots=slots,
        account=None if account is None else AccountId(account),
    )


def stale(fence: Fence, by: int = 1) -> Fence:
    """Return an older fence."""
    return Fence(fence.incarnation, fence.attempt - by)
