"""Channels by HTTP: what one may do there is the same call as on every other door."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from agentcom.model import limits
from agentcom.model.identity import Role
from agentcom.testing.hub import running_hub


@dataclass
class People:
    """Two of one project, each with a client."""

    ann: httpx.AsyncClient
    eve: httpx.AsyncClient


@pytest.fixture
async def people() -> AsyncIterator[People]:
    async with running_hub() as hub:
        eve = await hub.user("eve", Role.SUBMITTER)
        async with hub.client(eve.token) as client:
            yield People(hub.http, client)


async def do(client: httpx.AsyncClient, call: str, /, **fields: Any) -> Any:
    response = await client.post(f"/api/v1/calls/{call}", json=fields)
    assert response.status_code == 200, response.text
    return response.json()


async def refusal(client: httpx.AsyncClient, call: str, /, **fields: Any) -> tuple[int, str]:
    response = await client.post(f"/api/v1/calls/{call}", json=fields)
    return response.status_code, response.json()["code"]


async def test_a_channel_from_its_making_to_its_end(people: People) -> None:
    ann, eve = people.ann, people.eve
    await do(ann, "channel_create", channel="dev", topic="talk")
    await do(eve, "channel_join", channel="dev")
    sent = await do(eve, "channel_post", channel="dev", body="hello @ann")
    await do(ann, "channel_post", channel="dev", body="hi", reply_to=sent["message"])
    await do(ann, "channel_change", channel="dev", pin=1)

    listed = await do(eve, "channel_list", joined=True)
    shown = await do(eve, "channel_show", channel="dev")
    read = await do(eve, "channel_history", channel="dev", after=0)
    assert [one["channel"]["name"] for one in listed["channels"]] == ["dev", "project"]
    assert [one["address"] for one in shown["members"]] == ["user:ann", "user:eve"]
    assert [one["message"]["mentions"] for one in shown["pinned"]] == [["user:ann"]]
    assert [one["message"]["body"] for one in read["letters"]] == ["hello @ann", "hi"]
    assert read["letters"][1]["message"]["thread"] == sent["message"]

    await do(ann, "channel_member", channel="dev", name="eve", role=None)
    await do(eve, "channel_leave", channel="dev")
    await do(ann, "channel_change", channel="dev", archived=True)
    assert await refusal(eve, "channel_post", channel="dev", body="?") == (409, "channel_archived")
    await do(ann, "channel_delete", channel="dev")
    assert await refusal(ann, "channel_show", channel="dev") == (404, "not_found")


async def test_every_project_has_a_channel(people: People) -> None:
    sent = await do(people.eve, "channel_post", channel="project", body="here")

    read = await do(people.ann, "channel_history", channel="project")
    assert (sent["seq"], [one["message"]["body"] for one in read["letters"]]) == (1, ["here"])


async def test_what_is_wrong_is_refused_by_a_stable_code_and_stores_nothing(
    people: People,
) -> None:
    ann, eve = people.ann, people.eve
    await do(ann, "channel_create", channel="den", kind="private")
    await do(ann, "channel_create", channel="dev")
    await do(ann, "channel_member", channel="dev", name="eve", role="reader")

    said = [
        await refusal(eve, "channel_post", channel="den", body="hello"),
        await refusal(eve, "channel_history", channel="nope"),
        await refusal(eve, "channel_post", channel="dev", body="hello"),
        await refusal(eve, "channel_delete", channel="dev"),
        await refusal(eve, "channel_history", channel="dev", after=1),
        await refusal(eve, "channel_show", channel="../dev"),
        await refusal(ann, "channel_create", channel="dev"),
        await refusal(ann, "channel_member", channel="dev", name="nobody"),
        await refusal(ann, "channel_post", channel="dev", body="x" * (limits.MESSAGE_BYTES + 1)),
        await refusal(ann, "channel_post", channel="dev", body="ü" * (limits.MESSAGE_BYTES - 1)),
        await refusal(ann, "channel_post", channel="dev", body="x" * 3_000_000),
        await refusal(ann, "channel_post", channel="dev", body=""),
        await refusal(ann, "channel_post", channel="dev", body="x", reply_to="nope"),
    ]

    assert said == [
        (404, "not_found"),
        (404, "not_found"),
        (403, "not_allowed"),
        (403, "not_allowed"),
        (422, "cursor_ahead"),
        (422, "invalid_input"),
        (409, "conflict"),
        (404, "not_found"),
        (422, "invalid_input"),
        (413, "too_large"),
        (413, "too_large"),
        (422, "invalid_input"),
        (404, "not_found"),
    ]
    for name in ("den", "dev"):
        assert (await do(ann, "channel_history", channel=name)).get("letters", []) == []


async def test_a_viewer_reads_and_does_not_post() -> None:
    async with running_hub() as hub:
        viewer = await hub.user("kim", Role.VIEWER)
        async with hub.client(viewer.token) as kim:
            await do(hub.http, "channel_post", channel="project", body="here")

            read = await do(kim, "channel_history", channel="project")
            refused = await refusal(kim, "channel_post", channel="project", body="x")
    assert (len(read["letters"]), refused) == (1, (403, "not_allowed"))
