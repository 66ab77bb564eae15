"""The audit log through the door: what is recorded, who reads it, and that a flood stays small."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest

from agentcom.model.audit import AuditEntry, Verifier
from agentcom.model.identity import Role
from agentcom.model.policy import AUDITED, Action
from agentcom.testing.hub import RunningHub, running_hub

API = "/api/v1"


@pytest.fixture
async def hub() -> AsyncIterator[RunningHub]:
    async with running_hub() as running:
        yield running


async def entries(hub: RunningHub, **asked: Any) -> list[dict[str, Any]]:
    response = await hub.http.get(f"{API}/audit", params=asked)
    assert response.is_success, response.text
    return [*response.json()["entries"]]


async def newest(hub: RunningHub) -> dict[str, Any]:
    return (await entries(hub, limit=1))[0]


async def ok(response: httpx.Response) -> Any:
    assert response.is_success, response.text
    return response.json()


async def test_the_first_admin_is_the_first_entry(hub: RunningHub) -> None:
    (first,) = [row for row in await entries(hub) if row["seq"] == 1]

    assert (first["action"], first["detail"]["owner"]) == ("user:invite", "ann")


async def test_an_entry_says_who_did_what_from_where(hub: RunningHub) -> None:
    made = await ok(await hub.http.post(f"{API}/tokens", json={"role": "viewer"}))

    row = await newest(hub)
    assert (row["action"], row["who"], row["role"]) == ("token:create", "ann", "admin")
    assert (row["address"], row["door"]) == ("127.0.0.1", "http")
    assert row["target"] == f"token:{made['credential']['id']}"
    assert row["cause"]
    assert made["token"] not in msgspec.json.encode(row).decode()


async def acts(hub: RunningHub) -> dict[Action, Any]:
    """Return a request for each act of the table that has a route of its own."""
    await hub.machine("box")
    bob = await hub.user("bob", Role.SUBMITTER)
    token = await ok(await hub.http.post(f"{API}/tokens", json={}))
    other = await ok(await hub.http.post(f"{API}/tokens", json={}))
    task = (await ok(await hub.http.post(f"{API}/tasks", json={"title": "t", "prompt": "p"})))[
        "tasks"
    ][0]
    last = (await ok(await hub.http.post(f"{API}/tasks", json={"title": "u", "prompt": "p"})))[
        "tasks"
    ][0]
    waits = {"title": "w", "approval": "person"}
    judged = (await ok(await hub.http.post(f"{API}/tasks", json=waits)))["tasks"][0]
    agent = await ok(await hub.http.post(f"{API}/tokens", json={"agent": "lone"}))
    assert agent
    plan = {"name": "p", "cron": "0 0 1 1 *", "zone": "UTC", "task": {"title": "t", "prompt": "p"}}
    return {
        Action.TASK_PAUSE: ("POST", f"tasks/{task}/pause", {}),
        Action.TASK_CANCEL: ("POST", f"tasks/{last}/cancel", {}),
        Action.TASK_APPROVE: ("POST", f"tasks/{judged}/approve", {}),
        Action.AGENT_PAUSE: ("POST", "agents/lone/pause", {}),
        Action.LIMIT_SET: ("POST", "limits", {"scope": "key:x", "concurrency": 1}),
        Action.BUDGET_SET: (
            "POST",
            "budgets",
            {"scope": "project:default", "limits": {"tokens": 9}},
        ),
        Action.MACHINE_INVITE: ("POST", "machines/invite", {}),
        Action.MACHINE_DRAIN: ("POST", "machines/box/drain", {}),
        Action.SCHEDULE_CREATE: ("POST", "schedules", plan),
        Action.SCHEDULE_CHANGE: ("POST", "schedules/p/pause", {}),
        Action.USER_INVITE: ("POST", "users", {"name": "cy", "role": "viewer"}),
        Action.USER_REMOVE: ("DELETE", f"users/{bob.user}", None),
        Action.CREDENTIAL_CREATE: ("POST", "tokens", {}),
        Action.CREDENTIAL_ROTATE: ("POST", f"tokens/{token['credential']['id']}/rotate", {}),
        Action.CREDENTIAL_REVOKE: ("DELETE", f"tokens/{other['credential']['id']}", None),
        Action.PROJECT_PAUSE: ("POST", "projects/default/pause", {}),
        Action.POOL_PAUSE: ("POST", "pause", {}),
        Action.MACHINE_REMOVE: ("DELETE", "machines/box", None),
        Action.ALERT_STEER: ("POST", "alert-rules", {"name": "disk_low", "threshold": 5}),
        Action.NOTIFY_MANAGE: (
            "POST",
            "destinations",
            {"name": "team", "kind": "slack", "url": "https://hub.example/x"},
        ),
        Action.AUDIT_READ: ("GET", "audit/export", None),
        Action.HUB_MANAGE: ("POST", "drain", {}),
    }


async def test_every_act_that_the_table_names_is_recorded(hub: RunningHub) -> None:
    asked = await acts(hub)
    # A kept result, and another's lock, take more than a request: see tests/core/test_auditing.py;
    # so does an account in a chat: see tests/hub/test_chats.py.
    assert {*asked, Action.TASK_ADOPT, Action.LOCK_BREAK, Action.CHAT_LINK} == AUDITED

    missing = []
    for action, (method, path, body) in asked.items():
        before = (await newest(hub))["seq"]
        response = await hub.http.request(method, f"{API}/{path}", json=body)
        assert response.is_success, (action, response.text)
        if action is Action.HUB_MANAGE:
            break
        new = [row["action"] for row in await entries(hub) if row["seq"] > before]
        if action.value not in new:
            missing.append((action, new))

    assert missing == []


async def test_what_is_read_or_submitted_is_not_recorded(hub: RunningHub) -> None:
    before = (await newest(hub))["seq"]

    await ok(await hub.http.post(f"{API}/tasks", json={"title": "t", "prompt": "p"}))
    for path in "tasks", "agents", "machines", "users", "tokens", "status", "audit":
        await ok(await hub.http.get(f"{API}/{path}"))

    assert (await newest(hub))["seq"] == before


def test_of_what_is_read_only_the_log_itself_is_recorded() -> None:
    assert {one for one in AUDITED if one.value.endswith(":read")} == {Action.AUDIT_READ}


async def test_what_a_role_may_not_do_is_recorded_as_refused(hub: RunningHub) -> None:
    eve = await hub.user("eve", Role.VIEWER)
    async with hub.client(eve.token) as client:
        response = await client.post(f"{API}/users", json={"name": "mal", "role": "admin"})
        assert response.status_code == 403

    (row,) = await entries(hub, outcome="refused")
    assert (row["who"], row["action"], row["code"]) == ("eve", "user:invite", "not_allowed")


async def test_what_is_anothers_is_recorded_as_refused_and_looks_like_nothing(
    hub: RunningHub,
) -> None:
    eve = await hub.user("eve", Role.VIEWER)
    mine = (await ok(await hub.http.get(f"{API}/whoami")))["credential"]
    async with hub.client(eve.token) as client:
        response = await client.delete(f"{API}/tokens/{mine}")
        assert (response.status_code, response.json()["code"]) == (404, "not_found")

    (row,) = await entries(hub, outcome="refused")
    assert (row["who"], row["action"], row["code"]) == ("eve", "token:revoke", "not_found")


async def test_failed_logins_are_one_entry_with_a_count_however_many(hub: RunningHub) -> None:
    await entries(hub)  # who is known already is not slowed down by others
    async with hub.client(hub.admin_token[:-8] + "AAAAAAAA") as client:
        for _ in range(30):
            assert (await client.get(f"{API}/status")).status_code in (401, 429)

    rows = await entries(hub, outcome="refused", action="login")
    assert sum(row["count"] for row in rows) >= 20
    assert len(rows) <= 2
    assert all(row["address"] == "127.0.0.1" for row in rows)


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.SUBMITTER, Role.VIEWER])
async def test_only_admins_read_it(hub: RunningHub, role: Role) -> None:
    some = await hub.user("some", role)

    async with hub.client(some.token) as client:
        for path in "audit", "audit/export":
            assert (await client.get(f"{API}/{path}")).status_code == 403


async def test_an_export_is_the_whole_chain_with_its_own_entry(hub: RunningHub) -> None:
    for _ in range(5):
        await hub.invite_machine()
    response = await hub.http.get(f"{API}/audit/export")

    assert response.headers["content-type"] == "application/x-ndjson"
    verifier = Verifier()
    rows = [msgspec.json.decode(line, type=AuditEntry) for line in response.content.splitlines()]
    for row in rows:
        verifier.take(row)
    assert verifier.verdict().findings == []
    assert (rows[0].seq, rows[-1].action, rows[-1].who) == (1, "audit:read", "ann")


async def test_entries_are_listed_page_by_page_and_followed(hub: RunningHub) -> None:
    for _ in range(5):
        await hub.invite_machine()

    first = await ok(await hub.http.get(f"{API}/audit", params={"limit": 2}))
    params = {"limit": 100, "cursor": first["next"]}
    rest = await ok(await hub.http.get(f"{API}/audit", params=params))
    seqs = [row["seq"] for row in [*first["entries"], *rest["entries"]]]
    assert seqs == sorted(seqs, reverse=True)
    assert (seqs[-1], rest["next"]) == (1, None)
    after = await entries(hub, after=seqs[2])
    assert [row["seq"] for row in after] == [seqs[1], seqs[0]]
    assert await entries(hub, since=1 << 50) == []
    assert await entries(hub, who="nobody") == []
