"""What tasks tell agents that do not take everything: those in the queue tell what is new in time.

When agents begin or cease to ask for something (`core/descriptions.py`), no task is looked at.
Until it tells what they ask, a task goes to others only; the queue is worked off in bounded steps,
first in order first, and a task that joins it tells everything at once.
"""

from heapq import heapify, heappop, heapreplace

from agentcom.core.lanes import TooManyLanes
from agentcom.core.turn import Turn
from agentcom.model.limits import CAUGHT_UP_MAX


def catch_up(turn: Turn) -> None:
    """Let some queued tasks tell what is asked now; agents are looked for in this turn.

    If that makes too many shapes, the rest waits, for others only, until there is room.
    """
    view = turn.view
    heads = view.lagging()
    heapify(heads)
    for _ in range(CAUGHT_UP_MAX):
        if not heads:
            return
        *_, task_id, shape = heads[0]
        task, mark = view.tasks[task_id], len(view.journal)
        view.withdraw(task_id)
        try:
            view.enqueue(task)
        except TooManyLanes:
            view.rollback(mark)
        if view.shape_of(task) == shape:
            turn.stuck = True
            return
        turn.queued[task_id] = None
        head = view.matcher.head(shape)
        if head is None:
            heappop(heads)
        else:
            heapreplace(heads, head)
