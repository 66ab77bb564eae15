"""Tests of repositories that an agent makes in its folder: agentcom.sidecar.nested."""

from pathlib import Path

import pytest

from agentcom.sidecar import nested, workspace
from agentcom.sidecar.repositories import Repositories
from agentcom.sidecar.trees import Worktree
from tests.sidecar.git_origin import Origin, git, prepare


@pytest.fixture
async def worktree(tmp_path: Path) -> Worktree:
    return await prepare(Repositories(tmp_path / "machine"), Origin(tmp_path / "forge"))


def make(folder: Path, files: dict[str, str], *, commit: bool = False) -> None:
    folder.mkdir(parents=True)
    git(folder, "init", "-q")
    for name, text in files.items():
        (folder / name).write_text(text)
    if commit:
        git(folder, "add", "-A")
        git(folder, "commit", "-q", "-m", "x")


def files_of(worktree: Worktree, commit: str) -> list[str]:
    asked = ("ls-tree", "-r", "--name-only", "-z", commit)
    return git(worktree.cache.path, *asked).rstrip("\0").split("\0")


@pytest.mark.parametrize("commit", [False, True])
async def test_files_of_a_repository_in_the_folder_are_in_the_result(
    worktree: Worktree, commit: bool
) -> None:
    (worktree.path / ".gitignore").write_text("*.log\n")
    make(worktree.path / "app", {"a.rb": "1", "a.log": "2", "-x\ny": "3"}, commit=commit)
    make(worktree.path / "app" / "deep", {"b.rb": "4"}, commit=commit)

    saved = await workspace.finish(worktree, "x")

    assert files_of(worktree, saved.commit) == [
        *(".gitignore", "README", "app/-x\ny", "app/a.rb", "app/deep/b.rb", "tests/test_a.py")
    ]
    assert [str(one) for one in saved.findings] == [
        f"app: {nested.HISTORY}",
        f"app/deep: {nested.HISTORY}",
    ]


async def test_what_came_after_a_checkpoint_is_in_the_result_too(worktree: Worktree) -> None:
    make(worktree.path / "app", {"a.rb": "1"})
    await workspace.checkpoint(worktree)
    (worktree.path / "app" / "b.rb").write_text("2")
    (worktree.path / "app" / "a.rb").unlink()

    saved = await workspace.finish(worktree, "x")

    assert files_of(worktree, saved.commit) == ["README", "app/b.rb", "tests/test_a.py"]


async def test_a_repository_without_files_keeps_nothing_from_the_result(
    worktree: Worktree,
) -> None:
    make(worktree.path / "void", {})
    (worktree.path / "README").write_text("new\n")

    saved = await workspace.finish(worktree, "x")

    assert files_of(worktree, saved.commit) == ["README", "tests/test_a.py"]
    assert saved.findings == ()


async def test_a_secret_in_such_a_repository_stays_here(worktree: Worktree) -> None:
    make(worktree.path / "app", {"a.rb": "1", "key": "ghp_" + "a1B2" * 10}, commit=True)

    saved = await workspace.finish(worktree, "x")

    assert files_of(worktree, saved.commit) == ["README", "app/a.rb", "tests/test_a.py"]


@pytest.mark.parametrize("added", [("worktree", "add", "-q", "lib"), ("submodule", "add", "-q")])
async def test_a_pointer_stays_one_in_the_next_turn(
    worktree: Worktree, tmp_path: Path, added: tuple[str, ...]
) -> None:
    other = Origin(tmp_path / "other")
    words = added if added[0] == "worktree" else (*added, other.url, "lib")
    git(worktree.path, *words)
    first = await workspace.finish(worktree, "x")
    (worktree.path / "more").write_text("x")
    (worktree.path / "lib" / "more").write_text("x")

    second = await workspace.finish(worktree, "x")
    await workspace.remove(worktree)

    modes = git(worktree.cache.path, "ls-tree", "--format=%(objectmode)", second.commit, "lib")
    assert modes == "160000"
    assert set(files_of(worktree, second.commit)) == {*files_of(worktree, first.commit), "more"}
