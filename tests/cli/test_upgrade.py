"""Another version takes over while an agent works; one that does not start is taken back."""

import subprocess
from pathlib import Path

import pytest

from agentcom.cli import background
from agentcom.testing.waiting import PATIENCE_S
from tests.journeys import builds

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
BROKEN = 'raise RuntimeError("this version cannot serve")\n'


class Installed:
    """A program in an environment of its own, with a home."""

    def __init__(self, programs: Path, home: Path) -> None:
        self._programs = programs
        self.home = home

    def __call__(self, *words: str, code: int = 0) -> str:
        done = subprocess.run(
            [self._programs / "agentcom", *words],
            env={
                "PATH": f"{self._programs}:/usr/bin:/bin",
                "AGENTCOM_HOME": str(self.home),
                "AGENTCOM_HUB_PORT": "0",
                "HOME": str(self.home.parent),
                "LOGNAME": "ada",
            },
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr


def test_a_version_takes_over_and_a_broken_one_is_taken_back(tmp_path: Path) -> None:
    programs = builds.installed(tmp_path / "builds", "1.0.0")
    good = builds.wheel(tmp_path / "good", "1.1.0")
    bad = builds.wheel(tmp_path / "bad", "1.2.0", {"hub/services.py": BROKEN})
    agentcom = Installed(programs, tmp_path / "home")
    go = tmp_path / "go"
    try:
        agentcom("up", "--agent", "ann=command:sandbox=off")
        wait = f"until test -e '{go}'; do sleep 0.05; done"
        agentcom("submit", "--no-repo", "--command", "--", "sh", "-c", wait)
        assert background.wait_for(
            lambda: "running" in agentcom("task", "ls"), timeout_s=PATIENCE_S
        )

        assert "agentcom\t1.1.0" in agentcom("upgrade", "--from", str(good))
        assert "1.1.0" in agentcom("status")
        said = agentcom("upgrade", "--from", str(bad), code=1)

        assert "version 1.1.0 is installed again" in said
        assert "1.1.0" in agentcom("--version")
        assert "1.1.0" in agentcom("status")
        go.touch()
        done = background.wait_for(
            lambda: "completed" in agentcom("task", "ls"), timeout_s=PATIENCE_S
        )
        assert done, agentcom("task", "ls")
        assert "attempt 1" in agentcom("task", "events", "@last")
    finally:
        go.touch()
        agentcom("down")
