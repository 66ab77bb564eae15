"""What machines report about attempts, and what the hub makes of it.

A report counts only if its fence and its machine are those of the task's row. Everything else is
kept for a person, never dropped and never applied. Success is judged here, from the result and
the verification report, never from the name of a frame or an exit code.
"""

from collections.abc import Mapping, Sequence
from typing import Final, assert_never

import msgspec

from agentcom.core import (
    accounts,
    landings,
    loops,
    merging,
    moves,
    parting,
    quarantine,
    questions,
    spending,
    touching,
)
from agentcom.core.effects import Acknowledge, Stop
from agentcom.core.facts import (
    Accepted,
    CanaryLived,
    Checkpointed,
    Declined,
    Fact,
    Finished,
    Landed,
    LeaseChecked,
    PhaseReached,
    Stopped,
    Used,
)
from agentcom.core.turn import Turn
from agentcom.core.view import PoolView
from agentcom.model import note
from agentcom.model.batch import Table, result_key
from agentcom.model.errors import InvalidInput, NotAllowed, NotFound, Stale
from agentcom.model.event import EventKind
from agentcom.model.failure import FailureClass
from agentcom.model.ids import Fence, MachineId, TaskId, WallTime
from agentcom.model.limits import DECLINE_RETRY_MS, REASON_CHARS
from agentcom.model.result import MERGES, KeptResult, LandStatus, ReportKind, Result, ResultStatus
from agentcom.model.task import LandPolicy, Phase, StopReason, Task, TaskState, Wait

# A member looked up in its enum costs a call (Python 3.11); here it is a global.
_LANDING: Final = Phase.LANDING
_ASSIGNED: Final = TaskState.ASSIGNED
_QUEUED: Final = TaskState.QUEUED
_PREPARING: Final = Phase.PREPARING
_DONE: Final = ResultStatus.DONE
_QUEUE: Final = LandPolicy.QUEUE
_ACCEPTED: Final = EventKind.ACCEPTED
_COMPLETED: Final = EventKind.COMPLETED
_RESULT: Final = Table.RESULT

_WITH_RESULT: Final = (Finished, Stopped)
_CHECKPOINT: Final = ReportKind.CHECKPOINT
_KINDS: Final[Mapping[type, ReportKind]] = {
    Finished: ReportKind.FINISH,
    Stopped: ReportKind.STOPPED,
    Landed: ReportKind.LANDED,
}

Report = Finished | Stopped | Landed
REPORTS: Final = (Finished, Stopped, Landed)
"""Reports that a machine repeats until they are acknowledged."""


def wanted(view: PoolView, fact: Fact, body: Report) -> Sequence[tuple[Table, str]]:
    """Return the rows that tell a repeated report from a stale one."""
    task = view.tasks.get(body.task)
    machine = fact.actor.machine
    spent: Sequence[tuple[Table, str]] = ()
    if isinstance(body, _WITH_RESULT) and body.turns:
        spent = spending.wanted_turns(view, fact, body)
    if machine is None or (task is not None and holds(task, machine, body.fence)):
        return spent
    keys = [*spent, (_RESULT, result_key(body.task, body.fence, machine))]
    return keys if task is not None else [*keys, (Table.TASK, body.task)]


def progressed(
    turn: Turn, fact: Fact, body: Accepted | PhaseReached | Checkpointed | CanaryLived | Used
) -> None:
    """Follow an attempt on its way. A stale one is told to stop."""
    machine = _machine(fact)
    task = turn.view.tasks.get(body.task)
    if task is not None and task.lost and _may_return(task, machine, body.fence):
        task = resume(turn, task, Phase.WORKING)
    if task is None or not holds(task, machine, body.fence):
        turn.effects.append(Stop(machine, body.task, body.fence))
        return
    if task.stop_reason is not None:
        turn.effects.append(Stop(machine, body.task, body.fence, task.stop_reason))
    match body:
        case Accepted():
            accepted(turn, task)
        case PhaseReached(phase=phase):
            if phase is not task.phase and _LANDING not in (phase, task.phase):
                turn.move(task, moves.Advanced(phase), EventKind.PHASE)
        case Checkpointed():
            _saved(turn, task, machine, body)
        case CanaryLived():
            accounts.lived(turn, task)
        case Used():
            pass
        case _:
            assert_never(body)


