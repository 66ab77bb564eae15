"""Breaks the fleet on purpose: each kind of fault at its own pace, each act with a number.

Chance of every act comes from its number alone, so leaving one out (`Options.suppressed`) changes
nothing about the others: that is how a failing run is made smaller.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

from agentcom.core import facts
from agentcom.model.errors import Timeout
from agentcom.model.identity import Identity, Role
from agentcom.model.ids import Fence, TaskId, UserId
from agentcom.model.limit import Limit
from agentcom.model.result import Landing, LandStatus, Result, ResultStatus
from agentcom.model.task import Phase, TaskState, Wait
from agentcom.protocol import codec, frames
from agentcom.sidecar import machine_values as values
from agentcom.testing.simulation import steering
from agentcom.testing.simulation.auditor import Auditor
from agentcom.testing.simulation.clocks import NodeClock
from agentcom.testing.simulation.hub_node import HubNode
from agentcom.testing.simulation.kernel import SECOND, Kernel
from agentcom.testing.simulation.machine_node import MachineNode
from agentcom.testing.simulation.network import Link, Network
from agentcom.testing.simulation.options import Options
from agentcom.testing.simulation.trace import Trace

LIMITED: Final = ("key:*", "key:a", "submitter:person-0", "submitter:*", "repo:*")
"""Scopes that limits are set on."""
OPERATOR: Final = Identity(role=Role.ADMIN, user=UserId("op"), credential="op")
DAY_MS: Final = 86_400_000
_STEPS_MS: Final = (-DAY_MS, -60_000, -1_500, 1_500, 60_000, DAY_MS)
_MANY: Final = 1_000_003


class Fleet(Protocol):
    """What the nemesis breaks."""

    kernel: Kernel
    network: Network
    hub: HubNode
    auditor: Auditor
    nodes: list[MachineNode]

    def clone(self, node: MachineNode, lives_us: int) -> None:
        """Start a second sidecar with the identity and the disk of a machine."""
        ...

    def replace(self, node: MachineNode) -> None:
        """Revoke a machine, and enrol another computer in its place."""
        ...

    def restore(self, back: float) -> None:
        """Put back a copy of the hub's store, from a moment of its past (0 to 1)."""
        ...


