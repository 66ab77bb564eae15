"""Tests of checkpoints: agentcom.sidecar.workspace and snapshots."""

import os
from pathlib import Path

import pytest

from agentcom.model import refs
from agentcom.model.ids import WallTime
from agentcom.sidecar import housekeeping, workspace
from agentcom.sidecar.repositories import Repositories
from tests.sidecar import git_origin
from tests.sidecar.git_origin import BOB, FIRST, SECOND, TASK, Origin, agent, prepare

TOKEN = "ghp_" + "a1B2" * 10  # the shape of a token, and no token


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Origin:
    return Origin(tmp_path_factory.mktemp("template") / "forge")


@pytest.fixture
def origin(tmp_path: Path, template: Origin) -> Origin:
    return Origin(tmp_path / "forge", like=template)


@pytest.fixture
def fleet(tmp_path: Path) -> Repositories:
    return Repositories(tmp_path / "machine")


async def test_a_checkpoint_has_everything_and_touches_nothing(
    fleet: Repositories, origin: Origin
) -> None:
    worktree = await prepare(fleet, origin)
    (worktree.path / "committed").write_text("1")
    agent(worktree, "add", "committed")
    agent(worktree, "commit", "-qm", "mine")
    (worktree.path / "staged").write_text("2")
    agent(worktree, "add", "staged")
    (worktree.path / "untracked").write_text("3")
    (worktree.path / "README").write_text("changed")
    before = agent(worktree, "status", "--porcelain") + agent(worktree, "log", "--format=%H")

    saved = await workspace.checkpoint(worktree)

    assert saved is not None
    assert origin.ref(refs.checkpoint_ref(TASK, FIRST)) == saved.commit
    files = {"README", "committed", "staged", "untracked", "tests/test_a.py"}
    assert set(origin.files(saved.commit)) == files
    assert (
        agent(worktree, "status", "--porcelain") + agent(worktree, "log", "--format=%H") == before
    )


async def test_a_checkpoint_names_what_differs_from_the_beginning(
    fleet: Repositories, origin: Origin
) -> None:
    worktree = await prepare(fleet, origin)
    (worktree.path / "committed").write_text("1")
    agent(worktree, "add", "committed")
    agent(worktree, "commit", "-qm", "mine")
    (worktree.path / "README").unlink()
    (worktree.path / 'odd "name\n').write_text("2")
    (worktree.path / os.fsdecode(b"caf\xe9")).write_text("3")

    saved = await workspace.checkpoint(worktree)

    assert saved is not None
    assert set(saved.touched) == {"committed", "README", 'odd "name\n', "caf\ufffd"}
    assert saved.touched_count == 4


async def test_what_an_earlier_attempt_changed_is_still_named(
    fleet: Repositories, origin: Origin
) -> None:
    worktree = await prepare(fleet, origin)
    (worktree.path / "first").write_text("1")
    saved = await workspace.checkpoint(worktree)
    assert saved is not None
    later = await prepare(fleet, origin, fence=SECOND, checkpoint=saved.commit)
    (later.path / "second").write_text("2")

    saved = await workspace.checkpoint(later)

    assert saved is not None
    assert saved.touched == ("first", "second")


async def test_a_checkpoint_without_news_is_none(fleet: Repositories, origin: Origin) -> None:
    worktree = await prepare(fleet, origin)

    assert await workspace.checkpoint(worktree) is None
    (worktree.path / "x").write_text("x")
    assert await workspace.checkpoint(worktree) is not None
    assert await workspace.checkpoint(worktree) is None


async def test_ignored_files_and_droppings_stay_out(fleet: Repositories, origin: Origin) -> None:
    origin.push({".gitignore": "build/\n"})
    worktree = await prepare(fleet, origin)
    for name in ("build/out", ".aider.chat.history.md", ".agentcom-task.json", "real"):
        (worktree.path / name).parent.mkdir(exist_ok=True)
        (worktree.path / name).write_text("x")

    saved = await workspace.checkpoint(worktree)

    assert saved is not None
    assert set(origin.files(saved.commit)) == {".gitignore", "README", "real", "tests/test_a.py"}


