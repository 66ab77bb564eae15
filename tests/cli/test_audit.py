"""The audit log and the stops as people use them, at a hub with a machine and an agent."""

import json
import shutil
from pathlib import Path

from tests.cli.terminal import Shell


def test_the_log_says_who_did_what_and_is_whole(fleet: Shell, tmp_path: Path) -> None:
    fleet("limit", "set", "key:x", "--at-once", "2")

    rows = json.loads(fleet("audit", "ls", "--action", "limit:set", "--json").out)
    assert rows[0]["target"] == "key:x"
    seen = fleet("audit", "verify").out
    assert seen.startswith("sound\t")
    head = seen.splitlines()[-1].split("\t")[1]
    assert "sound" in fleet("audit", "verify", "--against", head).out

    export = tmp_path / "audit.jsonl"
    export.write_text(fleet("audit", "export").out)
    assert "sound" in fleet("audit", "verify", "--file", str(export), "--against", head).out
    lines = export.read_text().splitlines(keepends=True)
    export.write_text("".join(lines[:1] + lines[2:]))
    assert (
        "entries 2 to 2 are missing"
        in fleet("audit", "verify", "--file", str(export), ok=False).out
    )


def test_a_copy_of_the_store_is_looked_at_without_a_hub(fleet: Shell, tmp_path: Path) -> None:
    (store,) = fleet.home.rglob("hub.sqlite")
    for beside in store.parent.glob("hub.sqlite*"):
        shutil.copy(beside, tmp_path / beside.name)

    assert "sound" in fleet("audit", "verify", "--file", str(tmp_path / "hub.sqlite")).out


def test_a_stopped_agent_gets_nothing_until_it_is_released(fleet: Shell) -> None:
    fleet("stop", "--agent", "tester", "--reason", "odd")

    fleet("submit", "--no-repo", "wait for it")
    assert "stopped the agent tester: odd" in fleet("task", "why", "@last").out
    assert "agent:tester" in fleet("pause").out
    fleet("resume", "--agent", "tester")
    assert "agent:tester" not in fleet("pause").out


def test_a_removal_is_shown_before_it_is_done(fleet: Shell, eve: Shell) -> None:
    shown = json.loads(fleet("user", "remove", "eve", "--dry-run", "--json").out)
    assert (shown["user"], shown["tokens"]) == ("eve", 1)

    fleet("user", "remove", "eve", "--yes")
    fleet("user", "remove", "eve", "--yes")

    assert eve("task", "ls", ok=False).code == 4
