"""The switchboard: who is connected, and how effects reach them.

It carries out what the core orders: frames to machines, timers, facts for the next turn. What
cannot be delivered is dropped, since `reconcile` finds it missing at the next heartbeat or
connection. Records of logs go to `hub/feeds.py`.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from typing import Any, Final, Protocol

import structlog

from agentcom.core import effects
from agentcom.core.effects import Effect
from agentcom.core.facts import Body, Fact
from agentcom.hub.remote_logs import RemoteLogs
from agentcom.model.agent import Assignment
from agentcom.model.ask import Ask
from agentcom.model.batch import Append
from agentcom.model.identity import Identity
from agentcom.model.ids import Instant, MachineId, Rng
from agentcom.model.usage import Usage
from agentcom.protocol import codec, frames
from agentcom.protocol.review import ReviewFrame

CLOSE_RESTART: Final = 1012
CLOSE_REVOKED: Final = 4401
DRAIN_BASE_MS: Final = 1_000
"""A hub that restarts needs about this long."""
DRAIN_SPREAD_MS: Final = 5_000
"""Over this a fleet of 5,000 spreads its return: about one connection a millisecond."""
PUSH_BYTES: Final = 1_048_576
"""With more than this on its way a machine gets no further assignments: `reconcile` brings them at
a later heartbeat. A quarter of what ends a connection, so that no burst of work can end it."""

log = structlog.get_logger(__name__)


class Connection(Protocol):
    """One live connection of a machine or a client."""

    @property
    def identity(self) -> Identity:
        """Who is at the other end."""
        ...

    @property
    def buffered_bytes(self) -> int:
        """What was sent but has not left yet."""
        ...

    def send(self, payload: bytes) -> None:
        """Send one frame soon; nothing happens when the connection is closing."""
        ...

    def close(self, code: int, reason: str) -> None:
        """End the connection, after what was sent."""
        ...


class TimerBoard(Protocol):
    """Where timers are set."""

    def set(self, key: str, at: Instant, body: Body) -> None:
        """Bring `body` as a fact at `at`."""
        ...

    def clear(self, key: str) -> None:
        """Forget a timer."""
        ...


class Inbox(Protocol):
    """Where facts go."""

    def put(self, fact: Fact) -> object:
        """Queue a fact."""
        ...


class Publisher(Protocol):
    """Who shows committed records to those who follow them."""

    def publish(self, first: int, appends: Sequence[Append]) -> None:
        """Show records, numbered from `first`."""
        ...


class Switchboard:
    """Carries out effects; the engine's outlet."""

    def __init__(self, timers: TimerBoard, feeds: Publisher) -> None:
        self._timers = timers
        self._feeds = feeds
        self._inbox: Inbox | None = None
        self._numbers = count(1)
        self._connections: dict[int, Connection] = {}
        self._machines: dict[MachineId, int] = {}
        self._waiting: list[Callable[[], bool]] = []
        self._orders: Mapping[type[Effect], Callable[[Any], None]] = {
            effects.Push: self._push,
            effects.Stop: self._stop,
            effects.GrantLanding: self._grant_landing,
            effects.Acknowledge: self._acknowledge,
            effects.SetTimer: self._set_timer,
            effects.ClearTimer: self._clear_timer,
            effects.Continue: self._continue,
            effects.CloseConnection: self._close,
            effects.Notify: self._notify,
            effects.TellAsk: self._tell_ask,
            effects.TellClosed: self._tell_closed,
            effects.Watch: self._watch,
            effects.Counted: self._counted,
        }
        """All but answers and refusals, which the engine hands out."""
        self.remote_logs = RemoteLogs(self.bring)
        self.on_pushed: Callable[[Assignment], None] = lambda _assignment: None
        """Called with each assignment that was sent."""
        self.on_ask: Callable[[Ask], None] = lambda _ask: None
        """Called with each question that was put, or has ended."""
        self.on_closed: Callable[[effects.TellClosed], None] = lambda _closed: None
        """Called with each pull request that was closed without a merge."""
        self.on_spent: Callable[[Usage], None] = lambda _usage: None
        """Called with each turn of an agent that was counted."""
        self.shut_out: Callable[[MachineId], str | None] = lambda _machine: None
        """Why a machine gets nothing but orders to stop, and their acknowledgements; None: it does
        not."""

    def attach(self, inbox: Inbox) -> None:
        """Name the engine, which in turn needs this switchboard to exist."""
        self._inbox = inbox

    # Connections ------------------------------------------------------------------------------

    @property
    def connection_count(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    @property
    def machines(self) -> Iterable[MachineId]:
        """The machines that are connected."""
        return self._machines.keys()

    def credentials(self) -> Iterable[str]:
        """Return the credentials of all open connections."""
        return {connection.identity.credential for connection in self._connections.values()}

    def count_of(self, credential: str) -> int:
        """Return how many connections came with a credential."""
        return sum(one.identity.credential == credential for one in self._connections.values())

    def register(self, connection: Connection) -> int:
        """Take note of a connection, and return its number."""
        number = next(self._numbers)
        self._connections[number] = connection
        return number

    def unregister(self, number: int) -> None:
        """Forget a connection that is gone."""
        connection = self._connections.pop(number, None)
        machine = connection.identity.machine if connection is not None else None
        if machine is not None and self._machines.get(machine) == number:
            del self._machines[machine]

    def bind(self, machine: MachineId, number: int | None) -> int | None:
        """Send a machine's frames to this connection; return which one had them before."""
        before = self._machines.get(machine)
        if number is not None and number in self._connections:
            self._machines[machine] = number
        else:
            self._machines.pop(machine, None)
        return before

    def revoke(self, credential: str) -> None:
        """Close, at once, every connection that came with a credential."""
        for connection in list(self._connections.values()):
            if connection.identity.credential == credential:
                connection.close(CLOSE_REVOKED, "the token was revoked or has expired")

    def drain(self, rng: Rng) -> None:
        """Tell everyone when to come back, each another time, and close."""
        for connection in list(self._connections.values()):
            after_ms = DRAIN_BASE_MS + int(rng.random() * DRAIN_SPREAD_MS)
            connection.send(codec.encode(frames.Drain(retry_after_ms=after_ms)))
            connection.close(CLOSE_RESTART, "the hub restarts")

    def bring(self, machine: MachineId, frame: frames.Frame) -> bool:
        """Send a machine what can wait; return False if it cannot be sent now."""
        connection = self._connection(machine)
        if connection is None or connection.buffered_bytes > PUSH_BYTES or self.shut_out(machine):
            return False
        connection.send(codec.encode(frame))
        return True

    # The engine's outlet ------------------------------------------------------------------------

    def perform(self, orders: Sequence[Effect]) -> None:
        """Carry out effects, in order."""
        for effect in orders:
            carry_out = self._orders.get(type(effect))
            if carry_out is not None:
                carry_out(effect)
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            self._waiting += [done for done in waiting if not done()]

    def after_turn(self, done: Callable[[], bool]) -> None:
        """Call `done` after each turn until it returns True; for facts that have no answer."""
        self._waiting.append(done)

    async def until(self, holds: Callable[[], bool], wait_ms: int) -> None:
        """Return when something holds after a turn, or when the time is over."""
        changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def look() -> bool:
            if not changed.done() and holds():
                changed.set_result(None)
            return changed.done()

        if look():
            return
        self.after_turn(look)
        try:
            await asyncio.wait([changed], timeout=wait_ms / 1_000)
        finally:  # who waited may have hung up
            changed.cancel()

    def publish(self, first: int, appends: Sequence[Append]) -> None:
        """Show committed records to those who follow their logs."""
        self._feeds.publish(first, appends)

    # How each kind of effect is carried out ------------------------------------------------------

    def _set_timer(self, effect: effects.SetTimer) -> None:
        self._timers.set(effect.key, effect.at, effect.body)

    def _clear_timer(self, effect: effects.ClearTimer) -> None:
        self._timers.clear(effect.key)

    def _continue(self, effect: effects.Continue) -> None:
        assert self._inbox is not None, "attach the engine first"
        self._inbox.put(Fact(body=effect.body))

    def _close(self, effect: effects.CloseConnection) -> None:
        connection = self._connections.get(effect.connection)
        if connection is not None:
            connection.close(effect.code, effect.reason)

    def _push(self, effect: effects.Push) -> None:
        if effect.body is None:
            log.error("task.body_missing", task=effect.assignment.task)
            return
        connection = self._connection(effect.machine)
        if connection is not None and connection.buffered_bytes <= PUSH_BYTES:
            frame = frames.Assign(assignment=effect.assignment, body=effect.body, asks=effect.asks)
            connection.send(codec.encode(frame))
            self.on_pushed(effect.assignment)

    def _acknowledge(self, effect: effects.Acknowledge) -> None:
        ack = frames.Ack(
            task=effect.task,
            fence=effect.fence,
            of=effect.of,
            applied=effect.applied,
            code=effect.code,
            commit=effect.commit,
            turn=effect.turn,
        )
        self._tell(effect.machine, ack)

    def _stop(self, effect: effects.Stop) -> None:
        stop = frames.StopFrame(task=effect.task, fence=effect.fence, reason=effect.reason)
        self._tell(effect.machine, stop)

    def _notify(self, effect: effects.Notify) -> None:
        notice = frames.Notice(task=effect.task, fence=effect.fence, text=effect.text)
        self._tell(effect.machine, notice)

    def _tell_ask(self, effect: effects.TellAsk) -> None:
        self.on_ask(effect.ask)

    def _tell_closed(self, effect: effects.TellClosed) -> None:
        self.on_closed(effect)

    def _counted(self, effect: effects.Counted) -> None:
        self.on_spent(effect.usage)

    def _watch(self, effect: effects.Watch) -> None:
        watch = ReviewFrame(
            task=effect.task,
            fence=effect.fence,
            pull_request=effect.pull_request,
            repo=effect.repo,
            branch=effect.branch,
            at_once=effect.at_once,
            cause=effect.cause,
        )
        self._tell(effect.machine, watch)

    def _grant_landing(self, effect: effects.GrantLanding) -> None:
        land = frames.LandFrame(task=effect.task, fence=effect.fence, riders=effect.riders)
        self._tell(effect.machine, land)

    def _tell(self, machine: MachineId, frame: frames.Frame) -> None:
        connection = self._connection(machine)
        if connection is not None:
            connection.send(codec.encode(frame))

    def _connection(self, machine: MachineId) -> Connection | None:
        return self._connections.get(self._machines.get(machine, 0))  # numbers start at 1