class Nemesis:
    """All faults of one run."""

    def __init__(self, fleet: Fleet, options: Options, trace: Trace) -> None:
        self._fleet = fleet
        self._options = options
        self._trace = trace
        self._kernel = fleet.kernel
        self._stopped = False
        self._acts: Mapping[str, Callable[[random.Random], None]] = {
            "hub_crash": lambda _rng: fleet.hub.crash(),
            "hub_restart": lambda _rng: fleet.hub.restart(),
            "hub_stall": self._stall,
            "sidecar_crash": self._sidecar_crash,
            "machine_crash": self._machine_crash,
            "machine_sleep": self._machine_sleep,
            "agent_kill": self._agent_kill,
            "partition": self._partition,
            "swizzle": self._swizzle,
            "clock_step": self._clock_step,
            "clone": self._clone,
            "forgery": self._forge,
            "revoke": self._revoke,
            "restore": lambda rng: fleet.restore(rng.random()),
            "disk_full": self._disk_full,
            "skew": self._skew,
            "operator": self._operate,
            "limit": self._limit,
            "machine_bedtime": self._machine_bedtime,
        }
        self.numbers: list[tuple[int, str]] = []
        """The acts of this run, as they came."""

    def start(self) -> None:
        """Begin with every kind that the options name."""
        for at, kind in enumerate(self._acts):
            every_us = self._options.every_us.get(kind)
            if every_us is not None:
                self._plan(kind, at, 0, every_us)

    def stop(self) -> None:
        """Do nothing more, and put right what can be put right."""
        self._stopped = True
        fleet = self._fleet
        fleet.hub.disk_full = False
        fleet.hub.clock.set_to(0)
        fleet.network.hub_skew = False
        for node in fleet.nodes:
            node.disk.full = False
            node.clock.set_to(0)
            node.link.skew = False
            if node.frozen:
                node.thaw()
        for link in fleet.network.links.values():
            link.partitioned = link.clogged = False
        fleet.network.release(list(fleet.network.links.values()))

    def _plan(self, kind: str, at: int, count: int, every_us: int) -> None:
        number = at * _MANY + count
        rng = random.Random(f"{self._options.seed}/{number}")
        pause_us = int(rng.expovariate(1 / every_us))
        self._kernel.after(pause_us, self._act, kind, at, count, every_us, rng)

    def _act(self, kind: str, at: int, count: int, every_us: int, rng: random.Random) -> None:
        if self._stopped:
            return
        number = at * _MANY + count
        self._plan(kind, at, count + 1, every_us)
        if number in self._options.suppressed:
            return
        self.numbers.append((number, kind))
        self._trace.note("nemesis", f"{kind} #{number}")
        self._trace.counts[f"act: {kind}"] += 1
        self._acts[kind](rng)

    def _node(self, rng: random.Random) -> MachineNode | None:
        alive = [node for node in self._fleet.nodes if not node.removed]
        return rng.choice(alive) if alive else None

    # Processes and computers ----------------------------------------------------------------------

    def _stall(self, rng: random.Random) -> None:
        duration_us = int(rng.random() ** 3 * 60 * SECOND)
        self._fleet.hub.stall(duration_us, suspended=rng.random() < 0.5)

    def _sidecar_crash(self, rng: random.Random) -> None:
        node = self._node(rng)
        if node is not None:
            node.crash(agents_too=False)
            self._kernel.after(int(rng.random() * 15 * SECOND), node.start)

    def _machine_crash(self, rng: random.Random) -> None:
        node = self._node(rng)
        if node is not None:
            node.crash(agents_too=True)
            self._kernel.after(int(rng.random() * 180 * SECOND), node.start)

    def _machine_sleep(self, rng: random.Random) -> None:
        node = self._node(rng)
        if node is not None:
            self._fall_asleep(node, node.life, int(rng.random() ** 2 * 120 * SECOND))

    def _machine_bedtime(self, rng: random.Random) -> None:
        """Let a machine know before that its computer will sleep."""
        node = self._node(rng)
        if node is not None and not node.frozen and node.view is not None:
            self._trace.note(node.name, "is about to sleep")
            node.tell(values.Sleeps())
            asleep_us, in_us = int(rng.random() ** 2 * 120 * SECOND), int(rng.random() * 5 * SECOND)
            self._kernel.after(in_us, self._fall_asleep, node, node.life, asleep_us)

    def _fall_asleep(self, node: MachineNode, life: int, asleep_us: int) -> None:
        if node.life == life and not node.frozen and node.view is not None:
            self._trace.note(node.name, "sleeps")
            node.freeze()
            self._kernel.after(asleep_us, node.wake, life)

    def _agent_kill(self, rng: random.Random) -> None:
        node = self._node(rng)
        if node is not None and node.work.agents:
            key = rng.choice(list(node.work.agents))
            self._trace.note(node.name, f"agent of {key.text} is killed")
            node.kill_agent(key)

    def _clock_step(self, rng: random.Random) -> None:
        step_ms = rng.choice(_STEPS_MS)
        node = self._node(rng)
        clock = node.clock if node is not None and rng.random() < 0.4 else self._fleet.hub.clock
        clock.set_to(clock.step_ms + step_ms)
        back_us = int(rng.random() * 240 * SECOND)
        self._kernel.after(back_us, _step_back, clock, step_ms)

    def _disk_full(self, rng: random.Random) -> None:
        node = self._node(rng)
        lasts_us = int(rng.random() * 60 * SECOND)
        if node is not None and rng.random() < 0.5:
            node.disk.full = True
            self._kernel.after(lasts_us, setattr, node.disk, "full", False)
        else:
            self._fleet.hub.disk_full = True
            self._kernel.after(lasts_us, setattr, self._fleet.hub, "disk_full", False)

    def _clone(self, rng: random.Random) -> None:
        node = self._node(rng)
        if node is not None and not node.clone:
            self._fleet.clone(node, int((20 + 100 * rng.random()) * SECOND))

    def _revoke(self, rng: random.Random) -> None:
        node = self._node(rng)
        if node is not None and not node.clone:
            self._fleet.replace(node)

    # The network ----------------------------------------------------------------------------------

    def _partition(self, rng: random.Random) -> None:
        links = self._some_links(rng)
        for link in links:
            link.partitioned = True
        self._trace.note("nemesis", f"cut off: {[link.name for link in links]}")
        self._kernel.after(int(rng.random() ** 2 * 150 * SECOND), self._heal, links)

    def _heal(self, links: Sequence[Link]) -> None:
        for link in links:
            link.partitioned = False
        self._fleet.network.release(links)

    def _swizzle(self, rng: random.Random) -> None:
        links = self._some_links(rng)
        for link in links:
            self._kernel.after(int(rng.random() * 10 * SECOND), self._clog, link, True)
        for link in rng.sample(links, len(links)):
            at_us = int((10 + 30 * rng.random()) * SECOND)
            self._kernel.after(at_us, self._clog, link, False)

    def _clog(self, link: Link, clogged: bool) -> None:
        link.clogged = clogged and not self._stopped
        self._fleet.network.release([link])

    def _some_links(self, rng: random.Random) -> list[Link]:
        links = list(self._fleet.network.links.values())
        return rng.sample(links, rng.randrange(1, len(links) + 1))

    def _skew(self, rng: random.Random) -> None:
        network = self._fleet.network
        node = self._node(rng)
        if node is None or rng.random() < 0.5:
            network.hub_skew = not network.hub_skew
            return
        node.link.skew = not node.link.skew
        node.say(b'{"type":"from_the_next_version","key":"k","more":[1,2]}')

    # People and rogues ----------------------------------------------------------------------------

    def _operate(self, rng: random.Random) -> None:
        books, hub = self._fleet.auditor.books, self._fleet.hub
        if rng.random() < 0.3:
            self._pause_something(rng)
            return
        if rng.random() < 0.4:
            steering.steer(rng, books, self)
            return
        tasks = list(books.tasks.values())[-200:]
        again = [t for t in tasks if t.state in (TaskState.FAILED, TaskState.CANCELLED)]
        parked = [t for t in tasks if t.state is TaskState.WAITING and t.wait is Wait.APPROVAL]
        kept = [row for row in list(books.results.values())[-50:] if not row.applied]
        chance = rng.random()
        if parked:
            self.approve(rng.choice(parked).id)
        elif again and chance < 0.5:
            hub.ask(facts.Retry(rng.choice(again).id), OPERATOR, _ignore)
        elif kept and chance < 0.8:
            row = rng.choice(kept)
            hub.ask(facts.Adopt(row.task, row.fence, row.machine), OPERATOR, _ignore)
        elif tasks:
            hub.ask(facts.Explain(rng.choice(tasks).id), OPERATOR, _ignore)

    def approve(self, task: TaskId) -> None:
        """Accept the result that waits for a person."""
        rows = [row for row in self._fleet.auditor.books.results.values() if row.task == task]
        if rows:
            row = max(rows, key=lambda row: row.fence)
            adopt = facts.Adopt(row.task, row.fence, row.machine)
            self._fleet.hub.ask(adopt, OPERATOR, _ignore)

    def _pause_something(self, rng: random.Random) -> None:
        node = self._node(rng)
        if node is None:
            return
        hub = self._fleet.hub
        later_us = int(rng.random() * 60 * SECOND)
        if rng.random() < 0.5:
            agent = rng.choice(node.specs).name
            hub.ask(facts.PauseAgent(agent, paused=True), OPERATOR, _ignore)
            resume: facts.Body = facts.PauseAgent(agent, paused=False)
        else:
            hub.ask(facts.DrainMachine(node.machine, draining=True), OPERATOR, _ignore)
            resume = facts.DrainMachine(node.machine, draining=False)
        self._kernel.after(later_us, self.insist, resume)

    def _limit(self, rng: random.Random) -> None:
        """Set a limit or take one away, in a world whose tasks have what limits are about."""
        if not self._options.limits:
            return
        scope = rng.choice(LIMITED)
        limit = Limit(scope=scope, concurrency=rng.randrange(3))
        if rng.random() < 0.3:
            limit = Limit(scope=scope, rate=rng.randrange(1, 4), per_ms=60_000)
        body: facts.Body = facts.SetLimit(limit)
        if rng.random() < 0.3:
            body = facts.DropLimit(scope)
        self._fleet.hub.ask(body, OPERATOR, _ignore)

    def once(self, body: facts.Body) -> None:
        """Ask, whatever comes of it."""
        self._fleet.hub.ask(body, OPERATOR, _ignore)

    def later(self, delay_us: int, body: facts.Body) -> None:
        """Insist on something after a time."""
        self._kernel.after(delay_us, self.insist, body)

    def insist(self, body: facts.Body, then: Callable[[], object] = lambda: None) -> None:
        """Ask until it is done: what was paused must be resumed some day."""

        def asked(answer: object) -> None:
            if getattr(answer, "retryable", False) or isinstance(answer, Timeout):
                self._kernel.after(SECOND, self.insist, body, then)
            else:
                then()

        self._fleet.hub.ask(body, OPERATOR, asked)

    def _forge(self, rng: random.Random) -> None:
        """Have one machine report on what another one holds."""
        rogue = self._node(rng)
        tasks = [t for t in self._fleet.auditor.books.live.values() if t.state.held]
        if rogue is None or not tasks:
            return
        task = rng.choice(tasks)
        fence = task.fence
        if rng.random() < 0.3:
            fence = Fence(fence.incarnation, max(0, fence.attempt + rng.choice((-1, 1))))
        if task.machine == rogue.machine and fence == task.fence:
            return
        result = Result(status=ResultStatus.DONE, commit="forged", branch="forged")
        landing = Landing(status=LandStatus.LANDED, commit="forged")
        forged: Sequence[frames.FromMachine] = (
            frames.Finish(task=task.id, fence=fence, result=result),
            frames.StoppedFrame(task=task.id, fence=fence),
            frames.LandedFrame(task=task.id, fence=fence, landing=landing),
            frames.Accept(task=task.id, fence=fence),
            frames.Decline(task=task.id, fence=fence, reason="forged"),
            frames.Checkpoint(task=task.id, fence=fence, commit="forged"),
            frames.Progress(task=task.id, fence=fence, phase=Phase.VERIFYING),
        )
        rogue.say(codec.encode(rng.choice(forged)))


def _step_back(clock: NodeClock, step_ms: int) -> None:
    if clock.step_ms:
        clock.set_to(clock.step_ms - step_ms)


def _ignore(_answer: object) -> None:
    """Nobody looks at it; the auditor sees what was done."""
