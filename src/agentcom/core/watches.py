"""Who watches which pull request: told to machines when they connect, and when it changes.

What is watched follows from the tasks' rows alone. `core/reviews.py` takes what is seen.
"""

from collections.abc import Sequence
from typing import Any, Final

from agentcom.core.effects import Effect, SetTimer, Watch
from agentcom.core.ledger import Ledger
from agentcom.core.review_facts import ReviewsLeft
from agentcom.core.view import PoolView
from agentcom.model.ids import Instant, MachineId, TaskId, WallTime
from agentcom.model.limits import REVIEWS_LEFT_MS, REVIEWS_TOLD_MS
from agentcom.model.task import Task, Wait

_REVIEW: Final = Wait.REVIEW


def watched_by(task: Task, machine: MachineId) -> bool:
    """Return whether a machine is the one to look at a task's pull request."""
    return task.wait is _REVIEW and task.machine == machine


def follow(ledger: Ledger, before: Task | None, after: Task) -> None:
    """Tell a machine to watch a pull request, or that it need not any more."""
    if before is not None and before.wait is _REVIEW and before.machine is not None:
        _index(ledger.view, before, there=False)
        if after.wait is not _REVIEW:
            ledger.effects.append(Watch(before.machine, before.id, before.fence))
    if after.wait is _REVIEW and after.machine is not None:
        _index(ledger.view, after, there=True)
        ledger.effects.append(watch(after, after.machine))


def away(view: PoolView, machine: MachineId, now: Instant) -> Sequence[Effect]:
    """Return the timer after which a machine that fell silent passes on what it watches."""
    if machine not in view.books.under_review:
        return ()
    at = Instant(now + REVIEWS_LEFT_MS)
    return (SetTimer(f"reviews/{machine}", at, ReviewsLeft(machine)),)


def timers(view: PoolView, now: Instant) -> Sequence[Effect]:
    """Return those timers for a new view: no machine is there yet."""
    return [timer for machine in view.books.under_review for timer in away(view, machine, now)]


def words(view: PoolView, task: Task) -> tuple[str, str, WallTime | None]:
    """Return why a task under review waits, and what can happen next."""
    machine = view.machines.get(task.machine) if task.machine is not None else None
    session = view.sessions.get(task.machine) if task.machine is not None else None
    name = machine.name if machine is not None else task.machine
    summary = f"it is under review: {task.pull_request}"
    if session is None or session.connection is None:
        summary += f"; machine {name}, which looks at it, is not connected"
        action = "it goes on when that is back; after three minutes another machine takes it over"
        return summary, action, None
    action = (
        "merge or close it there; what somebody who may write says there goes to an agent; "
        f"agentcom task land {task.id} merges it from here"
    )
    return summary, action, None


def again(view: PoolView, machine: MachineId, *, before: Instant, now: Instant) -> Sequence[Effect]:
    """Return what a machine watches, once in a while: any word of it may have been lost."""
    if before // REVIEWS_TOLD_MS == now // REVIEWS_TOLD_MS:
        return ()
    return of_machine(view, machine)


def load(view: PoolView, task: Task) -> None:
    """Take a stored task up that waits for its review."""
    if task.wait is _REVIEW:
        _index(view, task, there=True)


def of_machine(view: PoolView, machine: MachineId) -> Sequence[Effect]:
    """Return what a machine that connects is to watch."""
    tasks = (view.tasks[task_id] for task_id in view.books.under_review.get(machine, ()))
    return [watch(task, machine) for task in tasks]


def watch(task: Task, machine: MachineId, *, at_once: bool = False) -> Watch:
    """Return the order to look at a task's pull request from now on."""
    return Watch(
        machine,
        task.id,
        task.fence,
        pull_request=task.pull_request,
        repo=(task.land_key or "").rpartition("#")[0],
        branch=task.branch or "",
        at_once=at_once,
        cause=task.cause,
    )


def _index(view: PoolView, task: Task, *, there: bool) -> None:
    assert task.machine is not None
    rows: Sequence[tuple[dict[Any, dict[TaskId, None]], object]] = (
        (view.books.under_review, task.machine),
        (view.books.pulls, task.pull_request or ""),
    )
    for index, key in rows:
        known = index.get(key, {})
        if there:
            view.put(index, key, {**known, task.id: None})
            continue
        rest = {one: None for one in known if one != task.id}
        if rest:
            view.put(index, key, rest)
        else:
            view.drop(index, key)
