"""The MCP door, as the SDK's own client and plain HTTP see it."""

import asyncio
import importlib.util
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from agentcom.hub.config import Bounds
from agentcom.model.identity import Role
from agentcom.testing.hub import RunningHub, running_hub
from agentcom.transport import http_mcp
from tests.transport.mcp_client import ERAS, Era, mcp_client, refused, use

ACCEPT = {"accept": "application/json, text/event-stream"}
MODERN = {**ACCEPT, "mcp-protocol-version": "2026-07-28"}
NOTE = {"name": "plan", "text": "one"}


@pytest.fixture
async def hub() -> AsyncIterator[RunningHub]:
    async with running_hub() as hub:
        yield hub


def request(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


@pytest.mark.parametrize("era", ERAS)
async def test_a_person_shares_a_note_by_tools(hub: RunningHub, era: Era) -> None:
    async with mcp_client(hub.url, hub.admin_token, era=era) as client:
        written = await use(client, "note_write", NOTE)
        read = await use(client, "note_read", {"name": "plan"})
    by_http = await hub.http.post("/api/v1/calls/note_read", json={"name": "plan"})

    assert written["note"]["text"] == "one"
    assert read == by_http.json()


async def test_a_repeat_with_its_key_changes_nothing_more(hub: RunningHub) -> None:
    async with mcp_client(hub.url, hub.admin_token) as client:
        first = await use(client, "note_write", {**NOTE, "request_key": "k1"})
        again = await use(client, "note_write", {**NOTE, "request_key": "k1"})
        other = await refused(client, "note_write", {**NOTE, "text": "two", "request_key": "k1"})

    assert again == first
    assert other["code"] == "key_reused"


async def test_the_key_is_the_same_behind_all_doors(hub: RunningHub) -> None:
    async with mcp_client(hub.url, hub.admin_token) as client:
        first = await use(client, "note_write", {**NOTE, "request_key": "k1"})
    headers = {"idempotency-key": "k1"}
    again = await hub.http.post("/api/v1/calls/note_write", json=NOTE, headers=headers)

    assert again.json() == first


@pytest.mark.parametrize(
    ("given", "code", "names"),
    [
        ({"name": "plan"}, "invalid_input", "text"),
        ({**NOTE, "sender": "bob"}, "invalid_input", "sender"),
        ({**NOTE, "call": "note_delete"}, "invalid_input", "call"),
        ({**NOTE, "version": 1.5}, "invalid_input", "version"),
        ({**NOTE, "version": 2**70}, "invalid_input", "version"),
        ({**NOTE, "text": "a\0b"}, "invalid_input", "NUL"),
        ({**NOTE, "request_key": ""}, "invalid_input", "key"),
        ({**NOTE, "request_key": 7}, "invalid_input", "request_key"),
        ({"name": "../x", "text": "t"}, "invalid_input", "name"),
    ],
)
async def test_bad_arguments_are_refused_by_name_and_change_nothing(
    hub: RunningHub, given: dict[str, Any], code: str, names: str
) -> None:
    async with mcp_client(hub.url, hub.admin_token) as client:
        said = await refused(client, "note_write", given)
        notes = await use(client, "note_list")

    assert (said["code"], names in said["message"]) == (code, True)
    assert notes == {}


async def test_what_a_role_may_not_it_may_not_by_tools(hub: RunningHub) -> None:
    viewer = await hub.user("vic", Role.VIEWER)

    async with mcp_client(hub.url, viewer.token) as client:
        said = await refused(client, "note_write", NOTE)

    assert said["code"] == "not_allowed"


async def test_a_tool_of_another_profile_does_not_exist(hub: RunningHub) -> None:
    body = request("tools/call", name="note_delete", arguments={"name": "plan"})

    minimal = await hub.http.post("/mcp", json=body, headers=ACCEPT)
    full = await hub.http.post("/mcp?profile=full", json=body, headers=ACCEPT)

    assert minimal.json()["error"]["code"] == -32602
    assert "not_found" in full.json()["result"]["content"][0]["text"]


async def test_nobody_comes_in_without_a_token(hub: RunningHub) -> None:
    async with hub.client(None) as stranger:
        answers = [await stranger.post("/mcp", json=request("tools/list"), headers=ACCEPT)]
        bad = {**ACCEPT, "authorization": "Bearer nonsense"}
        answers += [await stranger.post("/mcp", json=request("tools/list"), headers=bad)]

    for answer in answers:
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["code"] == "not_authenticated"


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"host": "evil.example"}, 421), ({"origin": "https://evil.example"}, 403)],
)
async def test_a_foreign_page_is_kept_out(
    hub: RunningHub, headers: dict[str, str], status: int
) -> None:
    body = request("tools/list")

    answer = await hub.http.post("/mcp", json=body, headers={**ACCEPT, **headers})

    assert answer.status_code == status


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
async def test_there_are_no_sessions_to_open_or_end(hub: RunningHub, method: str) -> None:
    answer = await hub.http.request(method, "/mcp", headers=ACCEPT)

    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_an_unknown_profile_is_refused(hub: RunningHub) -> None:
    answer = await hub.http.post("/mcp?profile=huge", json=request("ping"), headers=ACCEPT)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")