def _saved(turn: Turn, task: Task, machine: MachineId, body: Checkpointed) -> None:
    event = moves.Saved(body.commit, body.session, note.cleaned(body.note))
    task = turn.move(task, event, EventKind.CHECKPOINT)
    if body.touched or turn.view.gates.touched:
        touching.note(turn, task, body)
    saved = Acknowledge(machine, body.task, body.fence, _CHECKPOINT, commit=body.commit)
    turn.effects.append(saved)


def used(turn: Turn, fact: Fact, body: Used) -> None:
    """Count what an attempt has spent that goes on, unless its budget is used up."""
    machine = _machine(fact)
    if not body.task.isprintable():
        raise NotFound("there is no such task")
    spending.count(turn, fact, machine, body)
    progressed(turn, fact, body)
    task = turn.view.tasks.get(body.task)
    if task is not None and holds(task, machine, body.fence):
        spending.enforce(turn, task)
    last = max((spent.turn for spent in body.turns), default=0)
    kind = ReportKind.USAGE
    turn.effects.append(Acknowledge(machine, body.task, body.fence, kind, turn=last))


def accepted(turn: Turn, task: Task) -> None:
    """Take note that a machine has an attempt and begins it."""
    if task.state is _ASSIGNED and task.landing_only:
        landings.again(turn, task)
    elif task.state is _ASSIGNED:
        turn.move(task, moves.Advanced(_PREPARING), _ACCEPTED)


def ended(turn: Turn, fact: Fact, body: Finished | Stopped | Declined | Landed) -> None:
    """Take the report that ends an attempt (or its landing), or keep it as stale."""
    machine = _machine(fact)
    _end(turn, fact, machine, body)
    if turn.view.pauses:
        parting.confirmed(turn, machine)


def _end(
    turn: Turn, fact: Fact, machine: MachineId, body: Finished | Stopped | Declined | Landed
) -> None:
    _check_names(body)
    if isinstance(body, _WITH_RESULT) and body.turns:
        spending.count(turn, fact, machine, body)
    task = turn.view.tasks.get(body.task)
    back = task is not None and task.lost and not isinstance(body, Declined)
    if back and task is not None and _may_return(task, machine, body.fence):
        task = resume(turn, task, Phase.VERIFYING)
    if task is None or not holds(task, machine, body.fence):
        _too_late(turn, fact, machine, body)
        return
    code = None
    match body:
        case Finished():
            code = _finished(turn, task, body.fence, body.result)
        case Stopped():
            _stopped(turn, task, body)
        case Declined(reason=reason):
            retry_at = WallTime(turn.now.wall + DECLINE_RETRY_MS)
            after = turn.move(task, moves.Declined(_cut(reason), retry_at), EventKind.RETURNED)
            if task.stop_reason is None:
                quarantine.declined(turn, after)
            return
        case Landed(landing=landing):
            landings.ended(turn, task, landing)
        case _:
            assert_never(body)
    turn.effects.append(answer(machine, body, code=code))


def answer(machine: MachineId, body: Report, *, code: str | None = None) -> Acknowledge:
    """Return the acknowledgement of a report; `code` says why it was not applied."""
    kind = _KINDS[type(body)]
    return Acknowledge(machine, body.task, body.fence, kind, code is None, code)


def resume(turn: Turn, task: Task, phase: Phase) -> Task:
    """Give a task that nobody else has begun back to the holder of its newest fence."""
    assert task.agent is not None
    assert task.machine is not None
    deadline = WallTime(turn.now.wall + task.deadline_ms)
    event = moves.Resumed(task.agent, task.machine, phase, deadline)
    after = turn.move(task, event, EventKind.RESUMED)
    turn.again(LeaseChecked(task.machine))  # what is held has a lease that is watched
    return landings.again(turn, after) if task.landing_only else after


