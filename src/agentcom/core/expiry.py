"""Work that is worth nothing unless it starts in time: only for tasks that ask for it.

`start_by` counts until the first attempt is at work: then the row forgets it. A task that nobody
works on by then fails, class `expired`, and its dependants hear of that as of any failure.
"""

from typing import Final

import msgspec

from agentcom.core.due_facts import WaitEnded
from agentcom.core.effects import ClearTimer, SetTimer
from agentcom.core.ledger import Ledger
from agentcom.model.errors import InvalidInput
from agentcom.model.ids import Instant, Now, WallTime
from agentcom.model.task import Task, TaskSpec, TaskState

replace: Final = msgspec.structs.replace

REASON: Final = "it had not started by the time that it was asked for"
_TIME_MAX: Final = 1 << 53


def check(spec: TaskSpec, now: WallTime) -> None:
    """Refuse a time to start by that no start could keep; raises `InvalidInput`."""
    by = spec.start_by
    assert by is not None
    if not now < by < _TIME_MAX:
        raise InvalidInput("start_by", "a time to come, in UTC milliseconds since 1970")
    if spec.not_before is not None and by <= spec.not_before:
        raise InvalidInput("start_by", "it must be later than not_before")


def follow(ledger: Ledger, before: Task | None, after: Task) -> Task:
    """Return `after` with its time to start kept, or forgotten once it has; set its timer."""
    started = after.state is TaskState.RUNNING
    opened = before is not None and before.state.terminal
    if started or opened:  # who reopens a task wants it, whatever the time
        after = replace(after, expires_at=None)
    if started or after.state.terminal:
        ledger.effects.append(ClearTimer(_key(after)))
    timer = timer_of(after, ledger.now)
    if timer is not None:
        ledger.effects.append(timer)
    return after


def timer_of(task: Task, now: Now) -> SetTimer | None:
    """Return the timer that looks whether a task has started; None if there is nothing to see."""
    if task.expires_at is None or task.state.held or task.state.terminal:
        return None
    at = Instant(now.instant + max(0, task.expires_at - now.wall))
    return SetTimer(_key(task), at, WaitEnded(task.id))


def is_over(task: Task, now: WallTime) -> bool:
    """Return whether a task that nobody works on has missed its time to start."""
    return task.expires_at is not None and not task.state.held and task.expires_at <= now


def _key(task: Task) -> str:
    return f"start/{task.id}"
