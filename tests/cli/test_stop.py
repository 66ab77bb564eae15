"""`agentcom stop` on an agent in the middle of its work: scope after scope, then its machine."""

import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from agentcom.cli import background
from agentcom.sidecar import processes
from tests.cli.terminal import WAIT_S, Here

pytestmark = pytest.mark.skipif(not processes.has_table(), reason="agents detach by setsid")
WIDE = ("--user=ada", "--project=default", "--pool=default", "--all")


class Site:
    """A hub, a machine with one agent, and a repository in which that agent works."""

    def __init__(self, agentcom: Here, home: Path, folder: Path) -> None:
        self.agentcom = agentcom
        self.home = home
        self.folder = folder
        self.origin = folder / "api.git"
        self.did, self.pids, self.go = (folder / name for name in ("did", "pids", "go"))
        git("init", "-q", "--bare", str(self.origin))
        git("clone", "-q", str(self.origin), str(folder / "seed"))
        git("commit", "-q", "--allow-empty", "-m", "Begin", at=folder / "seed")
        git("push", "-q", "origin", "HEAD:main", at=folder / "seed")
        self("up", "--port", "0", "--agent", "ann=testagent:sandbox=off")
        self.task = ""

    def __call__(self, *words: str) -> str:
        said = self.agentcom(*words)
        assert said.code == 0, said
        return said.out

    def ask(self, *words: str) -> Any:
        return json.loads(self(*words))

    def submit(self) -> None:
        """Submit a task whose attempts each add a line to a file, and then wait for a word."""
        begin = (
            f"echo line >> work.txt; echo $$ >> {self.pids}; (setsid sleep 300 & echo $! >>"
            f" {self.pids}); cp work.txt {self.did}.new; mv {self.did}.new {self.did};"
            f" test -e {self.go} || exec sleep 300"
        )
        steps = [{"shell": ["sh", "-c", begin]}, {"commit": "Work"}]
        prompt = "<<mock:edit>>\n```steps\n" + "\n".join(map(json.dumps, steps)) + "\n```\n"
        self.task = self("submit", "--repo", str(self.origin), prompt).split()[0]

    def show(self) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("task", "show", self.task, "--json", "state,attempt")
        return found

    def is_queued_after(self, attempt: int) -> None:
        until(lambda: self.show() == {"state": "queued", "attempt": attempt})

    def works(self, lines: int) -> list[background.Process]:
        """Wait until an attempt has added to the lines of those before; return its processes."""
        until(lambda: self.did.exists() and self.did.read_text() == "line\n" * lines)
        pids = [int(pid) for pid in self.pids.read_text().split()[-2:]]
        found = [background.Process(pid, background.start_time(pid)) for pid in pids]
        assert all(process.alive for process in found)
        return found

    def checkpoints(self) -> list[str]:
        """Return the commits that were saved on origin."""
        where = "refs/agentcom/checkpoint"
        return git("for-each-ref", "--format=%(objectname)", where, at=self.origin).split()

    def saved(self, lines: int) -> bool:
        """Whether origin has what the attempts have written."""
        return any(
            git("show", f"{commit}:work.txt", at=self.origin) == "line\n" * lines
            for commit in self.checkpoints()
        )


def git(*words: str, at: Path | None = None) -> str:
    done = subprocess.run(["git", *words], cwd=at, check=True, capture_output=True, text=True)
    return done.stdout


def until(holds: Callable[[], bool]) -> None:
    assert background.wait_for(holds, timeout_s=WAIT_S)


@pytest.fixture
def site(
    agentcom: Here, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    monkeypatch.setenv("LOGNAME", "ada")
    monkeypatch.setenv("AGENTCOM_HUB_ADMIN", "ada")
    yield Site(agentcom, home, tmp_path)
    agentcom("down")


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "scopes", [("--agent=ann",), pytest.param(WIDE, marks=pytest.mark.slow)], ids=["one", "many"]
)
def test_a_stop_ends_what_runs_keeps_its_work_and_lasts_until_it_is_lifted(
    site: Site, scopes: Sequence[str]
) -> None:
    site.submit()
    for attempt, scope in enumerate(scopes, start=1):
        running = site.works(attempt)

        site("stop", scope, "--reason", "odd")

        site.is_queued_after(attempt)
        assert not any(process.alive for process in running)
        assert site.saved(attempt), scope
        other = site("submit", "--no-repo", "Another").split()[0]
        for task in (site.task, other):
            assert f"agentcom resume {scope.replace('=', ' ')}" in site("task", "why", task)
        site("task", "cancel", other)
        site("resume", scope)

    the_machine_is_cut_off_and_comes_back(site, len(scopes) + 1)
    site.go.touch()
    until(lambda: site.show()["state"] == "completed")
    assert site.show()["attempt"] == len(scopes) + 2


def the_machine_is_cut_off_and_comes_back(site: Site, attempt: int) -> None:
    running = site.works(attempt)
    (machine,) = (row["name"] for row in site.ask("machine", "ls", "--json", "name"))

    said = site("stop", "--machine", machine)

    assert f"machine:{machine}" in said
    site.is_queued_after(attempt)  # it has said so itself
    shown = site.ask("task", "show", site.task, "--json", "checkpoint")
    assert shown["checkpoint"] in site.checkpoints()
    (stopped,) = site.ask("pause", "--json")
    assert stopped["name"] == machine
    until(lambda: background.running("sidecar", home=site.home) is None)
    assert not any(process.alive for process in running)
    refused = site.agentcom("up")
    assert refused.code != 0
    assert "agentcom resume --machine" in refused.err
    site("resume", "--machine", machine)
    site("up")
    until(lambda: site.show()["attempt"] == attempt + 1)
