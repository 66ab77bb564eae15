"""The loop breaker: work that ends again and again, and changes nothing.

Work counts that completed, or failed for good because nothing came of it (`no_change`).
Watched is what can be told to be the same work: the runs of a schedule, tasks with one unique
key, and tasks of one submitter with one title in one repository. Anything else pays one truth
test. Of each lineage there is a count of completions, each begun after the one before ended, so
that many equal tasks submitted at once are one step and no loop.

The counts are not rows of their own: an ended task says in its row what its count had come to,
if that is more than one. A hub that starts anew recalls them from the newest ended tasks, so a
loop whose tasks are fewer than one in thousands may go on, and what is none is never stopped. A
memory that is rebuilt while the hub runs keeps its counts (`leases.inherit`).
"""

from collections.abc import Iterable
from operator import attrgetter
from typing import Final

import msgspec

from agentcom.core import moves
from agentcom.core.turn import Turn
from agentcom.core.view import PoolView
from agentcom.model.failure import FailureClass
from agentcom.model.ids import WallTime
from agentcom.model.limits import LOOP_LINEAGES, LOOP_PER_HOUR, LOOP_UNCHANGED
from agentcom.model.repetition import Repetition
from agentcom.model.task import Task, TaskState, Wait

SCHEDULE: Final = "@schedule/"
"""How the lineage of a schedule's runs begins; no address of a repository does."""
SUSPECTED: Final = "suspected loop: "
_HOUR_MS: Final = 3_600_000

Lineage = tuple[str, ...]


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
        return begin_again(view, task, turn.now.wall)
    held = {"state": TaskState.WAITING, "wait": Wait.APPROVAL, "until": None, "reason": reason}
    return msgspec.structs.replace(task, **held)


def counted(view: PoolView, task: Task, done: moves.Completed, now: WallTime) -> moves.Completed:
    """Count a completion, and return it with what its row has to say of it."""
    count = _count(view, task, done.commit or done.base, now)
    if count is None or (count.unchanged <= 1 and count.in_hour <= 1 and count.tree == done.commit):
        return done  # its own commit says as much
    return msgspec.structs.replace(done, repetition=count)


def failed(view: PoolView, task: Task, base: str | None, now: WallTime) -> Task:
    """Count the last failure of a task for want of a change; return it with what came of that."""
    count = _count(view, task, base, now)
    return task if count is None else msgspec.structs.replace(task, repetition=count)


def _count(view: PoolView, task: Task, tree: str | None, now: WallTime) -> Repetition | None:
    lineage = lineage_of(task)
    if lineage is None:
        return None
    old = view.loops.get(lineage)
    if old is not None and task.seq <= old.seq:
        return old  # it was there before the last one ended
    count = _first(tree, now, view.seq)
    if old is not None:
        unchanged = count.unchanged if tree != old.tree or tree is None else old.unchanged + 1
        fresh = not 0 <= now - old.since < _HOUR_MS
        since, in_hour = (now, 1) if fresh else (old.since, old.in_hour + 1)
        count = Repetition(tree, unchanged, since, in_hour, view.seq)
    view.drop(view.loops, lineage)  # the newest stands last
    view.put(view.loops, lineage, count)
    if len(view.loops) > LOOP_LINEAGES:
        view.drop(view.loops, next(iter(view.loops)))
    return count


def recall(view: PoolView, ended: Iterable[Task]) -> None:
    """Count on from what ended tasks say, after a start of the hub."""
    for task in sorted(ended, key=attrgetter("changed_at")):
        lineage = lineage_of(task)
        if lineage is None or task.failure not in (None, FailureClass.NO_CHANGE):
            continue
        count = task.repetition or _first(task.commit, task.changed_at, 0)
        view.loops.pop(lineage, None)  # the newest stands last
        # Places in the queue are given out anew: what is live now counts as begun after it.
        view.loops[lineage] = msgspec.structs.replace(count, seq=0)


def _first(tree: str | None, now: WallTime, seq: int) -> Repetition:
    return Repetition(tree, 0 if tree is None else 1, now, 1, seq)


def suspicion(view: PoolView, lineage: Lineage, now: WallTime) -> str | None:
    """Return why one more task of a lineage looks like a loop; None if it does not."""
    count = view.loops.get(lineage)
    if count is None:
        return None
    if count.unchanged >= LOOP_UNCHANGED:
        return f"{SUSPECTED}ended {count.unchanged} times without a change"
    if count.in_hour > LOOP_PER_HOUR and 0 <= now - count.since < _HOUR_MS:
        return f"{SUSPECTED}ended {count.in_hour} times within an hour"
    return None


def is_suspected(task: Task) -> bool:
    """Return whether a waiting task was held back as a loop, and never ran."""
    return not task.attempt and (task.reason or "").startswith(SUSPECTED)


def begin_again(view: PoolView, task: Task, now: WallTime) -> Task:
    """Forget what was counted, since a person has looked at it; `task` says so from now on."""
    lineage = lineage_of(task)
    assert lineage is not None
    view.drop(view.loops, lineage)
    return msgspec.structs.replace(task, repetition=Repetition(None, 0, now, 0))
