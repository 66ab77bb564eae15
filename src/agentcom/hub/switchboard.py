"""The switchboard: who is connected, and how effects reach them.

It carries out what the core orders: frames to machines, timers, facts for the next turn. What
cannot be delivered is dropped, since `reconcile` finds it missing at the next heartbeat or
connection. Records of logs go to `hub/feeds.py`.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Final, Protocol, assert_never

import structlog

from agentcom.core import effects
from agentcom.core.effects import Effect
from agentcom.core.facts import Body, Fact
from agentcom.model.batch import Append
from agentcom.model.identity import Identity
from agentcom.model.ids import Instant, MachineId, Rng
from agentcom.protocol import codec, frames

CLOSE_RESTART: Final = 1012
CLOSE_REVOKED: Final = 4401
DRAIN_BASE_MS: Final = 1_000
"""A hub that restarts needs about this long."""
DRAIN_SPREAD_MS: Final = 5_000
"""Over this a fleet of 5,000 spreads its return: about one connection a millisecond."""

log = structlog.get_logger(__name__)


class Connection(Protocol):
    """One live connection of a machine or a client."""

    @property
    def identity(self) -> Identity:
        """Who is at the other end."""
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

    def put(self, fact: Fact) -> None:
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

    # The engine's outlet ------------------------------------------------------------------------

    def perform(self, orders: Sequence[Effect]) -> None:
        """Carry out effects, in order."""
        for effect in orders:
            self._perform(effect)
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            self._waiting += [done for done in waiting if not done()]

    def after_turn(self, done: Callable[[], bool]) -> None:
        """Call `done` after each turn until it returns True; for facts that have no answer."""
        self._waiting.append(done)

    def publish(self, first: int, appends: Sequence[Append]) -> None:
        """Show committed records to those who follow their logs."""
        self._feeds.publish(first, appends)

    def _perform(self, effect: Effect) -> None:
        match effect:
            case effects.SetTimer(key, at, body):
                self._timers.set(key, at, body)
            case effects.ClearTimer(key):
                self._timers.clear(key)
            case effects.Answer() | effects.Refuse():
                return  # the engine hands them out
            case effects.Continue(body):
                assert self._inbox is not None, "attach the engine first"
                self._inbox.put(Fact(body=body))
            case effects.CloseConnection(number, code, reason):
                connection = self._connections.get(number)
                if connection is not None:
                    connection.close(code, reason)
            case _:
                self._tell(effect)

    def _tell(
        self, effect: effects.Push | effects.Stop | effects.GrantLanding | effects.Acknowledge
    ) -> None:
        number = self._machines.get(effect.machine)
        connection = None if number is None else self._connections.get(number)
        if connection is None:
            return
        match effect:
            case effects.Push(_, assignment, body):
                if body is None:
                    log.error("task.body_missing", task=assignment.task)
                    return
                connection.send(codec.encode(frames.Assign(assignment=assignment, body=body)))
            case effects.Acknowledge(_, task, fence, applied, code):
                ack = frames.Ack(task=task, fence=fence, applied=applied, code=code)
                connection.send(codec.encode(ack))
            case effects.Stop(_, task, fence, reason):
                stop = frames.StopFrame(task=task, fence=fence, reason=reason)
                connection.send(codec.encode(stop))
            case effects.GrantLanding(_, task, fence):
                connection.send(codec.encode(frames.LandFrame(task=task, fence=fence)))
            case _:
                assert_never(effect)
