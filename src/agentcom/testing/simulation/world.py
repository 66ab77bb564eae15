"""A whole fleet of one run: hub, machines, people, git server, nemesis, and those who look on."""

import random
from collections import Counter
from typing import Any, Final

from agentcom.core import facts
from agentcom.core.view import PoolView
from agentcom.hub import credentials
from agentcom.model.batch import Batch, Insert, Table
from agentcom.model.identity import CredentialKind, Role, User
from agentcom.model.ids import DEFAULT_POOL, BatchId, MachineId, TaskId, UserId, WallTime
from agentcom.model.task import TaskState
from agentcom.testing import invariants
from agentcom.testing.simulation import last_words, steering
from agentcom.testing.simulation.admission import credential
from agentcom.testing.simulation.auditor import Auditor
from agentcom.testing.simulation.clocks import EPOCH_MS
from agentcom.testing.simulation.clockwork import Clockwork
from agentcom.testing.simulation.hub_disk import HubDisk, at_once
from agentcom.testing.simulation.hub_node import HubNode
from agentcom.testing.simulation.kernel import HOUR, MINUTE, SECOND, Kernel
from agentcom.testing.simulation.machine_node import CAPABILITIES, MachineNode, agent_of
from agentcom.testing.simulation.nemesis import LIMITED, Nemesis
from agentcom.testing.simulation.network import Network
from agentcom.testing.simulation.options import Options
from agentcom.testing.simulation.origin import Origin
from agentcom.testing.simulation.people import Person, Promises
from agentcom.testing.simulation.purser import PERIOD, SCOPE, Purser
from agentcom.testing.simulation.talkers import Talkers
from agentcom.testing.simulation.trace import Trace, Violation
from agentcom.testing.simulation.witness import Witness
from agentcom.testing.simulation.work import Work

LIVENESS_US: Final = 10 * MINUTE
BEGUN_MS: Final = 4 * 60_000
"""After this long without faults an assignment has been brought, whatever was lost before."""
"""Once faults have stopped, everything ends within this."""
LOOK_US: Final = 60 * SECOND
"""Between two looks at the hub's memory."""
LAST_WORDS_US: Final = 3 * SECOND
LANDINGS_BEHIND: Final = 8
"""Timers of landings that are over, whose clearing is on its way or was lost with a memory."""


