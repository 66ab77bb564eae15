"""What the sidecar decides: facts in, orders out. No await, clock, chance or I/O.

Here are the link, the lease and what the hub asks; the life of one attempt, with its map
`TRANSITIONS`, is in `machine_attempts.py`. The lease runs from the sending of the heartbeat that
a `beat` answers; when it has run out, landing waits and all other work goes on.
"""

from collections.abc import Iterable, Mapping
from typing import Final, assert_never

from agentcom.model import errors
from agentcom.model.agent import AgentSpec
from agentcom.model.ids import Instant
from agentcom.model.result import ReportKind
from agentcom.model.task import StopReason
from agentcom.protocol import frames
from agentcom.sidecar import machine_asking, machine_refusing
from agentcom.sidecar import machine_values as values
from agentcom.sidecar.machine_attempts import (
    ANSWERS,
    HELD,
    PENDING,
    REPORT_RETRY_MS,
    REPORTS,
    RUNNING,
    TRANSITIONS,
    AttemptTurn,
    Move,
    held,
    lease_valid,
    record_of,
)
from agentcom.sidecar.machine_values import Attempt, Key, Order, Record, Stage, View

__all__ = ["TRANSITIONS", "Move", "decide", "held", "lease_valid", "load"]

BEATS_MISSED_MAX: Final = 2
"""Heartbeats without an answer before the link counts as dead; a quarter of the lease is left."""
HELLO_MS_MAX: Final = 10_000
"""A hub that has not welcomed us by then never will on this link."""


def load(
    agents: Iterable[AgentSpec],
    records: Iterable[Record],
    *,
    ttl_ms: int = 0,
    software: str = "",
    incarnation: int = 0,
    resources: Mapping[str, int] | None = None,
    host: Mapping[str, str] | None = None,
) -> tuple[View, tuple[Order, ...]]:
    """Return the view after a start, and what must go on: runs to adopt, overtaken ones to end."""
    view = View(
        agents=tuple(agents),
        ttl_wanted_ms=ttl_ms,
        software=software,
        incarnation=incarnation,
        resources=resources or {},
        host=host or {},
    )
    for record in records:
        stage = Stage.READY if record.stage is Stage.LANDING else record.stage
        view.attempts[record.key] = Attempt(record=record, stage=stage, adopt=True)
    turn = _Turn(view, Instant(0))
    for task in sorted({key.task for key in view.attempts}):
        *older, newest = view.of_task(task)
        for attempt in older:
            turn.overtake(attempt)
        if newest.stage in RUNNING:
            newest.stage = Stage.WAITING
            turn.start_waiting(task)
    return view, tuple(turn.orders)


def decide(view: View, fact: values.Fact, *, now: Instant) -> tuple[Order, ...]:
    """Take one fact into `view` and return what must be done, in this order."""
    turn = _Turn(view, now)
    turn.take(fact)
    return tuple(turn.orders)


