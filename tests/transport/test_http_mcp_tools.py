"""The tools themselves: what a client reads of them, and what agents at work do with them."""

import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from agentcom.protocol import calls
from agentcom.protocol.call_table import RULES
from agentcom.testing.hub import RunningHub, running_hub
from agentcom.transport.http_mcp_tool import Effect, Profile
from agentcom.transport.http_mcp_tools import TOOLS, tools_of
from tests.transport.mcp_client import ERAS, Era, mcp_client, refused, use
from tests.transport.test_caller import Held, holding

TOKENS_MAX = 1_200
BYTES_PER_TOKEN = 4


@pytest.fixture
async def hub() -> AsyncIterator[RunningHub]:
    async with running_hub() as hub:
        yield hub


@pytest.fixture
async def held(hub: RunningHub) -> AsyncIterator[Held]:
    async with holding(hub) as made:
        yield made


async def listed(hub: RunningHub, era: str, query: str = "") -> tuple[bytes, list[dict[str, Any]]]:
    """Return the answer to `tools/list` as bytes, and the tools in it."""
    headers = {"accept": "application/json, text/event-stream"}
    params: dict[str, Any] = {}
    if era != "legacy":
        headers |= {"mcp-protocol-version": era, "mcp-method": "tools/list"}
        prefix = "io.modelcontextprotocol"
        info = {"name": "test", "version": "1"}
        params["_meta"] = {
            f"{prefix}/protocolVersion": era,
            f"{prefix}/clientInfo": info,
            f"{prefix}/clientCapabilities": {},
        }
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": params}
    answer = await hub.http.post(f"/mcp{query}", json=body, headers=headers)
    assert answer.is_success, answer.text
    return answer.content, answer.json()["result"]["tools"]


@pytest.mark.parametrize("era", ERAS)
async def test_the_list_that_everybody_reads_is_short(hub: RunningHub, era: Era) -> None:
    data, tools = await listed(hub, era)

    assert len(data) / BYTES_PER_TOKEN <= TOKENS_MAX
    assert [tool["name"] for tool in tools] == list(tools_of(Profile.MINIMAL))


@pytest.mark.parametrize("era", ERAS)
async def test_the_full_list_has_all_calls_and_tells_all_of_them(hub: RunningHub, era: Era) -> None:
    _, tools = await listed(hub, era, "?profile=full")

    assert {calls.name_of(kind) for kind in RULES} < {tool["name"] for tool in tools}
    for tool in tools:
        assert tool["description"]
        assert tool["inputSchema"]["additionalProperties"] is False
        assert tool["outputSchema"]["type"] == "object"
        assert tool["annotations"]["openWorldHint"] is False


@pytest.mark.parametrize("profile", Profile)
def test_a_schema_stands_for_itself_and_has_a_type_for_all(profile: Profile) -> None:
    for tool in tools_of(profile).values():
        text = json.dumps(tool.arguments(profile))
        assert "$ref" not in text
        assert '"null"' not in text
        for field in tool.arguments(profile)["properties"].values():
            assert "type" in field


@pytest.mark.parametrize("profile", Profile)
def test_a_schema_asks_for_what_decoding_asks_for(profile: Profile) -> None:
    for tool in tools_of(profile).values():
        schema = tool.arguments(profile)
        fields = msgspec.structs.fields(tool.kind)

        assert set(schema.get("required", ())) == {one.name for one in fields if one.required}
        assert set(schema.get("required", ())) <= schema["properties"].keys()


def test_every_tool_that_adds_something_takes_a_request_key() -> None:
    for tool in TOOLS:
        shown = "request_key" in tool.arguments(Profile.FULL)["properties"]
        assert shown is tool.keyed
        assert tool.keyed or tool.effect in {Effect.READS, Effect.REPEATS}


@pytest.mark.parametrize(
    ("name", "hints"),
    [
        ("note_read", (True, False, True)),
        ("inbox_read", (False, False, True)),
        ("note_write", (False, False, False)),
        ("channel_delete", (False, True, True)),
        ("task_cancel", (False, True, True)),
    ],
)
async def test_clients_are_told_what_a_tool_may_do(
    hub: RunningHub, name: str, hints: tuple[bool, bool, bool]
) -> None:
    _, tools = await listed(hub, "2026-07-28", "?profile=full")

    (told,) = [tool["annotations"] for tool in tools if tool["name"] == name]
    assert (told["readOnlyHint"], told["destructiveHint"], told["idempotentHint"]) == hints


