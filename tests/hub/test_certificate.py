import contextlib
import hashlib
import shutil
import ssl
import stat
import subprocess
from pathlib import Path

import pytest

from agentcom.hub.certificate import (
    CertificateFailed,
    HubCertificate,
    LiveCertificate,
    ensure_certificate,
    given,
    server_context,
    subject_names,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> HubCertificate:
    folder = tmp_path_factory.mktemp("hub") / "tls"
    return ensure_certificate(folder, ["hub.example", "192.0.2.7", "0.0.0.0", "[2001:DB8::1]"])


def shown(made: HubCertificate, *options: str) -> str:
    """Return what openssl reads in the certificate."""
    argv = ["openssl", "x509", "-in", str(made.certificate), "-noout", *options]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def test_it_names_the_hub_and_loopback(made: HubCertificate) -> None:
    text = shown(made, "-ext", "subjectAltName")

    assert "DNS:localhost, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1" in text
    assert "DNS:hub.example, IP Address:192.0.2.7, IP Address:2001:DB8:0:0:0:0:0:1" in text
    assert "0.0.0.0" not in text


def test_the_key_is_p256_and_private(made: HubCertificate) -> None:
    assert "NIST CURVE: P-256" in shown(made, "-text")
    assert stat.S_IMODE(made.key.stat().st_mode) == 0o600
    assert stat.S_IMODE(made.key.parent.stat().st_mode) == 0o700
    assert sorted(it.name for it in made.key.parent.iterdir()) == ["hub.crt", "hub.key"]


def test_the_fingerprint_is_that_of_the_certificate_on_the_wire(made: HubCertificate) -> None:
    der = ssl.PEM_cert_to_DER_cert(made.certificate.read_text())
    text = shown(made, "-fingerprint", "-sha256").replace(":", "").lower()

    assert made.fingerprint == hashlib.sha256(der).hexdigest()
    assert made.fingerprint in text


def test_it_is_kept_for_machines_that_pinned_it(made: HubCertificate) -> None:
    again = ensure_certificate(made.key.parent, ["other.example"], openssl="never-run")

    assert again == made


def test_a_half_made_pair_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "hub.key").write_text("left over")

    made = ensure_certificate(tmp_path, [])

    server_context(made)
    assert made.key.read_text().startswith("-----BEGIN")


def test_a_missing_openssl_names_the_fix(tmp_path: Path) -> None:
    with pytest.raises(CertificateFailed, match=r"install it.*apt install openssl"):
        ensure_certificate(tmp_path, [], openssl="no-such-openssl")


def test_a_failing_openssl_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(CertificateFailed, match="openssl failed"):
        ensure_certificate(tmp_path, [], openssl="false")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a b", "x,DNS:evil.example", "exa_mple..", "é.example", "a\nb"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(CertificateFailed, match="neither an address nor a host name"):
        subject_names([name])


def test_wildcard_addresses_are_no_names() -> None:
    assert subject_names(["0.0.0.0", "::", "", "*.hub.example"]) == [
        "DNS:localhost",
        "IP:127.0.0.1",
        "IP:::1",
        "DNS:*.hub.example",
    ]


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    made = ensure_certificate(tmp_path, [])
    made.key.chmod(0o644)

    with pytest.raises(CertificateFailed, match="chmod 600"):
        ensure_certificate(tmp_path, [])


def test_a_given_key_that_everybody_can_read_is_refused(tmp_path: Path) -> None:
    made = ensure_certificate(tmp_path, ["hub.example"])
    made.key.chmod(0o640)
    assert given(made.certificate, made.key) == made

    made.key.chmod(0o644)
    with pytest.raises(CertificateFailed, match="chmod o="):
        given(made.certificate, made.key)
    made.key.unlink()
    with pytest.raises(CertificateFailed, match="cannot be read"):
        given(made.certificate, made.key)


def test_a_damaged_certificate_is_refused(tmp_path: Path) -> None:
    made = ensure_certificate(tmp_path, [])
    made.certificate.write_text("not a certificate")

    with pytest.raises(CertificateFailed, match="not a PEM certificate"):
        ensure_certificate(tmp_path, [])


def test_a_key_of_another_certificate_is_refused(made: HubCertificate, tmp_path: Path) -> None:
    other = ensure_certificate(tmp_path, [])
    other.key.write_bytes(made.key.read_bytes())

    with pytest.raises(CertificateFailed, match="does not fit"):
        server_context(other)


class Seconds:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def served(context: ssl.SSLContext) -> str:
    """Return the fingerprint of what a client is shown now."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    asked, answered = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(incoming, outgoing, server_side=True)
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    client = trusting.wrap_bio(answered, asked)
    for _ in range(4):
        for side in (client, server):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
            incoming.write(asked.read())
            answered.write(outgoing.read())
    der = client.getpeercert(binary_form=True)
    assert der is not None
    return hashlib.sha256(der).hexdigest()


def test_a_renewed_certificate_is_served_without_a_restart(tmp_path: Path) -> None:
    first = ensure_certificate(tmp_path / "a", [])
    second = ensure_certificate(tmp_path / "b", [])
    clock = Seconds()
    live = LiveCertificate(first, monotonic=clock)
    assert served(live.context) == first.fingerprint

    shutil.copy(second.certificate, first.certificate)
    clock.now += 2
    live.look()
    assert served(live.context) == first.fingerprint, "half a renewal is not taken up"

    shutil.copy(second.key, first.key)
    live.look()
    assert served(live.context) == first.fingerprint, "looks are a second apart"
    clock.now += 2
    live.look()
    assert served(live.context) == second.fingerprint


def test_what_is_not_a_certificate_any_more_leaves_the_old_one(tmp_path: Path) -> None:
    files = ensure_certificate(tmp_path, [])
    clock = Seconds()
    live = LiveCertificate(files, monotonic=clock)

    for spoil in (lambda: files.certificate.write_text("x"), files.certificate.unlink):
        spoil()
        clock.now += 2
        live.look()
        assert served(live.context) == files.fingerprint
