"""A person is removed: what it would mean, that it is done whole, and that it may come twice."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from agentcom.client.hub import HubClient
from agentcom.model import errors
from agentcom.model.identity import Role
from agentcom.model.task import TaskSpec
from agentcom.testing.hub import RunningHub, running_hub
from agentcom.testing.waiting import PATIENCE_S

API = "/api/v1"
PLAN = {"name": "p", "cron": "0 0 1 1 *", "zone": "UTC", "task": {"title": "t", "prompt": "p"}}


@pytest.fixture
async def hub() -> AsyncIterator[RunningHub]:
    async with running_hub() as running:
        yield running


async def ok(response: httpx.Response) -> Any:
    assert response.is_success, response.text
    return response.json()


async def eve_with_everything(hub: RunningHub) -> str:
    """Return the token of an operator who has one of everything."""
    eve = await hub.user("eve", Role.OPERATOR)
    async with hub.client(eve.token) as client:
        code = (await ok(await client.post(f"{API}/machines/invite", json={"name": "hers"})))[
            "code"
        ]
        await ok(await client.post(f"{API}/enrol", json={"code": code}))
        await ok(await client.post(f"{API}/machines/invite", json={}))
        await ok(await client.post(f"{API}/schedules", json=PLAN))
        await ok(await client.post(f"{API}/tasks", json={"title": "t", "prompt": "p"}))
        await ok(await client.post(f"{API}/calls/channel_create", json={"channel": "talk"}))
        await ok(await client.post(f"{API}/calls/ask_put", json={"question": "?", "to": "ann"}))
        await ok(await client.post(f"{API}/tokens", json={}))
    return eve.token


async def test_the_preview_says_it_all_and_changes_nothing(hub: RunningHub) -> None:
    token = await eve_with_everything(hub)

    shown = await ok(await hub.http.get(f"{API}/users/eve/removal"))

    assert (shown["tokens"], shown["codes"], shown["asks"]) == (2, 1, 1)
    assert (shown["machines"], shown["schedules"], shown["channels"]) == (["hers"], ["p"], ["talk"])
    assert (shown["tasks"], shown["removed"], shown["last_admin"]) == ({"queued": 1}, False, False)
    async with hub.client(token) as client:
        await ok(await client.get(f"{API}/whoami"))


async def test_a_removal_ends_all_access_and_passes_the_rest_on(hub: RunningHub) -> None:
    token = await eve_with_everything(hub)

    for _ in range(2):  # a second time is harmless
        await ok(await hub.http.delete(f"{API}/users/eve"))

    async with hub.client(token) as client:
        assert (await client.get(f"{API}/whoami")).status_code == 401
    left = await ok(await hub.http.get(f"{API}/users/eve/removal"))
    assert left["removed"] is True
    assert {left[name] for name in ("tokens", "codes", "asks", "connections")} == {0}
    assert [left[name] for name in ("machines", "schedules", "channels", "tasks")] == [
        [],
        [],
        [],
        {},
    ]
    (task,) = (await ok(await hub.http.get(f"{API}/tasks")))["tasks"]
    assert task["submitter"] == "ann"
    plan = (await ok(await hub.http.get(f"{API}/schedules/p")))["schedule"]
    assert (plan["owner"], plan["paused"]) == ("ann", True)
    channel = await ok(await hub.http.post(f"{API}/calls/channel_show", json={"channel": "talk"}))
    assert [(one["address"], one["role"]) for one in channel["members"]] == [("user:ann", "owner")]
    acts = (await ok(await hub.http.get(f"{API}/audit")))["entries"]
    done = {row["action"] for row in acts if row.get("who") == "ann"}
    assert {"user:remove", "token:revoke", "machine:remove", "schedule:change"} <= done


async def test_open_connections_close_at_once(hub: RunningHub) -> None:
    eve = await hub.user("eve", Role.SUBMITTER)
    client = await HubClient.connect(hub.url, eve.token)
    async with client:
        assert (await ok(await hub.http.get(f"{API}/users/eve/removal")))["connections"] == 1
        await ok(await hub.http.delete(f"{API}/users/eve"))
        with pytest.raises(errors.AgentComError):
            await client.submit([TaskSpec(title="t", prompt="p")], timeout_s=PATIENCE_S)


async def test_machines_may_be_kept_by_the_heir(hub: RunningHub) -> None:
    await eve_with_everything(hub)
    await hub.user("bob", Role.OPERATOR)

    await ok(await hub.http.delete(f"{API}/users/eve", params={"to": "bob", "machines": "keep"}))

    (machine,) = (await ok(await hub.http.get(f"{API}/machines")))["machines"]
    assert (machine["name"], machine["owner"]) == ("hers", "bob")
    (task,) = (await ok(await hub.http.get(f"{API}/tasks")))["tasks"]
    assert task["submitter"] == "bob"


async def test_the_last_admin_stays_and_of_two_that_remove_each_other_one(hub: RunningHub) -> None:
    refused = await hub.http.delete(f"{API}/users/ann", params={"to": "ann"})
    assert refused.json()["code"] in ("last_admin", "invalid_input")
    bob = await hub.user("bob", Role.ADMIN)

    async with hub.client(bob.token) as client:
        both = await asyncio.gather(
            hub.http.delete(f"{API}/users/bob"), client.delete(f"{API}/users/ann")
        )

    assert sorted(one.is_success for one in both) == [False, True]


@pytest.mark.parametrize("heir", ["nobody", "eve", "vic"])
async def test_an_heir_is_somebody_else_who_may_submit(hub: RunningHub, heir: str) -> None:
    await hub.user("eve", Role.SUBMITTER)
    await hub.user("vic", Role.VIEWER)

    response = await hub.http.delete(f"{API}/users/eve", params={"to": heir})

    assert (response.status_code, response.json()["code"]) == (422, "invalid_input")


async def test_who_is_not_there_cannot_be_removed(hub: RunningHub) -> None:
    for response in (
        await hub.http.get(f"{API}/users/nobody/removal"),
        await hub.http.delete(f"{API}/users/nobody"),
    ):
        assert response.json()["code"] == "not_found"
