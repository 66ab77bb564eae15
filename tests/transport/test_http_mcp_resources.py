"""What clients read by address, and the prompts that they offer to people."""

import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import pytest
from mcp import Client, MCPError
from mcp_types import TextContent, TextResourceContents

from agentcom.model.errors import InvalidInput, NotFound
from agentcom.testing.hub import RunningHub, running_hub
from agentcom.transport import http_mcp_prompts
from tests.transport.mcp_client import ERAS, Era, mcp_client, use


@pytest.fixture
async def hub() -> AsyncIterator[RunningHub]:
    async with running_hub() as hub:
        yield hub


def ann(hub: RunningHub) -> AbstractAsyncContextManager[Client]:
    return mcp_client(hub.url, hub.admin_token)


async def read(client: Client, uri: str) -> str:
    (content,) = (await client.read_resource(uri)).contents
    assert isinstance(content, TextResourceContents)
    return content.text


async def all_addresses(client: Client) -> list[str]:
    """Follow the list from page to page."""
    found, cursor = [], None
    while True:
        page = await client.list_resources(cursor=cursor)
        found += [one.uri for one in page.resources]
        cursor = page.next_cursor
        if cursor is None:
            return found


@pytest.mark.parametrize("era", ERAS)
async def test_a_note_is_read_by_the_address_in_the_list(hub: RunningHub, era: Era) -> None:
    async with mcp_client(hub.url, hub.admin_token, era=era) as client:
        await use(client, "note_write", {"name": "api/style", "text": "# Style"})

        (address,) = [one for one in await all_addresses(client) if "/note/" in one]
        assert await read(client, address) == "# Style"


async def test_the_list_has_more_notes_than_a_page(hub: RunningHub) -> None:
    async with ann(hub) as client:
        names = [f"n{number:03}" for number in range(120)]
        for name in names:
            await use(client, "note_write", {"name": name, "text": "t"})

        found = await all_addresses(client)

        assert [one for one in found if "/note/" in one] == [
            f"agentcom://note/{one}" for one in names
        ]


async def test_a_channel_is_listed_and_read(hub: RunningHub) -> None:
    async with ann(hub) as client:
        made = await hub.http.post("/api/v1/calls/channel_create", json={"channel": "build"})
        assert made.is_success, made.text
        await use(client, "channel_post", {"channel": "build", "body": "red again"})

        assert "agentcom://channel/build" in await all_addresses(client)
        shown = json.loads(await read(client, "agentcom://channel/build"))
        assert shown["letters"][0]["message"]["body"] == "red again"


async def test_a_task_is_read_by_its_id(hub: RunningHub) -> None:
    async with ann(hub) as client:
        made = await use(client, "task_submit", {"title": "t", "prompt": "p"})

        shown = json.loads(await read(client, f"agentcom://task/{made['tasks'][0]}"))

        assert shown["task"]["title"] == "t"


@pytest.mark.parametrize(
    "uri",
    [
        "agentcom://note/none",
        "agentcom://note/",
        "agentcom://note/%00",
        "agentcom://note/../x",
        "agentcom://channel/none",
        "agentcom://task/none",
        "agentcom://user/ann",
        "agentcom://" + "x" * 5_000,
        "file:///etc/passwd",
        "note/none",
    ],
)
async def test_what_is_not_there_is_not_found(hub: RunningHub, uri: str) -> None:
    async with ann(hub) as client:
        with pytest.raises(MCPError) as caught:
            await client.read_resource(uri)

        assert caught.value.code == -32602
        assert caught.value.data["code"] in {"not_found", "invalid_input"}
        assert caught.value.data["uri"] == uri


@pytest.mark.parametrize("cursor", ["", "x", "task/", "user/ann", "//"])
async def test_a_made_up_cursor_is_refused(hub: RunningHub, cursor: str) -> None:
    async with ann(hub) as client:
        with pytest.raises(MCPError) as caught:
            await client.list_resources(cursor=cursor)

    assert caught.value.data["code"] == "invalid_input"


async def test_three_forms_of_address_are_told(hub: RunningHub) -> None:
    async with ann(hub) as client:
        forms = await client.list_resource_templates()

        assert [form.name for form in forms.resource_templates] == ["note", "channel", "task"]


@pytest.mark.parametrize("era", ERAS)
async def test_a_prompt_has_the_person_s_words_in_it(hub: RunningHub, era: Era) -> None:
    async with mcp_client(hub.url, hub.admin_token, era=era) as client:
        listed = await client.list_prompts()
        got = await client.get_prompt("handoff", {"to": "bob"})

    assert [prompt.name for prompt in listed.prompts] == ["onboard", "handoff"]
    (message,) = got.messages
    assert isinstance(message.content, TextContent)
    assert "message_send to bob" in message.content.text


async def test_prompts_name_tools_that_the_client_has(hub: RunningHub) -> None:
    async with ann(hub) as client:
        tools = {tool.name for tool in (await client.list_tools()).tools}

        named = {"whoami", "inbox_read", "note_list", "search", "lock_acquire", "ask_put"}
        text = " ".join(prompt.text for prompt in http_mcp_prompts.PROMPTS)
        assert named | {"message_send"} <= tools
        assert all(name in text for name in named)


async def test_an_unknown_prompt_is_refused(hub: RunningHub) -> None:
    async with ann(hub) as client:
        with pytest.raises(MCPError) as caught:
            await client.get_prompt("none")

        assert (caught.value.code, caught.value.data["code"]) == (-32602, "not_found")


@pytest.mark.parametrize("given", [{}, {"to": ""}, {"to": "x" * 3_000}, {"to": "a", "by": "b"}])
def test_a_prompt_takes_its_arguments_and_no_other(given: dict[str, str]) -> None:
    prompt = http_mcp_prompts.find("handoff")

    with pytest.raises(InvalidInput):
        http_mcp_prompts.filled(prompt, given)


def test_there_is_no_other_prompt() -> None:
    with pytest.raises(NotFound):
        http_mcp_prompts.find("Onboard")
