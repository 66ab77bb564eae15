"""A computer of the fleet: disk, clock and agents stay, the sidecar's process comes and goes.

The sidecar's decisions are the real machine (`sidecar/machine.py`) and the real wire; its shell
is played here: link, disk queue, timers and work, in the order in which `sidecar/shell.py` does.
"""

import random
from collections.abc import Callable
from typing import Any, Final, assert_never

from agentcom.model.agent import AgentSpec
from agentcom.model.ids import AccountId, AgentId, Instant, MachineId, TaskId, WallTime
from agentcom.model.result import Rider
from agentcom.protocol import codec
from agentcom.protocol.review import ReviewedFrame, ReviewFrame
from agentcom.sidecar import machine
from agentcom.sidecar import machine_values as values
from agentcom.sidecar.machine_values import Key, Record, Stage
from agentcom.testing.simulation.clocks import NodeClock
from agentcom.testing.simulation.forge import LOOK_US
from agentcom.testing.simulation.kernel import MS, SECOND, Entry, Kernel
from agentcom.testing.simulation.machine_disk import SidecarDisk
from agentcom.testing.simulation.machine_link import MachineLink
from agentcom.testing.simulation.network import Network
from agentcom.testing.simulation.options import Options
from agentcom.testing.simulation.trace import Trace
from agentcom.testing.simulation.work import Steps, Work

SYNC_US: Final = 3 * MS
"""A record's way to the disk."""
OPERATOR_US: Final = 90 * SECOND
"""Until somebody sees to a sidecar that has given up."""

Watch = Callable[["MachineNode", values.Fact], None]
"""Is shown every fact after the machine has decided on it: where the checkers look."""


Overlook = Callable[["MachineNode", values.Order], None]
"""Is shown every order of the machine before it is carried out."""
CAPABILITIES: Final = ("gpu", "browser")
CORES: Final = 2
"""What each machine has, where tasks use resources."""


