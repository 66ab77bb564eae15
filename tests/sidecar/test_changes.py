"""What a commit changes, and the bounds of it."""

from pathlib import Path

import pytest

from agentcom.model.declaring import of_line
from agentcom.sidecar import changes, workspace
from tests.sidecar.git_origin import ADA, FIRST, Machine, Origin, agent


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return Origin(tmp_path / "forge")


@pytest.fixture
def ada(tmp_path: Path, origin: Origin) -> Machine:
    return Machine(tmp_path / "ada", origin, ADA)


async def judged(ada: Machine, line: str) -> str:
    """Return what a check says of a change that moves one file, edits one and adds one."""
    base = ada.origin.push({"src/a.py": "1\n" * 20, "old.txt": "2\n" * 20, "infra/x": "3\n"})
    worktree = await ada.prepare(FIRST)
    (worktree.path / "old.txt").rename(worktree.path / "src/new.txt")
    (worktree.path / "src/a.py").write_text("1\n" * 19 + "changed\n")
    (worktree.path / "infra/y.bin").write_bytes(b"\0\1\2")
    saved = await workspace.finish(worktree, "x")
    check = of_line("verify", line)
    change = await changes.read(worktree.cache, base, saved.commit, [check])
    result = changes.judge(check, change)
    assert result.passed == (not result.said)
    return result.said


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("diff:files=3 lines=2", ""),
        ("diff:files=2", "3 files changed, at most 2"),
        ("diff:lines=1", "2 lines changed, at most 1"),
        ("diff:allow=src/** allow=infra/** allow=old.txt", ""),
        ("diff:allow=src/**,infra/**", "changes old.txt, which is not among infra/**, src/**"),
        ("diff:forbid=infra/**", "changes infra/y.bin, which is forbidden"),
        ("secrets:diff", ""),
    ],
)
async def test_a_change_within_and_beyond_its_bounds(ada: Machine, line: str, says: str) -> None:
    assert await judged(ada, line) == says


async def test_a_secret_that_is_added_is_found(ada: Machine, origin: Origin) -> None:
    base = origin.tip()
    worktree = await ada.prepare(FIRST)
    (worktree.path / "key.txt").write_text("AKIA" + "Q" * 16 + "\n")
    agent(worktree, "add", "-A")
    agent(worktree, "commit", "-qm", "x")
    commit = agent(worktree, "rev-parse", "HEAD")
    cache = worktree.cache
    await cache.run("fetch", "-q", str(worktree.path), commit)
    check = of_line("verify", "secrets:diff")

    change = await changes.read(cache, base, commit, [check])

    assert changes.judge(check, change).said == "key.txt:1: AWS key"


async def test_nothing_is_read_for_checks_that_compare_nothing(ada: Machine) -> None:
    base = ada.origin.tip()

    assert await changes.read(await ada.cache(), base, base, [of_line("verify", "true")]) is None
    assert not changes.judge(of_line("verify", "diff:files=1"), None).passed


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("exists:a/*.md", ""),
        ("exists:a/*.md b.txt c.txt", "no file matches b.txt, c.txt"),
        ("absent:**/*.orig", ""),
        ("absent:a/**", "there is a/x.md, a/y.md"),
        ("absent:**", "there is README, a/x.md, a/y.md, f0, f1 and 8 more"),
    ],
)
def test_files_that_must_and_must_not_be_there(line: str, says: str) -> None:
    paths = ["README", "a/x.md", "a/y.md", *(f"f{number}" for number in range(10))]

    assert changes.judge_paths(of_line("verify", line), paths).said == says


def test_the_files_of_a_folder_are_listed_without_following_links(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git/x").touch()
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b").touch()
    (tmp_path / "link").symlink_to(tmp_path)

    assert sorted(changes.paths_of(tmp_path)) == ["a/b", "link"]
