"""What `agentcom token` asks of the hub."""

from typing import Any

import pytest
from click.testing import CliRunner

from agentcom.cli import api
from agentcom.cli.access import token


def test_a_token_for_an_agent_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    class Hub:
        def create_token(self, **wanted: Any) -> dict[str, Any]:
            asked.update(wanted)
            return {"token": "acm_agt_x"}

    monkeypatch.setattr(api, "connect", Hub)

    said = CliRunner().invoke(token, ["create", "--agent", "eve", "--expires", "1d"])

    assert said.output == "acm_agt_x\n"
    day_ms = 86_400_000
    told = {name: value for name, value in asked.items() if value is not None}
    assert told == {"agent": "eve", "note": "", "ttl_ms": day_ms}
