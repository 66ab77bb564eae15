"""What attempts are doing right now: the newest report of each, and the tail of its log.

In memory only. A report is dropped when its attempt ends; the tail stays a while longer, for
`task logs` on a task that just failed, until newer tails need the room.
"""

from collections import OrderedDict, deque
from typing import Final

from agentcom.model.identity import Identity
from agentcom.model.ids import AgentId, TaskId
from agentcom.model.limits import LOG_TAIL_BYTES
from agentcom.protocol.frames import Activity, Progress

TAILS_BYTES_MAX: Final = 67_108_864
"""Tails of all tasks together, in characters: 256 full ones."""
TAILS_MAX: Final = 16_384
LOOP_CALLS: Final = 5
"""So often in a row an agent makes the same tool call by good reasons, word for word, at most."""
ACTIVITIES_MAX: Final = 16_384
"""More than the attempts of the largest fleet; the oldest goes."""


class _Tail:
    """The newest part of one attempt's log."""

    __slots__ = ("attempt", "chunks", "next", "size")

    def __init__(self, attempt: int) -> None:
        self.attempt = attempt
        self.chunks: deque[str] = deque()
        self.size = 0
        self.next: int | None = None

    def add(self, text: str, at: int | None) -> int:
        """Append, cut at the front, and return by how much it has grown."""
        self.next = None if at is None else at + len(text.encode())
        before = self.size
        self.chunks.append(text[-LOG_TAIL_BYTES:])
        self.size += len(self.chunks[-1])
        while self.size > LOG_TAIL_BYTES:
            first = self.chunks.popleft()
            excess = self.size - LOG_TAIL_BYTES
            self.size -= len(first)
            if len(first) > excess:
                self.chunks.appendleft(first[excess:])
                self.size += len(first) - excess
        return self.size - before


class Activities:
    """The newest report and the log's tail of each task."""

    def __init__(self) -> None:
        self._newest: OrderedDict[TaskId, Activity] = OrderedDict()
        self._tails: OrderedDict[TaskId, _Tail] = OrderedDict()
        self._tails_size = 0

    def __len__(self) -> int:
        """Return how many reports are kept."""
        return len(self._newest)

    def note(self, identity: Identity, agent: AgentId | None, report: Progress) -> Activity:
        """Keep a report of a task's holder; return it as those who follow the task see it."""
        activity = Activity(
            task=report.task,
            attempt=report.fence.attempt,
            agent=agent,
            machine=identity.machine,
            phase=report.phase,
            text=report.text,
            tool=report.tool,
            repeats=report.repeats,
            usage=report.usage,
            log=report.log,
            log_at=report.log_at,
        )
        self._newest[report.task] = activity
        self._newest.move_to_end(report.task)
        if len(self._newest) > ACTIVITIES_MAX:
            self._newest.popitem(last=False)
        if report.log:
            self._add(report)
        return activity

    def ended(self, task: TaskId) -> None:
        """Forget the report of an attempt that ended."""
        self._newest.pop(task, None)

    def get(self, task: TaskId) -> Activity | None:
        """Return the newest report of a running attempt."""
        return self._newest.get(task)

    def tail(self, task: TaskId) -> tuple[int, str, int | None] | None:
        """Return the newest attempt that logged, the end of its log, and where it goes on.

        None: it is not here.
        """
        tail = self._tails.get(task)
        return (tail.attempt, "".join(tail.chunks), tail.next) if tail is not None else None

    def describe(self, task: TaskId) -> str:
        """Return what a running attempt is doing, in one line for `task why`."""
        activity = self._newest.get(task)
        if activity is None:
            return ""
        parts = [activity.phase.value if activity.phase is not None else "", activity.text]
        if activity.tool is not None:
            parts.append(f"open tool call: {activity.tool}")
        if activity.repeats >= LOOP_CALLS:
            parts.append(f"a retry loop? the same tool call {activity.repeats} times in a row")
        return "; ".join(part for part in parts if part)

    def _add(self, report: Progress) -> None:
        task, attempt = report.task, report.fence.attempt
        tail = self._tails.get(task)
        if tail is None or tail.attempt != attempt:
            self._tails_size -= tail.size if tail is not None else 0
            tail = self._tails[task] = _Tail(attempt)
        self._tails_size += tail.add(report.log, report.log_at)
        self._tails.move_to_end(task)
        while self._tails_size > TAILS_BYTES_MAX or len(self._tails) > TAILS_MAX:
            _, oldest = self._tails.popitem(last=False)
            self._tails_size -= oldest.size