def agent_of(options: Options, name: str, at: int) -> AgentSpec:
    """Return the agent of a machine; the first machine's can do everything."""
    capabilities = () if at % 2 else CAPABILITIES[: 1 + at // 2 % 2]
    return AgentSpec(
        name=AgentId(f"agent-{name}"),
        runtime="simulated",
        capabilities=capabilities if at else CAPABILITIES,
        slots=options.slots,
        account=AccountId(f"account-{at % options.accounts}") if options.accounts else None,
    )


class MachineNode:
    """One computer."""

    def __init__(
        self,
        name: str,
        kernel: Kernel,
        options: Options,
        network: Network,
        work: Work,
        trace: Trace,
        *,
        specs: tuple[AgentSpec, ...],
        drift_ppm: int = 0,
        disk: SidecarDisk | None = None,
    ) -> None:
        self.name = name
        self.token = ""
        self.machine = MachineId("")
        self.specs = specs
        self.disk = disk or SidecarDisk()
        self.clock = NodeClock(kernel, drift_ppm=drift_ppm, booted_ms=1_000)
        self.link = network.link(name)
        self.work = work
        self.view: values.View | None = None
        """None while no sidecar runs."""
        self.watch: Watch = lambda _node, _fact: None
        self.overlook: Overlook = lambda _node, _order: None
        self.removed = False
        """Whether its token was revoked: it stays out for good."""
        self.clone = False
        self.frozen = False
        self._deferred: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
        self._kernel = kernel
        self._options = options
        self._network = network
        self._trace = trace
        self._rng = random.Random(f"{options.seed}/{name}")
        self._life = 0
        self._link: MachineLink | None = None
        self._timers: dict[str, Entry] = {}
        self._runs: dict[Key, tuple[Steps, Entry]] = {}
        self._watched: dict[Key, Entry] = {}
        self._orders: list[values.Order] = []
        self._writing = False

    # The process's life ---------------------------------------------------------------------------

    @property
    def wall(self) -> WallTime:
        """What its wall clock shows."""
        return self.clock.now().wall

    @property
    def now(self) -> Instant:
        """What its boot clock shows."""
        return self.clock.now().instant

    @property
    def reaches_origin(self) -> bool:
        """Whether the git server answers."""
        return not self.link.blocked

    def start(self) -> None:
        """Start a sidecar, unless one runs."""
        if self.view is not None or self.removed:
            return
        self._trace.note(self.name, "starts")
        self._link = link = MachineLink(
            self._kernel, self._network, self.link, self.token, self._rng, self
        )
        ttl_ms = 0 if self._options.ttl_ms == 20_000 else self._options.ttl_ms
        self.view, orders = machine.load(
            self.specs,
            self.disk.records(),
            ttl_ms=ttl_ms,
            software="simulated",
            incarnation=self.disk.incarnation,
            resources={"cpu": CORES} if self._options.limits else {},
        )
        for order in orders:
            self._perform(order)
        link.dial()

    def crash(self, *, agents_too: bool) -> None:
        """Kill the sidecar; `agents_too` if the whole computer fails."""
        if self.view is None:
            return
        self._trace.note(self.name, "fails with its agents" if agents_too else "is killed")
        self._trace.counts["machine crashes" if agents_too else "sidecar crashes"] += 1
        self._end(silently=self._rng.random() < self._options.half_open or agents_too)
        if agents_too:
            self.work.agents.clear()

    def freeze(self) -> None:
        """Stand still, agents and all."""
        self.frozen = True

    def thaw(self) -> None:
        """Go on; what came meanwhile comes now."""
        self.frozen = False
        deferred, self._deferred = self._deferred, []
        for action, arguments in deferred:
            self._enter(self._life, action, *arguments)

    def settle_agents(self, is_wanted: Callable[[TaskId], bool]) -> None:
        """Let the agents that are wanted end soon; the others never do by themselves."""
        for key in list(self.work.agents):
            self.work.settle(key, ends=is_wanted(key.task))
            self._again(key)

    def wake(self, life: int) -> None:
        """Go on after a sleep, if it is still the same process."""
        if self.frozen and life == self._life:
            self.thaw()

    @property
    def life(self) -> int:
        """Which life of the sidecar's process this is."""
        return self._life

    def say(self, payload: bytes) -> None:
        """Send something that the machine never said: a rogue's or a newer version's frame."""
        if self._link is not None and not self.frozen:
            self._link.send(payload)

    def _end(self, *, silently: bool) -> None:
        self._life += 1
        self.view = None
        self.frozen = False
        self._deferred.clear()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._watch_nothing()
        for _, entry in self._runs.values():
            entry.cancel()
        self._runs.clear()
        self._orders.clear()
        self._writing = False
        if self._link is not None:
            self._link.end(silently=silently)
            self._link = None

    def after(self, delay_us: int, action: Callable[..., object], *arguments: Any) -> Entry:
        """Do something later, in this life of the process and when it is awake."""
        kernel = self._kernel
        return kernel.at(kernel.now_us + delay_us, self._enter, self._life, action, *arguments)

    def at_once(self, action: Callable[..., object], *arguments: Any) -> None:
        """Do something now, or when it is awake again."""
        self._enter(self._life, action, *arguments)

    def _enter(self, life: int, action: Callable[..., object], *arguments: Any) -> None:
        """Do something in this life of the process, when it is awake."""
        if life != self._life:
            return
        if self.frozen:
            self._deferred.append((action, arguments))
        else:
            action(*arguments)

    # Deciding -------------------------------------------------------------------------------------

    def tell(self, fact: values.Fact) -> None:
        """Bring a fact to the machine and perform what it orders."""
        if self.view is None:
            return
        if isinstance(fact, values.Disconnected):
            self._watch_nothing()  # a hub says at each connection what it wants watched
        for order in machine.decide(self.view, fact, now=self.now):
            self._perform(order)
        self.watch(self, fact)

    def review(self, frame: ReviewFrame) -> None:
        """Watch a pull request, look at it at once, or let it be."""
        key = Key(frame.task, frame.fence)
        known = self._watched.get(key)
        if known is not None and frame.pull_request is not None and not frame.at_once:
            return
        if known is not None:
            self._watched.pop(key).cancel()
        if frame.pull_request is not None:
            self._watched[key] = self.after(0, self._look, key)

    def _look(self, key: Key) -> None:
        seen = self.work.look(key.task) if self.reaches_origin else None
        if seen is not None and self._link is not None:
            outcome, commit = seen
            frame = ReviewedFrame(
                task=key.task, fence=key.fence, outcome=outcome, detail=outcome.value, commit=commit
            )
            self._link.send(codec.encode(frame))
        self._watched[key] = self.after(LOOK_US, self._look, key)

    def _watch_nothing(self) -> None:
        for entry in self._watched.values():
            entry.cancel()
        self._watched.clear()

    def still_mine(self, key: Key) -> bool:
        """Return whether a landing may still push."""
        attempt = self.view.attempts.get(key) if self.view is not None else None
        landing = attempt is not None and attempt.stage is Stage.LANDING
        return landing and self.view is not None and machine.lease_valid(self.view, self.now)

    def riders(self, key: Key) -> tuple[Rider, ...] | None:
        """Return who lands with an attempt, as the hub last said; None: it does not queue."""
        assert self.view is not None
        attempt = self.view.attempts.get(key)
        return attempt.riders if attempt is not None else None

    def _perform(self, order: values.Order) -> None:  # noqa: C901, PLR0912 - a total match
        self.overlook(self, order)
        assert self._link is not None
        match order:
            case values.Send(frame):
                self._link.send(codec.encode(frame))
            case values.Store() | values.Forget() | values.Offer() | values.Remember():
                self._put(order)
            case values.Start(record, adopt):
                self._run(record, self.work.attempt(self, record, adopt=adopt))
            case values.Stop(key, _):
                self._stop(key)
            case values.Land(record):
                self._run(record, self.work.landing(self, record))
            case values.Answered(key, _, answer):
                self.work.answered(key, answer)
            case values.SetTimer(key, at):
                self._set_timer(key, at)
            case values.Settle():
                self._link.settle()
            case values.Reconnect(_, after_ms):
                self._link.drop(after_ms)
            case values.Quit(reason):
                self.give_up(reason)
            case values.Notify(key):
                self._noticed(key)
            case values.Report(event, detail, key):
                self._trace.note(self.name, f"{event} {detail} {key.text if key else ''}")
            case _:
                assert_never(order)

    def _set_timer(self, key: str, at: Instant) -> None:
        former = self._timers.pop(key, None)
        if former is not None:
            former.cancel()
        self._timers[key] = self.after(self.clock.us_until(at), self._fired, key)

    def _noticed(self, key: Key) -> None:
        assert key in self._runs, f"a notice for {key.text}, which does not run"
        self._trace.counts["notices"] += 1

    def _fired(self, key: str) -> None:
        self._timers.pop(key, None)
        self.tell(values.TimerFired(key))

    # Work -----------------------------------------------------------------------------------------

    def _run(self, record: Record, steps: Steps) -> None:
        key = record.key
        self._trace.note(self.name, f"runs {key.text} ({record.stage})")
        self._runs[key] = (steps, self.after(0, self._step, key, steps))

    def _step(self, key: Key, steps: Steps) -> None:
        try:
            wait_us = next(steps)
        except StopIteration:
            if self._runs.get(key, (None,))[0] is steps:
                del self._runs[key]
            return
        running = self._runs.get(key)
        if running is not None and running[0] is steps:
            self._runs[key] = (steps, self.after(wait_us, self._step, key, steps))

    def _stop(self, key: Key) -> None:
        assert self.view is not None
        attempt = self.view.attempts[key]
        running = self._runs.get(key)
        if running is not None and attempt.granted:
            return  # a landing sees that it is not wanted any more
        if running is not None:
            running[1].cancel()
        self._run(attempt.record, self.work.wind_down(self, attempt.record))

    def kill_agent(self, key: Key) -> None:
        """Kill one agent; its sidecar, if there is one, sees it at once."""
        self.work.kill(key)
        self._again(key)

    def _again(self, key: Key) -> None:
        """Have an attempt look at its agent now."""
        running = self._runs.get(key)
        if running is not None:
            steps, entry = running
            entry.cancel()
            self._runs[key] = (steps, self.after(0, self._step, key, steps))

    # Disk -----------------------------------------------------------------------------------------

    def _put(self, order: values.Order) -> None:
        self._orders.append(order)
        if not self._writing:
            self._writing = True
            self.after(self._sync_us(), self._write)

    def _sync_us(self) -> int:
        return int(SYNC_US * (0.2 + 1.6 * self._rng.random()))

    def _write(self) -> None:
        order = self._orders.pop(0)
        fact = self._written(order)
        self._writing = bool(self._orders)
        if self._writing:
            self.after(self._sync_us(), self._write)
        if fact is not None:
            self.tell(fact)

    def _written(self, order: values.Order) -> values.Fact | None:
        fact = self.disk.perform(order)
        if isinstance(fact, values.NotStored):
            self._trace.counts["fault: sidecar disk full"] += 1
        elif isinstance(order, values.Forget):
            self.work.agents.pop(order.record.key, None)
        return fact

    def give_up(self, reason: str) -> None:
        """End as `agentcom sidecar run` does when the hub does not want it: stop all agents."""
        view = self.view
        if view is None:
            return
        self._trace.note(self.name, f"gives up: {reason}")
        self._trace.counts["sidecars that gave up"] += 1
        for key in list(self._runs):
            attempt = view.attempts.get(key)
            if attempt is not None and attempt.stage is not Stage.LANDING:
                self.work.agents.pop(key, None)
                self.tell(values.Stopped(key))
        while self._orders:
            fact = self._written(self._orders.pop(0))
            if fact is not None and self.view is not None:
                machine.decide(self.view, fact, now=self.now)
        self._end(silently=False)
        self._kernel.after(OPERATOR_US, self.start)
