from pathlib import Path

import pytest

from agentcom.cli import context
from agentcom.cli.context import Context
from agentcom.cli.errors import CommandFailed, Exit
from tests.cli.terminal import Here

KNOWN = Context(url="https://hub.example:7420", token="acm_usr_x", fingerprint="ab" * 32)


def test_what_was_saved_is_loaded(home: Path) -> None:
    context.save(KNOWN)

    assert context.load() == KNOWN


def test_the_token_is_readable_for_its_owner_alone(home: Path) -> None:
    context.save(KNOWN)

    assert {path.stat().st_mode & 0o777 for path in home.iterdir()} == {0o600}


def test_a_token_that_others_may_read_is_refused(home: Path) -> None:
    context.save(KNOWN)
    (home / "context.token").chmod(0o644)

    with pytest.raises(CommandFailed, match="others may read"):
        context.load()


def test_the_environment_comes_before_the_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context.save(KNOWN)
    monkeypatch.setenv("AGENTCOM_HUB", "http://127.0.0.1:1")
    monkeypatch.setenv("AGENTCOM_TOKEN", "other")

    assert context.load() == Context(url="http://127.0.0.1:1", token="other")


def test_without_a_hub_the_answer_is_up(agentcom: Here) -> None:
    said = agentcom("task", "ls")

    assert (said.code, said.err) == (
        Exit.UNREACHABLE,
        "error: no hub is known here (no_hub)\ntry: agentcom up\n",
    )


def test_a_hub_that_is_not_there_is_unreachable(agentcom: Here) -> None:
    context.save(Context(url="http://127.0.0.1:1", token="acm_usr_x"))

    said = agentcom("task", "ls")

    assert said.code == Exit.UNREACHABLE
    assert said.err.startswith("error: cannot reach the hub at http://127.0.0.1:1")


def test_last_names_nothing_before_the_first_submit(agentcom: Here) -> None:
    context.save(KNOWN)

    assert agentcom("task", "why", "@last").code == Exit.MISSING
