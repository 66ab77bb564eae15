"""The hub's own certificate: made once with the `openssl` command, pinned by join codes.

It is self-signed: a client that enrolled by a join code knows its fingerprint, so no authority
is needed. The key is ECDSA P-256 (a reconnect storm costs a fourteenth of RSA's) and readable by
its owner only.
"""

import hashlib
import ipaddress
import os
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from agentcom.model.errors import AgentComError
from agentcom.telemetry import events

VALID_DAYS: Final = 3_650  # pinned by fingerprint: a new one means that every machine joins again
LOOK_S: Final = 1.0  # between two looks for a renewed one; a look is two system calls
OPENSSL_MS: Final = 30_000  # a small machine without entropy; normally 20 ms
KEY_MODE: Final = 0o600
CERTIFICATE_MODE: Final = 0o644
NAME_CHARS_MAX: Final = 253  # a DNS name
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_WILDCARDS: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104  # names nobody can ask for


log = structlog.get_logger(__name__)


class CertificateFailed(AgentComError):
    """The hub's certificate could not be made or read."""

    code = "certificate_failed"
    status = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class HubCertificate:
    """Where certificate and key are, and what a join code says about them."""

    certificate: Path
    key: Path
    fingerprint: str
    """SHA-256 of the DER form, 64 lower-case hexadecimal digits."""


def ensure_certificate(
    folder: Path, names: Sequence[str], *, openssl: str = "openssl"
) -> HubCertificate:
    """Return the certificate in `folder`; make it for `names` and loopback if there is none.

    An existing one is kept whatever its names are, since machines have pinned it. Blocks for some
    20 ms when it makes one.

    Raises:
        CertificateFailed: openssl is missing or failed, or the files are damaged or readable by
            others.
    """
    certificate, key = folder / "hub.crt", folder / "hub.key"
    if not (certificate.exists() and key.exists()):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make(folder, certificate, key, subject_names(names), openssl=openssl)
    if key.stat().st_mode & 0o077:
        raise CertificateFailed(f"{key} is readable by others; run: chmod 600 {key}")
    return HubCertificate(certificate=certificate, key=key, fingerprint=fingerprint(certificate))


def given(certificate: Path, key: Path) -> HubCertificate:
    """Return the files of the operator; a group may read the key, as some systems have one for it.

    Raises:
        CertificateFailed: they cannot be read, or everybody can read the key.
    """
    found = HubCertificate(certificate=certificate, key=key, fingerprint=fingerprint(certificate))
    try:
        mode = key.stat().st_mode
    except OSError as error:
        raise CertificateFailed(f"{key} cannot be read: {error.strerror}") from error
    if mode & 0o007:
        raise CertificateFailed(f"everybody can read {key}; run: chmod o= {key}")
    return found


def fingerprint(certificate: Path) -> str:
    """Return the SHA-256 fingerprint of a PEM certificate.

    Raises:
        CertificateFailed: the file is not a PEM certificate.
    """
    try:
        der = ssl.PEM_cert_to_DER_cert(certificate.read_text("ascii"))
    except (ValueError, OSError) as error:
        raise CertificateFailed(
            f"{certificate} is not a PEM certificate; restore it, or move it away to get a new one"
        ) from error
    return hashlib.sha256(der).hexdigest()


def server_context(certificate: HubCertificate) -> ssl.SSLContext:
    """Return a TLS context for the port: TLS 1.2 or newer, HTTP/1.1 only.

    Raises:
        CertificateFailed: key and certificate do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate.certificate, certificate.key)
    except (ssl.SSLError, OSError) as error:
        raise CertificateFailed(
            f"{certificate.key} does not fit {certificate.certificate}; restore both from a backup"
        ) from error
    return context


class LiveCertificate:
    """A TLS context that takes up a renewed certificate with the next connection."""

    def __init__(
        self, files: HubCertificate, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Raises `CertificateFailed`: key and certificate do not belong together."""
        self.context = server_context(files)
        self._files = files
        self._monotonic = monotonic
        self._stamp = _stamp(files)
        self._looked_at = monotonic()

    def look(self) -> None:
        """Take up what lies there now, if it changed and is whole; at most once a second."""
        now = self._monotonic()
        if now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        stamp = _stamp(self._files)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        path = str(self._files.certificate)
        try:
            server_context(self._files)  # aside: half a renewal would spoil the one in use
            self.context.load_cert_chain(self._files.certificate, self._files.key)
        except (CertificateFailed, ssl.SSLError, OSError) as error:
            log.warning(events.CERTIFICATE_REFUSED, path=path, reason=str(error))  # it says it
            return
        log.info(events.CERTIFICATE_RENEWED, path=path)


def _stamp(files: HubCertificate) -> tuple[object, ...]:
    """Return what tells one version of both files from another."""
    found: list[object] = []
    for path in (files.certificate, files.key):
        try:
            stat = path.stat()
        except OSError:
            found.append(None)
        else:
            found.append((stat.st_mtime_ns, stat.st_size, stat.st_ino))
    return tuple(found)


def subject_names(names: Sequence[str]) -> list[str]:
    """Return the subject alternative names for `names` and loopback, in openssl's notation.

    Raises:
        CertificateFailed: a name is neither an address nor a host name.
    """
    wanted = [name.strip("[]").lower() for name in names]
    unique = dict.fromkeys([*_LOOPBACK, *(name for name in wanted if name not in _WILDCARDS)])
    return [_subject_name(name) for name in unique]


def _subject_name(name: str) -> str:
    try:
        return f"IP:{ipaddress.ip_address(name)}"
    except ValueError:
        pass
    labels = name.removeprefix("*.").split(".")
    plain = all(label and label.replace("-", "").isalnum() and label.isascii() for label in labels)
    if not plain or len(name) > NAME_CHARS_MAX:
        raise CertificateFailed(f"{name!r} is neither an address nor a host name")
    return f"DNS:{name}"


def _make(
    folder: Path, certificate: Path, key: Path, names: Sequence[str], *, openssl: str
) -> None:
    with tempfile.TemporaryDirectory(dir=folder, prefix="new-") as name:  # mode 0700
        new_key, new_certificate = Path(name, "key"), Path(name, "crt")
        _run(
            openssl,
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-sha256"),
            *("-nodes", "-batch", "-days", str(VALID_DAYS), "-subj", "/CN=AgentCom hub"),
            *("-addext", "subjectAltName=" + ",".join(names)),
            *("-addext", "extendedKeyUsage=serverAuth"),
            *("-keyout", str(new_key), "-out", str(new_certificate)),
        )
        _settle(new_key, key, KEY_MODE)  # first: a certificate without its key is made anew
        _settle(new_certificate, certificate, CERTIFICATE_MODE)
    _sync(folder)


def _run(*argv: str) -> None:
    try:
        done = subprocess.run(  # noqa: S603  # argv from this file and checked names
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=OPENSSL_MS / 1000,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CertificateFailed("openssl did not finish; try again") from error
    except OSError as error:
        raise CertificateFailed(
            f"cannot run {argv[0]!r}, which makes the hub's certificate; install it "
            "(Debian: apt install openssl; macOS: brew install openssl), "
            "or configure a certificate and key of your own"
        ) from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise CertificateFailed(f"openssl failed: {lines[-1]}; version 1.1.1 or newer is needed")


def _settle(source: Path, target: Path, mode: int) -> None:
    source.chmod(mode)
    _sync(source)
    source.replace(target)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
