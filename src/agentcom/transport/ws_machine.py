"""A machine's session: its reports become facts one for one, its heartbeats are answered."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from agentcom.core import facts, reports
from agentcom.core.effects import Answer, Refuse
from agentcom.core.review_facts import Reviewed
from agentcom.core.view import PoolView
from agentcom.hub.limits_guard import Traffic
from agentcom.hub.requests import check_key
from agentcom.model import limits, policy
from agentcom.model.agent import Canary, Held, HeldStage
from agentcom.model.errors import AgentComError, Fault, MalformedInput, NotAllowed, Superseded
from agentcom.model.ids import Instant, MachineId
from agentcom.model.pause import machine_scope
from agentcom.model.policy import Action
from agentcom.model.replies import Welcomed
from agentcom.protocol import codec, frames
from agentcom.protocol.live import LogPart
from agentcom.protocol.review import ReviewedFrame
from agentcom.transport.socket import CLOSE_FAULT, CLOSE_NOT_ALLOWED, CLOSE_RESTART
from agentcom.transport.ws_calls import Calls
from agentcom.transport.ws_session import Session

ACCESS: Final = Action.MACHINE_SESSION  # of the first frame, and so of all that follow

_REPORTS: Final[Mapping[type[frames.FromPeer], Callable[[Any], facts.Body]]] = {
    frames.Accept: lambda said: facts.Accepted(said.task, said.fence),
    frames.Finish: lambda said: facts.Finished(said.task, said.fence, said.result, said.turns),
    frames.Checkpoint: lambda said: facts.Checkpointed(
        said.task,
        said.fence,
        said.commit,
        said.session,
        said.note,
        said.touched,
        said.touched_count,
        said.clashes[: limits.OVERLAPS_MAX],
    ),
    frames.StoppedFrame: lambda said: facts.Stopped(
        said.task, said.fence, said.result, said.turns, said.session
    ),
    frames.LandedFrame: lambda said: facts.Landed(said.task, said.fence, said.landing),
    ReviewedFrame: lambda said: Reviewed(
        said.task, said.fence, said.outcome, said.detail, said.commit
    ),
    frames.UsageFrame: lambda said: facts.Used(said.task, said.fence, said.turns),
    frames.Decline: lambda said: facts.Declined(
        said.task, said.fence, said.reason[: limits.REASON_CHARS]
    ),
}
"""What a machine's report says."""
_LAST: Final = (
    *(frames.Checkpoint, frames.Finish, frames.StoppedFrame, frames.LandedFrame),
    *(frames.UsageFrame, frames.Decline, frames.HeartbeatFrame),
)
"""What a machine may still say that was stopped, until it is cut off."""


