"""Steering over HTTP: pauses, edits and acts on many tasks."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from agentcom.model.identity import Role
from agentcom.testing.hub import RunningHub, running_hub
from agentcom.testing.waiting import until

API = "/api/v1"
TASKS = f"{API}/tasks"


@pytest.fixture
async def hub() -> AsyncIterator[RunningHub]:
    async with running_hub() as running:
        yield running


async def submit(client: httpx.AsyncClient, **more: Any) -> str:
    response = await client.post(TASKS, json={"title": "t", "prompt": "p", **more})
    assert response.status_code == 201, response.text
    return str(response.json()["tasks"][0])


async def task(client: httpx.AsyncClient, name: str) -> dict[str, Any]:
    found: dict[str, Any] = (await client.get(f"{TASKS}/{name}")).json()["task"]
    return found


def refusal(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


async def test_a_project_is_paused_and_resumed_and_its_tasks_say_so(hub: RunningHub) -> None:
    name = await submit(hub.http)
    path = f"{API}/projects/default"

    paused = await hub.http.post(f"{path}/pause", json={"reason": "freeze"})
    listed = (await hub.http.get(f"{API}/pauses")).json()["pauses"]
    why = (await hub.http.get(f"{TASKS}/{name}/why")).json()
    status = (await hub.http.get(f"{API}/status")).json()
    resumed = await hub.http.post(f"{path}/resume")

    assert (paused.status_code, resumed.status_code) == (200, 200), paused.text
    assert [(row["key"], row["reason"]) for row in listed] == [("project:default", "freeze")]
    assert why["summary"].endswith("paused the project default: freeze")
    assert status["pauses"] == 1
    assert (await hub.http.get(f"{API}/pauses")).json()["pauses"] == []


async def test_everything_and_a_pool_are_an_admins(hub: RunningHub) -> None:
    operator = await hub.user("oto", Role.OPERATOR)
    async with hub.client(operator.token) as client:
        for path in (f"{API}/pause", f"{API}/pools/default/pause"):
            assert refusal(await client.post(path)) == (403, "not_allowed")
        other = await client.post(f"{API}/projects/other/pause")
        assert refusal(other) == (404, "not_found")
        assert (await client.post(f"{API}/projects/default/pause")).is_success
    for path in (API, f"{API}/pools/default", f"{API}/projects/default"):
        assert (await hub.http.post(f"{path}/pause", json={"stop": True})).is_success
    assert len((await hub.http.get(f"{API}/pauses")).json()["pauses"]) == 3
    missing = await hub.http.post(f"{API}/pools/none/pause")
    assert refusal(missing) == (404, "not_found")


async def test_a_task_is_paused_by_its_submitter_and_by_no_other(hub: RunningHub) -> None:
    ann, eve = [await hub.user(name, Role.SUBMITTER) for name in ("mia", "eve")]
    async with hub.client(ann.token) as mine, hub.client(eve.token) as other:
        name = await submit(mine)
        assert refusal(await other.post(f"{TASKS}/{name}/pause")) == (404, "not_found")
        assert (await mine.post(f"{TASKS}/{name}/pause", json={"reason": "later"})).is_success
        assert (await task(mine, name))["paused"]["reason"] == "later"
        assert (await mine.post(f"{TASKS}/{name}/resume")).is_success
        assert "paused" not in await task(mine, name)


async def test_an_edit_needs_the_version_that_is_there(hub: RunningHub) -> None:
    name = await submit(hub.http)
    path = f"{TASKS}/{name}"

    first = await hub.http.patch(path, json={"version": 1, "priority": 4, "prompt": "new"})
    late = await hub.http.patch(path, json={"version": 1, "priority": 5})
    without = await hub.http.patch(path, json={"priority": 5})
    strange = await hub.http.patch(path, json={"version": 2, "state": "completed"})
    nothing = await hub.http.patch(path, json={"version": 2})

    assert first.json()["task"]["priority"] == 4
    assert refusal(late) == (409, "conflict")
    assert [refusal(bad) for bad in (without, strange, nothing)] == [(422, "invalid_input")] * 3
    shown = (await hub.http.get(path)).json()
    assert shown["body"]["spec"]["prompt"] == "new"
    events = (await hub.http.get(f"{path}/events")).json()["events"]
    assert [row["event"]["detail"] for row in events if row["event"]["kind"] == "edited"] == [
        "priority: 0 -> 4; prompt"
    ]


async def test_a_start_time_is_taken_away_by_null(hub: RunningHub) -> None:
    name = await submit(hub.http, not_before=4_102_444_800_000)

    answer = await hub.http.patch(f"{TASKS}/{name}", json={"version": 1, "not_before": None})

    assert answer.json()["task"]["state"] == "queued"


async def over(hub: RunningHub, name: str) -> dict[str, Any]:
    row: dict[str, Any] = {}

    async def is_over() -> bool:
        row.update({"left": 0} | (await hub.http.get(f"{API}/bulk/{name}")).json())
        return not row["left"]

    await until(is_over)
    return row


async def test_many_are_chosen_by_label_state_and_time(hub: RunningHub) -> None:
    red = [await submit(hub.http, labels={"team": "red"}) for _ in range(3)]
    blue = await submit(hub.http, labels={"team": "blue"})
    choice = {"state": ["queued"], "labels": {"team": "red"}, "since": 0}

    dry = (
        await hub.http.post(f"{API}/bulk/cancel", json={"filter": choice, "dry_run": True})
    ).json()
    assert (dry["tasks"], [one["name"] for one in dry["refused"]]) == (3, red)
    taken = (
        await hub.http.post(f"{API}/bulk/cancel", json={"filter": choice, "reason": "no"})
    ).json()
    done = await over(hub, taken["id"])

    assert (done["tasks"], done["done"]) == (3, 3)
    assert [(await task(hub.http, name))["state"] for name in red] == ["cancelled"] * 3
    assert (await task(hub.http, blue))["state"] == "queued"


async def test_a_repeat_with_its_key_gets_the_same_answer_and_does_nothing(hub: RunningHub) -> None:
    name = await submit(hub.http)
    body = {"filter": {"state": ["queued"]}}
    key = {"Idempotency-Key": "once"}

    first = (await hub.http.post(f"{API}/bulk/cancel", json=body, headers=key)).json()
    await over(hub, first["id"])
    await hub.http.post(f"{TASKS}/{name}/retry")
    again = (await hub.http.post(f"{API}/bulk/cancel", json=body, headers=key)).json()
    other = await hub.http.post(f"{API}/bulk/cancel", json={"tasks": [name]}, headers=key)

    assert again == first
    assert refusal(other) == (409, "key_reused")
    assert (await task(hub.http, name))["state"] == "queued"


async def test_named_tasks_are_retried_and_what_cannot_be_is_told(hub: RunningHub) -> None:
    first, second = [await submit(hub.http) for _ in range(2)]
    await hub.http.post(f"{TASKS}/{first}/cancel")

    taken = (await hub.http.post(f"{API}/bulk/retry", json={"tasks": [first, second[-8:]]})).json()
    done = await over(hub, taken["id"])

    assert (done["done"], done["skipped"]) == (1, 1)
    assert [(one["name"], one["code"]) for one in done["refused"]] == [
        (second, "illegal_transition")
    ]


async def test_a_submitter_chooses_among_their_own(hub: RunningHub) -> None:
    theirs = await submit(hub.http)
    eve = await hub.user("eve", Role.SUBMITTER)
    async with hub.client(eve.token) as client:
        mine = await submit(client)
        body: dict[str, Any] = {"filter": {"state": ["queued"]}, "dry_run": True}
        dry = (await client.post(f"{API}/bulk/cancel", json=body)).json()
        body["filter"]["submitter"] = "ann"
        assert refusal(await client.post(f"{API}/bulk/cancel", json=body)) == (403, "not_allowed")

    assert [one["name"] for one in dry["refused"]] == [mine]
    assert theirs not in str(dry)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"filter": {}},
        {"tasks": ["t"], "filter": {"state": ["queued"]}},
        {"filter": {"state": ["nowhere"]}},
        {"filter": {"colour": "red"}},
    ],
)
async def test_a_choice_that_is_none_is_refused(hub: RunningHub, body: dict[str, Any]) -> None:
    assert refusal(await hub.http.post(f"{API}/bulk/cancel", json=body)) == (422, "invalid_input")


async def test_what_is_not_there_is_not_found(hub: RunningHub) -> None:
    other = {"filter": {"project": "other"}}

    assert refusal(await hub.http.get(f"{API}/bulk/none")) == (404, "not_found")
    assert refusal(await hub.http.post(f"{API}/bulk/cancel", json=other)) == (403, "not_allowed")