@pytest.mark.parametrize("era", ERAS)
async def test_a_full_answer_is_structured_too(hub: RunningHub, era: Era) -> None:
    async with mcp_client(hub.url, hub.admin_token, era=era, query="?profile=full") as client:
        await use(client, "note_write", {"name": "plan", "text": "t"})
        result = await client.call_tool("note_read", {"name": "plan"})

    assert result.structured_content is not None
    assert result.structured_content["note"]["text"] == "t"


async def test_an_agent_speaks_by_tools_as_itself(held: Held) -> None:
    async with mcp_client(held.hub.url, held.token, headers=held.headers) as client:
        written = await use(client, "note_write", {"name": "plan", "text": "t"})

    assert written["note"]["author"] == "agent:bob"


async def test_a_machine_without_an_attempt_sees_tools_and_may_use_none(held: Held) -> None:
    async with mcp_client(held.hub.url, held.token) as client:
        tools = await client.list_tools()
        said = await refused(client, "note_read", {"name": "plan"})

    assert len(tools.tools) == len(tools_of(Profile.MINIMAL))
    assert said["code"] == "invalid_input"


async def test_what_an_agent_submits_is_a_sub_task_once_per_key(held: Held) -> None:
    asked = {"title": "part", "prompt": "p", "request_key": "k1"}

    async with mcp_client(held.hub.url, held.token, headers=held.headers) as client:
        made = await use(client, "task_submit", asked)
        again = await use(client, "task_submit", asked)
        shown = await use(client, "task_show", {"task": made["tasks"][0]})
        alone = await refused(client, "task_submit", {**asked, "title": "other"})

    assert again == made
    assert shown["task"]["parents"] == [held.task]
    assert shown["task"]["submitter"] == "ann"
    assert alone["code"] == "key_reused"


async def test_an_agent_may_not_end_tasks_of_people(held: Held) -> None:
    query = "?profile=full"

    async with mcp_client(held.hub.url, held.token, query=query, headers=held.headers) as client:
        said = await refused(client, "task_cancel", {"task": held.task})

    assert said["code"] == "not_allowed"


async def test_an_agent_says_what_it_does(held: Held) -> None:
    query = "?profile=full"

    async with mcp_client(held.hub.url, held.token, query=query, headers=held.headers) as client:
        await use(client, "task_progress", {"text": "reading the parser"})
    shown = await held.hub.http.get(f"/api/v1/tasks/{held.task}")

    assert shown.json()["activity"]["text"] == "reading the parser"


async def test_only_an_agent_at_work_has_progress(hub: RunningHub) -> None:
    async with mcp_client(hub.url, hub.admin_token, query="?profile=full") as client:
        said = await refused(client, "task_progress", {"text": "busy"})

    assert said["code"] == "not_allowed"


async def test_a_person_submits_follows_and_ends_a_task(hub: RunningHub) -> None:
    query = "?profile=full"

    async with mcp_client(hub.url, hub.admin_token, query=query) as client:
        made = await use(client, "task_submit", {"title": "t", "prompt": "p"})
        (task,) = made["tasks"]
        queued = await use(client, "task_list", {"state": ["queued"]})
        why = await use(client, "task_why", {"task": task})
        ended = await use(client, "task_cancel", {"task": task, "reason": "no need"})
        results = await use(client, "task_results", {"task": task})
        again = await use(client, "task_retry", {"task": task})

    assert [row["id"] for row in queued["tasks"]] == [task]
    assert why["task"]["state"] == "queued"
    assert ended["task"]["state"] == "cancelled"
    assert results == {"results": []}
    assert again["task"]["state"] == "queued"


async def test_a_task_of_an_unknown_field_is_refused(hub: RunningHub) -> None:
    async with mcp_client(hub.url, hub.admin_token) as client:
        said = await refused(client, "task_submit", {"title": "t", "prompt": "p", "user": "bob"})
        tasks = await use(client, "task_list")

    assert (said["code"], tasks["tasks"]) == ("invalid_input", [])
