"""The matching index: which queued task runs next on an agent, which idle agent takes a task.

Pure bookkeeping: picking changes nothing, and each change returns what undoes it. An agent that
becomes ready looks at the heads of the shapes that its class can run; the cost depends on the
number of those shapes, not on the number of tasks or agents.

The caller keeps a task's shape and an agent's class retained (see `shapes`) while they are here.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import closing
from itertools import islice
from operator import itemgetter
from typing import Final

from agentcom.core.fairness import Rank
from agentcom.core.lazyheap import LazyHeap, walk
from agentcom.core.shapes import ClassId, ShapeId, Shapes
from agentcom.model.ids import AgentId, TaskId

LOOK_AHEAD: Final = 32
"""Tasks of one shape that are offered to `allowed` before the shape is passed over."""
CANDIDATES_MAX: Final = 8
"""Agents that are scored for one task."""

Queued = tuple[int, float, int, TaskId, ShapeId]
"""A queued task: its rank, flat to save memory, then id and shape. Undoes a `withdraw`."""
Free = tuple[int, AgentId, ClassId, int]
"""An agent: stamp of its last change, id, class, free slots. Undoes a `set_free`."""

# They sort after every real entry, so an empty shape or class never wins.
_NO_TASK: Final[Queued] = (2, 0.0, 0, TaskId(""), ShapeId(-1))
_NO_AGENT: Final[Free] = (1 << 62, AgentId(""), ClassId(-1), 0)


class Matcher:
    """Queued tasks by shape and rank, idle agents by class and time since their last use."""

    __slots__ = (
        "_agents",
        "_heads",
        "_idle",
        "_idle_heads",
        "_queued",
        "_queues",
        "_shapes",
        "_stamp",
        "idle_bits",
    )

    def __init__(self, shapes: Shapes) -> None:
        self._shapes = shapes
        self._queued: dict[TaskId, Queued] = {}
        self._queues: dict[ShapeId, LazyHeap[TaskId, Queued]] = {}
        self._heads: defaultdict[ShapeId, Queued] = defaultdict(lambda: _NO_TASK)
        self._agents: dict[AgentId, Free] = {}
        self._idle: dict[ClassId, LazyHeap[AgentId, Free]] = {}
        self._idle_heads: defaultdict[ClassId, Free] = defaultdict(lambda: _NO_AGENT)
        self.idle_bits = 0
        """The classes that have an idle agent: bit n stands for class n."""
        self._stamp = 0

    def enqueue(self, task_id: TaskId, shape: ShapeId, rank: Rank) -> None:
        """Queue a task that is not queued; `withdraw` undoes it."""
        assert task_id not in self._queued, f"task {task_id} is queued already"
        entry: Queued = (rank[0], rank[1], rank[2], task_id, shape)
        queue = self._queues.get(shape)
        if queue is None:
            queue = LazyHeap(self._queued, itemgetter(3))
            self._queues[shape] = queue
        self._queued[task_id] = entry
        queue.push(entry)
        self._heads[shape] = queue.heap[0]

    def withdraw(self, task_id: TaskId) -> Queued | None:
        """Take a task out of the queue, if it is there; `requeue` of the answer undoes it."""
        entry = self._queued.pop(task_id, None)
        if entry is None:
            return None
        shape = entry[4]
        queue = self._queues[shape]
        queue.dropped(entry)
        self._heads[shape] = queue.heap[0] if queue.heap else _NO_TASK
        return entry

    def requeue(self, entry: Queued) -> None:
        """Put back what `withdraw` returned."""
        self.enqueue(entry[3], entry[4], entry[:3])

    def set_free(
        self, agent_id: AgentId, class_id: ClassId, slots: int, *, used: bool = False
    ) -> Free | None:
        """Note an agent's free slots (0: not ready); `restore_agent` of the answer undoes it.

        A change counts as use, and so does `used`: the agent goes to the end of its class.
        """
        assert slots >= 0, f"agent {agent_id} cannot have {slots} free slots"
        old = self._agents.get(agent_id)
        if old is None or old[3] != slots or old[2] != class_id or (used and slots):
            self._stamp += 1
            self._replace(agent_id, old, (self._stamp, agent_id, class_id, slots))
        return old

    def forget_agent(self, agent_id: AgentId) -> Free | None:
        """Remove an agent, if it is known; `restore_agent` of the answer undoes it."""
        old = self._agents.get(agent_id)
        self._replace(agent_id, old, None)
        return old

    def restore_agent(self, agent_id: AgentId, old: Free | None) -> None:
        """Put an agent back as it was when `set_free` or `forget_agent` returned `old`."""
        # A copy: the old object may still lie in a heap as a stale entry.
        entry = None if old is None else (old[0], old[1], old[2], old[3])
        self._replace(agent_id, self._agents.get(agent_id), entry)

    def pick_agent(
        self,
        shape: ShapeId,
        allowed: Callable[[AgentId], bool] | None = None,
        *,
        score: Callable[[AgentId], float] | None = None,
        prefer: Sequence[AgentId] = (),
    ) -> AgentId | None:
        """Return the compatible idle agent that was not used for longest.

        Agents in `prefer` come first, if they qualify. With `score`, the highest of at most 8
        candidates wins, the earlier among equals. The callbacks must not change the matcher.
        """
        bits = self._shapes.compatible_classes(shape) & self.idle_bits
        if not bits:
            return None
        if score is None and not prefer:
            oldest = self._oldest(shape, bits)
            if allowed is None or allowed(oldest):
                return oldest
        wanted = 1 if score is None else CANDIDATES_MAX
        with closing(self._candidates(shape, bits, allowed or _anyone, prefer)) as found:
            candidates = list(islice(found, wanted))
        return max(candidates, key=score or _equally, default=None)

    def pick_task(
        self,
        class_id: ClassId,
        allowed: Callable[[TaskId], bool] | None = None,
        *,
        fits: Callable[[ShapeId], bool] | None = None,
    ) -> TaskId | None:
        """Return the first task in rank order that an agent of the class can run.

        `fits` says whether there is room now for tasks of a shape; `allowed` may veto single
        tasks, and of each shape at most 32 are offered to it. Neither may change the matcher.
        """
        shapes: Collection[ShapeId] = self._shapes.compatible_shapes(class_id)
        if fits is not None:
            shapes = [shape for shape in shapes if shape in self._queues and fits(shape)]
        first = min(map(self._heads.__getitem__, shapes), default=_NO_TASK)
        if first is _NO_TASK:
            return None
        if allowed is None or allowed(first[3]):
            return first[3]
        queues = [self._queues[shape] for shape in shapes if shape in self._queues]
        with closing(walk(queues, LOOK_AHEAD)) as entries:
            return next((entry[3] for entry in entries if allowed(entry[3])), None)

    def is_queued(self, task_id: TaskId) -> bool:
        """Return whether a task may be picked."""
        return task_id in self._queued

    def idle(self) -> list[AgentId]:
        """Return the agents that have a free slot."""
        return [entry[1] for idle in self._idle.values() for entry in idle]

    def idle_count(self, class_id: ClassId) -> int:
        """Return how many agents of the class have a free slot."""
        idle = self._idle.get(class_id)
        return 0 if idle is None else len(idle)

    def agent(self, agent_id: AgentId) -> Free | None:
        """Return what is noted of an agent."""
        return self._agents.get(agent_id)

    def depth(self, shape: ShapeId | None = None) -> int:
        """Return how many tasks are queued, in all or of one shape."""
        if shape is None:
            return len(self._queued)
        queue = self._queues.get(shape)
        return 0 if queue is None else len(queue)

    def queues(self) -> Iterator[tuple[ShapeId, LazyHeap[TaskId, Queued]]]:
        """Yield the shapes that have tasks, with those, in no order."""
        return ((shape, queue) for shape, queue in self._queues.items() if queue.heap)

    def heads(self) -> tuple[Queued, ...]:
        """Return the first task of each shape that has one, in rank order."""
        return tuple(sorted(queue.heap[0] for queue in self._queues.values() if queue.heap))

    def _oldest(self, shape: ShapeId, bits: int) -> AgentId:
        if not bits & (bits - 1):
            return self._idle_heads[ClassId(bits.bit_length() - 1)][1]
        return min(map(self._idle_heads.__getitem__, self._shapes.class_list(shape)))[1]

    def _candidates(
        self,
        shape: ShapeId,
        bits: int,
        allowed: Callable[[AgentId], bool],
        prefer: Sequence[AgentId],
    ) -> Generator[AgentId, None, None]:
        seen = set()
        for agent_id in prefer:
            agent = self._agents.get(agent_id, _NO_AGENT)
            suits = agent[3] and bits >> agent[2] & 1 and agent_id not in seen
            if suits and allowed(agent_id):
                seen.add(agent_id)
                yield agent_id
        classes = self._shapes.class_list(shape)
        heaps = [self._idle[class_id] for class_id in classes if bits >> class_id & 1]
        with closing(walk(heaps)) as entries:
            for entry in entries:
                if entry[1] not in seen and allowed(entry[1]):
                    yield entry[1]

    def _replace(self, agent_id: AgentId, old: Free | None, new: Free | None) -> None:
        if new is None:
            self._agents.pop(agent_id, None)
        else:
            self._agents[agent_id] = new
        if old is not None and old[3]:
            idle = self._idle[old[2]]
            idle.dropped(old)
            self._note_idle(old[2], idle)
        if new is not None and new[3]:
            idle = self._idle_agents(new[2])
            idle.push(new)
            self._note_idle(new[2], idle)

    def _idle_agents(self, class_id: ClassId) -> LazyHeap[AgentId, Free]:
        idle = self._idle.get(class_id)
        if idle is None:
            idle = LazyHeap(self._agents, itemgetter(1))
            self._idle[class_id] = idle
        return idle

    def _note_idle(self, class_id: ClassId, idle: LazyHeap[AgentId, Free]) -> None:
        if idle.heap:
            self._idle_heads[class_id] = idle.heap[0]
            self.idle_bits |= 1 << class_id
        else:
            self._idle_heads[class_id] = _NO_AGENT
            self.idle_bits &= ~(1 << class_id)


def _anyone(_agent_id: AgentId) -> bool:
    return True


def _equally(_agent_id: AgentId) -> float:
    return 0.0
