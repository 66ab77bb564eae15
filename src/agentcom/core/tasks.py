"""What is true of one task: its states, and what each event makes of it.

`TRANSITIONS` is the map; `decide` follows it and refuses everything else. The diagram in the
documentation is drawn from it. What follows for others (holds, queue, dependants, timers) is
not here: `core/turn.py` derives it from the old and the new row, on every path alike.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, assert_never, get_args

import msgspec

from agentcom.core import moves, task_asks
from agentcom.model.budget import task_used_up
from agentcom.model.errors import IllegalTransition
from agentcom.model.failure import FailureClass
from agentcom.model.ids import WallTime
from agentcom.model.limits import CRASHED_ON_MAX, LEASES_LOST_MAX, REASON_CHARS
from agentcom.model.task import Phase, StopReason, Task, TaskState, Wait

replace: Final = msgspec.structs.replace

_W, _Q, _A, _R = TaskState.WAITING, TaskState.QUEUED, TaskState.ASSIGNED, TaskState.RUNNING
_DONE, _FAIL, _END = TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED
_PREPARING, _LANDING = Phase.PREPARING, Phase.LANDING

_LANDS_AGAIN: Final = (FailureClass.WORKSPACE, FailureClass.DEADLINE)
"""What can go wrong with a landing though the work is good: no agent is needed to try again."""
_MODEL_NEXT: Final = (Wait.RETRY, Wait.QUOTA)
_ENDS: Final = frozenset(get_args(moves.End))
_ASKS: Final = frozenset(get_args(moves.Asked))
_QUESTIONS: Final = frozenset(get_args(moves.Question))

TRANSITIONS: Final[Mapping[type[moves.Event], Mapping[TaskState, tuple[TaskState, ...]]]] = {
    moves.Released: {_W: (_Q, _W)},
    moves.Matched: {_Q: (_A,)},
    moves.Advanced: {_A: (_R,), _R: (_R,)},
    moves.Saved: {_A: (_A,), _R: (_R,)},
    moves.LandingBegun: {_A: (_R,), _R: (_R,)},
    moves.Completed: dict.fromkeys((_A, _R, _W, _Q, _FAIL, _END), (_DONE,)),
    moves.Opened: {_A: (_W,), _R: (_W,)},
    moves.ReviewWanted: {_W: (_Q, _W, _FAIL)},
    moves.Failed: {_A: (_W, _FAIL), _R: (_W, _FAIL), _W: (_FAIL,), _Q: (_FAIL,)},
    moves.LeaseLost: {_A: (_Q, _W, _FAIL, _END), _R: (_Q, _W, _FAIL, _END)},
    moves.Declined: {_A: (_W, _FAIL, _END), _R: (_W, _FAIL, _END)},
    moves.StopAsked: {_A: (_A,), _R: (_R,)},
    moves.Stopped: {_A: (_Q, _W, _FAIL, _END), _R: (_Q, _W, _FAIL, _END)},
    moves.Parked: {_A: (_W, _Q, _FAIL), _R: (_W, _Q, _FAIL)},
    moves.Resumed: {_Q: (_R,)},
    moves.Charged: {_W: (_W,), _Q: (_Q,), _A: (_A,), _R: (_R,)},
    moves.Cancelled: {_W: (_END,), _Q: (_END,)},
    moves.Reopened: {_W: (_Q, _W), _Q: (_Q,), _FAIL: (_Q, _W), _END: (_Q, _W)},
    moves.Edited: {_W: (_W, _Q), _Q: (_Q, _W), _A: (_A,), _R: (_R,)},
    **task_asks.TRANSITIONS,
    moves.PauseSet: {state: (state,) for state in (_W, _Q, _A, _R)},
}


def decide(task: Task, event: moves.Event, now: WallTime) -> Task:
    """Return the task after `event`.

    Raises:
        IllegalTransition: a task in this state cannot take this event.
    """
    kind = type(event)
    allowed = TRANSITIONS[kind].get(task.state)
    if allowed is None:
        raise IllegalTransition(task.state.value, kind.__name__)
    happen: Callable[[Task, Any, WallTime], Task] = _end if kind in _ENDS else _step
    if kind in _ASKS:
        happen = _asked
    elif kind in _QUESTIONS:
        happen = task_asks.happen
    after = happen(task, event, now)
    assert after.state in allowed, (task.state, event, after.state)
    return after


def _step(task: Task, event: moves.Step, now: WallTime) -> Task:
    match event:
        case moves.Matched():
            if task.landing_only or task.author_machine is not None:
                task = moves.authored(task)
            return replace(
                task,
                holders=moves.holders(task),
                version=task.version + 1,
                changed_at=now,
                state=_A,
                phase=_PREPARING,
                lost=False,
                agent=event.agent,
                machine=event.machine,
                incarnation=event.fence.incarnation,
                attempt=event.fence.attempt,
                deadline_at=event.deadline_at,
            )
        case moves.Advanced():
            version = task.version + 1
            return replace(task, version=version, changed_at=now, state=_R, phase=event.phase)
        case moves.Saved(commit=commit, session=session, note=note):
            known = {"session": session or task.session, "note": note or task.note}
            return _changed(task, now, checkpoint=commit, **known)
        case moves.LandingBegun():
            stop = task.stop_reason if task.stop_reason is not StopReason.BUDGET else None
            work = {**moves.work(event), "stop_reason": stop}  # no model works from here on
            work["session"] = event.session or task.session
            work["land_seq"] = event.seq
            return _changed(task, now, state=_R, phase=_LANDING, **work)
        case moves.Resumed(phase=phase, deadline_at=at):
            lost = max(0, task.leases_lost - 1)
            back = {"leases_lost": lost, "lost_on": task.lost_on[:lost], "lost": False}
            return _changed(task, now, state=_R, phase=phase, deadline_at=at, **back)
        case moves.Charged(spent=spent):
            return _changed(task, now, spent=spent)
        case moves.Released():
            return _released(task, event, now)
        case moves.ReviewWanted(wait=wait, reason=reason):
            state, rounds = _W if wait else _Q, task.rounds + 1
            return _ended(task, now, state=state, wait=wait, reason=reason, rounds=rounds)
        case _:
            assert_never(event)


def _asked(task: Task, event: moves.Asked, now: WallTime) -> Task:
    match event:
        case moves.StopAsked(reason=reason, said=said):
            told = {"reason": said} if reason is StopReason.CANCELLED else {}
            if reason is not StopReason.CANCELLED:  # who cancels means it, whatever was before
                reason = task.stop_reason or reason
            return _changed(task, now, stop_reason=reason, **told)
        case moves.Reopened():
            return _reopened(task, event, now)
        case moves.PauseSet(paused=paused, returns=returns):
            return _changed(task, now, paused=paused, lost=task.lost and returns)
        case moves.Edited():
            state = task.state if task.state.held else _W if event.wait else _Q
            return _changed(task, now, state=state, **msgspec.structs.asdict(event))
        case _:
            assert_never(event)


def _released(task: Task, event: moves.Released, now: WallTime) -> Task:
    wait = Wait.START_TIME if event.until is not None else moves.approval(task)
    if wait is None and task_asks.keeps(task):
        wait = Wait.ANSWER
    more = {} if event.needs is None else {"needs": event.needs}
    return _changed(task, now, state=_W if wait else _Q, wait=wait, until=event.until, **more)


def _end(task: Task, event: moves.End, now: WallTime) -> Task:
    match event:
        case moves.Completed(commit=commit, branch=branch, verified=verified):
            done = _ended(task, now, state=_DONE)
            work = {"commit": commit, "branch": branch, "verified": verified}
            return replace(done, failure=None, reason=None, note=None, **work)
        case moves.Opened():
            return _ended(task, now, state=_W, wait=Wait.REVIEW, **moves.opened(event))
        case moves.Failed():
            return _failed(task, event, now)
        case moves.LeaseLost():
            return _lost(task, event, now)
        case moves.Declined(reason=reason, retry_at=at):
            if task.stop_reason is StopReason.CANCELLED:
                return _ended(task, now, state=_END, failure=None)
            return _ended(task, now, state=_W, wait=Wait.RETRY, until=at, reason=reason)
        case moves.Stopped():
            return _stopped(task, event, now)
        case moves.Parked(wait=wait, until=until, reason=reason):
            kept = moves.work(event) if wait is Wait.APPROVAL else {}
            kept |= {"reason": reason, "session": event.session or task.session}
            kept["note"] = event.note or task.note
            return _ended(task, now, state=_W if wait else _Q, wait=wait, until=until, **kept)
        case moves.Cancelled(said=said):
            return _ended(task, now, state=_END, failure=None, reason=said)
        case _:
            assert_never(event)


def _failed(task: Task, event: moves.Failed, now: WallTime) -> Task:
    if not task.state.held:
        return _ended(task, now, state=_FAIL, failure=event.failure, reason=event.reason)
    failures = task.failures + 1
    crashed_on = task.crashed_on
    if event.failure is FailureClass.CRASHED and task.agent is not None:
        crashed_on = tuple(dict.fromkeys((*crashed_on, task.agent)))
    poison = len(crashed_on) >= CRASHED_ON_MAX
    hopeless = event.failure.final and not event.mends
    final = hopeless or failures >= task.failures_max or poison
    return _ended(
        task,
        now,
        state=_FAIL if final else _W,
        wait=None if final else Wait.RETRY,
        until=None if final else event.retry_at,
        failures=failures,
        crashed_on=crashed_on,
        failure=event.failure,
        reason=event.reason,
        landing_only=task.phase is _LANDING and event.failure in _LANDS_AGAIN,
        checkpoint=task.commit or task.checkpoint,
        note=event.note or task.note,
    )


def _lost(task: Task, event: moves.LeaseLost, now: WallTime) -> Task:
    if task.stop_reason is StopReason.CANCELLED:
        return _ended(task, now, state=_END, failure=None)
    lost, lost_on = task.leases_lost + 1, (*task.lost_on, event.name)
    landing = task.landing_only or task.phase is _LANDING
    # Who was told to stop does not come back: what it brings later is kept, not applied.
    returns = task.stop_reason is None
    if lost >= LEASES_LOST_MAX:
        where = ", ".join(dict.fromkeys(lost_on))
        reason = f"its machine vanished {lost} times: {where}"
        gone: dict[str, Any] = {"failure": FailureClass.LEASE_LOST, "reason": reason}
        return _ended(task, now, state=_FAIL, leases_lost=lost, lost_on=lost_on, **gone)
    kept: dict[str, Any] = {"leases_lost": lost, "lost_on": lost_on, "landing_only": landing}
    return _ended(task, now, state=_Q, lost=returns, **kept)


def _stopped(task: Task, event: moves.Stopped, now: WallTime) -> Task:
    match task.stop_reason:
        case StopReason.CANCELLED:
            return _ended(task, now, state=_END, failure=None)
        case StopReason.TIMED_OUT:
            reason = "the attempt used up its time"
            failed = moves.Failed(FailureClass.DEADLINE, reason, event.retry_at)
            return _failed(task, failed, now)
        case (
            StopReason.PAUSED
            | StopReason.PREEMPTED
            | StopReason.REVOKED
            | StopReason.BUDGET
            | StopReason.ASKED
        ) | None:
            landing = task.landing_only or task.phase is _LANDING
            session = event.session or task.session
            return _ended(task, now, state=_Q, landing_only=landing, session=session)
        case _:
            assert_never(task.stop_reason)


def _reopened(task: Task, event: moves.Reopened, now: WallTime) -> Task:
    if task.state.terminal:  # its old place lies before everyone's, and its number may be another's
        task = replace(task, start_tag=0.0, seq=0)
    if task.spent is not None:  # a person gives it its budget anew
        task = replace(task, spent=None)
    wait = Wait.DEPENDENCIES if event.blocked else moves.approval(task)
    return _ended(
        task,
        now,
        state=_W if wait else _Q,
        wait=wait,
        failures=0,
        leases_lost=0,
        lost_on=(),
        crashed_on=(),
        failure=None,
        reason=None,
        landing_only=event.commit is not None,
        rounds=0,
        pull_request=None if task.state.terminal else task.pull_request,
        **moves.work(event),
    )


def _changed(task: Task, now: WallTime, **fields: Any) -> Task:
    return replace(task, version=task.version + 1, changed_at=now, **fields)


def _ended(
    task: Task,
    now: WallTime,
    *,
    state: TaskState,
    lost: bool = False,
    wait: Wait | None = None,
    until: WallTime | None = None,
    **fields: Any,
) -> Task:
    """Return `task` with the attempt's own fields cleared, whatever path led here.

    The holder stays named: its fence is the newest until another is issued, so it may come back.
    """
    if task.spent is not None and (state is _Q or wait in _MODEL_NEXT):
        lacks = None if fields.get("landing_only") else task_used_up(task.budget, task.spent)
        if lacks is not None:  # no further attempt could begin
            state, lost, wait, until = _FAIL, False, None, None
            reason = f"its budget is used up: {lacks}; {fields.get('reason') or ''}".rstrip("; ")
            fields |= {"failure": FailureClass.BUDGET, "reason": reason[:REASON_CHARS]}
    ended = replace(
        task,
        version=task.version + 1,
        changed_at=now,
        state=state,
        lost=lost,
        wait=wait,
        until=until,
        phase=None,
        stop_reason=None,
        deadline_at=None,
    )
    ended = replace(ended, **fields) if fields else ended
    return task_asks.after(ended) if task.asks or task.unheard else ended
