"""Lanes: tasks that stand behind the same limits, in order, in front of the matcher.

A lane holds the queued tasks of one shape that pass the same gates (`core/gates.py`). All of them
can start or none can, so only the first one is shown to the matcher, and none while a gate is
shut: the matcher then holds exactly what can start, and never has to look past a task. Tasks
without a limit stand in no lane. What a change costs depends on the lanes behind its gate.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from operator import itemgetter
from typing import ClassVar, Final, NamedTuple

from agentcom.core.fairness import Rank
from agentcom.core.lazyheap import LazyHeap
from agentcom.core.matcher import Matcher
from agentcom.core.shapes import ShapeId
from agentcom.model.errors import AgentComError
from agentcom.model.ids import TaskId
from agentcom.model.limits import LANES_MAX

Gates = tuple[Hashable, ...]
"""What a task passes before it can start; `core/gates.py` knows what they are."""
LaneKey = tuple[ShapeId, Gates]
_TASK: Final = itemgetter(3)


class TooManyLanes(AgentComError):
    """The queued tasks stand behind too many different sets of limits."""

    code: ClassVar[str] = "too_many_lanes"
    status: ClassVar[int] = 429


class Member(NamedTuple):
    """A task in a lane: its rank, flat as the matcher has it, then id and lane."""

    band: int
    tag: float
    seq: int
    task: TaskId
    lane: LaneKey

    @property
    def rank(self) -> Rank:
        """Its place in the queue."""
        return (self.band, self.tag, self.seq)


class _Lane:
    __slots__ = ("heap", "shown")

    def __init__(self, heap: LazyHeap[TaskId, Member]) -> None:
        self.heap = heap
        self.shown: TaskId | None = None
        """The task that the matcher knows."""


class Lanes:
    """All lanes of a pool. `add` and `remove` undo each other; `look` follows the gates."""

    __slots__ = ("_behind", "_is_open", "_lanes", "_matcher", "_members", "_shown", "fresh")

    def __init__(self, matcher: Matcher, is_open: Callable[[Hashable], bool]) -> None:
        self._matcher = matcher
        self._is_open = is_open
        self._members: dict[TaskId, Member] = {}
        self._lanes: dict[LaneKey, _Lane] = {}
        self._behind: dict[Hashable, dict[LaneKey, None]] = {}
        self._shown = 0
        self.fresh: dict[TaskId, None] = {}
        """Tasks that were shown to the matcher; the turn looks for agents, and clears it."""

    def __len__(self) -> int:
        """Return how many lanes there are."""
        return len(self._lanes)

    def __contains__(self, task: TaskId) -> bool:
        """Return whether a task stands in a lane."""
        return task in self._members

    @property
    def hidden(self) -> int:
        """How many queued tasks the matcher does not know."""
        return len(self._members) - self._shown

    def add(self, task: TaskId, shape: ShapeId, gates: Gates, rank: Rank) -> None:
        """Let a task stand behind its gates.

        Raises:
            TooManyLanes: it would be one lane too many.
        """
        key = (shape, gates)
        lane = self._lanes.get(key)
        new = lane is None
        if lane is None:
            if len(self._lanes) >= LANES_MAX:
                raise TooManyLanes
            lane = self._lanes[key] = _Lane(LazyHeap(self._members, _TASK))
            for gate in gates:
                self._behind.setdefault(gate, {})[key] = None
        member = Member(*rank, task, key)
        self._members[task] = member
        lane.heap.push(member)
        # A lane that was there changes by its first task alone: `look` follows its gates.
        if new or (lane.shown is not None and lane.heap.heap[0] is member):
            self._settle(lane, gates)

    def remove(self, task: TaskId) -> Member | None:
        """Take a task out of its lane, if it is in one; `put_back` of the answer undoes it."""
        member = self._members.pop(task, None)
        if member is None:
            return None
        lane = self._lanes[member.lane]
        lane.heap.dropped(member)
        if lane.shown == task:
            self._hide(lane)
        if lane.heap.heap:
            self._settle(lane, member.lane[1])
            return member
        del self._lanes[member.lane]
        for gate in member.lane[1]:
            self._behind[gate].pop(member.lane)
            if not self._behind[gate]:
                del self._behind[gate]
        return member

    def put_back(self, member: Member) -> None:
        """Undo a `remove`."""
        self.add(member.task, *member.lane, member.rank)

    def look(self, gate: Hashable) -> None:
        """Show or hide what stands behind a gate that may have opened or shut."""
        for key in self._behind.get(gate, ()):
            self._settle(self._lanes[key], key[1])

    def gates_of(self, task: TaskId) -> Gates:
        """Return the gates that a task stands behind; () if it is in no lane."""
        member = self._members.get(task)
        return () if member is None else member.lane[1]

    def shut(self) -> Iterator[tuple[TaskId, Hashable]]:
        """Yield the first task of each lane that is shut, and a gate that shuts it."""
        for (_, gates), lane in self._lanes.items():
            for gate in gates if lane.shown is None else ():
                if not self._is_open(gate):
                    yield lane.heap.heap[0].task, gate
                    break

    def hidden_members(self) -> Iterator[Member]:
        """Yield the tasks that the matcher does not know, in no order."""
        for lane in self._lanes.values():
            yield from (member for member in lane.heap if member.task != lane.shown)

    def gates(self) -> Sequence[Hashable]:
        """Return every gate that something stands behind."""
        return list(self._behind)

    def _settle(self, lane: _Lane, gates: Gates) -> None:
        first = lane.heap.heap[0]
        wanted = first.task if all(map(self._is_open, gates)) else None
        if lane.shown == wanted:
            return
        if lane.shown is not None:
            self._hide(lane)
        if wanted is not None:
            self._matcher.enqueue(wanted, first.lane[0], first.rank)
            self._shown += 1
            lane.shown = wanted
            self.fresh[wanted] = None

    def _hide(self, lane: _Lane) -> None:
        assert lane.shown is not None
        self._matcher.withdraw(lane.shown)
        self.fresh.pop(lane.shown, None)
        self._shown -= 1
        lane.shown = None
