"""Fair queueing: each submitter gets its share, however much it submits.

Start-time fair queueing: virtual time V moves with the tasks that are dispatched, and a task
starts at V or where its submitter's last one ended, whichever is later. The queue is ordered by
`start_tag - priority * PRIORITY_STEP`, written once, so waiting tasks age without any work.

Bound on overtaking. Let task T enter with start tag S and priority p while virtual time is V.
Of all the tasks that another submitter (weight w, tasks of cost c, priority q) submits after T,
at most `ceil(max(0, S - V + (q - p) * PRIORITY_STEP) * w / c)` can ever be ordered before T: none
at equal priority, if T's submitter had no backlog. Emergencies are outside this bound.
"""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from agentcom.model.ids import UserId

PRIORITY_MIN: Final = -10
PRIORITY_MAX: Final = 10
PRIORITY_STEP: Final = 8.0
"""Task costs that one step of priority is worth: large enough to feel, small enough to pass."""
PRUNE_SLACK: Final = 64
"""Submitters that may be kept beyond twice the active ones, before a pass drops the idle."""

Rank = tuple[int, float, int]
"""Place in the queue, smaller first: (0 if emergency else 1, order tag, sequence)."""


class Share(NamedTuple):
    """What a stored task tells about its submitter after a restart."""

    submitter: UserId
    start_tag: float
    span: float
    """Cost divided by weight."""
    order_tag: float | None
    """None for an emergency, which does not move virtual time."""
    dispatched: bool


def order_tag(start_tag: float, priority: int) -> float:
    """Return where a task stands among those that are no emergency."""
    assert PRIORITY_MIN <= priority <= PRIORITY_MAX, f"priority {priority} is out of range"
    return start_tag - priority * PRIORITY_STEP if priority else start_tag  # one object less


def rank(start_tag: float, priority: int, seq: int, *, emergency: bool = False) -> Rank:
    """Return the place of a task in the queue; `seq` is unique, so the order is total."""
    return (0 if emergency else 1, order_tag(start_tag, priority), seq)


class Fairness:
    """Hands out start tags; each change leaves its inverse `(function, *arguments)` in `journal`.

    Memory: after `settle`, at most twice the submitters whose tag lies ahead of V, plus a slack.
    """

    __slots__ = ("_active", "_ends", "_journal", "_virtual")

    def __init__(self, journal: list[tuple[Any, ...]]) -> None:
        self._virtual = 0.0
        self._ends: dict[UserId, float] = {}
        self._journal = journal
        self._active = 0

    @property
    def virtual_time(self) -> float:
        """V: no new task gets a tag before it."""
        return self._virtual

    def __len__(self) -> int:
        """Return how many submitters are remembered."""
        return len(self._ends)

    def start_tag(self, submitter: UserId, weight: float = 1.0, cost: float = 1.0) -> float:
        """Return the tag of a submitter's next task, and charge the submitter for it."""
        assert weight > 0, "a weight is positive"
        assert cost > 0, "a cost is positive"
        end = self._ends.get(submitter)
        start = self._virtual if end is None or end < self._virtual else end
        self._journal.append((self._put, submitter, end))
        self._ends[submitter] = start + cost / weight
        return start

    def refund(self, submitter: UserId, weight: float = 1.0, cost: float = 1.0) -> None:
        """Take back the charge for a task that was withdrawn before it ever ran."""
        end = self._ends.get(submitter)
        if end is None:
            return
        self._journal.append((self._put, submitter, end))
        self._ends[submitter] = end - cost / weight

    def dispatched(self, tag: float) -> None:
        """Advance virtual time to the order tag of a task that starts; not for emergencies.

        The order tag, not the start tag: a backlog of high priority must not push virtual time
        past its own waiting tasks, or newcomers would queue behind all of them.
        """
        if tag > self._virtual:
            self._journal.append((self._return, self._virtual))
            self._virtual = tag

    def settle(self) -> None:
        """Forget submitters without a backlog; nothing before can be undone then."""
        if len(self._ends) > 2 * self._active + PRUNE_SLACK:
            self._ends = {who: end for who, end in self._ends.items() if end > self._virtual}
            self._active = len(self._ends)

    def restore(self, rows: Iterable[Share]) -> None:
        """Rebuild from the live tasks: order, shares and V, as far as they still matter."""
        ends: dict[UserId, float] = {}
        started: list[float] = []
        waiting: list[float] = []
        for row in rows:
            end = row.start_tag + row.span
            ends[row.submitter] = max(end, ends.get(row.submitter, end))
            if row.order_tag is not None:
                (started if row.dispatched else waiting).append(row.order_tag)
        # Nothing that waits was reached yet, so V is not much below the first of it.
        self._virtual = max(0.0, max(started, default=0.0), min(waiting, default=0.0))
        self._ends = {who: end for who, end in ends.items() if end > self._virtual}
        self._active = len(self._ends)

    def _put(self, submitter: UserId, end: float | None) -> None:
        if end is None:
            del self._ends[submitter]
        else:
            self._ends[submitter] = end

    def _return(self, virtual: float) -> None:
        self._virtual = virtual
