"""Tests of which changes need a person before they land: agentcom.sidecar.landing."""

from collections.abc import Callable
from pathlib import Path

import pytest

from agentcom.sidecar import landing, workspace
from tests.sidecar.git_origin import ADA, FIRST, Machine, Origin, git


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return Origin(tmp_path / "forge")


@pytest.fixture
def ada(tmp_path: Path, origin: Origin) -> Machine:
    return Machine(tmp_path / "ada", origin, ADA)


def emptied(test: Path) -> None:
    test.write_text("")


def made_a_link(test: Path) -> None:
    test.unlink()
    test.symlink_to("../README")


def renamed(test: Path) -> None:
    test.rename(test.with_name("a.py"))


def given_another_suffix(test: Path) -> None:
    test.rename(test.with_name("test_a.py.off"))


@pytest.mark.parametrize(
    ("disable", "reason"),
    [
        (emptied, "empties the test tests/test_a.py"),
        (made_a_link, "replaces the test tests/test_a.py by something that is no file"),
        (renamed, "moves the test tests/test_a.py to tests/a.py"),
        (given_another_suffix, "moves the test tests/test_a.py to tests/test_a.py.off"),
    ],
)
async def test_a_test_that_is_disabled_needs_a_person(
    ada: Machine, origin: Origin, disable: Callable[[Path], None], reason: str
) -> None:
    base = origin.push({"tests/test_a.py": "def test_a():\n    assert True\n" * 9})
    worktree = await ada.prepare(FIRST)
    disable(worktree.path / "tests/test_a.py")
    saved = await workspace.finish(worktree, "x")

    assert await landing.protected_changes(worktree.cache, base, saved.commit) == [reason]


async def test_a_repository_in_the_folder_needs_a_person(ada: Machine, origin: Origin) -> None:
    base = origin.tip()
    worktree = await ada.prepare(FIRST)
    nested = worktree.path / "vendor" / "lib"
    nested.mkdir(parents=True)
    git(nested, "init", "-q")
    (nested / "a.txt").write_text("lost\n")
    git(nested, "add", "-A")
    git(nested, "commit", "-q", "-m", "x")
    saved = await workspace.finish(worktree, "x")

    assert await landing.protected_changes(worktree.cache, base, saved.commit) == [
        "holds the repository vendor/lib, whose files are not in the commit"
    ]


async def test_a_test_that_moves_as_a_test_needs_nobody(ada: Machine, origin: Origin) -> None:
    base = origin.push({"tests/fixtures/a.json": "1\n" * 9})
    worktree = await ada.prepare(FIRST)
    (worktree.path / "tests/unit").mkdir()
    (worktree.path / "tests/test_a.py").rename(worktree.path / "tests/unit/test_a.py")
    (worktree.path / "tests/fixtures/a.json").rename(worktree.path / "tests/b.json")
    saved = await workspace.finish(worktree, "x")

    assert await landing.protected_changes(worktree.cache, base, saved.commit) == []


async def test_changes_that_need_a_person_are_named(ada: Machine, origin: Origin) -> None:
    base = origin.push(
        {
            ".agentcom.toml": 'land = "branch"\n',
            "src/a.spec.ts": "1\n" * 9,
            "tests/test_b.py": "2\n" * 9,
        }
    )
    worktree = await ada.prepare(FIRST)
    (worktree.path / ".agentcom.toml").write_text("land = 'merge'\n")
    (worktree.path / "src/a.spec.ts").unlink()
    (worktree.path / "tests/test_b.py").rename(worktree.path / "b.txt")
    (worktree.path / "tests/test_a.py").rename(worktree.path / "tests/test_c.py")
    saved = await workspace.finish(worktree, "x")
    origin.push({"meanwhile": "x"})

    reasons = await landing.protected_changes(worktree.cache, base, saved.commit)

    assert reasons == [
        "changes .agentcom.toml",
        "moves the test tests/test_b.py to b.txt",
        "deletes the test src/a.spec.ts",
    ]


async def test_ordinary_changes_need_nobody(ada: Machine, origin: Origin) -> None:
    base = origin.tip()
    commit = await ada.work(FIRST, {"README": "x", "tests/test_a.py": "changed\n"})

    assert await landing.protected_changes(await ada.cache(), base, commit) == []


@pytest.mark.parametrize(
    "path",
    [
        "tests/x.txt",
        "test_a.py",
        "a/b_test.go",
        "a.spec.ts",
        "x/__tests__/a.js",
        "src/FooTest.java",
    ],
)
def test_tests_are_known_by_their_names(path: str) -> None:
    assert landing.is_test(path)


def test_other_files_are_no_tests() -> None:
    assert not any(map(landing.is_test, ["src/latest.py", "contest.py", "attest/a.py", "README"]))
