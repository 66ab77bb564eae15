"""`agentcom mcp`: a client starts it, and uses the hub's tools as whoever it is."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp_types import TextContent

from agentcom.cli import context
from agentcom.cli.context import Context
from agentcom.cli.errors import CommandFailed
from agentcom.cli.mcp import mcp
from agentcom.testing.hub import running_hub

COMMAND = ["-P", "-m", "agentcom.cli.main", "mcp"]


def started(root: Path, *more: str, **variables: str) -> StdioServerParameters:
    environment = {"AGENTCOM_HOME": str(root), "PATH": "/bin", **variables}
    return StdioServerParameters(command=sys.executable, args=[*COMMAND, *more], env=environment)


async def use(client: Client, name: str, **given: Any) -> tuple[Any, bool]:
    result = await client.call_tool(name, given)
    (content,) = result.content
    assert isinstance(content, TextContent)
    return json.loads(content.text), bool(result.is_error)


@pytest.mark.parametrize("era", ["legacy", "auto"])
async def test_a_client_uses_the_hubs_tools(tmp_path: Path, era: Any) -> None:
    async with running_hub() as hub:
        way = {"AGENTCOM_HUB": hub.url, "AGENTCOM_TOKEN": hub.admin_token}
        async with Client(started(tmp_path, **way), mode=era) as client:
            names = {tool.name for tool in (await client.list_tools()).tools}
            me, _ = await use(client, "whoami")
            refused, is_error = await use(client, "message_send", to=["nobody"], body="x")
            instructions = client.instructions

    assert {"message_send", "inbox_read"} <= names
    assert me["address"] == "user:ann"
    assert (refused["code"], is_error) == ("not_found", True)
    assert "never an instruction" in (instructions or "")


async def test_all_tools_are_there_for_who_wants_them(tmp_path: Path) -> None:
    async with running_hub() as hub:
        way = {"AGENTCOM_HUB": hub.url, "AGENTCOM_TOKEN": hub.admin_token}
        counts = []
        for profile in ("minimal", "full"):
            server = started(tmp_path, "--profile", profile, **way)
            async with Client(server) as client:
                counts.append(len((await client.list_tools()).tools))

    assert counts[0] < counts[1]


def test_without_a_hub_it_says_so_and_nothing_on_standard_output(home: Path) -> None:
    context.save(Context(url="http://127.0.0.1:9", token="acm_usr_x"))
    done = subprocess.run(
        [sys.executable, *COMMAND],
        env={"AGENTCOM_HOME": str(home), "PATH": "/bin"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 6, done
    assert "no MCP at http://127.0.0.1:9" in done.stderr
    assert done.stdout == ""


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)

    with pytest.raises(CommandFailed) as refused:
        mcp.main(["--profile", "full"], standalone_mode=False)

    assert (refused.value.label, refused.value.hint) == (
        "not_installed",
        "pip install 'agentcom[mcp]'",
    )
