"""Agents that a person starts: they take work by MCP, keep it, and end it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp import Client

from agentcom.model.identity import Role
from agentcom.store.sqlite import SqliteStore
from agentcom.testing.hub import RunningHub, running_hub
from tests.transport.mcp_client import mcp_client, refused, use

TASKS = "/api/v1/tasks"
WORK: dict[str, Any] = {"title": "t", "prompt": "write the parser"}


@pytest.fixture
async def hub() -> AsyncIterator[RunningHub]:
    async with running_hub() as hub:
        yield hub


async def invited(hub: RunningHub, name: str = "eve", **more: Any) -> httpx.Response:
    return await hub.http.post("/api/v1/tokens", json={"agent": name, **more})


async def token_of(hub: RunningHub, name: str = "eve") -> str:
    answer = await invited(hub, name)
    assert answer.is_success, answer.text
    return str(answer.json()["token"])


def working(hub: RunningHub, token: str) -> AbstractAsyncContextManager[Client]:
    return mcp_client(hub.url, token, query="?profile=full")


async def submit(hub: RunningHub, **more: Any) -> str:
    answer = await hub.http.post(TASKS, json={**WORK, **more})
    return str(answer.json()["tasks"][0])


async def state(hub: RunningHub, task: str) -> str:
    return str((await hub.http.get(f"{TASKS}/{task}")).json()["task"]["state"])


def held(work: dict[str, Any]) -> dict[str, Any]:
    return {"task": work["task"], "fence": work["fence"]}


async def test_an_external_agent_takes_a_task_speaks_and_ends_it(hub: RunningHub) -> None:
    task = await submit(hub)

    async with working(hub, await token_of(hub)) as client:
        work = await use(client, "task_take")
        running = await state(hub, task)
        note = await use(client, "note_write", {"name": "plan", "text": "x"})
        ended = await use(client, "task_finish", {**held(work), "done": True, "summary": "done"})
        nothing = await use(client, "task_take")

    assert (work["task"], work["spec"]["prompt"]) == (task, "write the parser")
    assert running == "running"
    assert note["note"]["author"] == "agent:eve"
    assert (ended, await state(hub, task)) == ({"state": "completed"}, "completed")
    assert nothing == {}


async def test_who_waits_gets_what_comes(hub: RunningHub) -> None:
    async with working(hub, await token_of(hub)) as client:
        waiting = asyncio.create_task(use(client, "task_take", {"wait_ms": 25_000}))
        task = await submit(hub)
        work = await waiting

    assert work["task"] == task


async def test_who_does_not_ask_gets_nothing(hub: RunningHub) -> None:
    async with working(hub, await token_of(hub)) as client:
        await use(client, "task_take")
        task = await submit(hub)

        assert await state(hub, task) == "queued"
        assert (await use(client, "task_take"))["task"] == task


async def test_asking_again_is_answered_with_the_same_work(hub: RunningHub) -> None:
    await submit(hub)
    await submit(hub)

    async with working(hub, await token_of(hub)) as client:
        first = await use(client, "task_take")
        again = await use(client, "task_take", {"wait_ms": 25_000})

    assert held(again) == held(first)


async def test_work_that_could_not_be_done_goes_on_as_a_failure(hub: RunningHub) -> None:
    task = await submit(hub, failures_max=1)

    async with working(hub, await token_of(hub)) as client:
        work = await use(client, "task_take")
        said = {**held(work), "done": False, "summary": "there is no grammar"}
        ended = await use(client, "task_finish", said)
    shown = (await hub.http.get(f"{TASKS}/{task}")).json()["task"]

    assert ended == {"state": "failed"}
    assert (shown["failure"], shown["reason"]) == ("agent", "there is no grammar")


async def test_checks_that_nobody_ran_are_no_success(hub: RunningHub) -> None:
    task = await submit(hub, verify=["make test"])

    async with working(hub, await token_of(hub)) as client:
        work = await use(client, "task_take")
        await use(client, "task_finish", {**held(work), "done": True, "summary": "done"})

    assert await state(hub, task) != "completed"


async def test_a_cancel_is_told_when_the_agent_renews(hub: RunningHub) -> None:
    task = await submit(hub)

    async with working(hub, await token_of(hub)) as client:
        work = await use(client, "task_take")
        before = await use(client, "task_renew", held(work))
        await hub.http.post(f"{TASKS}/{task}/cancel", json={})
        after = await use(client, "task_renew", held(work))
        ended = await use(client, "task_finish", {**held(work), "done": True, "summary": "done"})

    assert ("stop" in before, after["stop"]) == (False, "cancelled")
    assert ended == {"state": "cancelled"}


async def test_an_attempt_is_its_holders_alone(hub: RunningHub) -> None:
    await submit(hub)
    eve, mal = await token_of(hub, "eve"), await token_of(hub, "mal")

    async with working(hub, eve) as client:
        work = await use(client, "task_take")
    async with working(hub, mal) as client:
        renewed = await refused(client, "task_renew", held(work))
        ended = await refused(
            client, "task_finish", {**held(work), "done": True, "summary": "mine"}
        )
    async with working(hub, eve) as client:
        older = {"task": work["task"], "fence": "1.0"}
        stale = await refused(client, "task_renew", older)

    assert [renewed["code"], ended["code"], stale["code"]] == ["stale"] * 3


async def test_a_restart_of_the_hub_takes_nothing_away(tmp_path: Path) -> None:
    file = tmp_path / "hub.sqlite"
    async with running_hub(SqliteStore(file), home=tmp_path) as hub:
        admin, eve = hub.admin_token, await token_of(hub)
        task = await submit(hub)
        async with working(hub, eve) as client:
            before = await use(client, "task_take")

    async with (
        running_hub(SqliteStore(file), home=tmp_path, token=admin) as hub,
        working(hub, eve) as client,
    ):
        after = await use(client, "task_take")
        ended = await use(client, "task_finish", {**held(before), "done": True, "summary": "done"})

    assert (after["task"], held(after)) == (task, held(before))
    assert ended == {"state": "completed"}


async def test_only_external_agents_take_work(hub: RunningHub) -> None:
    async with working(hub, hub.admin_token) as client:
        person = await refused(client, "task_take")
    async with working(hub, (await hub.machine("box")).token) as client:
        machine = await refused(client, "task_take")

    assert [person["code"], machine["code"]] == ["not_allowed"] * 2


async def test_a_name_is_given_once(hub: RunningHub) -> None:
    await token_of(hub)

    again = await invited(hub)

    assert (again.status_code, again.json()["code"]) == (409, "name_taken")


@pytest.mark.parametrize("more", [{"role": "admin"}, {"owner": "ann"}, {"agent": "No Name"}])
async def test_an_agent_has_its_own_role_and_a_proper_name(
    hub: RunningHub, more: dict[str, Any]
) -> None:
    answer = (
        await invited(hub, **{"name": "eve", **more})
        if "agent" not in more
        else (await invited(hub, more["agent"]))
    )

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")


async def test_only_who_may_bring_machines_in_may_make_one(hub: RunningHub) -> None:
    submitter = await hub.user("bob", Role.SUBMITTER)

    async with hub.client(submitter.token) as http:
        answer = await http.post("/api/v1/tokens", json={"agent": "eve"})

    assert (answer.status_code, answer.json()["code"]) == (403, "not_allowed")


async def test_a_revoked_agent_is_nobody(hub: RunningHub) -> None:
    made = (await invited(hub)).json()
    revoked = await hub.http.delete(f"/api/v1/tokens/{made['credential']['id']}")

    async with hub.client(made["token"]) as http:
        answer = await http.post("/mcp", json={})

    assert (revoked.status_code, answer.status_code) == (200, 401)
