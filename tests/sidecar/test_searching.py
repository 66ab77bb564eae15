"""Tests of agentcom.sidecar.searching: what is published was read, all of it."""

from pathlib import Path

import pytest

from agentcom.sidecar import searching, secrets_scan, snapshots, workspace
from agentcom.sidecar.repositories import Repositories
from agentcom.sidecar.trees import Worktree
from tests.sidecar import git_origin
from tests.sidecar.git_origin import Origin, agent, prepare

TOKEN = "ghp_" + "a1B2" * 10  # the shape of a token, and no token


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return Origin(tmp_path / "forge")


@pytest.fixture
async def worktree(tmp_path: Path, origin: Origin) -> Worktree:
    return await prepare(Repositories(tmp_path / "machine"), origin)


def commit(worktree: Worktree, message: str) -> str:
    (worktree.path / "work").write_text(message.replace(TOKEN, "nothing"))
    agent(worktree, "add", ".")
    agent(worktree, "commit", "-qm", message)
    return agent(worktree, "rev-parse", "HEAD")


async def test_a_message_with_a_secret_leaves_neither_in_a_checkpoint_nor_a_result(
    worktree: Worktree, origin: Origin
) -> None:
    head = commit(worktree, f"use\n\n{TOKEN}")

    saved = await workspace.checkpoint(worktree)
    finished = await workspace.finish(worktree, "x")
    await workspace.push_branch(worktree, "agent/ada/x", finished.commit)

    assert saved is not None
    assert [one.path for one in saved.findings] == [f"commit {head[:12]}"]
    assert saved.findings == finished.findings
    assert "work" in origin.files(finished.commit)
    assert TOKEN not in git_origin.git(origin.path, "log", "--all", "--format=%B")


async def test_a_branch_whose_message_holds_a_secret_is_not_pushed(
    worktree: Worktree, origin: Origin
) -> None:
    commit(worktree, f"use {TOKEN}")
    head = await workspace.rescue(worktree)

    with pytest.raises(workspace.SecretFound) as refused:
        await workspace.push_branch(worktree, "agent/ada/x", head)

    assert TOKEN not in refused.value.message
    assert origin.tip("agent/ada/x") == ""


async def test_a_secret_in_a_large_file_never_leaves(worktree: Worktree, origin: Origin) -> None:
    (worktree.path / "run.log").write_text("line\n" * 700_000 + TOKEN + "\n")

    finished = await workspace.finish(worktree, "x")

    assert [str(one) for one in finished.findings] == ["run.log:700001: GitHub token"]
    assert "run.log" not in git_origin.git(
        worktree.cache.path, "ls-tree", "-r", "--name-only", finished.commit
    )


async def test_what_the_budget_does_not_pay_for_is_left_out_and_named(
    worktree: Worktree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "SEARCH_BYTES_MAX", 1_000)
    (worktree.path / "large").write_text("x" * 900)
    (worktree.path / "small").write_text("y" * 200)

    finished = await workspace.finish(worktree, "x")

    assert [str(one) for one in finished.findings] == ["large: too large to scan"]
    files = git_origin.git(worktree.cache.path, "ls-tree", "-r", "--name-only", finished.commit)
    assert "small" in files
    assert "large" not in files


async def test_a_search_that_has_no_time_left_publishes_nothing_unread(
    worktree: Worktree, monkeypatch: pytest.MonkeyPatch
) -> None:
    (worktree.path / "work").write_text("x")
    async with snapshots.taken(worktree, strict=True) as shot:
        monkeypatch.setattr(searching, "SEARCH_S_MAX", -1.0)
        safe = await snapshots.safe(worktree, shot, file_bytes_max=1_000)

    assert [str(one) for one in safe.findings] == ["work: too large to scan"]
    assert safe.tree == await snapshots.tree_of(worktree.cache, worktree.start)


async def test_an_unread_commit_is_not_pushed(
    worktree: Worktree, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(worktree, "x")
    head = await workspace.rescue(worktree)
    monkeypatch.setattr(searching, "SEARCH_BYTES_MAX", 10)

    with pytest.raises(workspace.SecretFound, match="too large to scan"):
        await workspace.push_branch(worktree, "agent/ada/x", head)
    assert origin.tip("agent/ada/x") == ""


@pytest.mark.parametrize("shift", [-60, -40, -20, -4, -1, 0, 1])
def test_a_secret_on_the_border_of_two_windows_is_found_once(shift: int) -> None:
    before = b"x" * (secrets_scan.WINDOW_BYTES + shift - 1) + b"\n"

    found = secrets_scan.scan("a", before + TOKEN.encode() + b"\n" + before)

    assert [str(one) for one in found] == ["a:2: GitHub token"]


@pytest.mark.parametrize("piece", [b"-eyJ", b"a://", b"-----BEGIN ", b"A ", b"-----BEGIN A "])
def test_text_that_only_promises_secrets_is_read_in_linear_time(piece: bytes) -> None:
    # Quadratic time would be minutes here: the time limit of all tests is the measure.
    content = b"-----BEGIN " + piece * (1_000_000 // len(piece))

    assert secrets_scan.scan("a", content) == []


def test_a_search_in_one_file_ends_when_it_is_late() -> None:
    found = secrets_scan.scan("a", b"x" * 10, late=lambda: True)

    assert [str(one) for one in found] == ["a: too large to scan"]


async def test_what_was_searched_at_the_end_is_not_searched_again_but_what_it_stands_on_is(
    tmp_path: Path, origin: Origin
) -> None:
    fleet = Repositories(tmp_path / "other")
    hostile = agent_commit(tmp_path, origin, f"key = {TOKEN}")
    standing = await prepare(fleet, origin, depends_on_commits=(hostile,))
    (standing.path / "more").write_text("x")
    finished = await workspace.finish(standing, "more")
    assert finished.searched

    with pytest.raises(workspace.SecretFound):
        await workspace.push_branch(
            standing, "agent/ada/x", finished.commit, searched=finished.searched
        )


async def test_a_title_with_a_secret_is_found_in_our_own_commit(
    worktree: Worktree, origin: Origin
) -> None:
    (worktree.path / "work").write_text("x")
    finished = await workspace.finish(worktree, f"Use {TOKEN}")
    assert not finished.searched

    with pytest.raises(workspace.SecretFound):
        await workspace.push_branch(
            worktree, "agent/ada/x", finished.commit, searched=finished.searched
        )
    assert origin.tip("agent/ada/x") == ""


def agent_commit(folder: Path, origin: Origin, text: str) -> str:
    """Return a commit at origin that nobody searched."""
    clone = folder / "clone"
    git_origin.git(folder, "clone", "-q", str(origin.path), str(clone))
    (clone / "settings").write_text(text)
    git_origin.git(clone, "add", ".")
    git_origin.git(clone, "commit", "-qm", "settings")
    git_origin.git(clone, "push", "-q", "origin", "HEAD:refs/heads/agent/bob/t0")
    return git_origin.git(clone, "rev-parse", "HEAD")
