"""What becomes of good work: it waits for its turn at the base, and enters it or goes to review."""

from typing import Final, assert_never

from agentcom.core import loops, merging, moves, reviews
from agentcom.core.effects import Stop, TellClosed
from agentcom.core.turn import Turn
from agentcom.model.errors import Stale
from agentcom.model.event import EventKind
from agentcom.model.failure import FailureClass
from agentcom.model.limits import LAND_BATCH_MAX, REASON_CHARS
from agentcom.model.result import Landing, LandStatus, Result
from agentcom.model.task import Phase, StopReason, Task

_LANDING: Final = Phase.LANDING


def begun(turn: Turn, result: Result) -> moves.LandingBegun:
    """Return what a result that lands makes of its task."""
    assert result.commit is not None
    assert result.land_key is not None
    return moves.LandingBegun(
        result.commit,
        result.branch,
        result.base_commit,
        result.land_key,
        result.land,
        result.verified,
        result.reviewed,
        result.session,
        merging.next_seq(turn.view, result.land_key),
    )


def again(turn: Turn, task: Task) -> Task:
    """Queue work that was judged already for its base."""
    assert task.commit is not None
    assert task.land_key is not None
    event = moves.LandingBegun(
        task.commit,
        task.branch,
        task.base_commit,
        task.land_key,
        task.land,
        task.verified,
        task.reviewed,
        seq=merging.next_seq(turn.view, task.land_key),
    )
    return turn.move(task, event, EventKind.LANDING)


def ended(turn: Turn, task: Task, landing: Landing) -> None:
    """Take the report of a landing, for the task that had the base and those that rode along.

    Raises:
        Stale: the attempt was not landing.
    """
    if task.phase is not _LANDING:
        raise Stale("this attempt was not landing")
    for rider in landing.riders[: LAND_BATCH_MAX - 1]:
        row = turn.view.tasks.get(rider.task)
        with_it = row is not None and row.fence == rider.fence and row.land_key == task.land_key
        if row is not None and with_it and merging.rides(turn.view, row):
            assert row.machine is not None
            _settle(turn, row, rider.landing)
            turn.effects.append(Stop(row.machine, row.id, row.fence))  # its own has no part in it
    _settle(turn, turn.view.tasks[task.id], landing)


def _settle(turn: Turn, task: Task, landing: Landing) -> None:
    """Have one task follow what became of its landing."""
    match landing.status:
        case LandStatus.LANDED:
            done = moves.Completed(landing.commit or task.commit, task.branch, verified=True)
            turn.move(task, done, EventKind.COMPLETED)
            loops.completed(turn.view, task, done.commit, turn.now.wall)
            return
        case LandStatus.OPENED if task.stop_reason is not StopReason.CANCELLED:
            reviews.opened(turn, task, landing)
            return
        case _ if task.stop_reason is not None:
            stopped = moves.Stopped(turn.retry_at(task.failures))
            turn.move(task, stopped, kind_of_stop(task))
            return
        case LandStatus.CONFLICT:
            failure = FailureClass.CONFLICT
        case LandStatus.VERIFICATION:
            failure = FailureClass.VERIFICATION
        case LandStatus.REJECTED:
            failure = FailureClass.REJECTED
        case LandStatus.STALE | LandStatus.ERROR | LandStatus.OPENED:
            failure = FailureClass.WORKSPACE
        case _:
            assert_never(landing.status)
    said = landing.message[:REASON_CHARS]
    # The next attempt begins on the base that this one did not fit on.
    mends = failure is FailureClass.CONFLICT
    failed = moves.Failed(failure, said, turn.retry_at(task.failures), mends=mends)
    turn.move(task, failed, EventKind.FAILED, said)
    if failure is FailureClass.REJECTED:
        turn.effects.append(TellClosed(task, said))


def kind_of_stop(task: Task) -> EventKind:
    """Return what is said of an attempt that has stopped as it was asked to."""
    cancelled = task.stop_reason is StopReason.CANCELLED
    return EventKind.CANCELLED if cancelled else EventKind.RETURNED
