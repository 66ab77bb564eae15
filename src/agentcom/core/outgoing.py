"""Which addresses the hub sends to, of those that somebody gave it.

A hub stands in networks that its users do not reach: so it must not be made to ask there for them.
Two things are looked at: how an address is written (`parse`), and where its name leads (`refusal`).
An operator can allow more by name or network.
"""

import ipaddress
import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from agentcom.model.errors import AgentComError, InvalidInput

URL_CHARS_MAX: Final = 2_000
HTTPS_PORT: Final = 443
HTTP_PORT: Final = 80
PORT_MAX: Final = 65_535

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_HOST: Final = r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_URL: Final = re.compile(
    rf"(?P<scheme>https?)://(?P<host>{_HOST}|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{{1,5}}))?"
    r"(?P<path>/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?",
    re.IGNORECASE,
)
_ALLOWED: Final = re.compile(
    rf"(?P<host>{_HOST}|[0-9a-f:.]+/[0-9]{{1,3}}|\[[0-9a-f:.]+\](?:/[0-9]{{1,3}})?)"
    r"(?::(?P<port>[0-9]{1,5}))?",
    re.IGNORECASE,
)
_NUMBER: Final = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)", re.IGNORECASE)
_V6_GLOBAL: Final = ipaddress.IPv6Network("2000::/3")
_REFUSED: Final[tuple[Network, ...]] = (
    ipaddress.IPv4Network("100.64.0.0/10"),  # shared by a provider's customers
    ipaddress.IPv4Network("168.63.129.16/32"),  # a cloud's own services, though global
    ipaddress.IPv4Network("192.88.99.0/24"),  # relays of 6to4
    ipaddress.IPv6Network("2001::/23"),  # protocols; Teredo has an IPv4 address inside
    ipaddress.IPv6Network("2001:db8::/32"),
    ipaddress.IPv6Network("2002::/16"),  # 6to4 has one inside, too
    ipaddress.IPv6Network("3fff::/20"),
)


class AddressRefused(AgentComError):
    """The hub does not send there: the address is no public one, and the operator allowed none."""

    code = "address_refused"
    status = 422


class Target(NamedTuple):
    """Where a request goes, taken apart."""

    scheme: str
    host: str
    """In small letters; an address of IPv6 without its brackets."""
    port: int
    path: str

    @property
    def shown(self) -> str:
        """What may be shown of it: paths and questions of chats are secrets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _port_of(self.scheme) else f":{self.port}"
        return f"{self.scheme}://{host}{port}"


class Allowed(NamedTuple):
    """One line of the operator's list: a name, an address or a network, with a port or any."""

    host: str
    network: Network | None
    port: int | None

    def covers(self, host: str, address: IpAddress, port: int) -> bool:
        """Return whether a connection is allowed by this line."""
        if self.port not in (None, port):
            return False
        if self.network is None:
            return self.host == host
        return address.version == self.network.version and address in self.network


def parse(url: str) -> Target:
    """Take an address apart that can be written in one way only.

    Raises:
        InvalidInput: it is none, or has a part that programs read differently: a user, an escape or
            a letter outside ASCII in the name, or a number that is no plain IPv4 address.
    """
    match = _URL.fullmatch(url) if len(url) <= URL_CHARS_MAX else None
    if match is None:
        raise InvalidInput(
            "url", "https://NAME/..., without user and password; names in ASCII (xn--...)"
        )
    scheme, host = match["scheme"].lower(), match["host"].lower().strip("[]")
    port = int(match["port"]) if match["port"] else _port_of(scheme)
    if not 1 <= port <= PORT_MAX:
        raise InvalidInput("url", "a port from 1 to 65535")
    check_host(host)
    return Target(scheme, host, port, match["path"] or "/")


def check_host(host: str) -> str:
    """Return the name of a host that is read alike by everyone; raises `InvalidInput`."""
    last = host.rpartition(".")[2]
    if ":" in host or _NUMBER.fullmatch(last):
        try:
            written = ipaddress.ip_address(host)
        except ValueError:
            raise InvalidInput("host", "write an address as four numbers, or as IPv6") from None
        if isinstance(written, ipaddress.IPv4Address) and str(written) != host:
            raise InvalidInput("host", "write an address as four plain numbers")
    elif not re.fullmatch(_HOST, host):
        raise InvalidInput("host", "a name in ASCII (xn--...), or an address")
    return host


def parse_allowed(text: str) -> Allowed:
    """Return a line of the operator's list.

    Raises:
        InvalidInput: it is neither a name nor an address nor a network.
    """
    match = _ALLOWED.fullmatch(text.strip())
    if match is None:
        raise InvalidInput("allow", f"{text[:100]!r}: NAME, ADDRESS or NETWORK/BITS, with :PORT")
    host = match["host"].lower()
    port = int(match["port"]) if match["port"] else None
    try:
        return Allowed(host, ipaddress.ip_network(host.replace("[", "").replace("]", "")), port)
    except ValueError:
        if "/" in host or "[" in host:
            raise InvalidInput("allow", f"{text[:100]!r} is no network") from None
    return Allowed(check_host(host), None, port)


def refusal(
    host: str, address: IpAddress, port: int, allowed: Sequence[Allowed], *, secure: bool
) -> str | None:
    """Return why the hub does not connect there; None: it does.

    `secure`: the connection is by TLS. In clear it goes only to what the operator allowed.
    """
    if any(one.covers(host, address, port) for one in allowed):
        return None
    if not is_public(address):
        return "it leads into a network of the hub itself"
    if not secure:
        return "it is in clear: use https"
    return None


def is_public(address: IpAddress) -> bool:
    """Return whether an address can be anybody's on the internet, and only that."""
    if any(address.version == one.version and address in one for one in _REFUSED):
        return False
    if isinstance(address, ipaddress.IPv6Address) and address not in _V6_GLOBAL:
        return False  # with all ways to write an address of IPv4 in it
    return address.is_global and not address.is_multicast and not address.is_reserved


def _port_of(scheme: str) -> int:
    return HTTPS_PORT if scheme == "https" else HTTP_PORT
