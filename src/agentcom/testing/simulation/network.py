"""The simulated network: connections of peers to the hub, and all that can happen to a message.

Messages of one connection keep their order, as WebSocket promises; but a peer dials again while
old ones are on their way, so a hub hears them late, behind newer words. On a lossy link a message
may also be lost or doubled though the connection stands: that is more than TCP does, and what a
relay may do.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from math import log
from typing import Final, Protocol

from agentcom.testing.simulation.kernel import MS, SECOND, Kernel
from agentcom.testing.simulation.options import Options
from agentcom.testing.simulation.trace import Trace
from agentcom.transport.socket import Head, SocketListener

CLOSE_LOST: Final = 1006
CLOSE_US: Final = 2 * SECOND
"""From a close to the end of the connection, if the peer does not answer."""
DIAL_TIMEOUT_US: Final = 10 * SECOND
QUIET_LATENCY_US: Final = 10 * MS
_NEW_FIELD: Final = b',"next_version_says":{"a":[1]}}'


class Peer(Protocol):
    """Who dials the hub: a machine or a client."""

    def opened(self, connection: "Connection") -> None:
        """The hub took the upgrade."""
        ...

    def refused(self) -> None:
        """There is no hub, or it cannot be reached."""
        ...

    def received(self, connection: "Connection", payload: bytes) -> None:
        """A message came."""
        ...

    def closed(self, connection: "Connection", code: int, reason: str) -> None:
        """The connection is gone."""
        ...


class Upgrades(Protocol):
    """The hub's port, while a hub runs."""

    def route(self, head: Head) -> SocketListener | None:
        """Return the session of an upgrade; None if there is no hub."""
        ...

    def call(self, action: Callable[..., object], *arguments: object) -> None:
        """Run something in the hub's loop."""
        ...


class Link:
    """The wire of one computer."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.partitioned = False
        self.clogged = False
        self.skew = False
        """Whether what it says comes from the next version."""
        self.held: list[Callable[[], None]] = []
        self.newest: Connection | None = None

    @property
    def blocked(self) -> bool:
        """Whether nothing gets through now."""
        return self.partitioned or self.clogged


class Connection:
    """One WebSocket; the hub's end of it is the `Socket` that a session speaks through."""

    def __init__(
        self, network: "Network", link: Link, peer: Peer, hub: Upgrades, *, in_order: bool
    ) -> None:
        self.link = link
        self.client: Peer = peer
        self.in_order = in_order
        self.peer_open = True
        self.hub_open = True
        self.listener: SocketListener | None = None
        self.peer = link.name
        """The address, as the hub sees it."""
        self._network = network
        self._hub = hub
        self._last_us = [0, 0]
        self._risked_us = -1
        self._in_flight = 0
        self._paused = False
        self._waiting: list[bytes] = []

    # The hub's socket -----------------------------------------------------------------------------

    @property
    def buffered_bytes(self) -> int:
        """What the hub sent and the peer has not got yet."""
        return self._in_flight

    def send_text(self, payload: bytes) -> None:
        """Send to the peer."""
        if self.hub_open:
            self._in_flight += len(payload)
            self._network.carry(self, 1, payload)

    def send_texts(self, payloads: Sequence[bytes]) -> None:
        """Send several messages to the peer."""
        for payload in payloads:
            self.send_text(payload)

    def close(self, code: int, reason: str = "") -> None:
        """Close from the hub's side: what was sent before still arrives."""
        if self.hub_open:
            self.hub_open = False
            self._network.carry_close(self, code, reason)
            self._network.kernel.after(CLOSE_US, self.gone, code)

    def abort(self) -> None:
        """End it at once, from the hub's side."""
        self.hub_open = False
        self._network.break_off(self)

    def pause_reading(self) -> None:
        """Let what arrives wait."""
        self._paused = True

    def resume_reading(self) -> None:
        """Take what waited, and read on."""
        if self._paused:
            self._paused = False
            if self._waiting:
                self._hub.call(self._read_on)

    def trust(self) -> None:
        """Nothing here counts strangers."""

    # The network's side ---------------------------------------------------------------------------

    def arrive_at_hub(self, payload: bytes) -> None:
        """Hand one message to the session."""
        if self._paused:
            self._waiting.append(payload)
        elif self.listener is not None and self.hub_open:
            if self.link.newest is not self:
                self._network.trace.counts["fault: overtaken by a newer connection"] += 1
            self._network.trace.message(payload)
            self._hub.call(self.listener.on_text, payload)

    def arrive_at_peer(self, payload: bytes) -> None:
        """Hand one message to the peer."""
        self._in_flight -= len(payload)
        if self.peer_open:
            self._network.trace.message(payload)
            self.client.received(self, payload)

    def lost_down(self, payload: bytes) -> None:
        """Take note that a message to the peer is gone."""
        self._in_flight -= len(payload)

    def doubled(self, way: int, payload: bytes) -> None:
        """Take note that a message is on its way twice."""
        self._in_flight += len(payload) if way else 0

    def gone(self, code: int) -> None:
        """Tell the session, once, that the connection has ended."""
        listener, self.listener = self.listener, None
        self.hub_open = False
        if listener is not None:
            self._hub.call(listener.on_close, code)

    def closed_at_peer(self, code: int, reason: str) -> None:
        """Tell the peer, once, that the connection has ended."""
        if self.peer_open:
            self.peer_open = False
            self.client.closed(self, code, reason)

    def is_at_risk(self, now_us: int) -> bool:
        """Return whether a message begins a write: what is sent at one moment is one."""
        first = self._risked_us != now_us
        self._risked_us = now_us
        return first

    def next_in_order(self, way: int, arrival_us: int) -> int:
        """Return when a message arrives that may not overtake those before it."""
        self._last_us[way] = max(self._last_us[way], arrival_us)
        return self._last_us[way]

    def _read_on(self) -> None:
        while self._waiting and not self._paused and self.hub_open:
            payload = self._waiting.pop(0)
            if self.listener is not None:
                self.listener.on_text(payload)


