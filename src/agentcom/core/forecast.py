"""Where a queued task stands in the order, and about when it starts: for explaining only.

Both are exact as long as few are ahead. In a long queue they are drawn from a sample, so that a
question never costs more than an everyday event.
"""

from collections.abc import Hashable, Sequence
from itertools import islice
from typing import Final

from agentcom.core import fairness
from agentcom.core.fairness import Rank
from agentcom.core.gates import Budgeted, Claims
from agentcom.core.lanes import Rival
from agentcom.core.turn import Turn
from agentcom.core.view import PoolView
from agentcom.model.ids import WallTime
from agentcom.model.limits import AHEAD_COUNTED, AHEAD_SAMPLED, LANES_COUNTED
from agentcom.model.replies import AgentRule
from agentcom.model.task import Task

_AT_WORK: Final = frozenset({"busy", "order", "resources"})


def place_of(view: PoolView, task: Task) -> int:
    """Return a task's place, from 1, among those that compete for the same agents now.

    If there are none, it is the place among those that want the same.
    What a gate shuts out that is not the task's own too does not stand before it.
    """
    shape, compatible = view.shape_of(task), view.shapes.compatible_classes
    classes = compatible(shape)
    plain = [Rival(other, heap) for other, heap in view.matcher.queues()]
    lanes = view.lanes.rivals(view.gates.gates_of(task), LANES_COUNTED)
    rivals = [
        rival
        for rival in (*plain, *lanes)
        if rival.shape == shape or compatible(rival.shape) & classes
    ]
    return 1 + _ahead(rivals, _rank(task))


def starts_at(
    turn: Turn, task: Task, position: int, able: Sequence[AgentRule], *, agents: int
) -> WallTime | None:
    """Return about when a task starts, by its place and the pace of what it competes for.

    `able` are some of the `agents` that could run it.
    """
    view, wall = turn.view, turn.now.wall
    pace = view.pace.get(task.needs)
    at_work = [rule.agent for rule in able if rule.rule in _AT_WORK]
    slots = sum(view.agents[agent].slots for agent in at_work)
    if not slots:
        return None
    slots = slots * agents // len(able)
    gates = [gate for gate in view.gates.gates_of(task) if not isinstance(gate, Claims)]
    waits = [
        None if pace is None else _rounds(pace, position, slots),
        *[_behind(turn, task, gate, pace) for gate in gates],
    ]
    known = [wait for wait in waits if wait is not None]
    return WallTime(wall + max(known)) if len(known) == len(waits) else None


def _behind(turn: Turn, task: Task, gate: Hashable, pace: float | None) -> int | None:
    """Return about how long a gate keeps a task, in milliseconds; None if nobody can tell."""
    view = turn.view
    gates, wall = view.gates, turn.now.wall
    if not isinstance(gate, str):
        if gates.is_open(gate):
            return 0
        at = gates.purse.opens_at(gate.key) if isinstance(gate, Budgeted) else None
        return None if at is None else max(0, at - wall)
    rule = gates.rule_of(gate)
    if rule is None:
        return 0
    behind = [rival for rival in view.lanes.rivals((gate,), LANES_COUNTED) if gate in rival.gates]
    place = 1 + _ahead(behind, _rank(task))
    waits = [0]
    if rule.rate is not None:
        opens = gates.opens_at(gate)
        first = 0 if opens is None else max(0, opens - wall)
        waits.append(first + round((place - 1) * rule.per_ms / rule.rate) if first else 0)
    if rule.concurrency is not None and not gates.is_open(gate):
        if not rule.concurrency or pace is None:
            return None
        waits.append(_rounds(pace, place, rule.concurrency))
    return max(waits)


def _rounds(pace: float, place: int, at_once: int) -> int:
    return int(pace * -(-place // at_once))


def _rank(task: Task) -> Rank:
    return fairness.rank(task.start_tag, task.priority, task.seq, emergency=task.emergency)


def _ahead(rivals: Sequence[Rival], rank: Rank) -> int:
    """Return how many entries come before a rank; about so many, if they are many."""
    left, found = AHEAD_COUNTED, 0
    for rival in rivals:
        count, looked = rival.heap.before(rank, left)
        found += rival.weight * max(0, count - rival.shown)
        left -= looked
        if left <= 0:
            return max(found, _about(rivals, rank))
    return found


def _about(rivals: Sequence[Rival], rank: Rank) -> int:
    """Return how many entries come before a rank, by evenly drawn ones."""
    total = sum(rival.weight * len(rival.heap.heap) for rival in rivals)
    return sum(rival.weight * _share(rival, rank, total // AHEAD_SAMPLED) for rival in rivals)


def _share(rival: Rival, rank: Rank, step: int) -> int:
    """Return about how much of a lane comes before a rank; its first entries are not typical."""
    heap: list[tuple[object, ...]] = rival.heap.heap
    step = max(1, min(len(heap), step // rival.weight))
    before = sum(entry[:3] < rank for entry in islice(heap, step // 2, None, step))
    return max(0, min(len(heap), step * before) - rival.shown)
