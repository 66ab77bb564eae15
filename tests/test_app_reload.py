"""A running hub with another file: what it takes up is in force, for those who ask next."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from agentcom import app
from agentcom.hub import config as hub_config
from agentcom.hub.config import HubConfig
from agentcom.model.identity import Role
from agentcom.testing.hub import RunningHub, running_hub

RELOAD = "/api/v1/reload"
STATUS = "/api/v1/status"
WAIT_S = 20.0


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[RunningHub]:
    def reread() -> HubConfig:
        flags = {"home": tmp_path, "port": 0, "store": "memory", "admin": "ann"}
        return hub_config.load(flags=flags, environment={})

    ready: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    running = asyncio.create_task(
        app.run_hub(reread(), ready=ready.set_result, stop=stop, reread=reread)
    )
    info = await asyncio.wait_for(ready, WAIT_S)
    headers = {"Authorization": f"Bearer {info.admin_token}"}
    async with httpx.AsyncClient(base_url=info.url, headers=headers, trust_env=False) as http:
        yield RunningHub(info, http)
    stop.set()
    await asyncio.wait_for(running, WAIT_S)


def write(hub: RunningHub, text: str) -> None:
    (hub.info.home / "hub.toml").write_text(text)


async def test_a_new_name_is_answered_to_and_an_old_one_no_more(hub: RunningHub) -> None:
    async def asked_as(name: str) -> int:
        return (await hub.http.get(STATUS, headers={"Host": name})).status_code

    before = await asked_as("hub.example")
    write(hub, 'hosts = ["hub.example"]\npublic_url = "https://hub.example"\n')
    answer = await hub.http.post(RELOAD, json={})
    during = await asked_as("hub.example")
    invited = await hub.invite_machine("box")
    write(hub, "")
    await hub.http.post(RELOAD, json={})

    assert answer.json() == {"applied": ["hosts", "public_url"], "restart": []}
    assert (before, during, await asked_as("hub.example")) == (421, 200, 421)
    assert invited.join.startswith("https://hub.example#")


async def test_what_needs_a_restart_is_named_until_there_was_one(hub: RunningHub) -> None:
    write(hub, 'drain_ms = 1\nlog_level = "error"\n')

    first = (await hub.http.post(RELOAD, json={})).json()
    again = (await hub.http.post(RELOAD, json={})).json()

    assert first == {"applied": ["log_level"], "restart": ["drain_ms"]}
    assert again == {"applied": [], "restart": ["drain_ms"]}


async def test_a_bad_file_is_a_problem_and_changes_nothing(hub: RunningHub) -> None:
    write(hub, 'hosts = ["hub.example"]\nforge_secret = "/nowhere/secret"\n')

    answer = await hub.http.post(RELOAD, json={})

    assert (answer.status_code, answer.json()["code"]) == (422, "config_kept")
    assert "cannot be read" in answer.json()["detail"]
    still = await hub.http.get(STATUS, headers={"Host": "hub.example"})
    assert still.status_code == 421


async def test_only_who_manages_the_hub_may(hub: RunningHub) -> None:
    admitted = await hub.user("bob", Role.OPERATOR)

    async with hub.client(admitted.token) as bob:
        answer = await bob.post(RELOAD, json={})

    assert (answer.status_code, answer.json()["code"]) == (403, "not_allowed")


async def test_a_hub_that_was_started_with_values_has_nothing_to_read_again() -> None:
    async with running_hub() as values:
        answer = await values.http.post(RELOAD, json={})

    assert answer.json()["code"] == "config_kept"