@pytest.mark.parametrize("headers", [ACCEPT, MODERN])
@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"\xff", b'{"jsonrpc":"2.0"}', b"[" * 100_000, b'{"id":"\\ud800"}']
)
async def test_what_is_no_message_is_refused_and_the_hub_goes_on(
    hub: RunningHub, headers: dict[str, str], body: bytes
) -> None:
    typed = {**headers, "content-type": "application/json"}
    answer = await hub.http.post("/mcp", content=body, headers=typed)

    assert answer.is_client_error
    assert (await hub.http.post("/mcp", json=request("ping"), headers=ACCEPT)).is_success


async def test_a_body_over_the_limit_is_refused(hub: RunningHub) -> None:
    body = request("tools/call", name="note_write", arguments={**NOTE, "text": "x" * (1 << 20)})

    answer = await hub.http.post("/mcp", json=body, headers=ACCEPT)

    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


async def test_a_hub_without_the_sdk_says_so_and_goes_on(
    hub: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "mcp" else found(name)
    )

    answer = await hub.http.post("/mcp", json=request("ping"), headers=ACCEPT)
    note = await hub.http.post("/api/v1/calls/note_write", json=NOTE)

    assert (answer.status_code, answer.json()["code"]) == (501, "not_installed")
    assert note.is_success


@pytest.fixture
async def generous() -> AsyncIterator[RunningHub]:
    """A hub that counts no requests of any kind, only those that wait."""
    async with running_hub(limits=Bounds(rates=False)) as hub:
        yield hub


async def test_one_token_has_a_bounded_number_of_requests_that_wait(
    generous: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_mcp, "REQUESTS_MAX", 1)
    other = await generous.user("bob", Role.SUBMITTER)
    wait = request("tools/call", name="inbox_read", arguments={"wait_ms": 25_000})

    async def ping() -> httpx.Response:
        return await generous.http.post("/mcp", json=request("ping"), headers=ACCEPT)

    async def until_refused() -> tuple[asyncio.Task[httpx.Response], httpx.Response]:
        while True:
            waiting = asyncio.create_task(generous.http.post("/mcp", json=wait, headers=ACCEPT))
            while not waiting.done():  # done: it was refused itself, since a ping was under way
                answer = await ping()
                if not answer.is_success:
                    return waiting, answer

    async with generous.client(other.token) as another:
        waiting, refused = await until_refused()
        allowed = await another.post("/mcp", json=request("ping"), headers=ACCEPT)
        letter = {"to": ["ann"], "body": "hello"}
        await another.post("/api/v1/calls/message_send", json=letter)
        read = await waiting
    after = await ping()

    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert allowed.is_success
    assert "hello" in read.text
    assert after.is_success


async def test_every_answer_has_its_request_s_id(hub: RunningHub) -> None:
    headers = {**ACCEPT, "x-request-id": "abc-123"}

    answer = await hub.http.post("/mcp", json=request("ping"), headers=headers)

    assert answer.headers["x-request-id"] == "abc-123"
    assert isinstance(answer, httpx.Response)