def _finished(turn: Turn, task: Task, fence: Fence, result: Result) -> str | None:
    """Take a result; return the code that says why it is not applied."""
    if task.phase is _LANDING:
        return None  # a repeat: the result is stored, and its landing has begun
    if task.stop_reason not in (None, StopReason.BUDGET, StopReason.ASKED):
        reason = f"the attempt was asked to stop: {task.stop_reason.value}"
        if _is_exhausted(result):
            accounts.note(turn, task, result)
        keep(turn, task.machine, task.id, fence, result, refused=reason)
        turn.move(task, moves.Stopped(turn.retry_at(task.failures)), landings.kind_of_stop(task))
        return Stale.code
    keep(turn, task.machine, task.id, fence, result)
    event, kind, detail = judge(turn, task, result)
    after = turn.move(task, event, kind, _cut(detail))
    quarantine.judged(turn, after, event)
    if kind is _COMPLETED and (task.lineage or task.unique_key):
        tree = result.commit or result.base_commit
        loops.completed(turn.view, task, tree, turn.now.wall)
    return None


def judge(turn: Turn, task: Task, result: Result) -> tuple[moves.Event, EventKind, str]:
    """Return what a result makes of its task, from the evidence in it; it may park an account."""
    if result.status is not _DONE:
        return _judge_failure(turn, task, result)
    if task.asks or task.unheard:
        event = questions.parked(task, result.session, _note(task, result))
        return event, EventKind.PARKED, "its agent has asked, and heard no answer"
    report, verified = result.report, result.verified
    declared = task.must_verify or result.verify_expected or bool(report and report.checks)
    if declared and not verified:
        return _failure(turn, task, FailureClass.VERIFICATION, _failing(result), result)
    if result.needs_person and result.land is not LandPolicy.PULL_REQUEST:
        reason = "; ".join(result.needs_person)
        parked = moves.Parked(
            Wait.APPROVAL,
            None,
            _cut(reason),
            result.commit,
            result.branch,
            result.base_commit,
            result.land_key if result.land in MERGES and verified else None,
            note=_note(task, result),
        )
        return parked, EventKind.PARKED, reason
    if result.lands:
        return landings.begun(turn, result), EventKind.LANDING, ""
    done = moves.Completed(result.commit, result.branch, verified)
    return done, _COMPLETED, "" if verified else "unverified"


def _judge_failure(turn: Turn, task: Task, result: Result) -> tuple[moves.Event, EventKind, str]:
    failure = result.failure or FailureClass.AGENT
    if _is_exhausted(result):
        parked = accounts.exhausted(turn, task, result)
        parked = msgspec.structs.replace(parked, note=_note(task, result))
        return parked, EventKind.PARKED, result.message
    return _failure(turn, task, failure, result.message, result)


def _is_exhausted(result: Result) -> bool:
    return result.status is ResultStatus.PARKED or result.failure is FailureClass.QUOTA


def _failure(
    turn: Turn, task: Task, failure: FailureClass, message: str, result: Result | None = None
) -> tuple[moves.Event, EventKind, str]:
    said = None if result is None else _note(task, result)
    failed = moves.Failed(failure, _cut(message), turn.retry_at(task.failures), said)
    return failed, EventKind.FAILED, message


def _note(task: Task, result: Result) -> str | None:
    """Return what the next attempt should know of one that brought this result."""
    return note.cleaned(result.summary) or task.note or note.cleaned(result.message)


