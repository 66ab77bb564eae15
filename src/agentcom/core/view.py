"""Everything live in one pool, in memory, with an undo journal.

The view is changed in place while a batch is decided, and every change leaves its inverse in the
journal: a refused fact is rolled back to its mark, a batch that did not fit is rolled back whole.
What leads to what is in `core/turn.py`; this file only keeps the indexes together.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from agentcom.core import descriptions, fairness, pauses
from agentcom.core.gates import Gates
from agentcom.core.journal import Journal
from agentcom.core.lanes import Lanes
from agentcom.core.live_tasks import LiveTasks
from agentcom.core.matcher import Matcher, Queued
from agentcom.core.parts import Books, Session
from agentcom.core.prices import Prices
from agentcom.core.purse import Purse
from agentcom.core.shapes import ClassId, ShapeId, Shapes, TooManyShapes, Wants
from agentcom.model.agent import Account, Agent, AgentState, Machine
from agentcom.model.ask import Ask, AskId
from agentcom.model.errors import AgentComError
from agentcom.model.graph import Edge
from agentcom.model.hold import Hold
from agentcom.model.ids import AccountId, AgentId, Instant, MachineId, PoolId, TaskId, WallTime
from agentcom.model.limits import RECENT_KEYS
from agentcom.model.repetition import Repetition
from agentcom.model.replies import BulkShown
from agentcom.model.task import Task, TaskState
from agentcom.model.todo import Todo

NEVER: Final = WallTime(1 << 62)


class PoolView(Journal):
    """The live rows of a pool and the indexes over them."""

    deadline_at = NEVER
    """When the one timer for the deadlines of all attempts fires: not after the earliest."""
    recovers_at: Instant | None = None
    """After a restore: until then holders that this store never knew may be at work."""
    prices = Prices()
    """What models charge; the shell's own list takes its place."""
    seq = 0
    """The newest place in the queue that was given out."""

    def __init__(self, pool: PoolId, *, incarnation: int, term: int | None) -> None:
        super().__init__()
        self.pool, self.incarnation, self.term = pool, incarnation, term
        self.tasks = LiveTasks()
        self.edges: dict[TaskId, dict[TaskId, Edge]] = {}
        self.dependants: dict[TaskId, dict[TaskId, None]] = {}
        self.books = Books()
        self.holds: dict[TaskId, dict[str, Hold]] = {}
        self.landing: dict[str, tuple[TaskId, ...]] = {}  # by land key; the first one holds it
        self.agents: dict[AgentId, Agent] = {}
        self.accounts: dict[AccountId, Account] = {}  # without quota: nearly always none
        self.class_of: dict[AgentId, ClassId] = {}
        self.slots_used: dict[AgentId, int] = {}
        self.machines: dict[MachineId, Machine] = {}
        self.agents_of: dict[MachineId, dict[AgentId, None]] = {}
        self.held_by: dict[MachineId, dict[TaskId, None]] = {}
        self.sessions: dict[MachineId, Session] = {}
        self.beyond: dict[MachineId, None] = {}
        """Machines that hold an attempt which this store never gave: it is older than the fleet."""
        self.orphans: dict[MachineId, int] = {}  # results of unknown tasks since the hub's start
        self.asks: dict[AskId, Ask] = {}  # open ones
        self.todos: dict[TaskId, Todo] = {}
        self.unique: dict[str, TaskId] = {}
        # Acts on many tasks that were done here, the newest last; in memory only.
        self.bulks: OrderedDict[TaskId, BulkShown] = OrderedDict()
        self.requests: OrderedDict[str, tuple[str, bytes]] = OrderedDict()
        self.purse = Purse()
        self.loops: dict[tuple[str, ...], Repetition] = {}  # counts of `core/loops.py`
        self.fairness = fairness.Fairness(self.journal)
        self._index()

    def _index(self) -> None:
        """Begin with nothing queued and nothing described."""
        self.shapes = Shapes()
        self.matcher = Matcher(self.shapes)
        self.gates = Gates(self.pool, self.purse)
        self.pauses = self.gates.pauses
        self.lanes = Lanes(self.matcher, self.gates.closed_by, self.gates.guard)
        self.named: dict[str, int] = {}  # `agent=NAME`, `machine=NAME` -> tasks that speak of it
        self.asked: dict[str, int] = {}  # what agents ask of tasks (project, ...) -> how many do
        self.using: dict[TaskId, int] = {}  # live tasks that use resources -> shapes of theirs
        self.used: dict[MachineId, dict[str, int]] = {}
        """What the attempts on a machine use of its resources."""
        self.pace: dict[tuple[str, ...], float] = {}
        """Needs -> how long attempts took lately, in milliseconds; a hint only."""
        self.warm: OrderedDict[str, tuple[MachineId, ...]] = OrderedDict()
        """Repository -> machines that had it last; a hint only."""
        self.needs = descriptions.Needs()
        self.told: tuple[str, ...] = ()
        """What agents ask now, in order: a task that joins the queue tells it."""
        self.behind: Sequence[ShapeId] = ()
        """Live shapes of tasks that do not tell that (nor do those that wait for something)."""
        self._told: dict[TaskId, ShapeId] = {}  # live tasks that tell anything
        self._live_shapes: dict[tuple[str, ...], ShapeId] = {}  # that tell nothing, by needs: some

    @property
    def issuing(self) -> bool:
        """Whether attempts are given out: never while one could be given for the second time."""
        return not self.beyond and self.recovers_at is None

    def confirm(self) -> None:
        """Keep everything: the batch is durable."""
        self.journal.clear()
        self.fairness.settle()
        if self.behind:
            self.behind = [shape for shape in self.behind if self.shapes.in_use(shape)]
        self.shapes.sweep()
        while len(self.requests) > RECENT_KEYS:
            self.requests.popitem(last=False)

    def discard(self) -> None:
        """Undo everything: the batch was not written."""
        self.rollback(0)

    # The queue --------------------------------------------------------------------------------

    def shape_of(self, task: Task) -> ShapeId:
        """Return the shape that a live task counts for."""
        shape = self._told.get(task.id) if self._told else None
        return self._plain_shape(task) if shape is None else shape

    def shape_now(self, task: Task) -> ShapeId:
        """Return the shape of a task that tells all that is asked now; raises `TooManyShapes`."""
        if not self.told:
            return self._plain_shape(task)
        about = descriptions.about(task, self.asked)
        wants = Wants(self.needs.parsed(task.needs), about, task.uses, self.told)
        return self.shapes.shape_of(wants)

    def shape_soon(self, task: Task) -> ShapeId:
        """Return the shape that a live task counts for when it has told what is asked now."""
        try:
            return self.shape_now(task)
        except TooManyShapes:
            return self.shape_of(task)

    def _plain_shape(self, task: Task) -> ShapeId:
        shape = None if task.uses else self._live_shapes.get(task.needs)
        if shape is None:
            return self.shapes.shape_of(Wants(self.needs.parsed(task.needs), uses=task.uses))
        return shape

    def learn_shape(self, task: Task) -> None:
        """Count a live task's shape; raises `TooManyShapes` and `TooManyClasses`."""
        if self.told and task.state is TaskState.QUEUED:
            self._count_shape(task, self.shape_now(task))
        else:
            self._count_shape(task, self._plain_shape(task))
        if task.uses:
            self.tally(self.using, task.id, 1)
        for name in self.needs.names(task.needs):
            self._mention(name, 1)

    def forget_shape(self, task: Task) -> None:
        """Stop counting the shape of a task that is no longer live."""
        self._uncount_shape(task, self.shape_of(task))
        if self._told:
            self.drop(self._told, task.id)

    def relearn_shape(self, before: Task, after: Task) -> None:
        """Count what a live task becomes instead of what it was; raises as `learn_shape`."""
        shape = self.shape_of(before)
        self.learn_shape(after)
        self._uncount_shape(before, shape)

    def _count_shape(self, task: Task, shape: ShapeId) -> None:
        self.shapes.retain(shape)
        self.journal.append((self._release_shape, shape))
        if self.told and self.shapes.wants(shape).told:
            self.put(self._told, task.id, shape)
            return
        if self._told:
            self.drop(self._told, task.id)
        if not task.uses:
            self._live_shapes[task.needs] = shape

    def _uncount_shape(self, task: Task, shape: ShapeId) -> None:
        self._release_shape(shape)
        self.journal.append((self.shapes.retain, shape))
        if task.uses:
            self.tally(self.using, task.id, -1)
        for name in self.needs.names(task.needs):
            self._mention(name, -1)

    def _release_shape(self, shape: ShapeId) -> None:
        if not self.shapes.release(shape):
            self._live_shapes.clear()

    def _mention(self, name: str, change: int) -> None:
        """Give an agent a class of its own while some live task speaks of it by name."""
        before = self.tally(self.named, name, change)
        if not (before and before + change):
            for agent in descriptions.called(name, self.agents, self.machines):
                self.reclassify(agent)

    def enqueue(self, task: Task) -> None:
        """Put a task into the matcher's queue, or behind its gates."""
        rank = fairness.rank(task.start_tag, task.priority, task.seq, emergency=task.emergency)
        if self.told or self.behind:
            self._catch_up(task)
        passes = task.files or task.paused is not None or self.gates.ruled
        gates = self.gates.gates_of(task) if passes else ()
        if gates:
            self.lanes.add(task.id, self.shape_of(task), gates, rank)
            self.journal.append((self.lanes.remove, task.id))
            return
        self.matcher.enqueue(task.id, self.shape_of(task), rank)
        self.journal.append((self.matcher.withdraw, task.id))

    def _catch_up(self, task: Task) -> None:
        """Give a task the shape that tells what is asked now, if there is room for one."""
        old = self.shape_of(task)
        if self.shapes.wants(old).told == self.told:
            return
        self._release_shape(old)
        try:
            shape = self.shape_now(task)
        except TooManyShapes:
            self.shapes.retain(old)
            self.behind = [*dict.fromkeys((*self.behind, old))]
            return
        self.journal.append((self.shapes.retain, old))
        self._count_shape(task, shape)

    def withdraw(self, task: TaskId) -> None:
        """Take a task out of the queue."""
        if task in self.lanes:
            member = self.lanes.remove(task)
            assert member is not None
            self.journal.append((self.lanes.put_back, member))
            return
        entry = self.matcher.withdraw(task)
        if entry is not None:
            self.journal.append((self.matcher.requeue, entry))

    def lagging(self) -> list[Queued]:
        """Return the first queued task of each shape that is behind: `core/telling.py`."""
        heads = map(self.matcher.head, self.behind)
        return [head for head in heads if head is not None]

    def depth(self) -> int:
        """Return how many tasks are queued."""
        return self.matcher.depth() + self.lanes.hidden

    def set_deadline(self, at: WallTime) -> None:
        """Note when the timer for deadlines fires."""
        self.journal.append((setattr, self, "deadline_at", self.deadline_at))
        self.deadline_at = at

    # Agents -----------------------------------------------------------------------------------

    def learn_agent(self, agent: Agent) -> None:
        """Add or change an agent.

        Raises:
            TooManyClasses, InvalidInput: nothing has changed then.
        """
        mark = len(self.journal)
        try:
            known = self.agents.get(agent.id)
            asked = descriptions.names_asked(agent)
            before = () if known is None else descriptions.names_asked(known)
            if asked != before:
                self._ask(asked, before)
            self._classify(agent)
        except AgentComError:
            self.rollback(mark)
            raise
        self.put(self.agents, agent.id, agent)
        self.put(self.agents_of.setdefault(agent.machine, {}), agent.id, None)

    def reclassify(self, agent: Agent) -> None:
        """Look anew at what an agent offers; raises `TooManyClasses`."""
        self._classify(agent)
        self.refresh(agent.id)

    def _classify(self, agent: Agent) -> None:
        """Count an agent to the class of those that offer the same."""
        machine = self.machines.get(agent.machine)
        class_id = self.shapes.class_of(descriptions.offers(agent, machine, self.named))
        old_class = self.class_of.get(agent.id)
        if old_class == class_id:
            return
        self.shapes.retain_class(class_id)
        self.undo(self.shapes.release_class, class_id)
        if old_class is not None:
            self.shapes.release_class(old_class)
            self.undo(self.shapes.retain_class, old_class)
        self.put(self.class_of, agent.id, class_id)

    def _ask(self, new: Sequence[str], old: Sequence[str]) -> None:
        """Count what agents ask of tasks; who is in the queue tells what is new bit by bit."""
        after = dict(self.asked)
        for name in new:
            after[name] = after.get(name, 0) + 1
        for name in old:
            after[name] -= 1
        after = {name: count for name, count in after.items() if count}
        if after.keys() == self.asked.keys():
            told, behind = self.told, self.behind
        else:
            told = tuple(sorted(after))
            behind = self.shapes.untold(told)
        self.undo(self._set_asked, self.asked, self.told, self.behind)
        self._set_asked(after, told, behind)

    def _set_asked(
        self, asked: dict[str, int], told: tuple[str, ...], behind: Sequence[ShapeId]
    ) -> None:
        self.asked, self.told, self.behind = asked, told, behind

    def fits(self, machine_id: MachineId, shape: ShapeId) -> bool:
        """Return whether a machine has room now for what tasks of a shape use."""
        uses = self.shapes.wants(shape).uses
        if not uses:
            return True
        used = self.used.get(machine_id, {})
        capacity = self.machines[machine_id].resources
        return all(used.get(name, 0) + much <= capacity.get(name, 0) for name, much in uses)

    def free_slots(self, agent: Agent) -> int:
        """Return how many more attempts may be sent to `agent` now."""
        machine = self.machines.get(agent.machine)
        session = self.sessions.get(agent.machine)
        if machine is None or session is None or session.connection is None or session.suspect:
            return 0
        if not agent.ready or machine.draining or machine.removed:
            return 0
        if agent.id in self.purse.shut or (self.pauses and pauses.stop_of(self.pauses, agent)):
            return 0
        free = max(0, agent.usable - self.slots_used.get(agent.id, 0))
        account = self.exhausted_account(agent) if self.accounts else None
        if account is None:
            return free
        return 0 if account.closed else min(1, free)

    def exhausted_account(self, agent: Agent) -> Account | None:
        """Return the account of `agent` if its quota is used up, or only being tried."""
        return self.accounts.get(agent.account) if agent.account is not None else None

    def refresh(self, agent_id: AgentId) -> None:
        """Tell the matcher how free an agent is."""
        agent = self.agents.get(agent_id)
        if agent is not None:
            self.note_free(agent_id, self.free_slots(agent) if self.issuing else 0)

    def note_free(self, agent_id: AgentId, free: int, *, used: bool = False) -> None:
        """Tell the matcher an agent's free slots; one that was `used` goes behind the others."""
        matcher = self.matcher
        old = matcher.set_free(agent_id, self.class_of[agent_id], free, used=used)
        if matcher.agent(agent_id) is not old:
            self.journal.append((matcher.restore_agent, agent_id, old))

    def first_landings(self) -> frozenset[TaskId]:
        """Return the tasks that hold their base now."""
        return frozenset(queue[0] for queue in self.landing.values())

    def agent_state(self, agent: Agent) -> AgentState:
        """Return what an agent is doing, for people."""
        session = self.sessions.get(agent.machine)
        machine = self.machines.get(agent.machine)
        if session is None or session.connection is None or agent.absent or machine is None:
            return AgentState.OFFLINE
        if agent.shut or pauses.stop_of(self.pauses, agent):
            return AgentState.QUARANTINED
        if agent.paused or machine.draining:
            return AgentState.DRAINING
        mine = [t for t in self.held_tasks(agent.machine) if t.agent == agent.id]
        if any(t.state is TaskState.RUNNING for t in mine):
            return AgentState.WORKING
        if mine:
            return AgentState.ASSIGNED
        account = self.exhausted_account(agent)
        blocked = agent.problem or (account is not None and account.closed)
        return AgentState.BLOCKED if blocked else AgentState.IDLE

    def held_tasks(self, machine: MachineId) -> Sequence[Task]:
        """Return the tasks whose attempts a machine holds."""
        return [self.tasks[task] for task in self.held_by.get(machine, ())]
