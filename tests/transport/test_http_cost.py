"""Costs and budgets over HTTP: who may see and set what."""

from collections.abc import AsyncIterator

import pytest

from agentcom.model.identity import Role
from agentcom.model.usage import DAY_MS
from agentcom.testing.hub import RunningHub, running_hub

BUDGETS = "/api/v1/budgets"
COST = "/api/v1/cost"


@pytest.fixture
async def hub() -> AsyncIterator[RunningHub]:
    async with running_hub() as running:
        yield running


async def test_nothing_spent_is_a_total_of_nothing(hub: RunningHub) -> None:
    response = await hub.http.get(COST, params={"by": "day", "since": 5})

    assert response.json() == {"by": "day", "since": 5, "groups": [], "total": {}}


@pytest.mark.parametrize("query", [{"by": "mood"}, {"since": "-1"}, {"limit": "0"}, {"x": "1"}])
async def test_what_cannot_be_added_up_is_refused(hub: RunningHub, query: dict[str, str]) -> None:
    assert (await hub.http.get(COST, params=query)).status_code == 422


async def test_a_budget_is_set_listed_changed_and_removed(hub: RunningHub) -> None:
    wanted = {"scope": "submitter:ben", "period": "day", "limits": {"turns": 3}}
    assert (await hub.http.post(BUDGETS, json=wanted)).json()["detail"] == "set"
    changed = {**wanted, "limits": {"tokens": 9}}
    assert (await hub.http.post(BUDGETS, json=changed)).status_code == 200

    (row,) = (await hub.http.get(BUDGETS)).json()["budgets"]
    named = {"scope": "submitter:ben", "period": "day"}
    gone = await hub.http.delete(BUDGETS, params=named)
    again = await hub.http.delete(BUDGETS, params=named)

    assert row["renews_at"] % DAY_MS == 0
    assert (row["scope"], row["limits"]) == ("submitter:ben", {"tokens": 9})
    assert (gone.json()["detail"], again.status_code) == ("removed", 404)


@pytest.mark.parametrize(
    "wrong",
    [
        {"scope": "ben", "limits": {"turns": 1}},
        {"scope": "agent:a", "limits": {}},
        {"scope": "agent:a", "limits": {"money": 1}},
        {"scope": "agent:a", "limits": {"turns": 0}},
        {"scope": "agent:a", "period": "year", "limits": {"turns": 1}},
    ],
)
async def test_a_budget_that_cannot_be_is_refused(
    hub: RunningHub, wrong: dict[str, object]
) -> None:
    assert (await hub.http.post(BUDGETS, json=wrong)).status_code == 422
    assert (await hub.http.get(BUDGETS)).json() == {"budgets": []}


async def test_a_submitter_sees_their_own_budget_and_sets_none(hub: RunningHub) -> None:
    ben = await hub.user("ben", Role.SUBMITTER)
    for scope in ("submitter:ben", "submitter:ann", "project:default", "agent:a"):
        await hub.http.post(BUDGETS, json={"scope": scope, "limits": {"turns": 1}})

    async with hub.client(ben.token) as client:
        seen = (await client.get(BUDGETS)).json()["budgets"]
        refused = await client.post(BUDGETS, json={"scope": "agent:a", "limits": {"turns": 9}})

    assert [row["scope"] for row in seen] == ["project:default", "submitter:ben"]
    assert refused.status_code == 403


async def test_a_task_brings_its_budget(hub: RunningHub) -> None:
    tasks = "/api/v1/tasks"
    asked = {"title": "t", "prompt": "p", "budget": {"turns": 2}}
    task = (await hub.http.post(tasks, json=asked)).json()["tasks"][0]

    shown = (await hub.http.get(f"{tasks}/{task}")).json()
    wrong = await hub.http.post(tasks, json={**asked, "budget": {"money": 2}})

    assert shown["body"]["spec"]["budget"] == shown["task"]["budget"] == {"turns": 2}
    assert wrong.status_code == 422
