"""Where a hub is reached, by which names, and with which certificate."""

import contextlib
import socket
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from agentcom.hub.certificate import HubCertificate, ensure_certificate, given
from agentcom.hub.config import HubConfig, is_loopback

_WILDCARDS: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104  # names that mean all of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """How clients reach a hub, and what they pin."""

    url: str
    fingerprint: str | None = None


def certificate_of(config: HubConfig) -> HubCertificate | None:
    """Return the certificate that the settings call for; made at the first start.

    Raises:
        CertificateFailed: it cannot be made or read.
    """
    if config.certificate is not None and config.key is not None:
        return given(config.certificate, config.key)
    if not config.uses_tls:
        return None
    names = [config.host, socket.gethostname(), *config.hosts]
    return ensure_certificate(config.home / "tls", names)


def address_of(config: HubConfig, port: int, own: HubCertificate | None) -> Address:
    """Return how clients reach a hub that listens on `port`."""
    host = config.host
    if host in _WILDCARDS:
        host = config.hosts[0] if config.hosts else socket.gethostname()
    scheme = "http" if own is None else "https"
    url = config.public_url or f"{scheme}://{_bracketed(host)}:{port}"
    # A certificate that the operator gave comes from an authority; theirs to trust, and to renew.
    pin = own.fingerprint if own is not None and config.certificate is None else None
    return Address(url=url.rstrip("/"), fingerprint=pin)


def host_names(config: HubConfig) -> frozenset[str]:
    """Return the names by which requests may call this hub; addresses cannot be rebound."""
    names = {config.host, *config.hosts}
    if config.public_url is not None:
        names.add(urlsplit(config.public_url).hostname or "")
    if not is_loopback(config.host):
        names.add(socket.gethostname())
        with contextlib.suppress(OSError):
            names |= {str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None)}
    return frozenset(_bracketed(name.lower()) for name in names if name not in _WILDCARDS)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
