"""The service of this person: files that the system's own checker takes, and its commands."""

import plistlib
import shutil
import subprocess
from pathlib import Path

import pytest

from agentcom.cli import context, services
from agentcom.cli.errors import CommandFailed
from tests.cli.terminal import Here

ODD = '50% "quoted" $HOME and a back\\slash'


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path) -> Path:
    """A systemd that notes what it is asked for; it has the service running once it is enabled."""
    folder, log = tmp_path / "bin", tmp_path / "calls"
    folder.mkdir()
    tool = folder / "systemctl"
    tool.write_text(
        f'#!/bin/sh\necho "$*" >> {log}\n'
        f'case "$*" in *is-active*) grep -q "enable --now" {log};; esac\n'
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr("platform.system", lambda: "Linux")
    context.private_folder(home)
    return log


def unit_words(path: Path, key: str) -> list[str]:
    return [line for line in path.read_text().splitlines() if line.startswith(f"{key}=")]


def test_a_service_is_installed_shown_and_removed(calls: Path, agentcom: Here) -> None:
    agentcom("service", "install")

    place = services.path()
    assert place.stat().st_mode & 0o077 == 0
    assert calls.read_text().splitlines()[:2] == [
        "--user daemon-reload",
        "--user enable --now agentcom.service",
    ]
    shown = dict(line for line in agentcom("service", "show").lines if len(line) == 2)
    assert shown["installed"] == shown["active"] == "yes"

    agentcom("service", "remove")
    assert not place.exists()
    assert "--user disable --now agentcom.service" in calls.read_text()
    assert "no service" in agentcom("service", "remove").err


def test_down_stops_the_service_and_not_the_processes_under_it(calls: Path, agentcom: Here) -> None:
    agentcom("service", "install")

    assert "service\tstopped" in agentcom("down").out
    assert calls.read_text().splitlines()[-1] == "--user stop agentcom.service"


def test_what_systemd_refuses_is_said(
    calls: Path, monkeypatch: pytest.MonkeyPatch, agentcom: Here
) -> None:
    (calls.parent / "bin" / "systemctl").write_text("#!/bin/sh\necho no bus here >&2; exit 1\n")

    said = agentcom("service", "install")

    assert said.code == 1
    assert "no bus here" in said.err


def test_a_computer_without_either_is_told_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, agentcom: Here
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    said = agentcom("service", "install")

    assert "agentcom up" in said.err


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
@pytest.mark.parametrize("name", ["plain", ODD])
def test_systemd_takes_the_unit_whatever_the_folder_is_called(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    program = folder / "python"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("AGENTCOM_HOME", str(folder))
    place = tmp_path / services.UNIT
    place.write_text(services.unit([str(program), "up", "--x=" + ODD], {"A": ODD}))

    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", str(place)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert place.name not in done.stderr, done.stderr


def test_a_line_break_does_not_become_a_setting() -> None:
    with pytest.raises(CommandFailed, match="cannot be part"):
        services.unit(["python", "up"], {"A": "x\nExecStartPre=/bin/evil"})


def test_the_unit_keeps_what_agents_run_and_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret")

    text = services.text()

    assert "sk-secret" not in text
    if services.kind() != "launchd":
        assert "KillMode=process" in text.splitlines()
        assert "Restart=always" in text.splitlines()


def test_launchd_reads_the_same_back() -> None:
    read = plistlib.loads(services.plist(["/bin/python", ODD], {"PATH": ODD}).encode())

    assert read["ProgramArguments"] == ["/bin/python", ODD]
    assert read["EnvironmentVariables"] == {"PATH": ODD}
    assert read["KeepAlive"] is read["RunAtLoad"] is read["AbandonProcessGroup"] is True
