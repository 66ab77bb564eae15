"""Tests of agentcom.sidecar.joining: nothing of two lines of work is lost."""

from pathlib import Path

import pytest

from agentcom.sidecar import git, workspace
from agentcom.sidecar.trees import Worktree
from tests.sidecar import git_origin
from tests.sidecar.git_origin import ADA, FIRST, Machine, Origin, agent


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return Origin(tmp_path / "forge")


@pytest.fixture
def ada(tmp_path: Path, origin: Origin) -> Machine:
    return Machine(tmp_path / "ada", origin, ADA)


def commit(worktree: Worktree, name: str, text: str) -> None:
    (worktree.path / name).write_text(text)
    agent(worktree, "add", ".")
    agent(worktree, "commit", "-qm", f"write {name}")


async def merged(ada: Machine) -> str:
    """Return work with a conflict that only its merge commit resolves."""
    worktree = await ada.prepare(FIRST)
    agent(worktree, "checkout", "-qb", "side")
    commit(worktree, "both", "theirs\n")
    agent(worktree, "checkout", "-q", worktree.branch)
    commit(worktree, "both", "ours\n")
    git_origin.git(worktree.path, "merge", "-q", "side", check=False)
    (worktree.path / "both").write_text("ours and theirs\n")
    (worktree.path / "glue").write_text("holds them together\n")
    agent(worktree, "add", ".")
    agent(worktree, "commit", "-qm", "join")
    return (await workspace.finish(worktree, "x")).commit


async def test_what_only_a_merge_commit_holds_lands(ada: Machine, origin: Origin) -> None:
    work = await merged(ada)
    moved = origin.push({"meanwhile": "x"})

    landed = await ada.land(FIRST, work)

    assert landed.rebased
    assert origin.tip() == landed.commit
    assert {"glue", "meanwhile"} <= set(origin.files("main"))
    assert origin.show("main", "both") == "ours and theirs"
    parents = git_origin.git(origin.path, "log", "-1", "--format=%P", "main").split()
    assert parents == [moved, work]


async def test_a_base_that_conflicts_with_a_merge_names_the_files(
    ada: Machine, origin: Origin
) -> None:
    work = await merged(ada)
    moved = origin.push({"both": "something else\n"})

    with pytest.raises(git.MergeConflict) as conflict:
        await ada.land(FIRST, work)
    assert conflict.value.files == ("both",)
    assert origin.tip() == moved


async def test_a_change_that_the_base_took_and_took_back_is_not_dropped(
    ada: Machine, origin: Origin
) -> None:
    work = await ada.work(FIRST, {"a": "a\n"})
    origin.push({"a": "a\n"})
    git_origin.git(origin.clone, "rm", "-q", "a")
    origin.push({"meanwhile": "x"})
    assert "a" not in origin.files("main")

    await ada.land(FIRST, work)

    assert "a" in origin.files("main")


async def test_a_change_that_the_base_has_already_is_not_made_twice(
    ada: Machine, origin: Origin
) -> None:
    worktree = await ada.prepare(FIRST)
    commit(worktree, "a", "a\n")
    commit(worktree, "b", "b\n")
    work = (await workspace.finish(worktree, "x")).commit
    origin.push({"a": "a\n"})

    await ada.land(FIRST, work)

    assert origin.log() == ["write b", "change a", "change README tests/test_a.py"]
