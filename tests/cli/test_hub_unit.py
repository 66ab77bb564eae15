"""The unit of a server's hub: taken by systemd's own checker, closed in, nothing slipped in."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from agentcom.cli import hub_unit
from agentcom.cli.errors import CommandFailed, Exit
from tests.cli.terminal import Here


def values(text: str, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", text, re.MULTILINE)


def test_the_unit_runs_the_hub_itself_and_watches_it() -> None:
    text = hub_unit.text()

    (start,) = values(text, "ExecStart")
    assert '"hub" "run" "--home" "/var/lib/agentcom"' in start
    assert values(text, "Type") == ["notify"]
    assert values(text, "WatchdogSec") == ["30"]
    assert values(text, "ExecReload") == ["/bin/kill -HUP $MAINPID"]
    assert values(text, "DynamicUser") == ["yes"]


def test_a_folder_of_one_s_own_can_be_written_and_an_account_be_named() -> None:
    text = hub_unit.text(home=Path("/srv/hub 1"), user="ada")

    assert values(text, "ReadWritePaths") == ['"/srv/hub 1"']
    assert values(text, "User") == ['"ada"']
    assert values(text, "DynamicUser") == []


def test_a_program_in_somebody_s_home_stays_readable() -> None:
    at_home = hub_unit.text(words=["/run/user/1000/bin/python"])
    elsewhere = hub_unit.text(words=["/opt/agentcom/bin/python"])

    assert values(at_home, "ProtectHome") == ["read-only"]
    assert values(elsewhere, "ProtectHome") == ["yes"]


def test_a_line_break_does_not_become_a_setting() -> None:
    with pytest.raises(CommandFailed, match="cannot be part"):
        hub_unit.text(home=Path("/x\nExecStartPre=/bin/evil"))


def test_who_is_not_root_is_told_so(
    agentcom: Here, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("agentcom.cli.services.kind", lambda: "systemd")
    monkeypatch.setattr(hub_unit, "PLACE", tmp_path / "none" / hub_unit.UNIT)

    said = agentcom("service", "install", "--hub")

    assert said.code == Exit.NOT_ALLOWED
    assert "sudo agentcom service install --hub" in said.err


def test_it_is_installed_shown_and_removed(
    agentcom: Here, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tool, log = tmp_path / "systemctl", tmp_path / "calls"
    tool.write_text(f'#!/bin/sh\necho "$*" >> {log}\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr(hub_unit, "PLACE", tmp_path / hub_unit.UNIT)
    monkeypatch.setattr("agentcom.cli.services.verify", lambda *_a, **_k: [])

    assert agentcom("service", "install", "--hub").code == 0
    assert log.read_text().splitlines() == [
        "daemon-reload",
        "enable --now agentcom-hub.service",
    ]
    assert "yes" in agentcom("service", "show", "--hub").out
    assert agentcom("service", "remove", "--hub").code == 0
    assert not hub_unit.PLACE.exists()
    assert agentcom("service", "install", "--user", "ada").code == Exit.USAGE


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
def test_systemd_takes_the_unit_and_calls_it_closed_in(tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    place = tmp_path / hub_unit.UNIT
    place.write_text(hub_unit.text(words=[str(program), "hub", "run"]))

    def ask(*words: str) -> str:
        done = subprocess.run(
            ["systemd-analyze", *words, str(place)], capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr

    assert place.name not in ask("verify")
    said = ask("security", "--offline=true", "--no-pager")
    found = re.search(r"exposure level[^:]*: ([\d.]+)", said)
    assert found is None or float(found[1]) < 2.0, said
