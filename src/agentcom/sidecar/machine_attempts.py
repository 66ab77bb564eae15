"""What one attempt goes through on this machine: its map, and what each step orders.

`TRANSITIONS` is the map. Two rules stand above it: a task has at most one live attempt; a report
is on disk before it is sent, and is sent on every new link until the hub has acknowledged it.
The link, the lease and what the hub asks are in `machine.py`. Pure.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, assert_never

import msgspec

from agentcom.model.agent import Held, HeldStage
from agentcom.model.ids import Instant, TaskId
from agentcom.model.result import LandStatus, ReportKind, Result
from agentcom.model.task import Phase, StopReason
from agentcom.model.usage import TurnUsage
from agentcom.protocol import frames
from agentcom.sidecar import machine_values as values
from agentcom.sidecar.machine_values import Attempt, Key, Order, Stage, View

REPORT_RETRY_MS: Final = 15_000
"""A report without an acknowledgement is sent again after this, though the link stands."""
DECLINED_MAX: Final = 256
"""Attempts that were declined and are remembered: pushes that cross with the word of it are few."""
LAST_TURN_MS: Final = 10_000
"""A program whose only turn is over has ended by then; one that has not has begun another."""
_LAST_TURN: Final = "budget/"
_ARRIVED: Final = (LandStatus.LANDED, LandStatus.OPENED)
STORE_RETRY_MS: Final = 5_000
"""A full disk is tried again after this; the report is sent meanwhile."""


class Move(StrEnum):
    """What can happen to an attempt."""

    START = "start"
    HOLD_BACK = "hold_back"
    OFFER = "offer"
    WORK = "work"
    VERIFY = "verify"
    END = "end"
    STOP = "stop"
    CONFIRM = "confirm"
    GRANT = "grant"
    SUSPEND = "suspend"
    LAND = "land"
    FORGET = "forget"


_RUN: Final = {Move.END: Stage.FINISHED, Move.STOP: Stage.STOPPING, Move.CONFIRM: Stage.STOPPED}

TRANSITIONS: Final[Mapping[Stage, Mapping[Move, Stage]]] = {
    Stage.STORING: {
        Move.START: Stage.PREPARING,
        Move.HOLD_BACK: Stage.WAITING,
        Move.OFFER: Stage.READY,
        Move.STOP: Stage.STOPPED,
        Move.FORGET: Stage.GONE,
    },
    Stage.WAITING: {Move.START: Stage.PREPARING, Move.STOP: Stage.STOPPED},
    Stage.PREPARING: {Move.WORK: Stage.WORKING, Move.VERIFY: Stage.VERIFYING, **_RUN},
    Stage.WORKING: {Move.VERIFY: Stage.VERIFYING, **_RUN},
    Stage.VERIFYING: {Move.WORK: Stage.WORKING, **_RUN},
    Stage.STOPPING: {Move.CONFIRM: Stage.STOPPED, Move.LAND: Stage.LANDED},
    Stage.FINISHED: {
        Move.OFFER: Stage.READY,
        Move.STOP: Stage.STOPPED,
        Move.FORGET: Stage.GONE,
    },
    Stage.STOPPED: {Move.FORGET: Stage.GONE},
    Stage.READY: {Move.GRANT: Stage.LANDING, Move.STOP: Stage.STOPPED},
    Stage.LANDING: {
        Move.SUSPEND: Stage.READY,
        Move.LAND: Stage.LANDED,
        Move.STOP: Stage.STOPPING,
    },
    Stage.LANDED: {Move.FORGET: Stage.GONE},
    Stage.GONE: {},
}

RUNNING: Final = frozenset({Stage.PREPARING, Stage.WORKING, Stage.VERIFYING})
_AT_WORK: Final = frozenset({Stage.PREPARING, Stage.WORKING})
PENDING: Final = frozenset({Stage.STORING, Stage.WAITING})
"""Nothing of the attempt has begun."""
BELIEVED: Final = RUNNING | {Stage.LANDING}
"""The machine acts for the task, and needs its lease for what others see of that."""
LIVE: Final = BELIEVED | {Stage.STOPPING}
"""Something of the attempt may run: no other attempt of its task may."""
REPORTS: Final = frozenset({Stage.FINISHED, Stage.STOPPED, Stage.LANDED})
ANSWERS: Final[Mapping[ReportKind, Stage]] = {
    ReportKind.FINISH: Stage.FINISHED,
    ReportKind.STOPPED: Stage.STOPPED,
    ReportKind.LANDED: Stage.LANDED,
}
"""The stage whose report an acknowledgement is about."""
BUSY: Final = RUNNING | {Stage.STORING, Stage.WAITING}

HELD: Final[Mapping[Stage, HeldStage]] = {
    Stage.WAITING: HeldStage.STORED,
    Stage.PREPARING: HeldStage.RUNNING,
    Stage.WORKING: HeldStage.RUNNING,
    Stage.VERIFYING: HeldStage.RUNNING,
    Stage.STOPPING: HeldStage.RUNNING,
    Stage.FINISHED: HeldStage.FINISHED,
    Stage.STOPPED: HeldStage.FINISHED,
    Stage.READY: HeldStage.READY,
    Stage.LANDING: HeldStage.LANDING,
    Stage.LANDED: HeldStage.LANDING,
}


def lease_valid(view: View, now: Instant) -> bool:
    """Tell whether this machine may still act for all by its own clock."""
    return now < view.lease_until


class AttemptTurn:
    """One fact's way through the attempts of a view."""

    def __init__(self, view: View, now: Instant) -> None:
        self.view = view
        self.now = now
        self.orders: list[Order] = []

    def own(self, fact: values.OfAttempt) -> None:  # noqa: C901, PLR0912 - a total match
        """Take what the machine's own work brought."""
        attempt = self.view.attempts.get(fact.key)
        if attempt is None:
            return  # forgotten meanwhile: what is late about it changes nothing
        match fact:
            case values.Stored():
                self._stored(attempt, fact.stage)
            case values.NotStored():
                self._not_stored(attempt, fact)
            case values.PhaseReached():
                self._phase(attempt, fact.phase)
            case values.Noted():
                if attempt.stage in RUNNING:
                    self.send(fact.progress)
            case values.Spent():
                self._spent(attempt, fact.turn)
            case values.Saved():
                self._saved(attempt, fact)
            case values.Ended():
                self._ended(attempt, fact.result)
            case values.Stopped():
                self._confirmed(attempt, fact)
            case values.LandEnded():
                self._land_ended(attempt, fact)
            case _:
                assert_never(fact)

    def notify(self, frame: frames.Notice) -> None:
        """Pass on what the agent of an attempt may want to know; for others it is too late."""
        key = Key(frame.task, frame.fence)
        attempt = self.view.attempts.get(key)
        if attempt is not None and attempt.stage in RUNNING:
            self.order(values.Notify(key, frame.text))

    def overtake(self, attempt: Attempt) -> None:
        """End an attempt since the hub has issued a newer one of its task."""
        if attempt.stage not in REPORTS:
            self.stop(attempt, None)

    def give_up_all(self) -> None:
        """Give back what has not ended, so that others go on with it while the computer sleeps."""
        for attempt in tuple(self.view.attempts.values()):
            if attempt.stage in BUSY:
                self.stop(attempt, StopReason.PREEMPTED)

    def stop(self, attempt: Attempt, reason: StopReason | None) -> None:
        """End an attempt; the one that has nothing running is over at once."""
        if not self.move(attempt, Move.STOP):
            return
        if attempt.stage is Stage.STOPPING:
            self.order(values.Stop(attempt.key, reason))
        else:
            self.keep(attempt)

    def last_turn(self, attempt: Attempt) -> None:
        """Let an agent whose budget is used up end by itself; it gets no turn more."""
        first = attempt.stage in RUNNING and not attempt.spent_out
        attempt.spent_out |= first  # each heartbeat repeats the wish
        if first and attempt.stage in _AT_WORK:
            at = Instant(self.now + LAST_TURN_MS)
            self.order(values.SetTimer(f"{_LAST_TURN}{attempt.key.text}", at))

    def timer_of_attempt(self, key: str) -> None:
        """Store again what a full disk refused, or end an agent that began one turn too many."""
        for attempt in self.view.attempts.values():
            own = attempt.key
            if own.text == key and attempt.stage in REPORTS:
                self.order(values.Store(attempt.record))
            elif key == f"{_LAST_TURN}{own.text}" and attempt.stage in _AT_WORK:
                self.stop(attempt, StopReason.BUDGET)

    def land(self, attempt: Attempt) -> None:
        """Land if it was granted, the lease still runs, and so does nothing older of the task."""
        wanted = attempt.granted and attempt.stage is Stage.READY
        if wanted and any(other.stage in LIVE for other in self.view.of_task(attempt.key.task)):
            return
        if wanted and lease_valid(self.view, self.now) and self.move(attempt, Move.GRANT):
            self.order(values.Land(attempt.record))

    def _stored(self, attempt: Attempt, stage: Stage) -> None:
        if stage is not attempt.record.stage:
            return  # an older state of the record: the newer one is on its way
        attempt.stored = True
        if attempt.stage is Stage.STORING:
            self._begin(attempt)
        else:
            self.send_usage(attempt)
            self.report(attempt)

    def _begin(self, attempt: Attempt) -> None:
        self.accept(attempt)
        if attempt.record.assignment.landing_only:
            self.move(attempt, Move.OFFER)
            self.land(attempt)
            return
        self.move(attempt, Move.HOLD_BACK)
        self.start_waiting(attempt.key.task)

    def start_waiting(self, task: TaskId) -> None:
        """Start, or land, the newest attempt of `task` if nothing older runs any more."""
        attempts = list(self.view.of_task(task))
        if any(attempt.stage in LIVE for attempt in attempts):
            return
        newest = attempts[-1]
        if newest.stage is Stage.WAITING and self.move(newest, Move.START):
            newest.phase = Phase.PREPARING
            self.order(values.Start(newest.record, newest.adopt))
        self.land(newest)

    def _not_stored(self, attempt: Attempt, fact: values.NotStored) -> None:
        key = attempt.key
        self.note("record.not_stored", fact.reason, key)
        if fact.stage is not attempt.record.stage:
            return
        if attempt.stage is Stage.STORING:
            self.move(attempt, Move.FORGET)
            del self.view.attempts[key]
            self.decline(key, fact.reason)
            self.order(values.Forget(attempt.record, keep=False))
            return
        attempt.stored = True  # the hub's disk is better than none
        self.send_usage(attempt)
        self.report(attempt)
        self.order(values.SetTimer(key.text, Instant(self.now + STORE_RETRY_MS)))

    def _phase(self, attempt: Attempt, phase: Phase) -> None:
        if attempt.stage not in RUNNING:
            return
        move = {Phase.WORKING: Move.WORK, Phase.VERIFYING: Move.VERIFY}.get(phase)
        if move is not None:
            self.move(attempt, move)
        attempt.phase, key = phase, attempt.key
        self.send(frames.Progress(task=key.task, fence=key.fence, phase=phase))

    def _spent(self, attempt: Attempt, turn: TurnUsage) -> None:
        turns = attempt.record.turns
        if turns and turn.turn <= turns[-1].turn:
            return  # read a second time
        if attempt.stage in RUNNING:
            self.keep(attempt, turns=(*turns, turn))
        else:  # its end is stored soon, and this with it
            attempt.record = msgspec.structs.replace(attempt.record, turns=(*turns, turn))

    def _saved(self, attempt: Attempt, fact: values.Saved) -> None:
        attempt.checkpoint = frames.Checkpoint(
            task=fact.key.task,
            fence=fact.key.fence,
            commit=fact.commit,
            session=fact.session,
            note=fact.note,
            touched=fact.touched,
            touched_count=fact.touched_count,
            clashes=fact.clashes,
        )
        self.send_checkpoint(attempt)

    def _ended(self, attempt: Attempt, result: Result) -> None:
        if attempt.stage is Stage.STOPPING:
            self._confirmed(attempt, values.Stopped(attempt.key, result, result.session))
        elif self.move(attempt, Move.END):
            self.keep(attempt, result=result)
            self.start_waiting(attempt.key.task)

    def _confirmed(self, attempt: Attempt, ended: values.Stopped) -> None:
        if self.move(attempt, Move.CONFIRM):
            self.keep(attempt, result=ended.result, session=ended.session)
            self.start_waiting(attempt.key.task)

    def _land_ended(self, attempt: Attempt, fact: values.LandEnded) -> None:
        landing = fact.landing
        stopping = attempt.stage is Stage.STOPPING
        if stopping and (landing is None or landing.status not in _ARRIVED):
            self._confirmed(attempt, values.Stopped(attempt.key))
        elif landing is None:
            self.move(attempt, Move.SUSPEND)
            self.land(attempt)
        elif self.move(attempt, Move.LAND):
            self.keep(attempt, landing=landing)
            self.start_waiting(attempt.key.task)

    def move(self, attempt: Attempt, move: Move) -> bool:
        """Follow the map; False, and a note, if it has no such way."""
        after = TRANSITIONS[attempt.stage].get(move)
        if after is None:
            if not (move is Move.WORK and attempt.stage is Stage.WORKING):
                self.note("fact.late", f"{move} after {attempt.stage}", attempt.key)
            return False
        attempt.stage = after
        return True

    def keep(self, attempt: Attempt, **changes: object) -> None:
        """Have the record follow the attempt; what is to be reported is sent once it is stored."""
        known = {name: value for name, value in changes.items() if value is not None}
        attempt.record = msgspec.structs.replace(attempt.record, stage=attempt.stage, **known)
        attempt.stored = False
        self.order(values.Store(attempt.record))

    def decline(self, key: Key, reason: str) -> None:
        """Tell the hub that an attempt does not start here, now or later."""
        declined = self.view.declined
        declined[key] = reason
        if len(declined) > DECLINED_MAX:
            del declined[next(iter(declined))]
        self.send(frames.Decline(task=key.task, fence=key.fence, reason=reason))

    def accept(self, attempt: Attempt) -> None:
        """Tell the hub that this attempt is stored here."""
        self.send(frames.Accept(task=attempt.key.task, fence=attempt.key.fence))

    def report(self, attempt: Attempt) -> None:
        """Send the attempt's report if it has one that is stored."""
        if attempt.stage not in REPORTS or not attempt.stored or self.view.session is None:
            return
        self.send(_report_of(attempt))
        self.order(values.SetTimer("reports", Instant(self.now + REPORT_RETRY_MS)))

    def send_usage(self, attempt: Attempt) -> None:
        """Send what an attempt that goes on has spent; its end brings the rest."""
        key, turns = attempt.key, attempt.uncounted
        if turns and attempt.stored and attempt.stage in RUNNING:
            self.send(frames.UsageFrame(task=key.task, fence=key.fence, turns=turns))

    def send_checkpoint(self, attempt: Attempt) -> None:
        """Send the newest checkpoint if it is not acknowledged."""
        if attempt.checkpoint is not None and self.view.session is not None:
            self.send(attempt.checkpoint)

    def send(self, frame: frames.FromMachine) -> None:
        """Send on a welcomed link; without one, what matters is sent again at the next welcome."""
        if self.view.session is not None:
            self.order(values.Send(frame))

    def note(self, event: str, detail: str, key: Key | None = None) -> None:
        """Tell the operator."""
        self.order(values.Report(event, detail, key))

    def order(self, order: Order) -> None:
        """Add an order."""
        self.orders.append(order)


def held(view: View) -> tuple[Held, ...]:
    """Return every fence that this machine has, as heartbeats list them."""
    return tuple(
        Held(key.task, key.fence, HELD[attempt.stage], attempt.phase)
        for key, attempt in view.attempts.items()
        if attempt.stage in HELD
    )


def record_of(frame: frames.Assign) -> values.Record:
    """Return the first record of an attempt that the hub assigns."""
    stage = Stage.READY if frame.assignment.landing_only else Stage.PREPARING
    body, asks = frame.body, frame.asks
    return values.Record(assignment=frame.assignment, body=body, stage=stage, asks=asks)


def _report_of(attempt: Attempt) -> frames.FromMachine:
    record, task, fence = attempt.record, attempt.key.task, attempt.key.fence
    turns = attempt.uncounted
    if attempt.stage is Stage.LANDED:
        assert record.landing is not None
        return frames.LandedFrame(task=task, fence=fence, landing=record.landing)
    if attempt.stage is Stage.STOPPED:
        result = None if record.acked else record.result
        return frames.StoppedFrame(
            task=task, fence=fence, result=result, turns=turns, session=record.session
        )
    assert record.result is not None
    return frames.Finish(task=task, fence=fence, result=record.result, turns=turns)
