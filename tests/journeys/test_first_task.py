"""From nothing to a merged change: what a newcomer does, on a repository of their own."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentcom.testing import scenario
from agentcom.testing.scenario import Commit, Say, Write
from tests.cli.terminal import Shell

PROJECT = f"""\
verify = "{sys.executable} -c 'import hello'"
land = "merge"
"""


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *words], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q", "--bare", "-b", "main", "origin.git")
    git(tmp_path, "clone", "-q", str(tmp_path / "origin.git"), "work")
    work = tmp_path / "work"
    git(work, "checkout", "-q", "-b", "main")
    (work / ".agentcom.toml").write_text(PROJECT)
    git(work, "add", "--all")
    git(work, "commit", "-q", "-m", "Start")
    git(work, "push", "-q", "origin", "main")
    git(work, "fetch", "-q")
    return work


@pytest.fixture
def newcomer(clone: Path, tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path / "home", clone)
    yield shell
    shell("down", ok=False)


def test_a_newcomer_gets_a_verified_change_into_main(newcomer: Shell, clone: Path) -> None:
    up = newcomer("up", "--port", "0", "--agent", "tester=testagent")
    script = scenario.render(
        [Write("hello.py", "print('hello')\n"), Commit("Say hello"), Say("Done.")]
    )

    watched = newcomer("submit", f"Say hello\n{script}", "--watch")

    assert "repo      origin@main, verify: .agentcom.toml\n" in up.out
    assert watched.err == ""
    assert newcomer("task", "show", "@last", "--json", "state,verified,title").out == (
        '{"state":"completed","verified":true,"title":"Say hello"}\n'
    )
    git(clone, "pull", "-q", "--ff-only")
    assert (clone / "hello.py").read_text() == "print('hello')\n"
    assert newcomer("down").out == "sidecar\tstopped\nhub\tstopped\n"


def test_what_was_submitted_survives_down_and_up(newcomer: Shell) -> None:
    newcomer("up", "--port", "0", "--no-agents")
    task = newcomer("submit", "--no-repo", "<<mock:edit>> Later").out.strip()
    newcomer("down")

    newcomer("up", "--port", "0", "--agent", "tester=testagent")

    assert newcomer("task", "watch", task).out.splitlines()[-1].split()[1] == "completed"
