"""Everything live in one pool, in memory, with an undo journal.

The view is changed in place while a batch is decided, and every change leaves its inverse in the
journal: a refused fact is rolled back to its mark, a batch that did not fit is rolled back whole.
What leads to what is in `core/turn.py`; this file only keeps the indexes together.
"""

from collections import OrderedDict
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any, Final, TypeVar

from agentcom.core import descriptions, fairness, pauses
from agentcom.core.gates import Gates
from agentcom.core.lanes import Lanes
from agentcom.core.live_tasks import LiveTasks
from agentcom.core.matcher import Matcher
from agentcom.core.parts import Books, Session
from agentcom.core.prices import Prices
from agentcom.core.purse import Purse
from agentcom.core.shapes import ClassId, ShapeId, Shapes, Wants
from agentcom.model import requirement
from agentcom.model.agent import Account, Agent, AgentState, Machine
from agentcom.model.ask import Ask, AskId
from agentcom.model.errors import AgentComError
from agentcom.model.graph import Edge
from agentcom.model.hold import Hold
from agentcom.model.ids import AccountId, AgentId, Instant, MachineId, PoolId, TaskId, WallTime
from agentcom.model.limits import RECENT_KEYS
from agentcom.model.replies import BulkShown
from agentcom.model.task import Task, TaskState
from agentcom.model.todo import Todo

K = TypeVar("K")
V = TypeVar("V")
NEVER: Final = WallTime(1 << 62)
_MISSING: Final = object()
_Parsed = tuple[requirement.Requirement, ...]
_FEW: Final = 4_096  # parsed requirement lists that are remembered


