"""What the sessions of machines and clients share: coming in, asking, answering, going.

A session knows who is at the other end from the token of the upgrade, never from a frame. It
handles frames synchronously: no task is made for a frame. What comes too fast is not read: the
peer waits, its reports are never dropped. What frames mean: `ws_machine.py`, `ws_client.py`.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec
import structlog

from agentcom.core import facts
from agentcom.core.effects import Answer, Refuse
from agentcom.core.facts import Fact
from agentcom.hub.acting import Acting
from agentcom.hub.auth import Authenticator
from agentcom.hub.clock import Clock
from agentcom.hub.engine import Engine
from agentcom.hub.feeds import Feeds
from agentcom.hub.inbox import Answered
from agentcom.hub.limits_guard import Budgets
from agentcom.hub.listening import Listening
from agentcom.hub.mail_delivery import MailDelivery
from agentcom.hub.presence import Presences
from agentcom.hub.presence_watch import PresenceWatch
from agentcom.hub.requests import Causes, payload_hash
from agentcom.hub.switchboard import Switchboard
from agentcom.hub.talk import Talk
from agentcom.model import errors, limits
from agentcom.model.audit import Door, Origin
from agentcom.model.errors import AgentComError, InvalidInput, MalformedInput, RateLimited
from agentcom.model.identity import CredentialKind, Identity
from agentcom.protocol import codec, frames
from agentcom.telemetry import events
from agentcom.transport import ws_refusal
from agentcom.transport.socket import (
    CLOSE_FAULT,
    CLOSE_NOT_ALLOWED,
    CLOSE_NOT_AUTHENTICATED,
    CLOSE_SLOW,
    Head,
    Socket,
)

KINDS: Final = frozenset({CredentialKind.USER, CredentialKind.MACHINE})
HELLO_MS: Final = 5_000  # from the upgrade to the first frame
MALFORMED_MAX: Final = 20  # in a row: this peer speaks something else
IN_FLIGHT_MAX: Final = 1_024  # requests of one connection without an answer
IN_FLIGHT_LOW: Final = 512  # reading goes on below this
BACKLOG_HIGH: Final = limits.INBOX_MAX // 2  # facts that wait; above it those who ask are not read
EARLY_MAX: Final = 32  # frames that came before the token was looked up
CLOSE_POLICY: Final = 1008
CLOSE_TRY_LATER: Final = 1013

log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class Desk:
    """What all sessions of a hub share."""

    engine: Engine
    switchboard: Switchboard
    feeds: Feeds
    auth: Authenticator
    budgets: Budgets
    clock: Clock
    causes: Causes
    talk: Talk
    delivery: MailDelivery
    listening: Listening
    presence: Presences
    watch: PresenceWatch
    hub: str
    """The hub's name, as `ready` and `welcome` tell it."""
    hello_ms: int = HELLO_MS
    lease_ttl_ms: int = limits.LEASE_TTL_MS
    """The lease of machines that ask for none of their own."""


class Side(Protocol):
    """What a session is for, once the first frame has said it."""

    def take(self, frame: frames.FromPeer) -> None:
        """Handle a frame; raises what the peer did wrong."""
        ...

    def gone(self) -> None:
        """Clean up: the connection has ended."""
        ...