async def test_a_secret_never_leaves_in_a_checkpoint(fleet: Repositories, origin: Origin) -> None:
    worktree = await prepare(fleet, origin)
    (worktree.path / ".env").write_text(f"A=1\nTOKEN={TOKEN}\n")
    (worktree.path / "README").write_text(f"use {TOKEN}\n")
    (worktree.path / "work").write_text("fine")

    saved = await workspace.checkpoint(worktree)

    assert saved is not None
    assert [str(one) for one in saved.findings] == [
        ".env:2: GitHub token",
        "README:1: GitHub token",
    ]
    assert set(origin.files(saved.commit)) == {"README", "tests/test_a.py", "work"}
    assert origin.show(saved.commit, "README") == "hello"


async def test_a_secret_in_the_agents_history_never_leaves_either(
    fleet: Repositories, origin: Origin
) -> None:
    worktree = await prepare(fleet, origin)
    (worktree.path / "key").write_text(TOKEN)
    agent(worktree, "add", "key")
    agent(worktree, "commit", "-qm", "oops")
    agent(worktree, "rm", "-q", "key")
    agent(worktree, "commit", "-qm", "nobody saw it")
    (worktree.path / "work").write_text("fine")

    saved = await workspace.checkpoint(worktree)

    assert saved is not None
    assert [one.path for one in saved.findings] == ["key"]
    assert origin.log(saved.commit)[1:] == ["change README tests/test_a.py"]
    assert TOKEN not in git_origin.git(origin.path, "log", "--all", "-p")


async def test_a_large_file_stays_out_of_a_checkpoint(
    fleet: Repositories, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspace, "CHECKPOINT_FILE_BYTES_MAX", 1_000)
    worktree = await prepare(fleet, origin)
    (worktree.path / "core").write_bytes(b"x" * 1_001)
    (worktree.path / "work").write_text("fine")

    saved = await workspace.checkpoint(worktree)

    assert saved is not None
    assert [one.kind for one in saved.findings] == ["too large"]
    assert "core" not in origin.files(saved.commit)


async def test_a_push_that_arrived_unheard_does_not_stop_checkpoints(
    fleet: Repositories, origin: Origin
) -> None:
    worktree = await prepare(fleet, origin)
    (worktree.path / "x").write_text("1")
    await workspace.checkpoint(worktree)
    (worktree.state / "checkpoint.json").unlink()
    (worktree.path / "x").write_text("2")

    saved = await workspace.checkpoint(worktree)

    assert saved is not None
    assert origin.ref(refs.checkpoint_ref(TASK, FIRST)) == saved.commit


async def test_another_machine_goes_on_from_the_checkpoint(
    fleet: Repositories, origin: Origin, tmp_path: Path
) -> None:
    worktree = await prepare(fleet, origin)
    (worktree.path / "half").write_text("half")
    saved = await workspace.checkpoint(worktree)
    assert saved is not None
    origin.push({"meanwhile": "x"})

    other = await prepare(
        Repositories(tmp_path / "other"), origin, SECOND, agent=BOB, checkpoint=saved.commit
    )

    assert other.resumed
    assert (other.path / "half").exists()
    assert (other.path / "meanwhile").exists()
    assert await workspace.changed(other)


async def test_a_checkpoint_that_conflicts_with_the_base_is_left_aside(
    fleet: Repositories, origin: Origin
) -> None:
    worktree = await prepare(fleet, origin)
    (worktree.path / "README").write_text("mine\n")
    saved = await workspace.checkpoint(worktree)
    assert saved is not None
    tip = origin.push({"README": "theirs\n"})

    second = await prepare(fleet, origin, SECOND, checkpoint=saved.commit)

    assert (second.resumed, second.start) == (False, tip)


async def test_a_checkpoint_that_is_gone_is_left_aside(fleet: Repositories, origin: Origin) -> None:
    worktree = await prepare(fleet, origin, checkpoint="0123456789" * 4)

    assert not worktree.resumed


async def test_checkpoints_expire_after_a_week(fleet: Repositories, origin: Origin) -> None:
    worktree = await prepare(fleet, origin)
    (worktree.path / "x").write_text("x")
    await workspace.checkpoint(worktree)
    ref = refs.checkpoint_ref(TASK, FIRST)
    now_s = int(git_origin.git(origin.path, "log", "-1", "--format=%ct", ref))
    week_ms = housekeeping.CHECKPOINT_KEEP_MS

    soon = await housekeeping.expire_checkpoints(worktree.cache, WallTime(now_s * 1_000 + week_ms))
    late = await housekeeping.expire_checkpoints(
        worktree.cache, WallTime((now_s + 1) * 1_000 + week_ms)
    )

    assert (soon, late) == ([], [ref])
    assert origin.ref(ref) == ""