class PoolView:
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
        self.loops: dict[tuple[str, ...], Any] = {}  # counts of `core/loops.py`; not stored
        self.journal: list[tuple[Any, ...]] = []  # inverses: `(function, *arguments)`
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
        self._mentions: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._needs: dict[tuple[str, ...], tuple[_Parsed, tuple[str, ...]]] = {}
        self._live_shapes: dict[tuple[str, ...], ShapeId] = {}  # by needs, some of them

    @property
    def issuing(self) -> bool:
        """Whether attempts are given out: never while one could be given for the second time."""
        return not self.beyond and self.recovers_at is None

    # The journal ------------------------------------------------------------------------------

    def rollback(self, mark: int) -> None:
        """Undo every change since the journal was `mark` long, newest first."""
        journal = self.journal
        while len(journal) > mark:
            undo, *args = journal.pop()
            undo(*args)

    def confirm(self) -> None:
        """Keep everything: the batch is durable."""
        self.journal.clear()
        self.fairness.settle()
        self.shapes.sweep()
        while len(self.requests) > RECENT_KEYS:
            self.requests.popitem(last=False)

    def discard(self) -> None:
        """Undo everything: the batch was not written."""
        self.rollback(0)

    def undo(self, inverse: Callable[..., object], *args: Any) -> None:
        """Note what takes back a change that was just made elsewhere."""
        self.journal.append((inverse, *args))

    def put(self, mapping: MutableMapping[K, V], key: K, value: V) -> None:
        """Set `mapping[key]`, undoably."""
        self.journal.append((_restore, mapping, key, mapping.get(key, _MISSING)))
        mapping[key] = value

    def drop(self, mapping: MutableMapping[K, V], key: K) -> None:
        """Delete `mapping[key]` if it is there, undoably. Order of the rest is kept."""
        old = mapping.pop(key, _MISSING)
        if old is not _MISSING:
            self.journal.append((_restore, mapping, key, old))

    # The queue --------------------------------------------------------------------------------

    def parse_needs(self, needs: tuple[str, ...]) -> _Parsed:
        """Return canonical requirements; raises `InvalidInput`."""
        return self._canonical(needs)[0]

    def write_needs(self, needs: tuple[str, ...]) -> tuple[str, ...]:
        """Return canonical requirements as text, one object for all tasks; see `parse_needs`."""
        return self._canonical(needs)[1]

    def _canonical(self, needs: tuple[str, ...]) -> tuple[_Parsed, tuple[str, ...]]:
        known = self._needs.get(needs)
        if known is None:
            if len(self._needs) >= _FEW:
                self._needs.clear()
            parsed = requirement.canonical(needs)
            known = (parsed, tuple(map(str, parsed)))
            self._needs[needs] = known
        return known

    def shape_of(self, task: Task) -> ShapeId:
        """Return the shape of a task; raises `TooManyShapes` if it is not live yet."""
        if self.asked or task.uses:
            about = descriptions.about(task, self.asked)
            return self.shapes.shape_of(Wants(self.parse_needs(task.needs), about, task.uses))
        shape = self._live_shapes.get(task.needs)
        if shape is None:
            return self.shapes.shape_of(Wants(self.parse_needs(task.needs)))
        return shape

    def learn_shape(self, task: Task) -> None:
        """Count a live task's shape; raises `TooManyShapes` and `TooManyClasses`."""
        shape = self.shape_of(task)
        self.shapes.retain(shape)
        if not (self.asked or task.uses):
            self._live_shapes[task.needs] = shape
        self.journal.append((self._release_shape, shape))
        if task.uses:
            self._tally(self.using, task.id, 1)
        for name in self._names_in(task.needs):
            self._mention(name, 1)

    def forget_shape(self, task: Task) -> None:
        """Stop counting the shape of a task that is no longer live."""
        shape = self.shape_of(task)
        self._release_shape(shape)
        self.journal.append((self.shapes.retain, shape))
        if task.uses:
            self._tally(self.using, task.id, -1)
        for name in self._names_in(task.needs):
            self._mention(name, -1)

    def _release_shape(self, shape: ShapeId) -> None:
        if not self.shapes.release(shape):
            self._live_shapes.clear()

    def _names_in(self, needs: tuple[str, ...]) -> tuple[str, ...]:
        names = self._mentions.get(needs)
        if names is None:
            if len(self._mentions) >= _FEW:
                self._mentions.clear()
            names = self._mentions[needs] = descriptions.names_in(self.parse_needs(needs))
        return names

    def _tally(self, counts: dict[K, int], key: K, change: int) -> int:
        """Count up or down, and return what it was before."""
        before = counts.get(key, 0)
        if before + change:
            self.put(counts, key, before + change)
        else:
            self.drop(counts, key)
        return before

    def _mention(self, name: str, change: int) -> None:
        """Give an agent a class of its own while some live task speaks of it by name."""
        before = self._tally(self.named, name, change)
        if not (before and before + change):
            for agent in descriptions.called(name, self.agents, self.machines):
                self._classify(agent)
                self.refresh(agent.id)

    def enqueue(self, task: Task) -> None:
        """Put a task into the matcher's queue, or behind its gates."""
        rank = fairness.rank(task.start_tag, task.priority, task.seq, emergency=task.emergency)
        passes = task.files or task.paused is not None or self.gates.ruled
        gates = self.gates.gates_of(task) if passes else ()
        if gates:
            self.lanes.add(task.id, self.shape_of(task), gates, rank)
            self.journal.append((self.lanes.remove, task.id))
            return
        self.matcher.enqueue(task.id, self.shape_of(task), rank)
        self.journal.append((self.matcher.withdraw, task.id))

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
            TooManyClasses, TooManyShapes, InvalidInput: nothing has changed then.
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
        """Count what agents ask of tasks; what nobody asked before becomes part of each shape."""
        after = dict(self.asked)
        for name in new:
            after[name] = after.get(name, 0) + 1
        for name in old:
            after[name] -= 1
        after = {name: count for name, count in after.items() if count}
        if after.keys() == self.asked.keys():
            self._set_asked(after)
            return
        # Rare, and the one event that looks at every live task.
        queued = [task for task in self.tasks.values() if task.state is TaskState.QUEUED]
        for task in queued:
            self.withdraw(task.id)
        for task in self.tasks.values():
            self.forget_shape(task)
        self._set_asked(after)
        for task in self.tasks.values():
            self.learn_shape(task)
        for task in queued:
            self.enqueue(task)

    def _set_asked(self, asked: dict[str, int]) -> None:
        self.journal.append((self._ask_again, self.asked))
        self._ask_again(asked)

    def _ask_again(self, asked: dict[str, int]) -> None:
        self.asked = asked
        self._live_shapes.clear()

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


def _restore(mapping: MutableMapping[Any, Any], key: object, old: object) -> None:
    if old is _MISSING:
        del mapping[key]
    else:
        mapping[key] = old
