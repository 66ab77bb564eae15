"""Real agent programs use the hub's tools through the server that the sidecar gives them."""

import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agentcom.model.ids import AgentId
from agentcom.sidecar.config import AgentConfig
from agentcom.sidecar.confines import Confines, Sandbox
from agentcom.sidecar.runtime.base import Runtime
from agentcom.sidecar.runtime.claude import Claude
from agentcom.sidecar.runtime.codex import Codex
from agentcom.testing import scenario
from agentcom.testing.mock_llm import server
from agentcom.testing.mock_llm.answers import Entry
from agentcom.testing.waiting import until
from tests.sidecar.real_cli import TEST_TIMEOUT_S, installed
from tests.sidecar.whole_hub import World, world

pytestmark = [pytest.mark.cli, pytest.mark.timeout(TEST_TIMEOUT_S)]

COMMAND = str(Path(sys.executable).with_name("agentcom"))
"""Codex runs a login shell, whose path is the system's own."""
RUNTIMES: tuple[Runtime, ...] = (Claude(), Codex())
SPEAKS = scenario.render(
    [
        scenario.Use("message_send", {"to": ["user:ann"], "body": "the parser is done"}),
        scenario.Shell((COMMAND, "note", "write", "plan", "the printer is next")),
        scenario.Say("I told ann."),
    ]
)


@contextlib.asynccontextmanager
async def fleet_of(runtime: Runtime, root: Path, log: list[Entry]) -> AsyncIterator[World]:
    """Run a hub, a scripted model, and a machine with one agent of this runtime."""
    async with server.serve(log=log.append) as model:
        settings = {
            "binary": installed(runtime.name),
            "base_url": model.url,
            "model": "scripted",
        }
        agent = AgentConfig(
            name=AgentId("ada"),
            runtime=runtime.name,
            settings=settings,
            confines=Confines(sandbox=Sandbox.OFF),  # they say by files elsewhere how far they are
        )
        async with world(root, agent, runtimes={runtime.name: runtime}) as fleet:
            yield fleet


@pytest.mark.parametrize("runtime", RUNTIMES, ids=lambda each: each.name)
async def test_a_real_agent_speaks_as_itself(runtime: Runtime, tmp_path: Path) -> None:
    log: list[Entry] = []
    async with fleet_of(runtime, tmp_path, log) as fleet:
        task = await fleet.submit(prompt=SPEAKS)
        row = await fleet.ended(task)

        assert row["state"] == "completed", (row, log)
        (letter,) = (await fleet.call("inbox_read"))["letters"]
        note = (await fleet.call("note_read", name="plan"))["note"]

    message = letter["message"]
    assert (message["sender"], message["body"]) == ("agent:ada", "the parser is done"), log
    assert message["task"] == task
    assert (note["author"], note["text"]) == ("agent:ada", "the printer is next")


@pytest.mark.parametrize("runtime", RUNTIMES, ids=lambda each: each.name)
async def test_a_real_agent_is_woken_in_its_session(runtime: Runtime, tmp_path: Path) -> None:
    log: list[Entry] = []
    go, runs = tmp_path / "go", tmp_path / "runs"
    works = scenario.render(
        [
            scenario.Shell(("touch", str(runs))),
            scenario.WaitFor(str(go)),
            scenario.Say("Worked."),
        ]
    )
    async with fleet_of(runtime, tmp_path, log) as fleet:
        task = await fleet.submit(prompt=works)
        await fleet.until_there(runs)
        sent = await fleet.call("message_send", to=["ada"], body="how far? <<mock:say>>")

        async def reached(wanted: str) -> bool:
            shown = await fleet.call("message_show", message=sent["message"])
            return bool(shown["to"][0].get("state") == wanted)

        await until(lambda: reached("delivered"))
        go.touch()
        row = await fleet.ended(task)
        await until(lambda: reached("seen"))
        (result,) = (await fleet.hub.http.get(f"/api/v1/tasks/{task}/results")).json()["results"]

    assert row["state"] == "completed", (row, log)
    assert result["result"]["summary"] == "Worked.\n\nNothing to change.", log
