"""Agents as a person names them on the command line."""

import pytest

from agentcom.cli import enrol
from agentcom.cli.errors import CommandFailed
from agentcom.model.errors import AgentComError


def test_an_agent_is_named_with_its_runtime_and_settings() -> None:
    agent = enrol.parse_agent("ada=command:slots=2,capabilities=go+gpu,binary=/bin/true")

    assert (agent.name, agent.runtime, agent.slots) == ("ada", "command", 2)
    assert agent.capabilities == ("go", "gpu")
    assert agent.settings["binary"] == "/bin/true"


@pytest.mark.parametrize(
    "text",
    [
        *("ada", "=command", "ada=nothing", "ada=command:slots", "ada=command:slots=0"),
        *("ada=command:slots=many", "ada=command:slots=65", "ada=command:slot=2"),
        *("Ada!=command", "hub=command", "../x=command"),
    ],
)
def test_what_the_hub_would_not_take_is_refused_here(text: str) -> None:
    with pytest.raises(AgentComError):
        enrol.parse_agent(text)


def test_an_unknown_setting_comes_with_the_known_ones() -> None:
    with pytest.raises(CommandFailed, match="no setting slot") as refused:
        enrol.parse_agent("ada=command:slot=2")
    assert "slots" in refused.value.hint
