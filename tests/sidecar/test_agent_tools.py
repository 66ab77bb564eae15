"""Real agent programs use the hub's tools through the server that the sidecar gives them."""

import sys
from pathlib import Path

import pytest

from agentcom.model.ids import AgentId
from agentcom.sidecar.config import AgentConfig
from agentcom.sidecar.runtime.base import Runtime
from agentcom.sidecar.runtime.claude import Claude
from agentcom.sidecar.runtime.codex import Codex
from agentcom.testing import scenario
from agentcom.testing.mock_llm import server
from agentcom.testing.mock_llm.answers import Entry
from tests.sidecar.real_cli import TEST_TIMEOUT_S, installed
from tests.sidecar.whole_hub import world

pytestmark = [pytest.mark.cli, pytest.mark.timeout(TEST_TIMEOUT_S)]

COMMAND = str(Path(sys.executable).with_name("agentcom"))
"""Codex runs a login shell, whose path is the system's own."""
SPEAKS = scenario.render(
    [
        scenario.Use("message_send", {"to": ["user:ann"], "body": "the parser is done"}),
        scenario.Shell((COMMAND, "note", "write", "plan", "the printer is next")),
        scenario.Say("I told ann."),
    ]
)


@pytest.mark.parametrize("runtime", [Claude(), Codex()], ids=lambda each: each.name)
async def test_a_real_agent_speaks_as_itself(runtime: Runtime, tmp_path: Path) -> None:
    log: list[Entry] = []
    async with server.serve(log=log.append) as model:
        settings = {
            "binary": installed(runtime.name),
            "base_url": model.url,
            "model": "scripted",
        }
        agent = AgentConfig(name=AgentId("ada"), runtime=runtime.name, settings=settings)
        async with world(tmp_path, agent, runtimes={runtime.name: runtime}) as fleet:
            task = await fleet.submit(prompt=SPEAKS)
            row = await fleet.ended(task)

            assert row["state"] == "completed", (row, log)
            (letter,) = (await fleet.call("inbox_read"))["letters"]
            note = (await fleet.call("note_read", name="plan"))["note"]

    message = letter["message"]
    assert (message["sender"], message["body"]) == ("agent:ada", "the parser is done"), log
    assert message["task"] == task
    assert (note["author"], note["text"]) == ("agent:ada", "the printer is next")
