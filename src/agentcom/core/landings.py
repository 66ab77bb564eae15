"""What becomes of good work: it waits for its turn at the base, and enters it or goes to review."""

from typing import Final, assert_never

from agentcom.core import loops, moves, reviews
from agentcom.core.turn import Turn
from agentcom.model.errors import Stale
from agentcom.model.event import EventKind
from agentcom.model.failure import FailureClass
from agentcom.model.limits import REASON_CHARS
from agentcom.model.result import Landing, LandStatus, Result
from agentcom.model.task import Phase, StopReason, Task

_LANDING: Final = Phase.LANDING


def begun(result: Result) -> moves.LandingBegun:
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
    )
    return turn.move(task, event, EventKind.LANDING)


def ended(turn: Turn, task: Task, landing: Landing) -> None:
    """Take the report of a landing; raises `Stale` if the attempt was not landing."""
    if task.phase is not _LANDING:
        raise Stale("this attempt was not landing")
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
    failed = moves.Failed(failure, said, turn.retry_at(task.failures))
    turn.move(task, failed, EventKind.FAILED, said)


def kind_of_stop(task: Task) -> EventKind:
    """Return what is said of an attempt that has stopped as it was asked to."""
    cancelled = task.stop_reason is StopReason.CANCELLED
    return EventKind.CANCELLED if cancelled else EventKind.RETURNED
