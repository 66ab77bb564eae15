"""A computer's life in a fleet: agents come and go, processes start anew, and all is removed."""

import json
import os
import shutil
import signal
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentcom.cli import background, installed, upgrade_plan, upgrading
from agentcom.cli.errors import CommandFailed
from agentcom.testing.waiting import PATIENCE_S
from tests.cli.terminal import Here, Shell

pytestmark = [pytest.mark.xdist_group("cli-life"), pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    folder = tmp_path_factory.mktemp("life")
    shell = Shell(folder / "home", folder)
    shell("up", "--port", "0", "--agent", "tester=testagent:sandbox=off")
    yield shell
    shell("down", ok=False)


def until(holds: Callable[[], bool]) -> None:
    assert background.wait_for(holds, timeout_s=PATIENCE_S)


def state(shell: Shell, agent: str) -> str:
    said = shell("agent", "show", agent, "--json", "state", ok=False)
    return str(json.loads(said.out)["state"]) if said.code == 0 else ""


def test_an_agent_comes_and_goes_while_another_works(life: Shell, tmp_path: Path) -> None:
    go = tmp_path / "go"
    steps = f"<<mock:edit>>\n```steps\n{json.dumps({'wait_for': str(go)})}\n```\n"
    task = life("submit", "--no-repo", steps).out.strip()
    until(lambda: state(life, "tester") == "working")
    pid = json.loads(life("status", "--json", "sidecar_pid").out)["sidecar_pid"]

    assert life("agent", "add", "helper=command:capabilities=helping").lines == [
        ["helper", "added"]
    ]
    until(lambda: state(life, "helper") == "idle")
    life("submit", "--no-repo", "--needs", "helping", "--command", "--watch", "--", "true")
    life("agent", "rm", "tester")
    until(lambda: state(life, "tester") == "offline")
    go.touch()

    until(lambda: "completed" in life("task", "show", task).out)
    assert json.loads(life("status", "--json", "sidecar_pid").out)["sidecar_pid"] == pid
    again = life("agent", "rm", "tester", ok=False)
    assert again.code == 3
    life("agent", "add", "tester=testagent:sandbox=off")
    until(lambda: state(life, "tester") == "idle")


def test_an_agent_shows_what_its_computer_has_and_a_list_what_is_its_own(life: Shell) -> None:
    (row,) = [row for row in life("agent", "ls").lines if row[0] == "tester"]
    shown = dict(life("agent", "show", "tester").lines)

    assert "os=" not in row[-1]
    assert "os=" in shown["capabilities"]
    assert "git=" in shown["capabilities"]


def test_a_broken_agent_is_named_with_its_fix(life: Shell) -> None:
    life("agent", "add", "broken=command:binary=/nowhere/tool")
    until(lambda: state(life, "broken") == "blocked")

    shown = life("machine", "ls", "--json", "name").out
    (machine,) = json.loads(shown)
    assert "broken cannot work: /nowhere/tool" in life("machine", "show", machine["name"]).err
    assert "install it" in dict(life("agent", "show", "broken").lines)["problem"]
    task = life("submit", "--no-repo", "--needs", "agent=broken", "--command", "--", "true")
    assert "unready" in life("task", "why", task.out.strip()).out
    life("task", "cancel", task.out.strip())
    life("agent", "rm", "broken")


def test_the_hub_has_a_machine_start_anew_under_the_same_process(life: Shell) -> None:
    log = life.home / "logs" / "sidecar.log"
    (machine,) = json.loads(life("machine", "ls", "--json", "name").out)
    pid = json.loads(life("status", "--json", "sidecar_pid").out)["sidecar_pid"]
    starts = log.read_text().count("sidecar.started")

    life("machine", "restart", machine["name"])

    until(lambda: log.read_text().count("sidecar.started") == starts + 1)
    until(lambda: state(life, "tester") == "idle")
    assert json.loads(life("status", "--json", "sidecar_pid").out)["sidecar_pid"] == pid


def test_a_machine_that_is_not_there_cannot_be_restarted(life: Shell) -> None:
    life("machine", "invite", "--name", "ghost")
    assert life("machine", "restart", "nobody", ok=False).code == 3


def test_everything_is_listed_and_removed(tmp_path: Path) -> None:
    shell = Shell(tmp_path / "home", tmp_path)
    shell("up", "--port", "0", "--agent", "tester=testagent:sandbox=off")
    shell("submit", "--no-repo", "<<mock:edit>> x", "--watch")
    records = [json.loads(path.read_text()) for path in (shell.home / "run").iterdir()]

    listed = shell("uninstall", "--dry-run")
    assert {row[0] for row in listed.lines} == {"process", "files"}
    assert shell.home.exists()
    assert shell("uninstall", ok=False).code == 2

    shell("uninstall", "--yes")

    assert not shell.home.exists()
    for record in records:
        assert background.start_time(record["pid"]) != record["start"]


def test_in_the_foreground_it_ends_with_what_it_started_and_finds_the_rest_again(
    tmp_path: Path,
) -> None:
    shell = Shell(tmp_path / "home", tmp_path)
    words = background.program("up", "--foreground", "--port", "0", "--agent", "t=testagent")

    def begun(*before: int) -> tuple["subprocess.Popen[bytes]", dict[str, int]]:
        process = subprocess.Popen(words, env=shell.variables(), cwd=tmp_path)

        def both() -> bool:
            pids = running(shell.home)
            return len(pids) == 2 and not set(pids.values()) & set(before)

        until(both)
        return process, running(shell.home)

    first, pids = begun()
    os.kill(pids["hub"], signal.SIGKILL)
    assert first.wait(40) == 1

    second, again = begun(pids["hub"])
    assert again["sidecar"] == pids["sidecar"]  # it never noticed more than a lost link
    second.send_signal(signal.SIGTERM)

    assert second.wait(40) == 0
    assert running(shell.home) == {}


def running(home: Path) -> dict[str, int]:
    """Return what was started from a home and lives."""
    names = [path.stem for path in (home / "run").glob("*.json")]
    found = {name: background.running(name, home=home) for name in names}
    return {name: it[0].pid for name, it in found.items() if it is not None}


def test_work_that_is_nowhere_else_keeps_everything(tmp_path: Path) -> None:
    shell = Shell(tmp_path / "home", tmp_path)
    held = shell.home / "machine" / "outbox" / "held"
    held.mkdir(parents=True)
    (held / "t1.7.1.json").write_text("{}")
    (shell.home / "machine" / "machine.json").write_text("{}")

    refused = shell("uninstall", "--yes", ok=False)
    assert refused.code == 5
    assert "not acknowledged" in refused.err
    assert shell.home.exists()

    shell("uninstall", "--yes", "--lose-work")
    assert not shell.home.exists()


def test_an_upgrade_of_a_checkout_is_refused_with_the_way_out(agentcom: Here) -> None:
    said = agentcom("upgrade")

    assert said.code == 1
    assert "git pull" in said.err


def test_an_upgrade_that_cannot_be_installed_leaves_the_old_version(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []
    coming = {"install": [{"metadata": {"name": name}} for name in ("agentcom", "brand-new")]}

    def pip(*words: str) -> str:
        asked.append(words)
        if "--report" in words:
            return "WARNING: old\n" + json.dumps(coming)
        if "--upgrade" in words:
            raise CommandFailed("no such version")
        return ""

    monkeypatch.setattr(installed, "check_place", lambda: None)
    monkeypatch.setattr(installed, "_pip", pip)

    with pytest.raises(CommandFailed, match=r"no such version; version .* is installed again"):
        upgrading.run(version="99.0.0", source=None)

    assert asked[1] == ("install", "--upgrade", "agentcom==99.0.0")
    (wheel,) = [Path(word) for word in asked[2] if word.endswith(".whl")]
    assert wheel.parent == home / "upgrade" / "wheels"
    assert zipfile.ZipFile(wheel).testzip() is None
    assert asked[3] == ("uninstall", "--yes", "brand-new")
    assert upgrade_plan.unfinished() is None


def test_an_upgrade_without_room_begins_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(home)._replace(free=1 << 20)
    monkeypatch.setattr(installed, "check_place", lambda: None)
    monkeypatch.setattr(installed, "_coming", lambda _wanted: ["agentcom"])
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)

    with pytest.raises(CommandFailed, match="nothing was changed"):
        upgrading.run(version="99.0.0", source=None)

    assert upgrade_plan.unfinished() is None


def test_a_second_upgrade_and_a_resume_of_nothing_are_refused(agentcom: Here, home: Path) -> None:
    assert agentcom("upgrade", "--resume").code == 1
    with upgrade_plan.alone():
        assert agentcom("upgrade", "--resume").code == 5
    plan = upgrade_plan.Plan(
        step=upgrade_plan.Step.RESTORING, old="1", names=(), service=False, wheels=()
    )
    upgrade_plan.note(plan)

    assert "--resume" in agentcom("upgrade").err
    assert agentcom("upgrade", "--resume").code == 0
    assert upgrade_plan.interrupted() is None
    assert (home / "upgrade" / "lock").exists()
