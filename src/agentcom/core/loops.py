"""The loop breaker: work that succeeds again and again, and changes nothing.

Watched is what can be told to be the same work: the runs of a schedule, tasks with one unique
key, and tasks of one submitter with one title in one repository. Anything else pays one truth
test. Of each lineage there is a count of completions, each begun after the one before ended, so
that many equal tasks submitted at once are one step and no loop.

The counts live in memory only. A hub that starts anew begins to count anew: it may let a loop go
on for a few turns, and never stops what is none. A memory that is rebuilt while the hub runs keeps
them (`leases.inherit`).
"""

from typing import Final, NamedTuple

import msgspec

from agentcom.core.turn import Turn
from agentcom.core.view import PoolView
from agentcom.model.ids import WallTime
from agentcom.model.limits import LOOP_LINEAGES, LOOP_PER_HOUR, LOOP_UNCHANGED
from agentcom.model.task import Task, TaskState, Wait

SCHEDULE: Final = "@schedule/"
"""How the lineage of a schedule's runs begins; no address of a repository does."""
SUSPECTED: Final = "suspected loop: completed "
_HOUR_MS: Final = 3_600_000

Lineage = tuple[str, ...]


class Count(NamedTuple):
    """What is known of the completions of one lineage."""

    tree: str | None
    """The commit that the last one left its repository at."""
    unchanged: int
    """How many in a row left it there."""
    since: WallTime
    in_hour: int
    """Completions in the hour that began at `since`."""
    seq: int
    """The newest place in the queue when the last one was counted: what is behind it followed."""


def schedule_lineage(schedule: str) -> str:
    """Return the lineage of a schedule's runs."""
    return SCHEDULE + schedule


def lineage_of(task: Task) -> Lineage | None:
    """Return whose repetition a task is; None if nobody can tell."""
    if task.lineage.startswith(SCHEDULE):
        return (task.project, task.lineage)
    if task.unique_key is not None:
        return (task.project, "", task.unique_key)
    if task.lineage:
        return (task.project, task.submitter, task.title, task.lineage)
    return None


def admit(turn: Turn, task: Task, *, repeats: bool) -> Task:
    """Return a new task of a lineage: as it is, or waiting for a person if it looks like a loop.

    `repeats` says that it is meant to. A schedule asks before it submits, and pauses itself: what
    it submits all the same, a person wants.
    """
    view, lineage = turn.view, lineage_of(task)
    assert lineage is not None
    reason = suspicion(view, lineage, turn.now.wall)
    if reason is None or repeats:
        return task
    if task.lineage.startswith(SCHEDULE):
        begin_again(view, lineage)
        return task
    held = {"state": TaskState.WAITING, "wait": Wait.APPROVAL, "until": None, "reason": reason}
    return msgspec.structs.replace(task, **held)


def completed(view: PoolView, task: Task, tree: str | None, now: WallTime) -> None:
    """Count a completion; `tree` is the commit that it left its repository at, if it has one."""
    lineage = lineage_of(task)
    if lineage is None:
        return
    old = view.loops.get(lineage)
    if old is None:
        count = Count(tree, 0 if tree is None else 1, now, 1, view.seq)
    elif task.seq <= old.seq:
        return  # it was there before the last one ended
    else:
        unchanged = 0 if tree is None else old.unchanged + 1 if tree == old.tree else 1
        fresh = not 0 <= now - old.since < _HOUR_MS
        since, in_hour = (now, 1) if fresh else (old.since, old.in_hour + 1)
        count = Count(tree, unchanged, since, in_hour, view.seq)
    view.drop(view.loops, lineage)  # the newest stands last
    view.put(view.loops, lineage, count)
    if len(view.loops) > LOOP_LINEAGES:
        view.drop(view.loops, next(iter(view.loops)))


def suspicion(view: PoolView, lineage: Lineage, now: WallTime) -> str | None:
    """Return why one more task of a lineage looks like a loop; None if it does not."""
    count = view.loops.get(lineage)
    if count is None:
        return None
    if count.unchanged >= LOOP_UNCHANGED:
        return f"{SUSPECTED}{count.unchanged} times without a change"
    if count.in_hour > LOOP_PER_HOUR and 0 <= now - count.since < _HOUR_MS:
        return f"{SUSPECTED}{count.in_hour} times within an hour"
    return None


def is_suspected(task: Task) -> bool:
    """Return whether a waiting task was held back as a loop, and never ran."""
    return not task.attempt and (task.reason or "").startswith(SUSPECTED)


def begin_again(view: PoolView, lineage: Lineage | None) -> None:
    """Forget what was counted: a person has looked at it."""
    if lineage is not None:
        view.drop(view.loops, lineage)