class _Turn(AttemptTurn):
    """One fact's way through the view."""

    def take(self, fact: values.Fact) -> None:
        match fact:
            case values.Connected():
                self._connected()
            case values.Disconnected():
                self._disconnected()
            case values.TimerFired():
                self._timer(fact.key)
            case values.DrainAsked() | values.Sleeps():
                self._leaving(fact)
            case values.Described():
                self._described(fact.agents)
            case values.Kept():
                self._offer(fact.records)
            case values.Asked():
                machine_asking.take(self, fact)
            case frames.Notice():
                self.notify(fact)
            case (
                frames.Welcome()
                | frames.Beat()
                | frames.Assign()
                | frames.StopFrame()
                | frames.LandFrame()
                | frames.Ack()
                | frames.ErrorFrame()
                | frames.ReplyFrame()
                | frames.Drain()
            ):
                self._hub(fact)
            case _:
                self.own(fact)

    def _hub(self, frame: values.Ordered) -> None:
        match frame:
            case frames.Welcome():
                self._welcomed(frame)
            case frames.Beat():
                self._still_ours(frame)
            case frames.Assign():
                self._assigned(record_of(frame))
            case frames.StopFrame():
                self._stop_asked(frame)
            case frames.LandFrame():
                self._granted(frame)
            case frames.Ack():
                self._acked(frame)
            case frames.ErrorFrame() | frames.ReplyFrame():
                if not machine_asking.answered(self, frame):
                    self._refused(frame)
            case frames.Drain():
                self.order(values.Reconnect("the hub goes away", frame.retry_after_ms))
            case _:
                assert_never(frame)

    # The link and the lease ------------------------------------------------------------------

    def _connected(self) -> None:
        view = self.view
        self._disconnected()
        view.connected = True
        view.beats = 0
        view.sent = {0: self.now}
        hello = frames.MachineHello(
            agents=view.agents,
            held=held(view),
            ttl_ms=view.ttl_wanted_ms,
            software=view.software,
            resources=dict(view.resources),
            host=dict(view.host),
        )
        self.order(values.Send(hello))
        self.order(values.SetTimer("hello", Instant(self.now + HELLO_MS_MAX)))

    def _disconnected(self) -> None:
        self.view.connected = False
        self.view.session = None
        self.view.sent.clear()
        self.view.restored = None
        self.view.offered.clear()
        for attempt in self.view.attempts.values():
            # What is granted still is said again on the next link; another may land by then.
            attempt.granted = attempt.granted and attempt.stage is Stage.LANDING

    def _welcomed(self, frame: frames.Welcome) -> None:
        view, welcomed = self.view, frame.welcomed
        if not view.connected or view.session is not None:
            return
        view.session = welcomed.session
        view.ttl_ms = welcomed.ttl_ms
        view.heartbeat_ms = welcomed.heartbeat_ms
        for refusal in welcomed.refused:
            self.note("agent.refused", f"{refusal.name}: {refusal.message}")
        self.order(values.Settle())
        machine_asking.again(self)  # before the reports: an attempt that ended asks no more
        for attempt in view.attempts.values():
            if frame.incarnation > view.incarnation:
                attempt.counted = 0  # what a restored hub has counted may be gone
            if attempt.stage in HELD and attempt.stage not in REPORTS:
                self.accept(attempt)  # the first one may have been lost with its link
            self.send_checkpoint(attempt)
            self.send_usage(attempt)
            self.report(attempt)
        if frame.incarnation > view.incarnation:
            self._met(frame.incarnation)
        if view.restored is None:
            self._begin_lease()

    def _met(self, incarnation: int) -> None:
        """Take note of a hub that may lack what it had acknowledged, or of the first one."""
        if self.view.incarnation == 0:
            self._remember(incarnation)
            return
        self.view.restored = incarnation
        self.order(values.Offer())

    def _offer(self, records: Iterable[Record]) -> None:
        view = self.view
        if view.restored is None:
            return
        kept = [record for record in records if record.key not in view.attempts]
        known = [attempt.record for attempt in view.attempts.values() if attempt.record.acked]
        again, view.offered = view.offered, {}  # what an earlier offer has no answer for
        for record in (*kept, *known):
            key, result, turns = record.key, record.result, record.turns
            if result is not None and (not again or key in again):
                view.offered[key] = None
                self.send(frames.Finish(task=key.task, fence=key.fence, result=result, turns=turns))
        if view.offered:
            self.order(values.SetTimer("offers", Instant(self.now + REPORT_RETRY_MS)))
        else:
            self._remember(view.restored)
        if not again:
            self._begin_lease()  # not before: a heartbeat without them says that we have nothing

    def _taken_again(self, key: Key) -> None:
        """Take note that a restored hub has one more of the kept results."""
        offered = self.view.offered
        if key in offered:
            del offered[key]
            if not offered and self.view.restored is not None:
                self._remember(self.view.restored)

    def _remember(self, incarnation: int) -> None:
        self.view.incarnation = incarnation
        self.view.restored = None
        self.order(values.Remember(incarnation))

    def _leaving(self, fact: values.DrainAsked | values.Sleeps) -> None:
        if isinstance(fact, values.Sleeps):
            self.give_up_all()
        else:
            self.view.draining = True

    def _described(self, agents: tuple[AgentSpec, ...]) -> None:
        """Tell the hub of agents that have changed: in the hello of a new link."""
        if agents == self.view.agents:
            return
        self.view.agents = agents
        if self.view.connected:
            self.order(values.Reconnect("its agents have changed", 0))

    def _begin_lease(self) -> None:
        """Take the lease that the welcome answers for, unless ours had run out meanwhile.

        Then others may have what we held, and the hub's stops come behind the welcome and our
        words: the lease is that of a heartbeat sent now, whose answer comes behind them all.
        """
        view = self.view
        if lease_valid(view, self.now) or not held(view):
            self._beat(0)
            self.order(values.SetTimer("heartbeat", Instant(self.now + view.heartbeat_ms)))
            return
        view.sent.clear()
        self._heartbeat()

    def _refused(self, frame: frames.ErrorFrame | frames.ReplyFrame) -> None:
        if isinstance(frame, frames.ReplyFrame):
            return  # a repeat
        self.note("hub.refused", f"{frame.code}: {frame.message}")
        greeted = self.view.session is not None
        if not greeted and frame.code in values.REFUSALS:
            self.order(values.Quit(frame.message))
        elif not greeted or frame.code == errors.Superseded.code:
            self.order(values.Reconnect(frame.message, frame.retry_after_ms))

    def _still_ours(self, frame: frames.Beat) -> None:
        """End what the hub gave to others, whatever became of its orders, then take the lease."""
        for gone in frame.stale:
            attempt = self.view.attempts.get(Key(gone.task, gone.fence))
            if attempt is not None and attempt.stage is not Stage.STOPPING:
                self.overtake(attempt)
        self._beat(frame.n)

    def _beat(self, n: int) -> None:
        view = self.view
        sent_at = view.sent.get(n)
        if sent_at is None or view.session is None:
            return
        view.sent = {number: at for number, at in view.sent.items() if number > n}
        view.lease_until = max(view.lease_until, Instant(sent_at + view.ttl_ms))
        for attempt in view.attempts.values():
            self.land(attempt)

    def _timer(self, key: str) -> None:
        if key == "heartbeat":
            self._heartbeat()
        elif key == "hello":
            if self.view.connected and self.view.session is None:
                self.order(values.Reconnect("the hub does not answer"))
        elif key == "offers":
            if self.view.offered:
                self.order(values.Offer())
        elif key == "reports":
            machine_asking.again(self)
            for attempt in self.view.attempts.values():
                self.report(attempt)
        else:
            self.timer_of_attempt(key)

    def _heartbeat(self) -> None:
        view = self.view
        if view.session is None:
            return
        if len(view.sent) >= BEATS_MISSED_MAX:
            self.order(values.Reconnect(f"{len(view.sent)} heartbeats without an answer"))
            return
        view.beats += 1
        view.sent[view.beats] = self.now
        beat = frames.HeartbeatFrame(session=view.session, n=view.beats, held=held(view))
        self.order(values.Send(beat))
        self.order(values.SetTimer("heartbeat", Instant(self.now + view.heartbeat_ms)))

    # What the hub asks -----------------------------------------------------------------------

    def _assigned(self, record: Record) -> None:
        key, older = record.key, list(self.view.of_task(record.assignment.task))
        known = self.view.attempts.get(key)
        if known is not None:
            self._assigned_again(known)
            return
        if older and older[-1].key.fence > key.fence:
            self.send(frames.StoppedFrame(task=key.task, fence=key.fence))
            return
        refusal = self.view.declined.get(key) or machine_refusing.refusal(self.view, record)
        if refusal is not None:
            self.decline(key, refusal)
            return
        for attempt in older:
            self.overtake(attempt)
        attempt = Attempt(record=record, stage=Stage.STORING, stored=False)
        self.view.attempts[key] = attempt
        self.order(values.Store(record))

    def _assigned_again(self, attempt: Attempt) -> None:
        if attempt.stage in REPORTS:
            self.report(attempt)
        elif attempt.stage not in (Stage.STORING, Stage.STOPPING):
            self.accept(attempt)

    def _stop_asked(self, frame: frames.StopFrame) -> None:
        attempt = self.view.attempts.get(Key(frame.task, frame.fence))
        if attempt is not None and frame.reason is None:
            attempt.checkpoint = None  # a stale one is answered by this frame
        if attempt is None:
            self.send(frames.StoppedFrame(task=frame.task, fence=frame.fence))
        elif attempt.stage in (Stage.STOPPED, Stage.LANDED):
            self.report(attempt)
        elif frame.reason is StopReason.BUDGET and attempt.stage not in PENDING:
            self.last_turn(attempt)
        elif attempt.stage is not Stage.STOPPING:  # each heartbeat repeats the wish
            self.stop(attempt, frame.reason)

    def _granted(self, frame: frames.LandFrame) -> None:
        key = Key(frame.task, frame.fence)
        attempt = self.view.attempts.get(key)
        if attempt is None:
            self.send(frames.StoppedFrame(task=key.task, fence=key.fence))
        elif attempt.stage is Stage.LANDED:
            self.report(attempt)
        elif attempt.stage in (Stage.FINISHED, Stage.READY, Stage.LANDING):
            attempt.granted = True
            attempt.riders = frame.riders
            self.land(attempt)

    def _acked(self, frame: frames.Ack) -> None:
        key = Key(frame.task, frame.fence)
        if frame.of is ReportKind.FINISH:
            self._taken_again(key)
        attempt = self.view.attempts.get(key)
        if attempt is None:
            return
        saved = attempt.checkpoint
        if saved is not None and frame.of is ReportKind.CHECKPOINT and frame.commit == saved.commit:
            attempt.checkpoint = None
        if frame.of is ReportKind.USAGE:
            attempt.counted = max(attempt.counted, frame.turn)
        if attempt.stage is not ANSWERS.get(frame.of):
            return  # a repeat, of what came before
        result = attempt.record.result
        if attempt.stage is Stage.FINISHED and frame.applied and result and result.lands:
            self.move(attempt, Move.OFFER)
            self.keep(attempt, acked=True)
            self.land(attempt)
            return
        self.move(attempt, Move.FORGET)
        self.order(values.Forget(attempt.record))
        del self.view.attempts[attempt.key]
