"""Whom the hub takes for the client when a proxy stands between."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentcom.hub.config import Bounds
from agentcom.hub.limits_guard import FAILURES_PER_ADDRESS
from agentcom.testing.hub import RunningHub, running_hub
from agentcom.transport.forwarded import HOPS_MAX, client_of, networks, trusts
from tests.access.plain_http import PlainHttp

PROXIES = networks(["10.0.0.0/24", "2001:db8::1", "127.0.0.1"])
WRONG = {"authorization": "Bearer acm_usr_nothing"}


def seen(peer: str, *said: str) -> str:
    headers = [(b"x-forwarded-for", text.encode("latin-1")) for text in said]
    return client_of(PROXIES, peer, headers, secure=False).address


@pytest.mark.parametrize(
    ("peer", "said", "client"),
    [
        ("10.0.0.1", ["192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", ["6.6.6.6, 192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", ["6.6.6.6", "192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", ["6.6.6.6, 192.0.2.7, 10.0.0.9"], "192.0.2.7"),
        ("10.0.0.1", ["192.0.2.7:4711"], "192.0.2.7"),
        ("10.0.0.1", ["[2001:db8:1::7]:4711"], "2001:db8:1::7"),
        ("10.0.0.1", ["::ffff:192.0.2.7"], "192.0.2.7"),
        ("::ffff:10.0.0.1", ["192.0.2.7"], "192.0.2.7"),
        ("2001:db8::1", ["192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["6.6.6.6, junk"], "10.0.0.1"),
        ("10.0.0.1", ["6.6.6.6, "], "10.0.0.1"),
        ("10.0.0.1", ["6.6.6.6, junk, 10.0.0.9"], "10.0.0.9"),
        ("192.0.2.9", ["6.6.6.6"], "192.0.2.9"),
        ("", ["6.6.6.6"], ""),
    ],
)
def test_the_last_address_that_is_no_proxys_is_the_clients(
    peer: str, said: list[str], client: str
) -> None:
    assert seen(peer, *said) == client


def test_a_long_way_is_not_followed_to_its_end() -> None:
    assert seen("10.0.0.1", ", ".join(["6.6.6.6", *["10.0.0.2"] * HOPS_MAX])) == "10.0.0.2"


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.sampled_from(["10.0.0.1", "192.0.2.9"]), st.lists(st.binary(max_size=40), max_size=3))
def test_whatever_the_header_says_the_answer_is_an_address(peer: str, said: list[bytes]) -> None:
    headers = [(b"x-forwarded-for", text) for text in said]

    found = client_of(PROXIES, peer, headers, secure=False).address

    assert found == peer if peer == "192.0.2.9" else networks([found])


def test_the_scheme_is_believed_from_a_proxy_only() -> None:
    headers = [(b"x-forwarded-proto", b"HTTPS")]

    assert client_of(PROXIES, "10.0.0.1", headers, secure=False).secure
    assert not client_of(PROXIES, "192.0.2.9", headers, secure=False).secure
    assert client_of(PROXIES, "10.0.0.1", [], secure=True).secure


def test_without_proxies_nobody_is_one() -> None:
    assert not trusts((), "127.0.0.1")
    assert not trusts(PROXIES, "localhost")


async def _fail(hub: RunningHub, address: str) -> str:
    async with hub.client(None) as http:
        headers = {**WRONG, "x-forwarded-for": address}
        return str((await http.get("/api/v1/status", headers=headers)).json()["code"])


async def test_who_fails_behind_a_proxy_is_refused_alone() -> None:
    async with running_hub(trusted_proxies=("127.0.0.1",)) as hub:
        answers = [await _fail(hub, "192.0.2.7") for _ in range(2 * FAILURES_PER_ADDRESS.burst)]
        other = await _fail(hub, "192.0.2.8")

    assert answers[0] == other == "not_authenticated"
    assert "rate_limited" in answers  # on a busy computer not the last: some room comes back


async def test_a_header_that_no_trusted_proxy_sent_changes_nothing() -> None:
    async with running_hub() as hub:
        asked = range(2 * FAILURES_PER_ADDRESS.burst)
        answers = [await _fail(hub, f"192.0.2.{number}") for number in asked]

    assert "rate_limited" in answers


async def test_connections_of_a_proxy_are_not_counted_as_one_strangers() -> None:
    bounds = Bounds(untrusted_per_address_max=1, untrusted_max=1)
    async with (
        running_hub(trusted_proxies=("127.0.0.1",), limits=bounds) as hub,
        hub.client(None) as one,
        hub.client(None) as other,
    ):
        answers = [await http.get("/healthz") for http in (one, other)]

    assert [answer.status_code for answer in answers] == [200, 200]


async def test_a_page_behind_a_proxy_that_ends_tls_is_the_hubs_own() -> None:
    url = "https://hub.example"
    async with running_hub(trusted_proxies=("127.0.0.1",), public_url=url) as hub:
        bearer = f"Bearer {hub.admin_token}"
        headers = {"host": "hub.example", "origin": url, "authorization": bearer}
        async with PlainHttp.connect(hub.info.port) as http:
            plain, through = [
                await http.ask("POST", "/api/v1/calls/whoami", body={}, headers=headers | more)
                for more in ({}, {"x-forwarded-proto": "https"})
            ]

    assert (plain.json["code"], through.status) == ("wrong_origin", 200)
