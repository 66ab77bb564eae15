"""How much one identity may ask for, and how often an address may fail to authenticate.

Reports, heartbeats and answers to cancels are never refused here: for those the doors slow down
reading instead.
"""

import ipaddress
from collections.abc import Callable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Protocol

from agentcom.model.errors import RateLimited
from agentcom.model.identity import Identity
from agentcom.model.ids import Now
from agentcom.model.rates import Limiter, Rate


class Traffic(StrEnum):
    """The classes of traffic with a budget of their own; control traffic has none."""

    SUBMIT = "submit"
    QUERY = "query"
    ADMIN = "admin"
    PROGRESS = "progress"
    TALK = "talk"

    __hash__ = str.__hash__  # Enum's own is Python code, and every request looks its budget up


RATES: Final[Mapping[Traffic, Rate]] = MappingProxyType(
    {
        Traffic.SUBMIT: Rate(10_000, 1_000, 20_000),  # tasks: what the hub can store, twice over
        Traffic.QUERY: Rate(100, 1_000, 500),  # requests: a dashboard with every panel open
        Traffic.ADMIN: Rate(10, 1_000, 100),  # requests: a script that sets up a fleet
        Traffic.PROGRESS: Rate(200, 1_000, 1_000),  # frames of one machine; the newest wins
        Traffic.TALK: Rate(200, 1_000, 1_000),  # calls: a machine with many busy agents
    }
)
OPEN_PER_ADDRESS: Final = Rate(
    50, 1_000, 500
)  # requests without a token: probes, a fleet that joins
ALL_PER_ADDRESS: Final = Rate(
    1_000, 1_000, 5_000
)  # of HTTP, with good tokens: what ten identities may ask for; an office behind one address
FAILURES_PER_ADDRESS: Final = Rate(10, 60_000, 30)
FAILURES_PER_KEY: Final = Rate(6, 60_000, 10)
FAILURE_DEBT_MAX_MS: Final = 900_000  # who goes on failing waits this long at most
_NETWORK_BITS: Final = 64  # one IPv6 customer has at least this network to choose addresses from


class Gate(Protocol):
    """Whether the hub takes requests at all; see `hub/admission.py`."""

    def check(self, name: str, traffic: str, cost: int = 1) -> None:
        """Let a request in; raises `RateLimited`."""
        ...

    def skips(self) -> bool:
        """Return whether what may be skipped is."""
        ...


class Budgets:
    """A bucket for each identity and class, and two for each address: of strangers, and of others.

    Before them all is the gate, if there is one.
    """

    def __init__(
        self,
        rates: Mapping[Traffic, Rate] = RATES,
        *,
        strangers: Rate = OPEN_PER_ADDRESS,
        known: Rate = ALL_PER_ADDRESS,
        gate: Gate | None = None,
        shed: Callable[[str], None] = lambda _traffic: None,
    ) -> None:
        """`shed` is told of each request that did not fit."""
        self._gate = gate
        self._shed = shed
        self.set(rates, strangers=strangers, known=known)

    def set(
        self,
        rates: Mapping[Traffic, Rate],
        *,
        strangers: Rate = OPEN_PER_ADDRESS,
        known: Rate = ALL_PER_ADDRESS,
    ) -> None:
        """Go on with other rates; everybody's buckets are full again."""
        self._limiters = {traffic: Limiter(rate) for traffic, rate in rates.items()}
        self._strangers = Limiter(strangers)
        self._known = Limiter(known)

    def spend(self, identity: Identity, traffic: Traffic, now: Now, cost: int = 1) -> None:
        """Take `cost` units from the budget.

        Raises:
            RateLimited: it is used up; nothing was taken.
        """
        if self._gate is not None:
            self._gate.check(identity.name, traffic, cost)
        wait_ms = self._limiters[traffic].take(identity.name, now.instant, cost)
        if wait_ms:
            self._shed(traffic.value)
            raise RateLimited(f"too many requests ({traffic}); wait {wait_ms} ms", wait_ms)

    def spend_known(self, address: str, now: Now, cost: int = 1) -> None:
        """Take `cost` units from what an address may ask for, whoever asks there.

        Raises:
            RateLimited: it is used up; nothing was taken.
        """
        wait_ms = self._known.take(network(address), now.instant, cost)
        if wait_ms:
            self._shed("address")
            raise RateLimited(f"too many requests from one address; wait {wait_ms} ms", wait_ms)

    def spend_address(self, address: str, now: Now, cost: int = 1) -> None:
        """Take `cost` units from what an address may ask for without a token.

        Raises:
            RateLimited: it is used up; nothing was taken.
        """
        wait_ms = self._strangers.take(network(address), now.instant, cost)
        if wait_ms:
            self._shed("stranger")
            raise RateLimited(f"too many requests without a token; wait {wait_ms} ms", wait_ms)

    def admits(self, identity: Identity, traffic: Traffic, now: Now) -> bool:
        """Take one unit and return whether it fit; for what may be skipped, such as progress."""
        skips = self._gate is not None and self._gate.skips()
        if not skips and not self._limiters[traffic].take(identity.name, now.instant):
            return True
        self._shed(traffic.value)
        return False


class FailureGuard:
    """Slows down who fails to authenticate, by address and by the key that was tried."""

    def __init__(
        self, addresses: Rate = FAILURES_PER_ADDRESS, keys: Rate = FAILURES_PER_KEY
    ) -> None:
        self.set(addresses, keys)

    def set(self, addresses: Rate = FAILURES_PER_ADDRESS, keys: Rate = FAILURES_PER_KEY) -> None:
        """Go on with other rates; what was counted is forgotten."""
        self._addresses = Limiter(addresses, debt_max_ms=FAILURE_DEBT_MAX_MS)
        self._keys = Limiter(keys, debt_max_ms=FAILURE_DEBT_MAX_MS)

    def check_address(self, address: str, now: Now) -> None:
        """Raise `RateLimited` if too many attempts from here have failed."""
        _refuse(self._addresses.wait_ms(network(address), now.instant))

    def check_key(self, key: str, now: Now) -> None:
        """Raise `RateLimited` if too many attempts with this key have failed."""
        _refuse(self._keys.wait_ms(key, now.instant))

    def failed(self, now: Now, *, address: str | None = None, key: str | None = None) -> None:
        """Count one failure."""
        if address is not None:
            self._addresses.charge(network(address), now.instant)
        if key is not None:
            self._keys.charge(key, now.instant)


def network(address: str) -> str:
    """Return what an address is counted as: itself, or its /64 if it is IPv6."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, _NETWORK_BITS), strict=False))


def _refuse(wait_ms: int) -> None:
    if wait_ms:
        raise RateLimited(f"too many failed attempts; wait {wait_ms} ms", wait_ms)
