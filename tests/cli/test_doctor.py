import json
from pathlib import Path

import pytest

from agentcom.cli import agent_doctor
from tests.cli.terminal import Here, Shell


def test_the_doctor_exercises_what_it_checks(tmp_path: Path) -> None:
    said = Shell(tmp_path / "home", tmp_path)("doctor", "--json", "check,state,fix")

    rows = {row["check"]: row for row in json.loads(said.out)}
    assert list(rows) == [
        *("python", "git", "home", "disk", "clock", "secrets", "version", "settings", "processes"),
        *("store", "backups", "contexts", "hub", "machine", "agents", "leftovers", "repository"),
        *("push", "sleep", "sandbox", "scratch hub", "loopback", "task"),
    ]
    assert [name for name, row in rows.items() if row["state"] == "FAIL"] == []
    assert [name for name, row in rows.items() if row["state"] == "warn" and not row["fix"]] == []


def test_an_unknown_cli_is_missing(agentcom: Here) -> None:
    said = agentcom("agent", "doctor", "nonesuch")

    assert said.code == 3
    assert said.err.splitlines()[1].startswith("try: agentcom agent doctor ")


@pytest.mark.cli
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["codex", "claude"])
def test_an_installed_cli_passes_every_scenario(name: str) -> None:
    if agent_doctor.program_of(name) is None:
        pytest.skip(f"{name} IS NOT INSTALLED: run python tests/tools/install_clis.py")

    rows = agent_doctor.check(name, None)

    assert [(row["scenario"], row["found"]) for row in rows if not row["passed"]] == []
