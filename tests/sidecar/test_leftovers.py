"""Work that is nowhere but on this machine is found before it is removed."""

import shutil
from pathlib import Path

import pytest

from agentcom.sidecar import leftovers, repositories, workspace
from agentcom.sidecar.config import Home
from agentcom.sidecar.repositories import Repositories
from agentcom.sidecar.trees import Worktree
from tests.sidecar.git_origin import Origin, agent, prepare


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Origin:
    return Origin(tmp_path_factory.mktemp("template") / "forge")


@pytest.fixture
def origin(tmp_path: Path, template: Origin) -> Origin:
    return Origin(tmp_path / "forge", like=template)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "machine")


@pytest.fixture
async def worktree(home: Home, origin: Origin) -> Worktree:
    fleet = Repositories(home.repositories)
    await fleet.fetch(origin.url)
    return await prepare(fleet, origin)


async def test_a_machine_that_never_worked_has_nothing(home: Home) -> None:
    assert await leftovers.find(home) == []


async def test_an_untouched_worktree_is_nothing(home: Home, worktree: Worktree) -> None:
    assert worktree.path.is_dir()
    assert await leftovers.find(home) == []


async def test_files_that_were_never_committed_are_found_until_they_are_at_origin(
    home: Home, worktree: Worktree
) -> None:
    (worktree.path / "new.txt").write_text("not committed\n")
    (found,) = await leftovers.find(home)
    assert worktree.url in found.what

    await workspace.checkpoint(worktree)

    assert await leftovers.find(home) == []


async def test_a_commit_that_was_pushed_is_safe_and_one_on_top_is_not(
    home: Home, worktree: Worktree
) -> None:
    (worktree.path / "new.txt").write_text("one\n")
    saved = await workspace.finish(worktree, "One")
    assert await leftovers.find(home)
    await workspace.push_branch(worktree, "agent/ada/t1-x-7.1", saved.commit)
    assert await leftovers.find(home) == []

    (worktree.path / "new.txt").write_text("two\n")
    agent(worktree, "commit", "-qam", "Two")

    assert await leftovers.find(home)


async def test_what_was_rescued_long_ago_is_found_too(home: Home, worktree: Worktree) -> None:
    (worktree.path / "new.txt").write_text("kept\n")
    await workspace.remove(worktree)

    (found,) = await leftovers.find(home)

    assert "refs/agentcom/rescue" in found.where


async def test_what_was_removed_here_and_is_at_origin_is_not_lost(
    home: Home, worktree: Worktree
) -> None:
    (worktree.path / "new.txt").write_text("kept\n")
    saved = await workspace.finish(worktree, "One")
    await workspace.push_branch(worktree, "agent/ada/t1-x-7.1", saved.commit)
    await workspace.remove(worktree)

    assert await leftovers.find(home) == []


async def test_an_origin_that_does_not_answer_has_nothing(
    home: Home, worktree: Worktree, origin: Origin
) -> None:
    (worktree.path / "new.txt").write_text("x\n")
    await workspace.checkpoint(worktree)
    shutil.rmtree(origin.path)

    assert len(await leftovers.find(home)) == 1


async def test_a_report_without_an_acknowledgement_is_found(home: Home) -> None:
    held = home.outbox / "held"
    held.mkdir(parents=True)
    repositories.write(held / "t1.7.1.json", "{}")

    (found,) = await leftovers.find(home)

    assert found.where == "t1.7.1"
