"""Which addresses the hub sends to: however one is written, none leads inside."""

import ipaddress
import socket

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from agentcom.core import outgoing
from agentcom.core.outgoing import is_public, parse, parse_allowed, refusal
from agentcom.model.errors import InvalidInput

INSIDE = (
    *("127.0.0.1", "127.8.9.1", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
    *("169.254.169.254", "169.254.170.2", "100.64.0.1", "100.100.100.200", "0.0.0.0", "0.1.2.3"),
    *("224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.0.1", "192.0.2.1", "198.18.0.1"),
    *("198.51.100.1", "203.0.113.1", "168.63.129.16", "192.88.99.1"),
    *("::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1"),
    *("64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1", "100::1", "fe80::1", "fec0::1"),
    *("fc00::1", "fd00:ec2::254", "ff02::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "3fff::1"),
)
OUTSIDE = ("8.8.8.8", "1.1.1.1", "93.184.215.14", "2606:4700:4700::1111", "2a00:1450:4001::1")
REFUSED = (
    *(
        "https://user@example.com/",
        "https://user:pass@example.com/",
        "https://example.com@evil.com",
    ),
    *("https://127.1/", "https://2130706433/", "https://0x7f000001/", "https://0x7f.0.0.1/"),
    *("https://0177.0.0.1/", "https://017700000001/", "https://127.0.0.1.:443/", "https://1.2.3/"),
    *("https://127.0.0.0x1/", "https://example.0x7f/", "https://example.1/", "https://256.1.1.1/"),
    *("https://[::1", "https://::1/", "https://[fe80::1%25eth0]/", "https://[::ffff:127.0.0.1/"),
    *(
        "https://exa mple.com/",
        "https://exam\tple.com",
        "https://example.com\\@evil.com/",
        "https:/x",
    ),
    *("https://ex%61mple.com/", "https://localhost%00.example.com/", "http:example.com", "//a/"),
    *(
        "https://①②⑦.0.0.1/",
        "https://\uff11\uff12\uff17.0.0.1/",
        "https://ⓔxample.com/",
        "https://bücher.de/",
    ),
    *(
        "https://127。0。0。1/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://a/",
        "data:,x",
    ),
    *("https://example.com:0/", "https://example.com:65536/", "https://example.com:99999999999/"),
    *("https://-a.com/", "https://a-.com/", "https://a..b/", "https://.a/", "https://a_b.com/", ""),
    *("https://example.com/\r\nHost: x", "https://example.com/#@x", " https://example.com/"),
    "https://" + "a." * 2_000 + "com/",
)


@pytest.mark.parametrize("text", INSIDE)
def test_an_address_inside_is_refused(text: str) -> None:
    address = ipaddress.ip_address(text)

    assert not is_public(address)
    assert refusal("x.example", address, 443, (), secure=True) is not None


@pytest.mark.parametrize("text", OUTSIDE)
def test_a_public_address_is_taken_by_tls_only(text: str) -> None:
    address = ipaddress.ip_address(text)

    assert refusal("x.example", address, 443, (), secure=True) is None
    assert refusal("x.example", address, 80, (), secure=False) is not None


@pytest.mark.parametrize("url", REFUSED)
def test_what_programs_read_differently_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        parse(url)


def test_a_plain_address_is_taken_apart() -> None:
    found = parse("HTTPS://Hooks.Example.COM/services/T0/B0?x=1")

    assert found == ("https", "hooks.example.com", 443, "/services/T0/B0?x=1")
    assert found.shown == "https://hooks.example.com"
    assert parse("http://[2606:4700::1]:8080").shown == "http://[2606:4700::1]:8080"
    assert parse("https://xn--bcher-kva.de/x").host == "xn--bcher-kva.de"


def spelled(address: ipaddress.IPv4Address) -> list[str]:
    """Return ways in which old programs take an address of IPv4."""
    a, b, c, d = address.packed
    number = int(address)
    return [
        *(str(number), hex(number), oct(number).replace("0o", "0"), f"{a}.{number & 0xFFFFFF}"),
        *(
            f"{a}.{b}.{(c << 8) + d}",
            f"{a:#x}.{b:#x}.{c:#x}.{d:#x}",
            f"0{a:o}.0{b:o}.0{c:o}.0{d:o}",
        ),
        *(f"{a}.{b}.{c}.{d:#x}", f"[::ffff:{address}]", f"[::{address}]", f"0{a}.{b}.{c}.{d}"),
        *(f"[::ffff:{a * 256 + b:x}:{c * 256 + d:x}]", f"[64:ff9b::{address}]", str(address)),
        f"[2002:{a * 256 + b:x}:{c * 256 + d:x}::]",
    ]


@given(number=st.integers(0, (1 << 32) - 1), way=st.integers(0, 14))
@example(number=0x7F000001, way=0)
@example(number=0xA9FEA9FE, way=8)
def test_no_spelling_of_an_address_inside_gets_through(number: int, way: int) -> None:
    address = ipaddress.IPv4Address(number)
    assume(not is_public(address))
    try:
        target = parse(f"https://{spelled(address)[way]}/")
    except InvalidInput:
        return
    found = socket.getaddrinfo(
        target.host, 443, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
    )

    for place in found:
        met = ipaddress.ip_address(place[4][0])
        assert refusal(target.host, met, 443, (), secure=True) is not None


@given(text=st.text(max_size=40))
def test_any_text_is_taken_apart_or_refused_and_what_is_taken_is_plain(text: str) -> None:
    try:
        target = parse(f"https://{text}")
    except InvalidInput:
        return

    assert target.host.isascii()
    assert "@" not in target.host
    assert target.shown.isprintable()


@given(number=st.integers(0, (1 << 128) - 1))
def test_an_ipv6_address_with_one_of_ipv4_inside_is_never_public(number: int) -> None:
    address = ipaddress.IPv6Address(number)

    if address.ipv4_mapped is not None or address.sixtofour is not None or address.teredo:
        assert not is_public(address)


def test_an_operator_allows_by_name_address_or_network_with_or_without_a_port() -> None:
    loopback, private = ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("10.1.2.3")
    allowed = [parse_allowed(text) for text in ("10.0.0.0/8", "hooks.internal:8443", "[::1]:25")]

    assert refusal("a", private, 80, allowed, secure=False) is None
    assert refusal("hooks.internal", loopback, 8443, allowed, secure=False) is None
    assert refusal("hooks.internal", loopback, 443, allowed, secure=True) is not None
    assert refusal("b", loopback, 8443, allowed, secure=True) is not None
    assert refusal("::1", ipaddress.ip_address("::1"), 25, allowed, secure=False) is None


@pytest.mark.parametrize("text", ["", "10.0.0.0/33", "a b", "10.0.0.1/8", "x:y:z", "[::1", "1.2.3"])
def test_a_line_of_the_list_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_allowed(text)


def test_a_host_of_mail_is_held_to_the_same() -> None:
    assert outgoing.check_host("smtp.example.org") == "smtp.example.org"
    for text in ("127.1", "a b", "smtp@x", "0x7f.1", "::g"):
        with pytest.raises(InvalidInput):
            outgoing.check_host(text)