def _stopped(turn: Turn, task: Task, body: Stopped) -> None:
    if body.result is not None and task.phase is not _LANDING:  # else it is stored already
        reason = f"stopped: {task.stop_reason.value if task.stop_reason else 'by its machine'}"
        keep(turn, task.machine, task.id, body.fence, body.result, refused=reason)
    if merging.rides(turn.view, task):
        return  # the landing that it is part of may be in the base by now: its report decides
    turn.move(
        task, moves.Stopped(turn.retry_at(task.failures), body.session), landings.kind_of_stop(task)
    )


def keep(
    turn: Turn,
    machine: MachineId | None,
    task: TaskId,
    fence: Fence,
    result: Result,
    *,
    refused: str | None = None,
) -> None:
    """Store a result: applied, or (with `refused`) for a person to look at."""
    assert machine is not None
    key = result_key(task, fence, machine)
    live = turn.view.tasks.get(task)
    agent = live.agent if live is not None and _newest(live, fence) else None
    applied = refused is None
    row = KeptResult(task, fence, agent, machine, turn.now.wall, result, applied, refused)
    turn.write(_RESULT, key, row, None)


def _too_late(
    turn: Turn, fact: Fact, machine: MachineId, body: Finished | Stopped | Declined | Landed
) -> None:
    """Answer a report whose attempt is not the current one: a repeat, or stale."""
    if isinstance(body, Declined):
        return
    stored = turn.row(_RESULT, result_key(body.task, body.fence, machine), fact.found)
    row = turn.view.tasks.get(body.task) or turn.row(Table.TASK, body.task, fact.found)
    task = row if isinstance(row, Task) else None
    mine = task is not None and task.fence == body.fence and task.machine == machine
    repeat = isinstance(stored, KeptResult) and stored.applied
    result = getattr(body, "result", None)
    if mine and isinstance(body, Stopped) and (result is None or stored is not None):
        repeat = True
    if mine and task is not None and isinstance(body, Landed):
        repeat = body.landing.status is not LandStatus.LANDED or task.state is TaskState.COMPLETED
    if repeat:
        turn.effects.append(answer(machine, body))
        return
    if isinstance(result, Result) and stored is None:
        spending.check_origin(turn, task, machine, body.fence)
        known = "the task went on without this attempt"
        reason = f"stale: {known if task is not None else 'this hub does not know the task'}"
        keep(turn, machine, body.task, body.fence, result, refused=reason)
        if task is not None:
            turn.record(task, EventKind.RESULT_KEPT, f"attempt {body.fence.attempt}: {reason}")
    turn.effects.append(answer(machine, body, code=Stale.code))


def _check_names(body: Finished | Stopped | Declined | Landed) -> None:
    """Refuse what cannot be part of a row's key: no store would take the batch."""
    if not body.task.isprintable():
        raise NotFound("there is no such task")
    result = body.result if isinstance(body, _WITH_RESULT) else None
    key = result.land_key or "" if result is not None else ""
    if len(key) > REASON_CHARS or not key.isprintable():
        raise InvalidInput("land_key", f"at most {REASON_CHARS} characters, none a control")


def holds(task: Task, machine: MachineId, fence: Fence) -> bool:
    """Return whether this attempt is the task's, and under way on this machine."""
    return task.state.held and task.machine == machine and _newest(task, fence)


def _may_return(task: Task, machine: MachineId, fence: Fence) -> bool:
    return task.state is _QUEUED and task.machine == machine and _newest(task, fence)


def _newest(task: Task, fence: Fence) -> bool:
    return task.attempt == fence.attempt and task.incarnation == fence.incarnation


def _machine(fact: Fact) -> MachineId:
    if fact.actor.machine is None:
        raise NotAllowed("only a machine may report on attempts")
    return fact.actor.machine


def _failing(result: Result) -> str:
    if result.report is None:
        return "verification was declared, and there is no report"
    if result.report.commit != result.commit:
        return "the verification report is about another commit"
    names = [check.name for check in result.report.checks if not check.passed]
    return f"verification failed: {', '.join(names) or 'no check ran'}"


def _cut(text: str) -> str:
    return text[:REASON_CHARS]
