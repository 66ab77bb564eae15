"""Lanes: tasks that stand behind the same limits, in order, in front of the matcher.

A lane holds the queued tasks of one shape that pass the same gates (`core/gates.py`). All of them
can start or none can, so only the first one is shown to the matcher, and none while a gate is
shut: the matcher never has to look past a task. Tasks without a limit stand in no lane.

However many lanes there are behind a gate, the best few of each shape are shown, and the others
follow as those start. A lane that is not shown is parked at one place: with what keeps one of its
gates shut, or at a gate where enough better ones are shown. So a gate that opens or shuts costs
what is shown there, and the search for what takes its place is cut into bounded steps.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, ClassVar, Final, NamedTuple

from agentcom.core.fairness import Rank
from agentcom.core.lazyheap import LazyHeap
from agentcom.core.matcher import Matcher
from agentcom.core.shapes import ShapeId
from agentcom.model.errors import AgentComError
from agentcom.model.ids import TaskId
from agentcom.model.limits import LANES_LOOKED_AT, LANES_MAX, LANES_SHOWN

Gates = tuple[Hashable, ...]
"""What a task passes before it can start; `core/gates.py` knows what they are."""
LaneKey = tuple[ShapeId, Gates]
HEAPS_MAX: Final = 8  # of one place: each is what waited for one thing that has ended
_LONG: Final = 64
_TASK: Final = itemgetter(3)
_LANE: Final = itemgetter(4)


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


class Rival(NamedTuple):
    """Tasks of one shape that another one competes with."""

    shape: ShapeId
    heap: LazyHeap[TaskId, Any]
    gates: Gates = ()
    shown: bool = False  # whether the matcher knows the first of them, too
    weight: int = 1  # for how many such lanes it stands


class _Parked(NamedTuple):
    """A lane that is not shown, by the rank of its first task."""

    band: int
    tag: float
    seq: int
    stamp: int
    """What tells it from a stale one of the same task."""
    lane: LaneKey


_Heap = LazyHeap[LaneKey, _Parked]
_Where = tuple[Hashable, _Heap]


class _Lane:
    __slots__ = ("at", "gate", "heap", "key", "places", "shown")

    def __init__(
        self, key: LaneKey, heap: LazyHeap[TaskId, Member], places: "tuple[_Place, ...]"
    ) -> None:
        self.key = key
        self.heap = heap
        self.places = places
        self.shown: TaskId | None = None  # the task that the matcher knows
        self.at: _Heap | None = None  # where it is parked, if it is not shown
        self.gate: Hashable = None  # ... and at which gate


class _Place:
    """What is shown of one shape behind a gate, and what is parked there."""

    __slots__ = ("gate", "guards", "heaps", "lanes", "shown")

    def __init__(self, gate: Hashable) -> None:
        self.gate, self.lanes = gate, 0
        self.guards = False  # whether the gate is looked at for others, too
        self.shown: dict[LaneKey, _Lane] = {}
        self.heaps: list[_Heap] = []

    def heap(self, live: Mapping[LaneKey, _Parked]) -> _Heap:
        """Return where to park a lane."""
        if not self.heaps:
            self.heaps.append(LazyHeap(live, _LANE))
        return self.heaps[0]

    def is_full(self, rank: Rank) -> bool:
        """Return whether enough is shown that is better."""
        shown = self.shown.values()
        return len(shown) >= LANES_SHOWN and all(_rank(lane) < rank for lane in shown)

    def best(self) -> _Parked | None:
        """Return the first of what is parked."""
        if len(self.heaps) > 1:
            self.heaps = [heap for heap in self.heaps if heap.heap] or self.heaps[:1]
        return min([heap.heap[0] for heap in self.heaps if heap.heap], default=None)


class Lanes:
    """All lanes of a pool. `add` and `remove` undo each other; `look` follows the gates."""

    __slots__ = (
        *("_causes", "_closed_by", "_guard", "_lanes", "_long", "_matcher"),
        *("_members", "_parked", "_places", "_shown", "_stamp", "fresh", "vacant"),
    )

    def __init__(
        self,
        matcher: Matcher,
        closed_by: Callable[[Hashable], Hashable | None],
        guard: Callable[[Hashable], Hashable] = lambda gate: gate,
    ) -> None:
        """Stand in front of `matcher`.

        `closed_by` names what shuts a gate (None: it is open), and says of a name that it gave
        whether that still stands. `guard` names the gate whose `look` follows a gate.
        """
        self._matcher = matcher
        self._closed_by = closed_by
        self._guard = guard
        self._members: dict[TaskId, Member] = {}
        self._lanes: dict[LaneKey, _Lane] = {}
        self._long: dict[LaneKey, _Lane] = {}
        self._parked: dict[LaneKey, _Parked] = {}
        self._places: dict[Hashable, dict[ShapeId, _Place]] = {}
        self._causes: dict[Hashable, dict[Hashable, dict[ShapeId, _Heap]]] = {}
        """Gate -> what shuts gates that it guards -> the lanes that are parked there."""
        self.vacant: dict[_Place, None] = {}
        """Places that may have room for more of what is parked there: `go_on` looks."""
        self._shown = self._stamp = 0
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
        lane = self._lanes.get((shape, gates)) or self._new(shape, gates)
        member = Member(*rank, task, lane.key)
        self._members[task] = member
        lane.heap.push(member)
        if len(lane.heap.heap) > _LONG:
            self._long[lane.key] = lane
        if lane.heap.heap[0] is member:
            self._leave(lane)
            self._arrive(lane)
            self.go_on()

    def remove(self, task: TaskId) -> Member | None:
        """Take a task out of its lane, if it is in one; `put_back` of the answer undoes it."""
        member = self._members.pop(task, None)
        if member is None:
            return None
        lane = self._lanes[member.lane]
        first = lane.heap.heap[0] is member
        lane.heap.dropped(member)
        if first:
            self._leave(lane)
            if lane.heap.heap:
                self._arrive(lane)
            else:
                self._forget(lane)
            self.go_on()
        return member

    def put_back(self, member: Member) -> None:
        """Undo a `remove`."""
        self.add(member.task, *member.lane, member[:3])

    def look(self, gate: Hashable) -> None:
        """Show or hide what stands behind a gate that may have opened or shut."""
        places = self._places.get(gate)
        if places is None:
            return
        if gate in self._causes:
            self._release(gate)
        shut = self._closed_by(gate) is not None
        for place in places.values():
            if shut or place.guards:
                gone = [lane for lane in place.shown.values() if self._stop(lane) is not None]
                for lane in gone:
                    self._leave(lane)
                    self._arrive(lane)
            if not shut and place.heaps:
                self.vacant[place] = None
        if self.vacant:
            self.go_on()

    def go_on(self) -> None:
        """Show the best of what is parked where there is room, in a bounded number of steps."""
        vacant = self.vacant
        for _ in range(LANES_LOOKED_AT):
            if not vacant:
                return
            place = next(iter(vacant))
            best = None if self._closed_by(place.gate) is not None else place.best()
            if best is None or place.is_full(best[:3]):
                del vacant[place]
                continue
            lane = self._lanes[best.lane]
            self._leave(lane)
            self._arrive(lane)

    def gates_of(self, task: TaskId) -> Gates:
        """Return the gates that a task stands behind; () if it is in no lane."""
        member = self._members.get(task)
        return () if member is None else member.lane[1]

    def shut(self) -> Iterator[tuple[TaskId, Hashable]]:
        """Yield the first task of each lane that is shut, and a gate that shuts it."""
        for (_, gates), lane in self._lanes.items():
            shut = (gate for gate in gates if self._closed_by(gate) is not None)
            if lane.shown is None and (gate := next(shut, None)) is not None:
                yield lane.heap.heap[0].task, gate

    def hidden_members(self) -> Iterator[Member]:
        """Yield the tasks that the matcher does not know, in no order."""
        for lane in self._lanes.values():
            yield from (member for member in lane.heap if member.task != lane.shown)

    def rivals(self, mine: Gates, most: int) -> Iterator[Rival]:
        """Yield the lanes that a gate shuts out only if it is one of `mine` as well.

        Of more than `most` lanes each stands for some others, save the long ones.
        """
        shut: dict[Hashable, bool] = {None: False, **dict.fromkeys(mine, False)}
        weight = -(-len(self._lanes) // most) or 1
        some = [*self._lanes.values()][::weight]
        short = [(lane, weight) for lane in some if lane.key not in self._long]
        for lane, counts in (*short, *((lane, 1) for lane in self._long.values())):
            if lane.gate not in shut:
                shut[lane.gate] = self._closed_by(lane.gate) is not None
            if not shut[lane.gate]:
                shape, gates = lane.key
                yield Rival(shape, lane.heap, gates, lane.shown is not None, counts)

    def gates(self) -> Sequence[Hashable]:
        """Return every gate that is looked at."""
        return list(self._places)

    def _new(self, shape: ShapeId, gates: Gates) -> _Lane:
        if len(self._lanes) >= LANES_MAX:
            raise TooManyLanes
        key = (shape, gates)
        places = []
        for guard in dict.fromkeys(map(self._guard, gates)):
            at = self._places.setdefault(guard, {})
            place = at.get(shape)
            if place is None:
                place = at[shape] = _Place(guard)
            place.lanes += 1
            place.guards |= any(gate != guard for gate in gates if self._guard(gate) == guard)
            places.append(place)
        lane = self._lanes[key] = _Lane(key, LazyHeap(self._members, _TASK), tuple(places))
        return lane

    def _forget(self, lane: _Lane) -> None:
        """Drop a lane without a task, and the places that nobody needs."""
        del self._lanes[lane.key]
        self._long.pop(lane.key, None)
        for place in lane.places:
            place.lanes -= 1
            if not place.lanes:
                self.vacant.pop(place, None)
                del self._places[place.gate][lane.key[0]]
                if not self._places[place.gate]:
                    del self._places[place.gate]
                    self._causes.pop(place.gate, None)

    def _leave(self, lane: _Lane) -> None:
        """Take a lane from where it is shown or parked."""
        if lane.at is not None:
            lane.at.dropped(self._parked.pop(lane.key))
            lane.at = lane.gate = None
        if lane.shown is None:
            return
        self._matcher.withdraw(lane.shown)
        self.fresh.pop(lane.shown, None)
        self._shown -= 1
        lane.shown = None
        for place in lane.places:
            del place.shown[lane.key]
            if place.heaps:
                self.vacant[place] = None

    def _arrive(self, lane: _Lane) -> None:
        """Show a lane that is nowhere, or park it."""
        where = self._stop(lane)
        if where is None:
            where = self._passed_over(lane)
        if where is not None:
            self._park(lane, *where)
            return
        first = lane.heap.heap[0]
        self._matcher.enqueue(first.task, lane.key[0], first[:3])
        self._shown += 1
        lane.shown = first.task
        self.fresh[first.task] = None
        for place in lane.places:
            place.shown[lane.key] = lane
        for place in lane.places:
            if len(place.shown) > LANES_SHOWN:
                worst = max(place.shown.values(), key=_rank)
                self._leave(worst)
                self._park(worst, place.gate, place.heap(self._parked))

    def _stop(self, lane: _Lane) -> _Where | None:
        """Return where a lane waits for a gate that is shut."""
        shape, gates = lane.key
        for gate in gates:
            cause = self._closed_by(gate)
            if cause is None:
                continue
            guard = self._guard(gate)
            if cause == guard:
                return guard, self._places[guard][shape].heap(self._parked)
            causes = self._causes.setdefault(guard, {}).setdefault(cause, {})
            if shape not in causes:
                causes[shape] = LazyHeap(self._parked, _LANE)
            return guard, causes[shape]
        return None

    def _passed_over(self, lane: _Lane) -> _Where | None:
        """Return where a lane waits because better ones are shown there, or are about to be."""
        rank = lane.heap.heap[0][:3]
        for place in lane.places:
            full = place.is_full(rank)
            if not full and (best := place.best()) is not None and best[:3] < rank:
                self.vacant[place] = None
                full = True
            if full:
                return place.gate, place.heap(self._parked)
        return None

    def _park(self, lane: _Lane, gate: Hashable, heap: _Heap) -> None:
        self._stamp += 1
        entry = _Parked(*lane.heap.heap[0][:3], self._stamp, lane.key)
        self._parked[lane.key] = entry
        heap.push(entry)
        lane.at, lane.gate = heap, gate

    def _release(self, guard: Hashable) -> None:
        """Let the lanes that waited for what stands no longer wait at the gate itself."""
        causes = self._causes[guard]
        for cause in [cause for cause in causes if self._closed_by(cause) is None]:
            for shape, heap in causes.pop(cause).items():
                if heap.heap:
                    self._places[guard][shape].heaps.append(heap)
                    self._unite(self._places[guard][shape])
        if not causes:
            del self._causes[guard]

    def _unite(self, place: _Place) -> None:
        """Bound the heaps of a place: the smallest ones go into one."""
        if len(place.heaps) <= HEAPS_MAX:
            return
        place.heaps.sort(key=len)
        smallest = place.heaps.pop(0)
        for entry in smallest:
            place.heaps[0].push(entry)
            self._lanes[entry.lane].at = place.heaps[0]


def _rank(lane: _Lane) -> Rank:
    return lane.heap.heap[0][:3]