class Session:
    """One connection, from its upgrade to its end."""

    __slots__ = (
        "_deadline", "_early", "_entering", "_greet", "_held", "_held_bytes", "_in_flight",
        "_malformed", "_out", "_out_bytes", "_paused", "_refused", "_resting", "_side", "_socket",
        "closed", "desk", "identity", "number", "origin",
    )  # fmt: skip

    identity: Identity
    origin: Origin

    def __init__(self, desk: Desk, greet: "Callable[[Session, frames.FromPeer], Side]") -> None:
        self.desk = desk
        self.number = 0
        """The switchboard's number of this connection; 0 until the token was looked up."""
        self.closed = False
        self._greet = greet
        self._side: Side | None = None
        self._early: list[bytes] = []
        self._held: list[bytes] | None = None
        self._held_bytes = 0
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._in_flight = 0
        self._malformed = 0
        self._paused = False
        self._refused = 0
        self._resting = False
        self._entering: asyncio.Task[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None

    # The socket's listener ----------------------------------------------------------------------

    def on_open(self, socket: Socket, head: Head) -> None:
        """Look up the token; nothing is read before that."""
        self._socket = socket
        self.origin = Origin(Door.SOCKET, head.peer)
        socket.pause_reading()
        self._entering = asyncio.create_task(self._enter(head.bearer or "", head.peer))
        self._entering.add_done_callback(self._entered)

    def on_text(self, payload: bytes) -> None:
        """Handle one frame."""
        if self.closed:
            return
        side = self._side
        if side is None and not self.number:
            self._wait(payload)
            return
        try:
            frame = codec.decode_from_peer(payload)
            if side is None:
                self._begin(frame)
            else:
                side.take(frame)
            self._malformed = 0
        except AgentComError as error:
            self._reject(payload, error)

    def on_close(self, code: int) -> None:
        """Forget the connection."""
        self.closed = True
        if self._deadline is not None:
            self._deadline.cancel()
        if self._entering is not None:
            self._entering.cancel()
        if self._side is not None:
            self._side.gone()
        if self.number:
            self.desk.switchboard.unregister(self.number)
            log.info(events.CONNECTION_CLOSED, actor=self.identity.name, code=code)

    # The switchboard's connection, and a feed's sink ---------------------------------------------

    @property
    def buffered_bytes(self) -> int:
        """What was sent but has not left yet."""
        return self._held_bytes + self._out_bytes + self._socket.buffered_bytes

    def send(self, payload: bytes) -> None:
        """Send an order of the hub; it waits while orders are held back."""
        if self._held is not None:
            self._held.append(payload)
            self._held_bytes += len(payload)
        else:
            self.write(payload)

    def records(
        self,
        first: int,  # noqa: ARG002  # they say it
        payloads: Sequence[bytes],
        *,
        at_once: bool = False,
    ) -> None:
        """Send records of a followed log."""
        if self.closed:
            return
        if at_once and not self._out:
            self._socket.send_texts(payloads)
        else:
            self._flush_soon()
            self._out += payloads
            self._out_bytes += sum(map(len, payloads))

    def activity(self, payload: bytes) -> None:
        """Send progress of a followed task."""
        self.write(payload)

    def too_slow(self) -> None:
        """Let a slow reader go; it resumes by sequence."""
        self.close(CLOSE_SLOW, "read faster, and resume after the last sequence")

    def close(self, code: int, reason: str) -> None:
        """End the connection, after what was sent."""
        if not self.closed:
            self._flush()
            self.closed = True
            self._socket.close(code, reason)

    # For the sides ------------------------------------------------------------------------------

    def hold(self) -> None:
        """Keep orders back until `release`."""
        self._held = []

    def release(self, first: frames.Frame) -> None:
        """Send `first`, then what was kept back."""
        held, self._held, self._held_bytes = self._held, None, 0
        self.write(codec.encode(first))
        for payload in held or ():
            self.write(payload)

    def write(self, payload: bytes) -> None:
        """Send one frame, together with all others of this turn of the loop."""
        if not self.closed:
            if not self._out:
                self._flush_soon()
            self._out.append(payload)
            self._out_bytes += len(payload)

    def error(self, error: AgentComError, *, key: str | None = None) -> None:
        """Refuse a request, or a frame."""
        cause, who = self.desk.causes.new(), self.identity.name
        if isinstance(error, errors.NotAllowed | errors.Foreign):
            acts = Acting(identity=self.identity, origin=self.origin, cause=cause)
            self.desk.auth.on_refused(acts, "socket", error)
        self.write(codec.encode(ws_refusal.frame(error, cause=cause, who=who, key=key)))

    def put(self, body: facts.Body) -> None:
        """Queue what the peer reports; it always fits, but a flood is read more slowly."""
        desk = self.desk
        fact = Fact(body=body, actor=self.identity, cause=desk.causes.new())
        if desk.engine.put(fact) > limits.INBOX_MAX:
            self._pause()

    def ask(self, body: facts.Body, answered: Answered, *, key: str | None = None) -> None:
        """Queue what the peer asks for, and call back with the answer; raises `RateLimited`.

        Who is called back says so with `settle`.
        """
        desk = self.desk
        engine = desk.engine
        fact = Fact(
            body=body,
            actor=self.identity,
            cause=desk.causes.new(),
            reply_to=engine.ticket(answered),
            key=key,
            payload=None if key is None else payload_hash(body),
            origin=self.origin if isinstance(body, facts.Cancel) else None,  # it is audited
        )
        waiting = engine.put(fact)
        self._refused = 0
        self._in_flight += 1
        if self._in_flight >= IN_FLIGHT_MAX or waiting > BACKLOG_HIGH:
            self._pause()

    def answer(self, key: str, effect: Answer | Refuse) -> None:
        """Send the answer of a request by its key."""
        self.settle()
        if isinstance(effect, Refuse):
            self.error(effect.error, key=key)
        else:
            self.reply(key, effect.reply)

    def reply(self, key: str, reply: msgspec.Struct | msgspec.Raw) -> None:
        """Send what a request came to."""
        raw = reply if isinstance(reply, msgspec.Raw) else msgspec.Raw(_ENCODER.encode(reply))
        self.write(codec.encode(frames.ReplyFrame(key=key, reply=raw)))

    def settle(self) -> None:
        """Count a request as answered: there is room for another one."""
        self._in_flight -= 1
        if self._paused:
            self._relieve()

    def _pause(self) -> None:
        if not self._paused and not self.closed:
            self._paused = True
            self._socket.pause_reading()
            self.desk.switchboard.after_turn(self._relieve)

    def _relieve(self) -> bool:
        """Read on if there is room again; return whether there is nothing more to wait for."""
        busy = self._in_flight > IN_FLIGHT_LOW or self.desk.engine.backlog > BACKLOG_HIGH
        if self._paused and not busy:
            self._paused = False
            if not self._resting:
                self._socket.resume_reading()
        return self.closed or not self._paused

    def _rest(self) -> None:
        """Read nothing for a window: who is refused and goes on would cost as much as work does."""
        self._refused, self._resting = 0, True
        self._socket.pause_reading()
        later_s = limits.OVERLOAD_WINDOW_MS / 1_000
        asyncio.get_running_loop().call_later(later_s, self._rested)

    def _rested(self) -> None:
        self._resting = False
        if not self._paused and not self.closed:
            self._socket.resume_reading()

    # Coming in ----------------------------------------------------------------------------------

    async def _enter(self, token: str, address: str) -> None:
        desk = self.desk
        try:
            self.identity = await desk.auth.authenticate(token, kinds=KINDS, address=address)
        except AgentComError as error:
            code = CLOSE_TRY_LATER if error.retryable else CLOSE_NOT_AUTHENTICATED
            shut_out = isinstance(error, errors.NotAllowed)
            self.close(CLOSE_NOT_ALLOWED if shut_out else code, error.message)
            return
        if not desk.auth.is_live(self.identity):
            self.close(CLOSE_NOT_AUTHENTICATED, "the token was revoked or has expired")
        if self.closed:
            return
        self.number = desk.switchboard.register(self)
        self._socket.trust()
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(desk.hello_ms / 1_000, self._late)
        self._socket.resume_reading()
        early, self._early = self._early, []
        for payload in early:
            self.on_text(payload)

    def _entered(self, task: "asyncio.Task[None]") -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error(events.CONNECTION_FAILED, exc_info=error)
            self.close(CLOSE_FAULT, "the hub could not look up the token")

    def _wait(self, payload: bytes) -> None:
        self._early.append(payload)
        if len(self._early) > EARLY_MAX:
            self.close(CLOSE_POLICY, "wait for the answer to the first frame")

    def _late(self) -> None:
        self.close(CLOSE_POLICY, "the first frame did not come in time")

    def _begin(self, frame: frames.FromPeer) -> None:
        assert self._deadline is not None
        self._deadline.cancel()
        self._side = self._greet(self, frame)
        log.info(events.CONNECTION_OPENED, actor=self.identity.name, machine=self.identity.machine)

    def _reject(self, payload: bytes, error: AgentComError) -> None:
        """Answer a frame that cannot be handled, under its key if it has one."""
        self.error(error, key=codec.key_in(payload))
        if isinstance(error, RateLimited) and self.identity.machine is None:
            self._refused += 1
            if self._refused >= limits.REFUSED_ROW_MAX and not self._resting:
                self._rest()
        if self._side is None:
            self.close(CLOSE_POLICY, f"the first frame was not accepted: {error.code}")
        elif isinstance(error, MalformedInput | InvalidInput):
            self._malformed += 1
            if self._malformed >= MALFORMED_MAX:
                self.close(CLOSE_POLICY, f"{MALFORMED_MAX} frames in a row made no sense")

    def _flush_soon(self) -> None:
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        """Send everything of this turn of the loop at once."""
        out, self._out, self._out_bytes = self._out, [], 0
        if self.closed or not out:
            return
        self._socket.send_texts(out)


_ENCODER: Final = msgspec.json.Encoder()