class Network:
    """All wires, and what happens on them."""

    def __init__(self, kernel: Kernel, options: Options, trace: Trace) -> None:
        self.kernel = kernel
        self.trace = trace
        self.links: dict[str, Link] = {}
        self.quiet = False
        """True in the liveness phase: every message arrives, in order."""
        self.hub_skew = False
        self.era = 0
        """Raised by a restore: what was said before it is not heard any more."""
        self.hub: Upgrades | None = None
        self.overhear: Callable[[bytes], None] = lambda _payload: None
        """Is shown every message that leaves the hub."""
        self._options = options
        self._rng = random.Random(f"{options.seed}/network")
        self._connections: dict[Connection, None] = {}

    def link(self, name: str) -> Link:
        """Return the wire of a computer."""
        return self.links.setdefault(name, Link(name))

    # Connections ----------------------------------------------------------------------------------

    def dial(self, link: Link, token: str, peer: Peer, *, in_order: bool = False) -> None:
        """Ask the hub for a connection; `peer` hears what became of it.

        `in_order` makes it a stream whatever the options say: those who follow logs rely on it.
        """
        if link.blocked:
            self.kernel.after(DIAL_TIMEOUT_US, peer.refused)
            return
        self.kernel.after(2 * self._latency(), self._accept, link, token, peer, in_order)

    def _accept(self, link: Link, token: str, peer: Peer, in_order: bool) -> None:
        hub = self.hub
        if hub is None or link.blocked:
            peer.refused()
            return
        headers = [(b"authorization", b"Bearer " + token.encode())]
        head = Head(
            method="GET", path=b"/ws", query=b"", headers=headers, peer=link.name, secure=True
        )
        listener = hub.route(head)
        if listener is None:
            peer.refused()
            return
        in_order = in_order or not self._options.lossy
        connection = Connection(self, link, peer, hub, in_order=in_order)
        connection.listener = listener
        self._connections[connection] = None
        link.newest = connection
        self.trace.counts["connections"] += 1
        hub.call(listener.on_open, connection, head)
        peer.opened(connection)

    def abort(self, connection: Connection, *, silently: bool = False) -> None:
        """End a connection from the peer's side; the hub may hear of it much later."""
        connection.peer_open = False
        self._forget(connection)
        if not (silently or connection.link.blocked):
            self.kernel.after(self._latency(), connection.gone, CLOSE_LOST)

    def break_off(self, connection: Connection) -> None:
        """Break a connection in the middle; by chance one side does not notice."""
        self._forget(connection)
        half_open = self._rng.random() < self._options.half_open and not self.quiet
        deaf = int(self._rng.random() * 2) if half_open else 2
        self.trace.counts["fault: half-open" if half_open else "fault: cut"] += 1
        if deaf != 0:
            self.kernel.after(self._latency(), connection.closed_at_peer, CLOSE_LOST, "")
        if deaf != 1:
            self.kernel.after(self._latency(), connection.gone, CLOSE_LOST)

    def hub_died(self) -> None:
        """Break every connection of a hub that is no more."""
        self.hub = None
        for connection in list(self._connections):
            connection.hub_open = False
            connection.listener = None
            half_open = connection.link.blocked or self._rng.random() < self._options.half_open
            if self.quiet or not half_open:
                self.kernel.after(self._latency(), connection.closed_at_peer, CLOSE_LOST, "")
        self._connections.clear()

    def _forget(self, connection: Connection) -> None:
        self._connections.pop(connection, None)

    # Messages -------------------------------------------------------------------------------------

    def send(self, connection: Connection, payload: bytes) -> None:
        """Send from the peer to the hub."""
        if connection.peer_open:
            self.carry(connection, 0, payload)

    def carry(self, connection: Connection, way: int, payload: bytes) -> None:
        """Bring one message to the other side (way 0: to the hub), or not."""
        self.trace.counts["messages"] += 1
        if way:
            self.overhear(payload)
        if self.hub_skew if way else connection.link.skew:
            payload = self._skewed(payload)
        if connection not in self._connections:
            self._lose(connection, way, payload)  # the other end is no more
            return
        now = self.kernel.now_us
        if self.quiet:
            arrival = connection.next_in_order(way, now + QUIET_LATENCY_US)
            self._arrive_at(arrival, connection, way, payload)
            return
        options, rng = self._options, self._rng
        arrival = now + self._latency()
        if options.spike and rng.random() < options.spike:
            self.trace.counts["fault: delayed"] += 1
            arrival += int(rng.random() * options.spike_us)
        if not connection.in_order:
            self._carry_lossy(connection, way, payload, arrival)
            return
        if options.cut and connection.is_at_risk(now) and rng.random() < options.cut:
            self._lose(connection, way, payload)
            self.break_off(connection)
            return
        if connection.link.blocked:
            self.trace.counts["fault: held back"] += 1
            connection.link.held.append(partial(self._let_go, self.era, connection, way, payload))
            return
        self._arrive_at(connection.next_in_order(way, arrival), connection, way, payload)

    def _let_go(self, era: int, connection: Connection, way: int, payload: bytes) -> None:
        if era == self.era:
            now = connection.next_in_order(way, self.kernel.now_us)
            self._arrive_at(now, connection, way, payload)

    def carry_close(self, connection: Connection, code: int, reason: str) -> None:
        """Bring the hub's close frame to the peer, behind what was sent before."""
        self._forget(connection)
        if connection.link.blocked:
            return  # the peer finds out by itself
        arrival = connection.next_in_order(1, self.kernel.now_us + self._latency())
        self.kernel.at(arrival, connection.closed_at_peer, code, reason)

    def _carry_lossy(self, connection: Connection, way: int, payload: bytes, arrival: int) -> None:
        options, rng, counts = self._options, self._rng, self.trace.counts
        if connection.link.blocked or rng.random() < options.drop:
            counts["fault: dropped"] += 1
            self._lose(connection, way, payload)
            return
        self._arrive_at(connection.next_in_order(way, arrival), connection, way, payload)
        if options.double and rng.random() < options.double:
            counts["fault: doubled"] += 1
            connection.doubled(way, payload)
            again = connection.next_in_order(way, arrival + self._latency())
            self._arrive_at(again, connection, way, payload)

    def _arrive_at(self, at_us: int, connection: Connection, way: int, payload: bytes) -> None:
        arrive = connection.arrive_at_peer if way else connection.arrive_at_hub
        self.kernel.at(at_us, self._arrive, self.era, arrive, payload)

    def _arrive(self, era: int, arrive: Callable[[bytes], None], payload: bytes) -> None:
        if era == self.era:
            arrive(payload)

    def _lose(self, connection: Connection, way: int, payload: bytes) -> None:
        if way:
            connection.lost_down(payload)

    def _skewed(self, payload: bytes) -> bytes:
        if not payload.endswith(b"}"):
            return payload
        self.trace.counts["fault: next version's field"] += 1
        return payload[:-1] + _NEW_FIELD

    def _latency(self) -> int:
        if self.quiet:
            return QUIET_LATENCY_US
        return 200 + int(-log(1.0 - self._rng.random()) * self._options.latency_us)

    # Wires ----------------------------------------------------------------------------------------

    def release(self, links: Iterable[Link]) -> None:
        """Let through what was held back on wires that are free again."""
        for link in links:
            if not link.blocked:
                held, link.held = link.held, []
                for arrive in held:
                    arrive()
