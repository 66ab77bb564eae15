"""The link of one life of a sidecar, as `client/link.py` keeps it: dials, redials, gives up."""

from collections.abc import Callable
from typing import Any, Final, Protocol, get_args

from agentcom.client.link import Backoff, Takeovers
from agentcom.model import errors
from agentcom.model.ids import Rng
from agentcom.protocol import codec
from agentcom.protocol.review import ReviewFrame
from agentcom.sidecar import machine_values as values
from agentcom.testing.simulation.kernel import MS, SECOND, Entry, Kernel
from agentcom.testing.simulation.network import Connection, Link, Network

_CLOSE_NOT_AUTHENTICATED: Final = 4401
_CLOSE_NOT_ALLOWED: Final = 4403
_CLOSE_SUPERSEDED: Final = 4409
_FROM_HUB: Final = get_args(values.FromHub)


class Owner(Protocol):
    """The sidecar's process."""

    def tell(self, fact: values.Fact) -> None:
        """Bring a fact to the machine."""
        ...

    def review(self, frame: ReviewFrame) -> None:
        """Watch a pull request, or not any more."""
        ...

    def give_up(self, reason: str) -> None:
        """End: the hub does not want this machine."""
        ...

    def after(self, delay_us: int, action: Callable[..., object], *arguments: Any) -> Entry:
        """Call `action` later, in this life of the process and when it is awake."""
        ...

    def at_once(self, action: Callable[..., object], *arguments: Any) -> None:
        """Call `action` now, or when it is awake again."""
        ...


class MachineLink:
    """Everything between a sidecar and its hub; a peer of the network."""

    def __init__(
        self, kernel: Kernel, network: Network, link: Link, token: str, rng: Rng, owner: Owner
    ) -> None:
        self._kernel = kernel
        self._network = network
        self._link = link
        self._token = token
        self._owner = owner
        self._backoff = Backoff(rng)
        self._takeovers = Takeovers()
        self._connection: Connection | None = None
        self._over = False

    def dial(self) -> None:
        """Ask the hub for a connection."""
        if self._connection is None and not self._over:
            self._network.dial(self._link, self._token, self)

    def settle(self) -> None:
        """Start from the shortest pause again."""
        self._backoff.settle()

    def send(self, payload: bytes) -> None:
        """Send one message, if there is a connection."""
        if self._connection is not None:
            self._network.send(self._connection, payload)

    def drop(self, after_ms: int | None) -> None:
        """Cut the connection and dial again, at the earliest after `after_ms`."""
        if after_ms is not None:
            self._backoff.hint(after_ms)
        connection, self._connection = self._connection, None
        if connection is not None:
            self._network.abort(connection)
            self._owner.after(0, self._owner.tell, values.Disconnected())
            self._redial()

    def end(self, *, silently: bool) -> None:
        """Let go of everything: the process is no more."""
        self._over = True
        connection, self._connection = self._connection, None
        if connection is not None:
            self._network.abort(connection, silently=silently)

    # The network's peer ---------------------------------------------------------------------------

    def opened(self, connection: Connection) -> None:
        """The hub took the upgrade."""
        if self._over:
            self._network.abort(connection)
            return
        self._connection = connection
        self._owner.after(0, self._opened, connection)

    def refused(self) -> None:
        """There is no hub, or it cannot be reached."""
        if not self._over:
            self._redial()

    def received(self, connection: Connection, payload: bytes) -> None:
        """A message came."""
        self._owner.at_once(self._received, connection, payload)

    def closed(self, connection: Connection, code: int, reason: str) -> None:
        """The connection is gone."""
        self._owner.after(0, self._closed, connection, code, reason)

    def _opened(self, connection: Connection) -> None:
        if connection is self._connection:
            self._owner.tell(values.Connected())

    def _received(self, connection: Connection, payload: bytes) -> None:
        if connection is not self._connection:
            return
        try:
            frame = codec.decode_from_hub(payload)
        except errors.AgentComError:
            return  # a newer hub may say more than this version understands
        if isinstance(frame, ReviewFrame):
            self._owner.review(frame)
        elif isinstance(frame, _FROM_HUB):
            self._owner.tell(frame)

    def _closed(self, connection: Connection, code: int, reason: str) -> None:
        if connection is not self._connection:
            return
        self._connection = None
        self._owner.tell(values.Disconnected())
        if code in (_CLOSE_NOT_AUTHENTICATED, _CLOSE_NOT_ALLOWED):
            self._owner.give_up(f"closed with {code}: {reason}")
            return
        if code == _CLOSE_SUPERSEDED:
            try:
                self._takeovers.note(self._kernel.now_us / SECOND)
            except errors.Superseded as error:
                self._owner.give_up(error.message)
                return
        self._redial()

    def _redial(self) -> None:
        self._owner.after(self._backoff.next_ms() * MS, self.dial)
