"""What an agent does at the hub as itself, by our own command in its shell."""

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp_types import TextContent

from agentcom.sidecar import processes
from agentcom.testing.waiting import until
from tests.sidecar.whole_hub import World, world

pytestmark = pytest.mark.skipif(not processes.has_table(), reason="looks at /proc")


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


def shell(script: str) -> dict[str, object]:
    return {"shell": ["sh", "-c", script]}


async def test_an_agent_speaks_as_itself(fleet: World, tmp_path: Path) -> None:
    task = await fleet.submit(
        shell(f"agentcom note write plan 'first the parser' 2>> {tmp_path}/said"),
        shell(f"agentcom msg send user:ann 'the parser is done' 2>> {tmp_path}/said"),
    )

    row = await fleet.ended(task)

    said = (tmp_path / "said").read_text()
    assert row["state"] == "completed", said
    note = (await fleet.call("note_read", name="plan"))["note"]
    assert (note["author"], note["text"]) == ("agent:ada", "first the parser"), said
    (letter,) = (await fleet.call("inbox_read"))["letters"]
    message = letter["message"]
    assert (message["sender"], message["body"]) == ("agent:ada", "the parser is done")
    assert (message["task"], message["fence"][1]) == (task, 1)


async def test_an_agent_locks_and_asks_in_its_shell(fleet: World, tmp_path: Path) -> None:
    asks = "agentcom ask put --to ann 'which database?' --option sqlite --wait 60s"
    task = await fleet.submit(
        shell(f"agentcom lock take deploy 2> {tmp_path}/said"),
        shell(f"{asks} > {tmp_path}/answer 2>> {tmp_path}/said"),
    )

    async def asked() -> Any:
        return (await fleet.call("ask_list")).get("asks")

    await until(asked, patience_s=60)
    (question,) = await asked()
    (held,) = (await fleet.call("lock_list"))["locks"]
    await fleet.call("ask_answer", ask=question["id"], answer="sqlite")
    row = await fleet.ended(task)

    assert row["state"] == "completed", (tmp_path / "said").read_text()
    assert (question["asker"], question["task"]) == ("agent:ada", task)
    assert (held["lock"]["holder"], held["lock"]["task"]) == ("agent:ada", task)
    assert "sqlite" in (tmp_path / "answer").read_text()
    assert "locks" not in await fleet.call("lock_list")


async def test_an_agent_sends_a_file(fleet: World, tmp_path: Path) -> None:
    task = await fleet.submit(
        {"write": {"path": "plan.md", "text": "first the parser\n"}},
        shell(f"agentcom msg send user:ann --file plan.md 'the plan' 2> {tmp_path}/said"),
    )

    await fleet.ended(task)

    (letter,) = (await fleet.call("inbox_read"))["letters"]
    (attached,) = letter["message"]["attachments"]
    found = await fleet.hub.http.get(f"/api/v1/blobs/{attached['digest']}")
    assert (attached["name"], found.content) == ("plan.md", b"first the parser\n")


async def test_an_agents_own_client_starts_a_server_that_is_the_agent(
    fleet: World, tmp_path: Path
) -> None:
    go, way = tmp_path / "go", tmp_path / "way"
    task = await fleet.submit(
        shell(f"echo $AGENTCOM_MCP_URL $AGENTCOM_MCP_TOKEN > {way}.new; mv {way}.new {way}"),
        {"wait_for": str(go)},
    )
    await fleet.until_there(way)
    url, token = way.read_text().split()
    server = StdioServerParameters(
        command=sys.executable,
        args=["-P", "-m", "agentcom.cli.main", "mcp"],
        env={"AGENTCOM_MCP_URL": url, "AGENTCOM_MCP_TOKEN": token, "PATH": "/bin"},
    )

    async with Client(server) as client:
        result = await client.call_tool("whoami", {})

    go.touch()
    await fleet.ended(task)
    (content,) = result.content
    assert isinstance(content, TextContent)
    me = json.loads(content.text)
    assert (me["address"], me["task"]) == ("agent:ada", task)


