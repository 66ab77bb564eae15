"""Who is behind a trusted proxy: what `X-Forwarded-For` and `-Proto` say, if it may be believed.

The rightmost address that is no trusted proxy's is the client's: what stands before it was written
by whoever asked. A header that another peer sends means nothing.
"""

import ipaddress
from collections.abc import Sequence
from typing import Final, NamedTuple

HOPS_MAX: Final = 16  # proxies behind each other; what is farther away is not looked at
_FOR: Final = b"x-forwarded-for"
_PROTO: Final = b"x-forwarded-proto"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Headers = Sequence[tuple[bytes, bytes]]


class Client(NamedTuple):
    """Where a request comes from."""

    address: str
    secure: bool
    """Whether it was encrypted on its way to the proxy, or to us."""


def networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Return addresses and networks as they are written in settings; raises `ValueError`."""
    return tuple(ipaddress.ip_network(text, strict=False) for text in texts)


def trusts(proxies: Sequence[Network], peer: str) -> bool:
    """Return whether a peer is a trusted proxy."""
    if not proxies:
        return False
    address = _address(peer)
    return address is not None and any(address in network for network in proxies)


def client_of(proxies: Sequence[Network], peer: str, headers: Headers, *, secure: bool) -> Client:
    """Return the client of a request that came from `peer`."""
    if not trusts(proxies, peer):
        return Client(peer, secure)
    said = b",".join(value for name, value in headers if name == _FOR)
    address = peer
    for hop in reversed(said.rsplit(b",", HOPS_MAX)[-HOPS_MAX:]):
        found = _address(hop.strip().decode("latin-1"))
        if found is None:
            break
        address = str(found)
        if not any(found in network for network in proxies):
            break
    proto = [value.strip().lower() for name, value in headers if name == _PROTO]
    return Client(address, proto[-1] == b"https" if proto else secure)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return an address as it stands in a header: also `[::1]:80` and `192.0.2.1:80`."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found
