"""What the demo claims, checked on the repository and on the hub's own records."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import msgspec

from agentcom.cli.demo_project import BEGUN, BRANCH, PARSER, git
from agentcom.model.ids import TaskId
from agentcom.model.result import KeptResult
from agentcom.model.task import Task, TaskState


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """What happened, as the hub tells it."""

    victim: TaskId
    checkpoint: str
    tasks: tuple[Task, ...]
    results: tuple[KeptResult, ...]
    dead: tuple[str, ...] = ()


class Wrong(Exception):
    """A claim that does not hold."""


def check(folder: Path, story: Story) -> str:
    """Return the summary of a run in which all claims hold.

    Raises:
        Wrong: one does not; the text says which.
    """
    origin = folder / "origin.git"
    if story.dead:
        raise Wrong(f"{', '.join(story.dead)} died by itself")
    merged = sum(_merged(origin, task) for task in story.tasks)
    if merged != len(story.tasks):
        raise Wrong(f"{merged} of {len(story.tasks)} tasks are merged and verified")
    _check_forward_only(origin, len(story.tasks))
    _check_handover(origin, story)
    _check_refusal(origin, story)
    _check_green(origin, folder / "fresh")
    return f"main green, {merged}/{len(story.tasks)} merged, 0 lost"


def read(origin: Path, commit: str, path: str) -> str:
    """Return a file of a commit; "" if one of both is not there."""
    try:
        return git(origin, "show", f"{commit}:{path}") if commit else ""
    except subprocess.CalledProcessError:
        return ""


def _merged(origin: Path, task: Task) -> bool:
    good = task.state is TaskState.COMPLETED and task.verified and task.commit is not None
    return good and _contains(origin, BRANCH, task.commit or "")


def _check_forward_only(origin: Path, landings: int) -> None:
    moves = git(origin, "reflog", "show", "--format=%H", BRANCH).splitlines()
    back = [new for new, old in pairwise(moves) if not _contains(origin, new, old)]
    if back:
        raise Wrong(f"main did not only move forward: {back[0][:10]}")
    if len(moves) != landings + 1:
        raise Wrong(f"main moved {len(moves) - 1} times for {landings} tasks")


def _check_handover(origin: Path, story: Story) -> None:
    task = next((task for task in story.tasks if task.id == story.victim), None)
    if task is None or task.attempt < 2:  # noqa: PLR2004 - the second attempt is the point of the story
        raise Wrong("the killed task had no second attempt")
    begun = read(origin, story.checkpoint, BEGUN)
    if not begun or read(origin, BRANCH, BEGUN) != begun:
        raise Wrong("the second attempt did not go on from the checkpoint")


def _check_refusal(origin: Path, story: Story) -> None:
    kept = [row for row in story.results if row.fence.attempt == 1]
    if len(kept) != 1 or kept[0].applied or "stale" not in (kept[0].refused or ""):
        raise Wrong("the late result of attempt 1 was not refused and kept")
    commit = kept[0].result.commit or ""
    if not read(origin, commit, BEGUN):
        raise Wrong("the refused result's commit is not at the origin")
    if read(origin, BRANCH, PARSER) == read(origin, commit, PARSER):
        raise Wrong("the refused result is what main has")


def _check_green(origin: Path, fresh: Path) -> None:
    git(origin, "clone", "-q", "-b", BRANCH, str(origin), str(fresh))
    done = subprocess.run(
        [sys.executable, "-m", "unittest", "-q"],
        cwd=fresh,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise Wrong(f"main's tests fail in a fresh clone: {done.stderr.strip()[-200:]}")


def _contains(origin: Path, tip: str, commit: str) -> bool:
    try:
        git(origin, "merge-base", "--is-ancestor", commit, tip)
    except subprocess.CalledProcessError:
        return False
    return True
