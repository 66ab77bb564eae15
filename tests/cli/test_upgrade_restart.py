"""Hub and sidecar start anew, as after an upgrade, while twelve agents are at their work."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentcom.cli import background
from tests.cli.terminal import WAIT_S, Here

AGENTS = 12


@pytest.fixture
def fleet(agentcom: Here, home: Path) -> Iterator[Here]:
    agents = [f"--agent=a{n}=command:sandbox=off" for n in range(AGENTS)]
    assert agentcom("up", "--port", "0", *agents).code == 0
    yield agentcom
    agentcom("down")


@pytest.mark.timeout(200)
def test_every_attempt_goes_on_over_a_restart_of_hub_and_sidecar(
    fleet: Here, home: Path, tmp_path: Path
) -> None:
    began, gate = tmp_path / "began", tmp_path / "gate"
    os.mkfifo(gate)
    task = {"command": ["sh", "-c", f"echo x >> {began}; cat {gate}"]}
    (tmp_path / "tasks.json").write_text(
        json.dumps([{"title": f"t{n}", **task} for n in range(AGENTS)])
    )
    with gate.open("r+b", buffering=0):  # nobody comes to the end of it meanwhile
        assert fleet("submit", "--no-repo", "-f", str(tmp_path / "tasks.json")).code == 0
        _until(lambda: began.exists() and began.read_text() == "x\n" * AGENTS)
        before = {name: background.running(name) for name in ("hub", "sidecar")}

        said = fleet("upgrade", "--restart")

        assert said.code == 0, said
        assert not [name for name, was in before.items() if was == background.running(name)]
    _until(lambda: all(row["state"] == "completed" for row in _tasks(fleet)))
    assert [(row["attempt"], row["leases_lost"]) for row in _tasks(fleet)] == [(1, 0)] * AGENTS
    assert began.read_text() == "x\n" * AGENTS, "some began twice"


def _tasks(fleet: Here) -> list[dict[str, Any]]:
    said = fleet("task", "ls", "--json", "state,attempt,leases_lost")
    rows: list[dict[str, Any]] = json.loads(said.out)
    assert len(rows) == AGENTS
    return rows


def _until(holds: Callable[[], bool]) -> None:
    assert background.wait_for(holds, timeout_s=WAIT_S)
