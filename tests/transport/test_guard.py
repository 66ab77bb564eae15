from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from agentcom.model.errors import AgentComError, MalformedInput, RateLimited
from agentcom.transport.census import Admission, Census
from agentcom.transport.guard import (
    Rules,
    TokenInQuery,
    WrongHost,
    WrongOrigin,
    check_host,
    check_origin,
    check_query,
)
from agentcom.transport.problem import http_bytes, problem_bytes, refusal
from agentcom.transport.socket import Head, PortLimits
from tests.transport.wire import GET, UPGRADE, Serve, serving


def head(*, query: bytes = b"", secure: bool = False, **headers: str) -> Head:
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    return Head(method="GET", path=b"/", query=query, headers=pairs, peer="::1", secure=secure)


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    async with serving() as start:
        yield start


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:7420",
        "127.0.0.1:1",
        "[::1]:7420",
        "[::1]",
        "hub.example.",
        "hub.example:1",
    ],
)
def test_loopback_and_configured_names_may_be_asked_for(host: str) -> None:
    check_host(head(host=host), {"hub.example"})


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.2", "", "[::1].evil", "[::2]", "::1"],
)
def test_other_names_are_refused(host: str) -> None:
    with pytest.raises(WrongHost):
        check_host(head(host=host), {"hub.example"})


def test_a_request_names_exactly_one_host() -> None:
    twice = Head(
        method="GET",
        path=b"/",
        query=b"",
        headers=[(b"host", b"localhost"), (b"host", b"localhost")],
        peer="",
        secure=False,
    )

    for wrong in (twice, head()):
        with pytest.raises(MalformedInput):
            check_host(wrong, set())


@pytest.mark.parametrize(
    "allowed",
    [
        head(host="localhost:7420"),
        head(host="localhost:7420", origin="http://localhost:7420"),
        head(host="localhost:7420", origin="https://localhost:7420", secure=True),
        head(host="localhost:7420", origin="https://board.example"),
        head(host="localhost:7420", cookie="a=b", authorization="Bearer x"),
    ],
)
def test_programs_our_own_pages_and_listed_pages_may_call(allowed: Head) -> None:
    check_origin(allowed, {"https://board.example"})


@pytest.mark.parametrize(
    "refused",
    [
        head(host="localhost:7420", origin="null"),
        head(host="localhost:7420", origin="http://evil.example"),
        head(host="localhost:7420", origin="http://localhost:7421"),
        head(host="localhost:7420", origin="http://localhost:7420", secure=True),
        head(host="localhost:7420", origin="http://evil.example", authorization="Bearer x"),
        head(host="localhost:7420", cookie="a=b"),
    ],
)
def test_foreign_pages_and_bare_cookies_are_refused(refused: Head) -> None:
    with pytest.raises(WrongOrigin):
        check_origin(refused, {"https://board.example"})


@pytest.mark.parametrize(
    "query", [b"token=x", b"a=b&token=x", b"access_token=x", b"Access%5Ftoken=x", b"a=b&TOKEN="]
)
def test_a_token_in_the_query_is_refused_without_its_value(query: bytes) -> None:
    with pytest.raises(TokenInQuery) as caught:
        check_query(head(query=query))

    assert "=x" not in caught.value.message


def test_other_queries_pass() -> None:
    check_query(head(query=b"after=3&tokens=4&q=token"))


@pytest.mark.parametrize("request_head", [GET, UPGRADE])
@pytest.mark.parametrize(
    ("old", "new", "status", "code"),
    [
        (b"localhost", b"evil.example", 421, "wrong_host"),
        (b"Host: localhost\r\n", b"", 400, "malformed"),
        (b" HTTP", b"?token=acm_secret HTTP", 400, "token_in_query"),
    ],
)
async def test_sockets_and_requests_have_the_same_rules(
    serve: Serve,
    request_head: bytes,
    old: bytes,
    new: bytes,
    status: int,
    code: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")
    wire = await (await serve()).connect()

    answered = await wire.ask(request_head.replace(old, new))

    assert answered.status == status
    assert msgspec.json.decode(answered.body)["code"] == code
    assert b"acm_secret" not in answered.body
    assert "acm_secret" not in caplog.text


async def test_a_foreign_page_may_read_nothing_by_socket_and_change_nothing(serve: Serve) -> None:
    site = await serve(rules=Rules(origins=frozenset({"https://board.example"})))
    foreign = b"Origin: http://evil.example\r\n\r\n"
    ours = b"Origin: https://board.example\r\n\r\n"

    async def ask(data: bytes) -> int:
        return (await (await site.connect()).ask(data)).status

    assert await ask(UPGRADE[:-2] + foreign) == 403
    assert await ask(GET.replace(b"GET", b"DELETE")[:-2] + foreign) == 403
    assert await ask(GET[:-2] + foreign) == 200
    assert await ask(UPGRADE[:-2] + ours) == 101


def test_a_problem_says_when_to_come_back() -> None:
    error = RateLimited("too fast", retry_after_ms=1_001)

    answer = refusal(error)

    assert msgspec.json.decode(problem_bytes(error)) == {
        "type": "about:blank",
        "title": "Too Many Requests",
        "status": 429,
        "detail": "too fast",
        "code": "rate_limited",
        "retry_after": 2,
    }
    assert (b"retry-after", b"2") in answer.headers
    assert http_bytes(answer).startswith(b"HTTP/1.1 429 Too Many Requests\r\n")


def test_an_unknown_status_has_a_title_too() -> None:
    class Odd(AgentComError):
        """Odd."""

        status = 499

    document: dict[str, Any] = msgspec.json.decode(problem_bytes(Odd()))

    assert (document["title"], document["detail"]) == ("Refused", "Odd.")


def test_addresses_of_one_ipv6_customer_count_as_one() -> None:
    census = Census(PortLimits(untrusted_per_address_max=1))

    assert census.enter("2001:db8::1") is Admission.COUNTED
    assert census.enter("2001:db8::2") is Admission.PROBATION
    assert census.enter("2001:db8:0:1::1") is Admission.COUNTED
    assert census.enter("::ffff:192.0.2.1") is Admission.COUNTED
    assert census.enter("192.0.2.1") is Admission.PROBATION
    census.leave("2001:db8::1", Admission.COUNTED)
    assert census.enter("2001:db8::2") is Admission.COUNTED


def test_strangers_are_capped_in_all() -> None:
    census = Census(PortLimits(untrusted_max=1, probation_max=1))

    first = census.enter("192.0.2.1")
    second = census.enter("192.0.2.2")

    assert (first, second) == (Admission.COUNTED, Admission.PROBATION)
    assert census.enter("192.0.2.3") is Admission.FULL
    census.leave("192.0.2.2", second)
    assert census.enter("192.0.2.3") is Admission.PROBATION
