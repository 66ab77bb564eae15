"""Tokens over HTTP: accounts of programs, scopes, ends, and what ends with a token."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from agentcom.hub import services
from agentcom.hub.limits_guard import RATES, Traffic
from agentcom.model.identity import Role
from agentcom.model.rates import Rate
from agentcom.testing.hub import RunningHub, running_hub
from agentcom.testing.waiting import PATIENCE_S

COST = 20  # units of one look at the costs
GRANTED = RATES[Traffic.QUERY].burst // COST
MCP = {"accept": "application/json, text/event-stream"}


@pytest.fixture
async def hub() -> AsyncIterator[RunningHub]:
    async with running_hub() as hub:
        yield hub


async def made(http: httpx.AsyncClient, path: str = "/api/v1/tokens", **body: Any) -> Any:
    answer = await http.post(path, json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def code(http: httpx.AsyncClient, method: str, path: str, **more: Any) -> str:
    answer = await http.request(method, path, **more)
    return "yes" if answer.is_success else str(answer.json()["code"])


def _rpc(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


async def test_a_program_has_tokens_and_lets_nobody_in(hub: RunningHub) -> None:
    first = await made(hub.http, "/api/v1/service-accounts", name="nightly", role="operator")
    second = await made(hub.http, owner="nightly", role="submitter")
    users = (await hub.http.get("/api/v1/users")).json()["users"]

    for token in (first["token"], second["token"]):
        async with hub.client(token) as http:
            who = (await http.get("/api/v1/whoami")).json()
            assert (who["user"], who["service"]) == ("nightly", True)
            assert await code(http, "POST", "/api/v1/tokens", json={}) == "not_allowed"
            asked = {"name": "eve", "role": "viewer"}
            assert await code(http, "POST", "/api/v1/users", json=asked) == "not_allowed"
            assert await code(http, "POST", "/api/v1/machines/invite", json={}) == "not_allowed"
            assert await code(http, "POST", "/api/v1/tokens/self/rotate", json={}) == "yes"
    assert [user["id"] for user in users if user.get("service")] == ["nightly"]


async def test_nobody_logs_in_as_a_program_nor_a_program_as_a_person(hub: RunningHub) -> None:
    await made(hub.http, "/api/v1/service-accounts", name="nightly")
    await hub.user("eve", Role.VIEWER)

    asked = {"name": "nightly", "role": "submitter"}
    assert await code(hub.http, "POST", "/api/v1/users", json=asked) == "name_taken"
    for name in ("nightly", "eve"):
        body = {"name": name, "role": "viewer"}
        assert await code(hub.http, "POST", "/api/v1/service-accounts", json=body) == "name_taken"


async def test_a_removed_program_has_no_token_left(hub: RunningHub) -> None:
    one = await made(hub.http, "/api/v1/service-accounts", name="nightly")
    two = await made(hub.http, owner="nightly")

    await hub.http.delete("/api/v1/users/nightly")

    for token in (one["token"], two["token"]):
        async with hub.client(token) as http:
            assert await code(http, "GET", "/api/v1/whoami") == "not_authenticated"


async def test_an_admin_who_is_a_program_is_not_the_last_admin(hub: RunningHub) -> None:
    await made(hub.http, "/api/v1/service-accounts", name="robot", role="admin")

    shown = (await hub.http.get("/api/v1/users/ann/removal")).json()
    assert shown["last_admin"]


async def test_a_token_that_may_only_submit_sees_nothing(hub: RunningHub) -> None:
    token = (await made(hub.http, scopes=["submit"]))["token"]
    task = {"title": "t", "prompt": "p"}

    async with hub.client(token) as http:
        assert await code(http, "POST", "/api/v1/tasks", json=task) == "yes"
        assert await code(http, "GET", "/api/v1/tasks") == "not_allowed"
        assert await code(http, "POST", "/api/v1/tokens", json={}) == "not_allowed"


@pytest.mark.parametrize(
    "body", [{"scopes": ["all"]}, {"scopes": "read"}, {"ttl_ms": -1}, {"scopes": ["read"] * 9}]
)
async def test_what_is_no_scope_or_span_is_refused(hub: RunningHub, body: Any) -> None:
    assert await code(hub.http, "POST", "/api/v1/tokens", json=body) == "invalid_input"


async def test_a_rotated_token_and_its_successor_are_told_apart(hub: RunningHub) -> None:
    old = await made(hub.http, ttl_ms=0, note="n")
    path = f"/api/v1/tokens/{old['credential']['id']}/rotate"
    new = await made(hub.http, path, grace_ms=60_000)

    shown = {row["id"]: row for row in (await hub.http.get("/api/v1/tokens")).json()["tokens"]}
    assert shown[old["credential"]["id"]]["replaced_by"] == new["credential"]["id"]
    assert "expires_at" not in shown[new["credential"]["id"]]
    for token in (old["token"], new["token"]):
        async with hub.client(token) as http:
            assert await code(http, "GET", "/api/v1/whoami") == "yes"


@pytest.mark.parametrize("door", ["call", "mcp"])
async def test_a_request_that_waits_ends_with_its_token(hub: RunningHub, door: str) -> None:
    token = await made(hub.http)
    path, body = "/api/v1/calls/inbox_read", dict[str, Any](wait_ms=25_000)
    if door == "mcp":
        path, body = "/mcp", _rpc("tools/call", name="inbox_read", arguments=body)
    async with hub.client(token["token"]) as http, asyncio.timeout(PATIENCE_S):
        await http.post("/mcp", json=_rpc("tools/list"), headers=MCP)  # loads the SDK
        waiting = asyncio.create_task(http.post(path, json=body, headers=MCP))
        for _ in range(20):  # meanwhile it arrives
            await hub.http.get("/healthz")
        assert not waiting.done()
        await hub.http.delete(f"/api/v1/tokens/{token['credential']['id']}")
        answer = await waiting

    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")


@pytest.fixture
async def strict(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RunningHub]:
    """A hub whose budgets do not fill again while a test runs, however slow that is."""
    rates = {traffic: Rate(1, 3_600_000, rate.burst) for traffic, rate in RATES.items()}
    monkeypatch.setattr(services, "RATES", rates)
    async with running_hub() as hub:
        yield hub


async def test_a_flood_by_one_leaves_the_others_their_answers(strict: RunningHub) -> None:
    """By counts: what the one gets is its budget, what the other gets is all it asks for."""
    flood = (await strict.user("flood", Role.VIEWER)).token
    calm = (await strict.user("calm", Role.VIEWER)).token
    at_once, asked = 20, 400
    answers: list[int] = []
    between: list[int] = []

    async def pour(http: httpx.AsyncClient) -> None:
        while len(answers) < asked:
            answers.append((await http.get("/api/v1/cost")).status_code)

    async with strict.client(flood) as hot, strict.client(calm) as cool:
        pouring = [asyncio.create_task(pour(hot)) for _ in range(at_once)]
        while len(answers) < asked:
            before = len(answers)
            assert (await cool.get("/api/v1/agents")).status_code == 200
            between.append(len(answers) - before)
        await asyncio.gather(*pouring)

    # A calm request waits for what is under way while its thread gets a turn, not for all.
    assert sorted(between)[len(between) // 2] <= asked // 4
    assert answers.count(200) == GRANTED
    assert answers.count(429) == len(answers) - GRANTED


async def test_what_weighs_more_is_refused_sooner(strict: RunningHub) -> None:
    token = (await strict.user("flood", Role.VIEWER)).token
    async with strict.client(token) as http:
        statuses = [(await http.get("/api/v1/cost")).status_code for _ in range(GRANTED)]
        refused = await http.get("/api/v1/cost")
        light = await http.get("/api/v1/whoami")

    assert statuses == [200] * GRANTED
    assert refused.status_code == light.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
