"""Counts the connections of strangers, so that they cannot crowd out the fleet.

A connection is a stranger's until a good bearer is seen on it. Above the caps it is on probation:
kept only to read its first head, since after a restart a whole fleet may come from one address.
"""

import ipaddress
from enum import StrEnum

from agentcom.transport.socket import PortLimits


class Admission(StrEnum):
    """How a new connection may stay."""

    COUNTED = "counted"
    PROBATION = "probation"
    FULL = "full"


class Census:
    """How many strangers are connected, per address and in all."""

    def __init__(self, limits: PortLimits) -> None:
        self._limits = limits
        self._by_address: dict[str, int] = {}
        self._counted = 0
        self._probation = 0

    @property
    def counted(self) -> int:
        """Strangers within the caps."""
        return self._counted

    def enter(self, peer: str) -> Admission:
        """Take note of a new connection and say how it may stay."""
        key = _key(peer)
        here = self._by_address.get(key, 0)
        limits = self._limits
        if here < limits.untrusted_per_address_max and self._counted < limits.untrusted_max:
            self._by_address[key] = here + 1
            self._counted += 1
            return Admission.COUNTED
        if self._probation >= limits.probation_max:
            return Admission.FULL
        self._probation += 1
        return Admission.PROBATION

    def leave(self, peer: str, admission: Admission) -> None:
        """Forget a connection that is trusted now, or gone."""
        if admission is Admission.PROBATION:
            self._probation -= 1
        elif admission is Admission.COUNTED:
            self._counted -= 1
            key = _key(peer)
            here = self._by_address.pop(key) - 1
            if here:
                self._by_address[key] = here


def _key(peer: str) -> str:
    """One IPv6 customer has a whole /64."""
    if ":" not in peer:
        return peer
    address = ipaddress.IPv6Address(peer.partition("%")[0])
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return address.packed[:8].hex()