async def test_the_test_agent_uses_the_hubs_tools(fleet: World) -> None:
    asked = {"name": "plan", "text": "first the parser"}
    task = await fleet.submit({"use": {"tool": "note_write", "arguments": asked}})

    await fleet.ended(task)

    note = (await fleet.call("note_read", name="plan"))["note"]
    assert (note["author"], note["text"]) == ("agent:ada", "first the parser")


async def test_an_agent_has_its_own_token_and_not_its_machines(
    fleet: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTCOM_TOKEN", "a-persons-token")
    task = await fleet.submit(shell(f"env > {tmp_path}/env"))

    await fleet.ended(task)

    seen = (tmp_path / "env").read_text()
    lines = dict(line.split("=", 1) for line in seen.splitlines() if "=" in line)
    assert lines["AGENTCOM_MCP_URL"].startswith("http://127.0.0.1:")
    assert len(lines["AGENTCOM_MCP_TOKEN"]) == 43
    assert fleet.machine.token not in seen
    assert "a-persons-token" not in seen


async def test_the_token_of_an_attempt_ends_with_it(fleet: World, tmp_path: Path) -> None:
    task = await fleet.submit(
        shell(f'printf "%s %s" $AGENTCOM_MCP_URL $AGENTCOM_MCP_TOKEN > {tmp_path}/way')
    )
    await fleet.ended(task)
    url, token = (tmp_path / "way").read_text().split()

    async with fleet.hub.client(token) as client:
        answer = await client.post(url.removesuffix("/mcp") + "/api/v1/calls/whoami")

    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")


async def test_an_agent_reaches_the_hub_after_its_sidecar_started_again(
    fleet: World, tmp_path: Path
) -> None:
    task = await fleet.submit(
        shell(f"touch {tmp_path}/runs"),
        {"wait_for": str(tmp_path / "go")},
        shell(f"agentcom note write after 'still here' 2> {tmp_path}/said"),
    )
    await fleet.until_there(tmp_path / "runs")
    await fleet.stop()
    fleet.start()
    (tmp_path / "go").touch()

    row = await fleet.ended(task)

    assert (row["state"], row["attempt"]) == ("completed", 1)
    note = (await fleet.call("note_read", name="after"))["note"]
    assert note["author"] == "agent:ada"


async def test_a_refusal_reaches_the_agents_shell(fleet: World, tmp_path: Path) -> None:
    refused = f"agentcom task ls > {tmp_path}/out 2> {tmp_path}/said"
    task = await fleet.submit(
        shell(f"{refused}; echo $? > {tmp_path}/code"),
        shell(f"agentcom who --json name > {tmp_path}/who"),
    )

    await fleet.ended(task)

    assert (tmp_path / "code").read_text().strip() != "0"
    assert "calls, files and MCP" in (tmp_path / "said").read_text()
    assert isinstance(json.loads((tmp_path / "who").read_text() or "[]"), list)


async def test_a_message_to_a_working_agent_is_shown_in_a_turn_of_its_own(
    fleet: World, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    task = await fleet.submit(shell(f"touch {tmp_path}/runs"), {"wait_for": str(go)})
    await fleet.until_there(tmp_path / "runs")
    sent = await fleet.call("message_send", to=["ada"], body="how far are you? <<mock:say>>")

    async def state() -> str:
        shown = await fleet.call("message_show", message=sent["message"])
        return str(shown["to"][0].get("state"))

    await until(lambda: _is(state, "delivered"))
    go.touch()
    row = await fleet.ended(task)

    assert row["state"] == "completed"
    await until(lambda: _is(state, "seen"))
    turn = next((fleet.machine.home.root / "attempts").glob("*/run-2/task.json")).read_text()
    assert "> how far are you?" in turn


async def _is(state: Callable[[], Awaitable[str]], wanted: str) -> bool:
    return await state() == wanted
