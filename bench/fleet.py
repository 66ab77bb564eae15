"""A pool of any size without a store and sockets: the view, `pool.decide`, and what they need.

The far ends are played here: machines connect, agents accept and finish. One fact is one batch,
so an event costs what it costs alone; a busy hub decides many facts in one.
"""

from collections import deque
from collections.abc import Sequence
from random import Random
from typing import Final

from agentcom.core import facts, pool
from agentcom.core.effects import Effect, Push
from agentcom.core.facts import Fact
from agentcom.core.view import PoolView
from agentcom.model.agent import AgentSpec, Assignment
from agentcom.model.batch import Batch
from agentcom.model.identity import Identity, Role
from agentcom.model.ids import (
    DEFAULT_POOL,
    AgentId,
    Instant,
    MachineId,
    Now,
    UserId,
    WallTime,
    encode_base32,
)
from agentcom.model.limits import SUBMIT_TASKS_MAX
from agentcom.model.result import Result, ResultStatus
from agentcom.model.task import TaskSpec

SEED: Final = 7
REPOSITORIES: Final = 40
SHAPES: Final = 120
CLASSES: Final = 30
SUBMITTERS: Final = 50
AGENTS_EACH: Final = 20
"""Agents of one machine."""
PROMPT: Final = "x" * 500
_WALL_MS: Final = 1_790_000_000_000
_DONE: Final = Result(status=ResultStatus.DONE, summary="y" * 200)


class Ordered:
    """Ids like the product's: 26 characters, in order."""

    def __init__(self) -> None:
        self._last = 0

    def new(self) -> str:
        """Return the next id."""
        self._last += 1
        chance = self._last * 0x9E3779B97F4A7C15 % (1 << 60)
        return encode_base32(
            (_WALL_MS + self._last // 8) << 80 | self._last << 60 | chance, length=26
        )


class Fleet:
    """A queue of `depth` tasks, and `agents` agents that are all at work."""

    def __init__(self, depth: int, agents: int, *, seed: int = SEED) -> None:
        self.view = PoolView(DEFAULT_POOL, incarnation=7, term=1)
        self.holding: dict[AgentId, Assignment] = {}
        """What each agent works on."""
        self.batches: list[Batch] | None = None
        """What a store would have been given, if anybody wants it."""
        self._ids, self._rng, self._now_ms = Ordered(), Random(seed), 1_000
        self._shapes = _shapes(Random(seed))
        self._classes = _classes(Random(seed))
        self._owners: dict[AgentId, Identity] = {}
        self._turn: deque[AgentId] = deque()
        self._number = 0
        self._queue(depth + agents)
        self._connect(agents)

    @property
    def queued(self) -> int:
        """Tasks that wait for an agent."""
        return self.view.matcher.depth()

    def decide(self, batch: Sequence[Fact]) -> Sequence[Effect]:
        """Decide and confirm a batch, as an engine does whose store agrees."""
        self._now_ms += 1
        now = Now(Instant(self._now_ms), WallTime(_WALL_MS + self._now_ms))
        plan = pool.decide(self.view, batch, now=now, ids=self._ids, rng=self._rng)
        if self.batches is not None:
            self.batches.append(plan.batch)
        self.view.confirm()
        for effect in plan.effects:
            if type(effect) is Push:
                self.holding[effect.assignment.agent] = effect.assignment
        return plan.effects

    # Facts, ready to be decided ---------------------------------------------------------------

    def submit(self, count: int = 1) -> Fact:
        """Return what asks for some tasks: one submitter, shapes in turns."""
        first = self._number
        self._number += count
        specs = [self._spec(number) for number in range(first, self._number)]
        who = UserId(f"user-{first // count % SUBMITTERS}")
        actor = Identity(role=Role.SUBMITTER, user=who, credential="token")
        return Fact(body=facts.Submit(tuple(specs)), actor=actor, reply_to=1)

    def next_agent(self) -> AgentId:
        """Return the agent that did nothing for longest."""
        self._turn.rotate(-1)
        return self._turn[-1]

    def accept(self, agent: AgentId) -> Fact:
        """Return what takes on the task that `agent` was given."""
        held = self.holding[agent]
        return Fact(body=facts.Accepted(held.task, held.fence), actor=self._owners[agent])

    def finish(self, agent: AgentId) -> Fact:
        """Return what ends the task of `agent`."""
        held = self.holding.pop(agent)
        return Fact(body=facts.Finished(held.task, held.fence, _DONE), actor=self._owners[agent])

    def pause(self, agent: AgentId, *, paused: bool) -> Fact:
        """Return what stops new work for `agent`, or makes it ready."""
        return Fact(body=facts.PauseAgent(agent, paused), actor=facts.HUB)

    # At the start -----------------------------------------------------------------------------

    def _spec(self, number: int) -> TaskSpec:
        needs = self._shapes[number * 7_919 % SHAPES]
        return TaskSpec(title="bench", prompt=PROMPT, needs=needs, priority=number % 5 - 2)

    def _queue(self, count: int) -> None:
        while count:
            size = min(count, SUBMIT_TASKS_MAX)
            self.decide([self.submit(size)])
            count -= size

    def _connect(self, agents: int) -> None:
        for first in range(0, agents, AGENTS_EACH):
            name = f"machine-{first // AGENTS_EACH}"
            machine = MachineId(name)
            self.decide([Fact(body=facts.Enrol(machine, name, UserId("ada")), actor=facts.HUB)])
            actor = Identity(role=Role.AGENT, user=UserId("ada"), credential=name, machine=machine)
            specs = [self._agent(n) for n in range(first, min(agents, first + AGENTS_EACH))]
            hello = facts.MachineConnected(
                agents=tuple(specs), held=(), ttl_ms=20_000, connection=first + 1
            )
            self.decide([Fact(body=hello, actor=actor)])
            for agent in self.view.agents_of[machine]:
                self._owners[agent] = actor
                self._turn.append(agent)

    def _agent(self, number: int) -> AgentSpec:
        offers = self._classes[number % CLASSES]
        return AgentSpec(name=AgentId(f"agent-{number}"), runtime="command", capabilities=offers)


def _shapes(chance: Random) -> list[tuple[str, ...]]:
    """Return what kinds of tasks need: a repository each, some a tool, some a version."""
    found: dict[tuple[str, ...], None] = {}
    while len(found) < SHAPES:
        needs = [f"repo=r{chance.randrange(REPOSITORIES)}"]
        needs += [f"tool{chance.randrange(6)}" for _ in range(chance.randrange(2))]
        found[*needs, f"python>=3.{chance.randrange(10, 13)}"] = None
    return list(found)


def _classes(chance: Random) -> list[tuple[str, ...]]:
    """Return what kinds of agents offer: half of the repositories each, most of the tools."""
    found = []
    for number in range(CLASSES):
        repos = [f"repo=r{n}" for n in range(REPOSITORIES) if (n + number) % 2]
        tools = [f"tool{n}" for n in chance.sample(range(6), 5)]
        found.append(("prompt", *repos, *tools, f"python=3.{12 + number % 2}", f"mark{number}"))
    return found
