"""The life of tasks in the hub's own log and figures, derived from what is committed.

The one place where that is done: whatever ways lead to a commit, each event is told once, with the
cause that ties it to the request it came from. Under a load where lines would cost more than the
work, some are left out of the log and counted there; the feeds have them all.
"""

import logging
from collections import Counter as Count
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final

import structlog
from structlog.typing import FilteringBoundLogger

from agentcom.hub.clock import Clock
from agentcom.hub.switchboard import Publisher
from agentcom.model.batch import Append
from agentcom.model.event import EventKind, TaskEvent
from agentcom.model.failure import FailureClass
from agentcom.model.ids import TaskId, WallTime
from agentcom.model.rates import Limiter, Rate
from agentcom.model.task import Task, TaskState
from agentcom.telemetry.metrics import Metrics

QUEUED_MAX: Final = 65_536  # tasks whose time in the queue is measured; of more, the newest
LINES: Final = Rate(50, 1_000, 500)
"""Lines of the log: some 150 us each, so one in a hundred of a core at most."""
SUMMARY_LINES: Final = 50
"""Room for this many lines is waited for before lines are written again: a sum, then a picture."""
OMITTED: Final = "task.events_omitted"
_ENDS: Final = frozenset(
    {EventKind.COMPLETED, EventKind.FAILED, EventKind.CANCELLED, EventKind.ADOPTED}
)
_OVER: Final = _ENDS - {EventKind.ADOPTED} | {EventKind.RETURNED, EventKind.PARKED}
"""Kinds with which an attempt ends."""
_QUEUED: Final = TaskState.QUEUED
_ASSIGNED: Final = EventKind.ASSIGNED
_RETURNED: Final = EventKind.RETURNED
_NAMES: Final = {kind: f"task.{kind.value}" for kind in EventKind}


class JournalLog:
    """Tells the log and the metrics of every record, then shows it to those who follow."""

    def __init__(self, feeds: Publisher, metrics: Metrics, clock: Clock) -> None:
        self.next = feeds
        """Who gets the records then."""
        self._metrics = metrics
        self._clock = clock
        self._lines = Limiter(LINES)
        self._omitted: Count[EventKind] = Count()
        self._ended: Count[TaskState] = Count()
        self._queued: OrderedDict[TaskId, WallTime] = OrderedDict()
        self._log: FilteringBoundLogger | None = None
        self._count = {
            state: metrics.ended.labels(state.value).inc for state in TaskState if state.terminal
        }

    @property
    def ended(self) -> dict[str, int]:
        """Tasks that ended since the start, by state."""
        return {state.value: self._ended[state] for state in self._count}

    def oldest_s(self) -> float:
        """Return for how many seconds the first of the queued tasks waits by now."""
        first = next(iter(self._queued.values()), None)
        return 0.0 if first is None else max(0, self._clock.now().wall - first) / 1_000

    def take_up(self, tasks: Iterable[Task]) -> None:
        """Take note of tasks that were queued before this start, in their order."""
        for task in islice(tasks, QUEUED_MAX):
            if task.state is _QUEUED:
                self._queued.setdefault(task.id, task.changed_at)

    def rebind(self) -> None:
        """Look up the logger anew: its level is another one."""
        self._log = None

    def publish(self, first: int, appends: Sequence[Append]) -> None:
        """Take committed records, numbered from `first`."""
        if appends:
            self._log_all(appends)
            self._measure([append.record for append in appends])
        self.next.publish(first, appends)

    def _log_all(self, appends: Sequence[Append]) -> None:
        # Bound late, since logs are configured by then, and once: that costs as much as a record.
        log = self._log = self._log or structlog.get_logger().bind()
        if not log.is_enabled_for(logging.INFO):
            return
        now = self._clock.now().instant
        if self._omitted and self._lines.wait_ms("", now, SUMMARY_LINES):
            self._omit(appends)
            return
        for number, append in enumerate(appends):
            event = append.record
            if self._lines.take("", now):
                # The same moment has no more lines for the rest either.
                self._omit(appends[number:])
                return
            if self._omitted:
                log.info(OMITTED, **{kind.value: times for kind, times in self._omitted.items()})
                self._omitted.clear()
            log.info(_NAMES[event.kind], **_fields(event))

    def _omit(self, appends: Sequence[Append]) -> None:
        self._omitted.update([append.record.kind for append in appends])

    def _measure(self, events: Sequence[TaskEvent]) -> None:
        queued, ends = self._queued, []
        for event in events:
            kind = event.kind
            if kind in _OVER:
                self._attempt_ended(event)
            if event.state is _QUEUED:
                queued.setdefault(event.task, event.at)
                continue
            since = queued.pop(event.task, None)
            if kind is _ASSIGNED:
                waited_ms = 0 if since is None else max(0, event.at - since)
                self._metrics.dispatch.observe(waited_ms / 1_000)
            elif kind in _ENDS and event.state.terminal:
                ends.append(event.state)
        while len(queued) > QUEUED_MAX:
            queued.popitem(last=False)
        for state in set(ends):
            self._ended[state] += ends.count(state)
            self._count[state](ends.count(state))

    def _attempt_ended(self, event: TaskEvent) -> None:
        """Count an attempt by its failure's class, else by what became of its task."""
        if event.failure is FailureClass.LEASE_LOST and event.kind is _RETURNED:
            self._metrics.leases_lost.inc()
        never_ran = event.kind is EventKind.CANCELLED and event.machine is None
        if event.attempt is not None and not never_ran:
            outcome = event.kind if event.failure is None else event.failure
            self._metrics.attempts.inc(outcome.value)


def _fields(event: TaskEvent) -> dict[str, str | int]:
    """Return what there is to say; never what people or agents wrote."""
    fields: dict[str, str | int | None] = {
        "cause": event.cause or None,
        "request": event.request or None,
        "task": event.task,
        "state": event.state.value,
        "attempt": event.attempt,
        "agent": event.agent,
        "machine": event.machine,
        "actor": event.actor,
        "phase": event.phase and event.phase.value,
        "wait": event.wait and event.wait.value,
        "stop_reason": event.stop_reason and event.stop_reason.value,
        "failure": event.failure and event.failure.value,
        "commit": event.commit,
    }
    return {name: value for name, value in fields.items() if value is not None}
