"""Times that come to tasks: deadlines of attempts, landings that take too long, ends of waits.

Timers live in the shell and may be lost; `timers` sets them anew from the rows.
"""

from collections.abc import Sequence
from operator import itemgetter
from typing import assert_never

from agentcom.core import accounts, expiry, moves, parting, quarantine, questions
from agentcom.core.due_facts import (
    AccountDue,
    CutOffDue,
    DeadlineReached,
    Due,
    LandingOverdue,
    TrialDue,
    WaitEnded,
)
from agentcom.core.effects import Effect, SetTimer, Stop
from agentcom.core.facts import Fact
from agentcom.core.turn import DEADLINES, Turn
from agentcom.core.view import NEVER, PoolView
from agentcom.model import limits
from agentcom.model.event import EventKind
from agentcom.model.failure import FailureClass
from agentcom.model.ids import Instant, Now, WallTime
from agentcom.model.task import Phase, StopReason, Task, TaskState, Wait


def due(
    turn: Turn,
    _fact: Fact,
    body: Due,
) -> None:
    """Do what a time that has come asks for."""
    match body:
        case DeadlineReached():
            _deadlines(turn)
        case LandingOverdue():
            _overdue(turn, body)
        case WaitEnded():
            _wait_ended(turn, body)
        case AccountDue():
            _account_due(turn, body)
        case TrialDue():
            quarantine.due(turn, body)
        case CutOffDue():
            parting.due(turn, body)
        case _:
            assert_never(body)


def timers(view: PoolView, now: Now) -> Sequence[Effect]:
    """Return the timers of stored tasks; also after the wall clock was set."""
    first = view.first_landings()
    waits = (t for t in view.tasks.values() if t.phase is not Phase.LANDING or t.id in first)
    effects: list[Effect] = [
        *accounts.timers(view, now),
        *questions.timers(view, now),
        *quarantine.timers(view, now),
    ]
    effects += [timer for task in waits for timer in _timers_of(task, now)]
    expiring = [expiry.timer_of(task, now) for task in view.tasks.values() if task.expires_at]
    effects += filter(None, expiring)
    view.set_deadline(min((at for at, _ in _working(view)), default=NEVER))
    if view.deadline_at != NEVER:
        at = _instant_of(view.deadline_at, now)
        effects.append(SetTimer(DEADLINES, at, DeadlineReached()))
    return effects


def _timers_of(task: Task, now: Now) -> Sequence[SetTimer]:
    if task.state.held and task.phase is Phase.LANDING:
        overdue = LandingOverdue(task.id, task.fence)
        return [SetTimer(f"land/{task.id}", Instant(now.instant + limits.LANDING_MS), overdue)]
    timed = task.state is TaskState.WAITING and task.wait is not Wait.DEPENDENCIES
    if timed and task.until is not None:
        at = _instant_of(task.until, now)
        if _is_out_of_reach(task, now.wall):
            at = Instant(now.instant + limits.RETRY_MAX_MS)
        return [SetTimer(f"wait/{task.id}", at, WaitEnded(task.id))]
    return []


def _is_out_of_reach(task: Task, wall: WallTime) -> bool:
    """Return whether a pause before a retry is longer than any: the clock was set back."""
    return task.wait is Wait.RETRY and (task.until or 0) > wall + limits.RETRY_MAX_MS


def _instant_of(wall: WallTime, now: Now) -> Instant:
    return Instant(now.instant + max(0, wall - now.wall))


def _deadlines(turn: Turn) -> None:
    """Stop attempts whose time is used up, and look again when the next one's may be."""
    view, now = turn.view, turn.now.wall
    working = sorted(_working(view), key=itemgetter(0))
    late = [task for at, task in working if at <= now][: limits.CASCADE_BATCH]
    for task in late:
        _time_out(turn, task)
    view.set_deadline(NEVER)
    if working[len(late) :]:
        following = working[len(late)][0]
        turn.watch_deadline(max(following, WallTime(now + limits.DEADLINE_LOOK_MS)))


def _working(view: PoolView) -> Sequence[tuple[WallTime, Task]]:
    """Return the attempts that may time out: work that waits for its base does not."""
    held = [task for machine in view.held_by for task in view.held_tasks(machine)]
    return [
        (task.deadline_at, task)
        for task in held
        if task.deadline_at is not None
        and task.stop_reason is None
        and task.phase is not Phase.LANDING
    ]


def _overdue(turn: Turn, body: LandingOverdue) -> None:
    task = turn.view.tasks.get(body.task)
    if task is None or not task.state.held or task.fence != body.fence:
        return
    if task.phase is Phase.LANDING and task.id in turn.view.first_landings():
        _time_out(turn, task)


def _time_out(turn: Turn, task: Task) -> None:
    if task.stop_reason is None:
        task = turn.move(task, moves.StopAsked(StopReason.TIMED_OUT), EventKind.STOP_ASKED)
    assert task.machine is not None
    turn.effects.append(Stop(task.machine, task.id, task.fence, task.stop_reason))


def _wait_ended(turn: Turn, body: WaitEnded) -> None:
    task = turn.view.tasks.get(body.task)
    if task is not None and expiry.is_over(task, turn.now.wall):
        failed = moves.Failed(FailureClass.EXPIRED, expiry.REASON, turn.now.wall)
        turn.move(task, failed, EventKind.FAILED)
        return
    early = None if task is None else expiry.timer_of(task, turn.now)
    if early is not None:
        turn.effects.append(early)
    timed = task is not None and task.state is TaskState.WAITING and task.until is not None
    if task is None or not timed or task.wait is Wait.DEPENDENCIES:
        return
    assert task.until is not None
    if task.until > turn.now.wall and not _is_out_of_reach(task, turn.now.wall):
        at = turn.instant_of(task.until)
        turn.effects.append(SetTimer(f"wait/{task.id}", at, body))
        return
    turn.move(task, moves.Released(), EventKind.UNBLOCKED)


def _account_due(turn: Turn, body: AccountDue) -> None:
    """Have an account tried, or release what waits for an open one, whatever its reset was."""
    view = turn.view
    row = view.accounts.get(body.account)
    if row is not None:
        accounts.due(turn, row)
        return
    waiting = [
        task
        for task in view.tasks.values()
        if task.wait is Wait.QUOTA and accounts.of_task(view, task) == body.account
    ]
    for task in waiting[: limits.CASCADE_BATCH]:
        turn.move(task, moves.Released(), EventKind.UNBLOCKED)
    if waiting[limits.CASCADE_BATCH :]:
        turn.again(body)
