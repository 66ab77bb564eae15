"""What a task made, in a person's own clone: looked at, checked out, landed."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agentcom.cli import api, branches
from agentcom.cli.errors import CommandFailed, Exit
from tests.sidecar.git_origin import Origin, git

TASK = "01m8h9c5swenwrrnxp8g39yc4k"
BRANCH = f"agent/pr/{TASK}"


class Hub:
    """A hub that knows one task."""

    def __init__(self, task: dict[str, Any]) -> None:
        self.shown = task
        self.acts: list[tuple[str, object]] = []

    def resolve(self, text: str) -> str:
        return text

    def task(self, task_id: str) -> dict[str, Any]:
        return {"id": task_id, "title": "t", "state": "completed", **self.shown}

    def act(self, task_id: str, verb: str, body: object) -> dict[str, Any]:
        self.acts.append((verb, body))
        return self.task(task_id)


class Desk:
    """A person in a clone of the task's repository."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.origin = Origin(folder)
        self.base = self.origin.tip()
        self.commit = self.origin.push({"new.txt": "new\n"}, BRANCH)
        self.clone = folder / "mine"
        git(folder, "clone", "-q", self.origin.url, str(self.clone))
        spec = {"repo": self.origin.url, "base": "main"}
        self.hub = Hub({"spec": spec, "branch": BRANCH, "commit": self.commit})
        monkeypatch.setattr(api, "connect", lambda: self.hub)
        monkeypatch.chdir(self.clone)

    def diff(self, capfd: pytest.CaptureFixture[str], *words: str) -> str:
        assert branches.diff.main([TASK, *words], standalone_mode=False) == Exit.DONE
        return capfd.readouterr().out

    def checkout(self) -> None:
        branches.checkout.main([TASK], standalone_mode=False)

    def on(self) -> str:
        return git(self.clone, "rev-parse", "--abbrev-ref", "HEAD")

    def at(self) -> str:
        return git(self.clone, "rev-parse", "HEAD")


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, monkeypatch)


def test_a_diff_is_of_the_task_alone_and_changes_nothing(
    desk: Desk, capfd: pytest.CaptureFixture[str]
) -> None:
    desk.origin.push({"other.txt": "other\n"})
    before = (desk.on(), desk.at(), git(desk.clone, "branch", "-a"))

    assert "+new" in desk.diff(capfd)
    assert desk.diff(capfd, "--name-only").split() == ["new.txt"]
    assert "new.txt" in desk.diff(capfd, "--stat")
    assert (desk.on(), desk.at(), git(desk.clone, "branch", "-a")) == before


def test_a_diff_shows_what_is_merged_too(desk: Desk, capfd: pytest.CaptureFixture[str]) -> None:
    git(desk.origin.path, "update-ref", "refs/heads/main", desk.commit)
    git(desk.origin.path, "update-ref", "-d", f"refs/heads/{BRANCH}")
    desk.hub.shown["base_commit"] = desk.base

    assert desk.diff(capfd, "--name-only").split() == ["new.txt"]


def test_a_diff_of_work_in_progress_is_its_checkpoint(
    desk: Desk, capfd: pytest.CaptureFixture[str]
) -> None:
    del desk.hub.shown["commit"], desk.hub.shown["branch"]
    desk.hub.shown["checkpoint"] = desk.commit

    assert desk.diff(capfd, "--name-only").split() == ["new.txt"]


def test_no_program_of_the_repository_runs_for_a_diff(
    desk: Desk, capfd: pytest.CaptureFixture[str]
) -> None:
    git(desk.clone, "config", "diff.evil.textconv", "touch ran;")
    (desk.clone / ".git/info/attributes").write_text("* diff=evil\n")

    assert "+new" in desk.diff(capfd)
    assert not (desk.clone / "ran").exists()


def test_checkout_brings_the_branch_and_goes_on_with_it(desk: Desk) -> None:
    desk.checkout()
    assert (desk.on(), desk.at()) == (BRANCH, desk.commit)

    newer = desk.origin.push({"more.txt": "more\n"}, BRANCH)
    desk.hub.shown["commit"] = newer
    desk.checkout()

    assert (desk.on(), desk.at()) == (BRANCH, newer)


def test_checkout_refuses_where_something_is_not_committed(desk: Desk) -> None:
    (desk.clone / "draft.txt").write_text("mine\n")
    before = desk.at()

    with pytest.raises(CommandFailed, match="not committed"):
        desk.checkout()
    assert (desk.at(), (desk.clone / "draft.txt").read_text()) == (before, "mine\n")


def test_checkout_never_drops_commits_of_a_person(desk: Desk) -> None:
    desk.checkout()
    (desk.clone / "mine.txt").write_text("mine\n")
    git(desk.clone, "add", "-A")
    git(desk.clone, "commit", "-q", "-m", "mine")
    mine = desk.at()
    desk.hub.shown["commit"] = desk.origin.push({"more.txt": "more\n"}, BRANCH)

    with pytest.raises(CommandFailed):
        desk.checkout()
    assert desk.at() == mine


def test_another_clone_is_refused(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Origin(tmp_path / "other")
    monkeypatch.chdir(other.clone)

    with pytest.raises(CommandFailed, match="the task is of"):
        desk.checkout()
    shutil.rmtree(other.clone / ".git")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CommandFailed, match="no clone"):
        desk.checkout()


@pytest.mark.parametrize("shown", [{"spec": {}}, {"commit": None, "branch": None}])
def test_a_task_without_work_says_so(desk: Desk, shown: dict[str, object]) -> None:
    desk.hub.shown |= shown

    with pytest.raises(CommandFailed) as refused:
        desk.checkout()
    assert refused.value.exit_code == Exit.MISSING


@pytest.mark.parametrize(("words", "how"), [((), "merge"), (("--pull-request",), "pull-request")])
def test_a_landing_is_ordered_at_the_hub(desk: Desk, words: tuple[str, ...], how: str) -> None:
    done = CliRunner().invoke(branches.land, [TASK, *words, "--json", "id"])

    assert json.loads(done.output) == {"id": TASK}
    assert desk.hub.acts == [("land", {"land": how})]