class MachineSide:
    """One machine at the other end."""

    def __init__(self, session: Session, frame: frames.MachineHello, version: int) -> None:
        """Begin; orders wait until `welcome` is on its way.

        Raises:
            NotAllowed: the token is no machine's.
        """
        policy.authorize(session.identity, ACCESS)
        if session.identity.machine is None:
            raise NotAllowed("this token is not a machine's; join with a code first")
        self._session = session
        self._machine: MachineId = session.identity.machine
        self._scope = machine_scope(self._machine)
        self._version = version
        self._host = frame.host
        self._calls = Calls(session)
        session.hold()
        self._before = session.desk.switchboard.bind(self._machine, session.number)
        body = facts.MachineConnected(
            agents=frame.agents,
            held=frame.held,
            ttl_ms=frame.ttl_ms or session.desk.lease_ttl_ms,
            connection=session.number,
            resources=frame.resources,
        )
        try:
            session.ask(body, self._welcome)
        except AgentComError as error:
            self._turned_away(error)

    def take(self, frame: frames.FromPeer) -> None:
        if self._scope in self._session.desk.engine.view.pauses:
            self._check_last(frame)
        report = _REPORTS.get(type(frame))
        if report is not None:  # nearly every frame
            self._session.put(report(frame))
            return
        match frame:
            case frames.HeartbeatFrame():
                self._heartbeat(frame)
            case frames.Progress():
                self._progress(frame)
            case frames.CallFrame():
                self._calls.take(frame)
            case frames.MailTaken():
                self._session.desk.delivery.took(self._machine, frame)
            case LogPart():
                self._session.desk.switchboard.remote_logs.took(self._machine, frame)
            case frames.SubmitFrame():
                self._ask(frame)
            case frames.MachineHello():
                raise MalformedInput("the session stands; connect again for a new one")
            case _:
                raise NotAllowed("this is a machine's session; ask as a user")

    def _check_last(self, frame: frames.FromPeer) -> None:
        """Let a machine that was stopped say how its attempts end, and nothing else.

        Raises:
            NotAllowed: it says something else.
        """
        self._calls.gone()
        if not isinstance(frame, _LAST):
            raise NotAllowed(self._session.desk.engine.view.pauses[self._scope].words)

    def gone(self) -> None:
        self._calls.gone()
        self._session.put(facts.MachineDisconnected(self._machine, self._session.number))

    # The session ----------------------------------------------------------------------------------

    def _welcome(self, effect: Answer | Refuse) -> None:
        self._session.settle()
        if isinstance(effect, Refuse):
            self._turned_away(effect.error)
            return
        assert isinstance(effect.reply, Welcomed)
        desk = self._session.desk
        desk.presence.describe(self._machine, self._host)
        welcome = frames.Welcome(
            version=self._version,
            hub=desk.hub,
            incarnation=desk.engine.view.incarnation,
            server_ms=desk.clock.now().wall,
            welcomed=effect.reply,
        )
        self._session.release(welcome)
        desk.delivery.connected(self._machine)

    def _turned_away(self, error: AgentComError) -> None:
        switchboard = self._session.desk.switchboard
        bound = switchboard.bind(self._machine, self._before)
        if bound != self._session.number:
            switchboard.bind(self._machine, bound)  # a newer connection has it already
        self._session.error(error)
        code = CLOSE_RESTART if error.retryable else CLOSE_NOT_ALLOWED
        # Of our own mistake no machine may think that it is shut out.
        self._session.close(CLOSE_FAULT if isinstance(error, Fault) else code, error.message)

    def _heartbeat(self, frame: frames.HeartbeatFrame) -> None:
        """Pass it on, and answer when the lease has been renewed."""
        self._session.put(facts.Heartbeat(frame.session, frame.held))
        desk = self._session.desk
        desk.switchboard.after_turn(partial(self._beaten, frame, desk.clock.now().instant))

    def _beaten(self, frame: frames.HeartbeatFrame, came_at: Instant) -> bool:
        """Answer a heartbeat if the lease runs from its receipt; return whether that is over."""
        if self._session.closed:
            return True
        lease = self._session.desk.engine.view.sessions.get(self._machine)
        if lease is None or lease.number != frame.session:
            self._session.error(Superseded("this session is over; connect again"))
            self._session.close(CLOSE_RESTART, "this session is over; connect again")
            return True
        if lease.expires_at < came_at + lease.ttl_ms + lease.margin_ms:
            return False
        beat = frames.Beat(n=frame.n, stale=self._stale(frame.held))
        self._session.write(codec.encode(beat))
        return True

    def _stale(self, held: Sequence[Held]) -> tuple[frames.Stale, ...]:
        """Return what a heartbeat listed and others may have: its orders to stop may be lost."""
        tasks, stale = self._session.desk.engine.view.tasks, []
        for item in held:
            task = tasks.get(item.task)
            mine = task is not None and reports.holds(task, self._machine, item.fence)
            if not mine and item.stage is not HeldStage.FINISHED:
                stale.append(frames.Stale(item.task, item.fence))
        return tuple(stale)

    def _ask(self, frame: frames.SubmitFrame) -> None:
        """Pass on what an agent asks for; the core looks whether its machine may."""
        if frame.parent is None or frame.fence is None:
            raise NotAllowed("a machine asks only for what an attempt on it needs")
        desk, session = self._session.desk, self._session
        key, cost = check_key(frame.key), len(frame.tasks)
        desk.budgets.spend(session.identity, Traffic.SUBMIT, desk.clock.now(), cost)
        body = facts.Submit(frame.tasks, frame.parent, frame.fence)
        session.ask(body, partial(session.answer, key), key=key)

    def _progress(self, frame: frames.Progress) -> None:
        desk = self._session.desk
        if not desk.budgets.admits(self._session.identity, Traffic.PROGRESS, desk.clock.now()):
            return  # the next one says it again
        task = desk.engine.view.tasks.get(frame.task)
        if frame.phase is not None and task is not None and frame.phase is not task.phase:
            self._session.put(facts.PhaseReached(frame.task, frame.fence, frame.phase))
        if desk.engine.view.accounts and _shows_life(desk.engine.view, frame):
            self._session.put(facts.CanaryLived(frame.task, frame.fence))
        desk.feeds.progress(self._session.identity, frame)


def _shows_life(view: PoolView, frame: frames.Progress) -> bool:
    """Return whether the one attempt that tries an account got answers from its model."""
    if not frame.usage.output and frame.tool is None and not frame.repeats:
        return False
    canary = Canary(frame.task, frame.fence)
    return any(account.canary == canary for account in view.accounts.values())
