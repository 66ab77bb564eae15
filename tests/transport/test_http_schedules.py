"""Schedules over HTTP, and the client that asks for them."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from agentcom.client.hub import HubClient
from agentcom.model.errors import InvalidInput, NotFound
from agentcom.model.identity import Role
from agentcom.model.schedule import Missed, Overlap
from agentcom.protocol.asked import ScheduleAsked, TaskAsked
from agentcom.testing.hub import RunningHub, running_hub

PATH = "/api/v1/schedules"


@pytest.fixture
async def hub() -> AsyncIterator[RunningHub]:
    async with running_hub() as running:
        yield running


def asked(name: str = "tidy", **fields: Any) -> dict[str, Any]:
    return {"name": name, "cron": "@yearly", "task": {"title": "t", "prompt": "p"}, **fields}


async def test_a_schedule_is_added_shown_paused_resumed_and_removed(hub: RunningHub) -> None:
    added = await hub.http.post(PATH, json=asked(zone="Europe/Berlin"))
    assert added.status_code == 201, added.text
    row = added.json()["schedule"]
    assert (row["owner"], row["zone"], row["cron"]) == ("ann", "Europe/Berlin", "@yearly")
    assert added.json()["coming"][0] == row["next_at"]

    assert (await hub.http.post(f"{PATH}/tidy/pause")).json()["schedule"]["paused"]
    assert "paused" not in (await hub.http.post(f"{PATH}/tidy/resume")).json()["schedule"]
    listed = (await hub.http.get(PATH)).json()["schedules"]
    assert [one["name"] for one in listed] == ["tidy"]
    assert (await hub.http.delete(f"{PATH}/tidy")).status_code == 200
    assert (await hub.http.get(f"{PATH}/tidy")).status_code == 404


async def test_a_run_at_once_happens_once_per_key(hub: RunningHub) -> None:
    await hub.http.post(PATH, json=asked())
    headers = {"Idempotency-Key": "k"}

    first = await hub.http.post(f"{PATH}/tidy/run", headers=headers)
    again = await hub.http.post(f"{PATH}/tidy/run", headers=headers)

    (task,) = (await hub.http.get("/api/v1/tasks")).json()["tasks"]
    assert first.json() == again.json()
    assert first.json()["schedule"]["last_task"] == task["id"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"cron": "every day"}, "cron"),
        ({"zone": "Mars/Base"}, "zone"),
        ({"missed": "all"}, "missed"),
        ({"missed": "sometimes"}, "missed"),
        ({"colour": "red"}, "colour"),
        ({"task": {"title": "t"}}, "prompt"),
        ({"name": "Tidy Up"}, "name"),
    ],
)
async def test_what_no_schedule_can_have_is_refused_and_named(
    hub: RunningHub, fields: dict[str, Any], field: str
) -> None:
    refused = await hub.http.post(PATH, json=asked(**fields))

    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_input")
    assert field in refused.text
    assert (await hub.http.get(PATH)).json()["schedules"] == []


async def test_a_submitter_has_their_own_and_an_operator_all(hub: RunningHub) -> None:
    ben = await hub.user("ben", Role.SUBMITTER)
    eve = await hub.user("eve", Role.SUBMITTER)
    kim = await hub.user("kim", Role.OPERATOR)
    viewer = await hub.user("vic", Role.VIEWER)
    async with hub.client(ben.token) as http:
        assert (await http.post(PATH, json=asked())).status_code == 201
    async with hub.client(eve.token) as http:
        assert (await http.post(f"{PATH}/tidy/pause")).status_code == 404
        assert (await http.get(f"{PATH}/tidy")).status_code == 200
        assert (await http.post(PATH, json=asked())).status_code == 409
    async with hub.client(viewer.token) as http:
        assert (await http.post(PATH, json=asked("mine"))).status_code == 403
        assert (await http.get(PATH)).status_code == 200
    async with hub.client(kim.token) as http:
        paused = await http.post(f"{PATH}/tidy/pause")

    assert (paused.status_code, paused.json()["schedule"]["owner"]) == (200, "ben")


async def test_the_client_speaks_of_schedules(hub: RunningHub) -> None:
    wanted = ScheduleAsked(
        name="tidy",
        cron="0 3 * * *",
        task=TaskAsked(title="t", prompt="p"),
        zone="America/New_York",
        missed=Missed.ALL,
        overlap=Overlap.QUEUE,
        start_within_ms=60_000,
    )
    async with await HubClient.connect(hub.url, hub.admin_token) as client:
        added = await client.schedules.add(wanted)
        assert [row.name for row in await client.schedules.all()] == ["tidy"]
        assert (await client.schedules.pause("tidy")).schedule.paused
        assert not (await client.schedules.resume("tidy")).schedule.paused
        assert (await client.schedules.run("tidy", key="k")).schedule.runs == 1
        shown = await client.schedules.get("tidy")
        assert (shown.coming, shown.schedule.id) == (added.coming, added.schedule.id)
        await client.schedules.remove("tidy")
        with pytest.raises(NotFound):
            await client.schedules.get("tidy")
        with pytest.raises(InvalidInput):
            await client.schedules.add(ScheduleAsked(name="x", cron="x", task=wanted.task))


async def test_the_client_reads_every_page(
    hub: RunningHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(101):
        assert (await hub.http.post(PATH, json=asked(f"s{n:03}"))).status_code == 201

    async with await HubClient.connect(hub.url, hub.admin_token) as client:
        assert len(await client.schedules.all()) == 101


async def test_an_edit_changes_what_is_said_and_nothing_else(hub: RunningHub) -> None:
    added = (await hub.http.post(PATH, json=asked(start_within_ms=60_000))).json()["schedule"]
    path = f"{PATH}/tidy"

    change = {"version": 1, "cron": "0 4 1 1 *", "task": {"prompt": "new", "needs": ["gpu"]}}
    edited = (await hub.http.patch(path, json=change)).json()["schedule"]

    assert edited["task"] == {**added["task"], "prompt": "new", "needs": ["gpu"]}
    assert edited["next_at"] == added["next_at"] + 4 * 3_600_000
    assert (edited["start_within_ms"], edited["version"]) == (60_000, 2)
    late = {"version": 2, "start_within_ms": None}
    assert "start_within_ms" not in (await hub.http.patch(path, json=late)).json()["schedule"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"version": 7, "cron": "@daily"}, "conflict"),
        ({"version": 1}, "invalid_input"),
        ({"version": 1, "cron": "@yearly"}, "invalid_input"),
        ({"version": 1, "cron": "never"}, "invalid_input"),
        ({"version": 1, "missed": "all"}, "invalid_input"),
        ({"version": 1, "task": {"not_before": 1}}, "invalid_input"),
        ({"version": 1, "task": {"owner": "bob"}}, "invalid_input"),
        ({"cron": "@daily"}, "invalid_input"),
    ],
)
async def test_an_edit_that_is_refused_changes_nothing(
    hub: RunningHub, change: dict[str, Any], code: str
) -> None:
    before = (await hub.http.post(PATH, json=asked())).json()

    refused = await hub.http.patch(f"{PATH}/tidy", json=change)

    assert refused.json()["code"] == code, refused.text
    assert (await hub.http.get(f"{PATH}/tidy")).json() == before


async def test_a_stranger_edits_nothing(hub: RunningHub) -> None:
    await hub.http.post(PATH, json=asked())
    bob = await hub.user("bob", Role.SUBMITTER)
    async with hub.client(bob.token) as http:
        refused = await http.patch(f"{PATH}/tidy", json={"version": 1, "cron": "@daily"})
    assert refused.status_code in (403, 404)