class World:
    """Everything of one run."""

    def __init__(self, options: Options, unexpected: list[str]) -> None:
        self.options = options
        self.kernel = Kernel()
        self.trace = Trace(self.kernel)
        self.network = Network(self.kernel, options, self.trace)
        self.auditor = Auditor(self.trace)
        self.promises = Promises()
        self.purser = Purser(self.auditor, self.trace)
        self.clockwork = Clockwork(self.trace)
        self.disk = HubDisk(options, self.trace, self._committed)
        self.hub = HubNode(self.kernel, options, self.network, self.disk, self.trace)
        self.talkers = Talkers(
            self.kernel, options, self.hub, lambda: self.auditor.books, self.trace
        )
        self.origin = Origin(self.trace)
        self.witness = Witness(self.auditor, self.promises, self.trace, lambda: self.kernel.now_us)
        self.nodes: list[MachineNode] = []
        self.people: list[Person] = []
        self.nemesis = Nemesis(self, options, self.trace)
        self._rng = random.Random(f"{options.seed}/world")
        self._unexpected = unexpected
        self._enrolled = 0
        auditor = self.auditor
        auditor.incarnation = lambda: self.disk.incarnation
        auditor.life = lambda: self.hub.deaths
        auditor.view = self._view
        self.network.overhear = self.witness.hub_says

    def live(self) -> None:
        """Build the fleet, break it, let it rest, and judge it."""
        self._found()
        self.hub.start()
        self._run(10 * SECOND)
        self._people_come()
        self._enrol_all()
        self._raise_budget()
        self.talkers.start()
        self.nemesis.start()
        end_us = int(self.options.hours * HOUR)
        while self.kernel.now_us < end_us:
            self._run(min(LOOK_US, end_us - self.kernel.now_us))
        for person in self.people:
            person.cancel_all()  # so that some orders to stop are lost with the last faults
        self._run(LAST_WORDS_US)
        self._rest()
        self._judge()

    def _run(self, duration_us: int) -> None:
        self.kernel.run_until(self.kernel.now_us + duration_us)
        self._look()

    # The fleet ------------------------------------------------------------------------------------

    def _found(self) -> None:
        """Write the rows of people, as an installation with users has them."""
        rows: list[Any] = []
        for at in range(self.options.people):
            name = UserId(f"person-{at}")
            user = User(id=name, role=Role.OPERATOR, created_at=WallTime(EPOCH_MS))
            rows.append(Insert(Table.USER, name, user))
            row, text = credential(self._rng, CredentialKind.USER, Role.OPERATOR, name, None)
            rows.append(credentials.insert(row))
            self.people.append(
                Person(
                    name,
                    self.kernel,
                    self.options,
                    self.network,
                    self.promises,
                    self.trace,
                    token=text,
                    needs=CAPABILITIES,
                )
            )
        self._write([*rows, *self.clockwork.rows(self.people[0].name)])

    def _write(self, changes: list[Any]) -> None:
        number = BatchId(f"people-{len(self.disk.journal)}")
        batch = Batch(id=number, pool=DEFAULT_POOL, changes=tuple(changes))
        at_once(self.disk.rows.commit(batch))

    def _people_come(self) -> None:
        for person in self.people:
            person.journal_length = lambda: self.auditor.books.length
            person.start()

    def _enrol_all(self) -> None:
        for at in range(self.options.machines):
            self._enrol(self._new_node(f"m{at}", at))

    def _new_node(self, name: str, at: int) -> MachineNode:
        options = self.options
        drift = int((self._rng.random() * 2 - 1) * options.drift_ppm)
        rng = random.Random(f"{options.seed}/{name}/work")
        node = MachineNode(
            name,
            self.kernel,
            options,
            self.network,
            Work(self.kernel, options, self.origin, rng),
            self.trace,
            specs=(agent_of(options, name, at),),
            drift_ppm=drift,
        )
        node.work.quiet, node.work.began = self.network.quiet, self.talkers.inquirer.began
        node.watch, node.overlook = self.witness.after, self.witness.ordered
        self.nodes.append(node)
        self.witness.nodes.append(node)
        return node

    def _enrol(self, node: MachineNode) -> None:
        """Let a computer join: its token and its row are written as `agentcom join` has it."""
        self._enrolled += 1
        machine = MachineId(f"machine-{self._enrolled:04d}")
        owner = self.people[0].name
        row, node.token = credential(self._rng, CredentialKind.MACHINE, Role.AGENT, owner, machine)
        node.machine = machine
        self._write([credentials.insert(row)])
        enrol = facts.Enrol(machine, node.name, owner)
        self.kernel.after(0, self.nemesis.insist, enrol, node.start)

    # What the nemesis asks ------------------------------------------------------------------------

    def clone(self, node: MachineNode, lives_us: int) -> None:
        """Start a second sidecar with the identity and the disk of a machine."""
        rng = random.Random(f"{self.options.seed}/{node.name}/clone/{self.kernel.now_us}")
        twin = MachineNode(
            f"{node.name}-twin",
            self.kernel,
            self.options,
            self.network,
            Work(self.kernel, self.options, self.origin, rng),
            self.trace,
            specs=node.specs,
            disk=node.disk.copy(),
        )
        twin.clone, twin.token, twin.machine = True, node.token, node.machine
        self.witness.cloned[node.machine] = None
        twin.watch, twin.overlook = self.witness.after, self.witness.ordered
        self.nodes.append(twin)
        self.witness.nodes.append(twin)
        twin.start()
        self.kernel.after(lives_us, self.end_clone, twin)

    def end_clone(self, twin: MachineNode) -> None:
        """Switch a cloned computer off, for good."""
        twin.removed = True
        twin.crash(agents_too=True)
        if twin in self.nodes:
            self.nodes.remove(twin)
            self.witness.nodes.remove(twin)
        self.witness.gone(twin)

    def replace(self, node: MachineNode) -> None:
        """Revoke a machine, and enrol another computer in its place."""
        services = self.hub.services
        if services is None or not self.hub.ready:
            return
        node.removed = True
        machine = node.machine

        async def revoke() -> None:
            await services.credentials.revoke_machine(machine)

        self.nemesis.insist(facts.RemoveMachine(machine))
        self.hub.run(revoke())
        self.kernel.after(60 * SECOND, self._newcomer, node)

    def _newcomer(self, node: MachineNode) -> None:
        node.crash(agents_too=True)
        if node not in self.nodes:
            return  # a restore has done it
        self.nodes.remove(node)
        self.witness.nodes.remove(node)
        self.witness.gone(node)
        self._successor(node)

    def _successor(self, node: MachineNode) -> None:
        """Let another computer take the place of one that is gone for good."""
        place = node.name.removeprefix("m").split("-")[0]
        self._enrol(self._new_node(f"m{place}-{self._enrolled}", int(place)))

    def restore(self, back: float) -> None:
        """Put back a copy of the hub's store, from a moment of its past (0 to 1)."""
        length = max(1, int(len(self.disk.journal) * (0.5 + back / 2)))
        self.trace.note("hub", f"restored to {length} of {len(self.disk.journal)} batches")
        self.trace.counts["restores"] += 1
        self.hub.crash(down_us=5 * SECOND)
        self.network.era += 1
        incarnation = max(self.disk.incarnation + 1, self.hub.clock.now().wall // 1_000)
        self.disk.restore(length, incarnation)
        batches = self.disk.batches
        self.auditor.restored(batches)
        self.purser.restored(batches)
        self.clockwork.restored(batches)
        self.talkers.restored(batches)
        self.witness.restored()
        promises = self.promises
        for task in [t for t, at in promises.tasks.items() if at > length]:
            del promises.tasks[task]
            for person in self.people:
                person.forget(task)
        books = self.auditor.books
        for key, made in list(promises.keys.items()):
            if not all(task in books.tasks for task in made):
                del promises.keys[key]
        for node in list(self.nodes):
            if str(node.machine) not in books.machine_ids:
                self._enrol_again(node)

    def _enrol_again(self, node: MachineNode) -> None:
        node.removed = True
        node.crash(agents_too=True)
        self.nodes.remove(node)
        self.witness.nodes.remove(node)
        self.witness.gone(node)
        if not node.clone:
            self._successor(node)

    # Looking --------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Look at the hub's memory, and at what the log of errors says."""
        if self._unexpected:
            raise Violation("no part fails of itself", self._unexpected[0])
        services = self.hub.services
        if services is None or not self.hub.ready or self.hub.store is None:
            return
        if self.hub.store.busy:
            return  # a batch is decided and not stored yet
        view = services.engine.view
        try:
            invariants.check_tables(view, self.disk.rows.tables())
        except AssertionError as error:
            raise Violation("memory and store agree", str(error)) from error
        self.trace.checks["memory and store agree"] += 1
        self._check_bounds()
        self.witness.check_promises()
        self.clockwork.check_waits(self.hub)

    def _check_bounds(self) -> None:
        services = self.hub.services
        assert services is not None
        counted = services.fleet.task_counts()
        live = Counter(task.state.value for task in self.auditor.books.live.values())
        same = all(counted.get(state, 0) == live[state] for state in live)
        self.trace.check("I14 counts agree with rows", same, (counted, live))
        timers = len(services.timers)
        bound = 4 * len(services.engine.view.tasks) + 4 * self._enrolled + 50
        self.trace.check("I12 timers are bounded", timers <= bound, services.timers.keys())
        keys = services.timers.keys()
        landings = sum(key.startswith("land/") for key in keys)
        few = landings <= len(services.engine.view.landing) + LANDINGS_BEHIND
        self.trace.check("I12 timers are bounded", few, keys)
        self.trace.check("I12 the inbox is bounded", services.engine.backlog < 8_192, "")

    def _committed(self, batch: Batch, first: int) -> None:
        """Look at a durable batch; what is wrong with it ends the run, whoever wrote it."""
        try:
            self.auditor.committed(batch, first)
            self.purser.committed(batch)
            self.talkers.committed(batch)
            self.clockwork.committed(batch, self.hub.clock.walls)
        except Violation as violation:
            if self.hub.loop is not None:  # a part that is restarted would hide it
                self.hub.loop.violation = violation
            raise

    def _raise_budget(self) -> None:
        if self.options.budget:
            limits = None if self.network.quiet else self.purser.raised()
            self.nemesis.insist(facts.SetBudget(SCOPE, PERIOD, limits))
            self.kernel.after(5 * MINUTE, self._raise_budget)

    def _view(self) -> PoolView | None:
        services = self.hub.services
        return services.engine.view if services is not None else None

    # The end --------------------------------------------------------------------------------------

    def _rest(self) -> None:
        """Stop all faults, and give finite work its time."""
        self.trace.note("world", "faults stop")
        self.network.quiet = self.hub.quiet = True
        self.nemesis.stop()
        for node in [n for n in self.nodes if n.clone]:
            self.end_clone(node)
        self.talkers.stop()
        for person in self.people:
            person.stopped = True
        for node in self.nodes:
            node.work.quiet = True
            node.settle_agents(self._is_wanted)
            node.start()
        if self.hub.loop is not None and self.hub.loop.frozen:
            self.hub.crash()
        self.hub.start()
        for node in self.nodes:
            self.nemesis.insist(facts.DrainMachine(node.machine, draining=False))
            for spec in node.specs:
                self.nemesis.insist(facts.PauseAgent(spec.name, paused=False))
        for scope in LIMITED if self.options.limits else ():
            self.nemesis.insist(facts.DropLimit(scope))
        steering.lift_all(self.auditor.books, self.nemesis)
        end_us = self.kernel.now_us + LIVENESS_US
        while self.kernel.now_us < end_us and not self._at_rest():
            self.clockwork.rest(self.hub)
            self.talkers.rest()
            self._run(LOOK_US // 6)
            now = self.hub.clock.now().wall
            last_words.say(self.auditor.books, self.nemesis, now)
            if self.kernel.now_us > end_us - LIVENESS_US + BEGUN_MS * 1_000:
                self.auditor.check_begun(WallTime(now - BEGUN_MS))

    def _is_wanted(self, task: TaskId) -> bool:
        """Return whether a task's agent may come to its end; one that is cancelled must be told."""
        row = self.auditor.books.tasks.get(task)
        return row is None or row.stop_reason is None

    def _at_rest(self) -> bool:
        reported = all(
            not node.disk.held and node.disk.incarnation == self.disk.incarnation
            for node in self.nodes
        )
        answered = not any(person.waits for person in self.people)
        over = self.clockwork.rests and self.talkers.rests
        return answered and reported and over and not self.auditor.books.live

    def _judge(self) -> None:
        witness, trace = self.witness, self.trace
        witness.check_promises()
        witness.check_all_ended()
        held = [node.name for node in self.nodes if node.disk.held]
        trace.check("I15 every report is acknowledged", not held, held)
        witness.check_results()
        self.purser.check_counted(witness.counted_on())
        witness.check_history()
        self.talkers.check_over(self.hub.clock.now().wall)
        for task in self.auditor.books.tasks.values():
            merged = task.state is TaskState.COMPLETED and task.verified and task.land_key
            landed = self.origin.landed.get(task.id)
            if merged and landed is not None:
                trace.check("completed work is in the base", landed == task.commit, task)
        for person in self.people:
            trace.check("every request is answered", not person.waits, person.waits)
