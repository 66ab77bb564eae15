"""What `agentcom token` asks of the hub."""

from typing import Any

import pytest
from click.testing import CliRunner

from agentcom.cli import api
from agentcom.cli.access import token, user
from agentcom.cli.errors import CommandFailed


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


def test_an_account_for_a_program_is_asked_for_with_all_that_was_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: dict[str, Any] = {}

    class Hub:
        def add_service(self, **wanted: Any) -> dict[str, Any]:
            asked.update(wanted)
            return {"token": "acm_usr_x"}

    monkeypatch.setattr(api, "connect", Hub)
    words = ["add", "nightly", "--service", "--scope", "read", "--scope", "submit"]

    said = CliRunner().invoke(user, [*words, "--expires", "never", "--note", "CI"])

    assert said.output == "acm_usr_x\n"
    told = {name: value for name, value in asked.items() if value is not None}
    assert told == {
        "name": "nightly",
        "role": "submitter",
        "scopes": ("read", "submit"),
        "ttl_ms": 0,
        "note": "CI",
    }


def test_people_are_invited_not_added() -> None:
    refused = CliRunner().invoke(user, ["add", "eve"])

    assert isinstance(refused.exception, CommandFailed)
    assert "user invite eve" in refused.exception.hint


@pytest.mark.parametrize(
    ("words", "grace_ms"),
    [([], 86_400_000), (["--grace", "2h"], 7_200_000), (["--grace", "0s"], 0)],
)
def test_a_rotation_says_for_how_long_both_work(
    monkeypatch: pytest.MonkeyPatch, words: list[str], grace_ms: int
) -> None:
    asked: list[Any] = []

    class Hub:
        url, token = "http://127.0.0.1:1", "acm_usr_o"

        def rotate_token(self, *wanted: Any) -> dict[str, Any]:
            asked.extend(wanted)
            return {"token": "acm_usr_x"}

    monkeypatch.setattr(api, "connect", Hub)

    said = CliRunner().invoke(token, ["rotate", "k1", *words])

    assert (said.output, asked) == ("acm_usr_x\n", ["k1", grace_ms])
