"""Tests of agentcom.sidecar.workspace: prepare, finish, push, rescue."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agentcom.model import errors, refs
from agentcom.model.ids import TaskId
from agentcom.sidecar import git, repositories, snapshots, trees, workspace
from agentcom.sidecar.repositories import Repositories
from tests.sidecar.git_origin import ADA, FIRST, SECOND, TASK, Origin, agent, prepare

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


async def test_a_task_starts_from_the_fresh_base(fleet: Repositories, origin: Origin) -> None:
    await fleet.fetch(origin.url)
    tip = origin.push({"src/new.py": "x = 1\n"})

    worktree = await prepare(fleet, origin)

    assert worktree.base == worktree.start == tip
    assert (worktree.path / "src/new.py").read_text() == "x = 1\n"
    assert agent(worktree, "status", "--porcelain") == ""
    assert agent(worktree, "rev-parse", "HEAD", "origin/main") == f"{tip}\n{tip}"


async def test_an_unknown_base_branch_is_named(fleet: Repositories, origin: Origin) -> None:
    with pytest.raises(errors.NotFound, match="nowhere"):
        await prepare(fleet, origin, base_branch="nowhere")


async def test_the_agent_cannot_push_by_itself(fleet: Repositories, origin: Origin) -> None:
    worktree = await prepare(fleet, origin)
    (worktree.path / "x").write_text("x")
    agent(worktree, "add", "x")
    agent(worktree, "commit", "-qm", "x")

    with pytest.raises(AssertionError, match="agentcom-pushes-for-you"):
        agent(worktree, "push", "origin", "HEAD:main")


async def test_dependencies_are_joined(fleet: Repositories, origin: Origin) -> None:
    one = origin.push({"one": "1"}, branch="agent/x/one")
    two = origin.push({"two": "2"}, branch="agent/x/two")

    worktree = await prepare(fleet, origin, depends_on_commits=[one, two])

    assert (worktree.path / "one").exists()
    assert (worktree.path / "two").exists()
    assert not await workspace.changed(worktree)


async def test_dependencies_that_conflict_name_their_files(
    fleet: Repositories, origin: Origin
) -> None:
    one = origin.push({"README": "one\n"}, branch="one")
    two = origin.push({"README": "two\n"}, branch="two")

    with pytest.raises(git.MergeConflict) as conflict:
        await prepare(fleet, origin, depends_on_commits=[one, two])

    assert conflict.value.files == ("README",)


async def test_preparing_the_same_attempt_again_keeps_its_work(
    fleet: Repositories, origin: Origin
) -> None:
    worktree = await prepare(fleet, origin)
    (worktree.path / "work").write_text("half done")

    again = await prepare(fleet, origin)

    assert again == worktree
    assert (again.path / "work").read_text() == "half done"


async def test_a_later_attempt_reuses_the_path_and_keeps_what_was_there(
    fleet: Repositories, origin: Origin
) -> None:
    first = await prepare(fleet, origin)
    (first.path / "README").write_text("changed")
    (first.path / "junk").write_text("junk")
    agent(first, "checkout", "-qb", "side")
    (first.path / "side").write_text("side")
    agent(first, "add", "side")
    agent(first, "commit", "-qm", "on the side")

    second = await prepare(fleet, origin, SECOND)

    assert second.path == first.path
    assert sorted(p.name for p in second.path.iterdir()) == [".git", "README", "tests"]
    assert agent(second, "status", "--porcelain") == ""
    kept = await second.cache.run("ls-tree", "--name-only", refs.rescue_ref(TASK, FIRST))
    assert kept.text.split() == ["README", "junk", "side", "tests"]


async def test_an_older_attempt_cannot_touch_the_folder_any_more(
    fleet: Repositories, origin: Origin
) -> None:
    first = await prepare(fleet, origin)
    await prepare(fleet, origin, SECOND)

    for late in (
        workspace.checkpoint(first),
        workspace.finish(first, "x"),
        workspace.remove(first),
    ):
        with pytest.raises(errors.Stale):
            await late
    with pytest.raises(errors.Stale):
        await prepare(fleet, origin, FIRST)


async def test_a_worktree_is_found_again_after_a_restart(
    fleet: Repositories, origin: Origin, tmp_path: Path
) -> None:
    worktree = await prepare(fleet, origin)

    assert trees.load(tmp_path / "machine", TASK) == worktree


async def test_finish_commits_what_is_left(fleet: Repositories, origin: Origin) -> None:
    worktree = await prepare(fleet, origin)
    (worktree.path / "a").write_text("a")
    agent(worktree, "add", "a")
    agent(worktree, "commit", "-qm", "by the agent")
    (worktree.path / "b").write_text("b")

    saved = await workspace.finish(worktree, "the rest")

    assert agent(worktree, "log", "--format=%s", "-2") == "the rest\nby the agent"
    assert agent(worktree, "rev-parse", "HEAD") == saved.commit
    assert agent(worktree, "status", "--porcelain") == ""
    assert await workspace.finish(worktree, "nothing") == saved


async def test_a_second_turn_builds_on_the_first(fleet: Repositories, origin: Origin) -> None:
    worktree = await prepare(fleet, origin)
    (worktree.path / "a").write_text("a")
    first = await workspace.finish(worktree, "one")
    (worktree.path / "a").write_text("longer: git looks at size and time")
    agent(worktree, "commit", "-qam", "two")

    second = await workspace.finish(worktree, "three")

    assert agent(worktree, "rev-parse", "HEAD~1") == first.commit
    assert agent(worktree, "rev-parse", "HEAD") == second.commit


async def test_changed_compares_with_what_was_given(fleet: Repositories, origin: Origin) -> None:
    worktree = await prepare(fleet, origin)

    assert not await workspace.changed(worktree)
    (worktree.path / "README").unlink()
    assert await workspace.changed(worktree)


async def test_a_branch_is_pushed_and_never_forced(fleet: Repositories, origin: Origin) -> None:
    worktree = await prepare(fleet, origin)
    branch = refs.branch_name(agent=ADA, task=TASK, title="x", fence=FIRST)
    (worktree.path / "a").write_text("a")
    saved = await workspace.finish(worktree, "a")
    await workspace.push_branch(worktree, branch, saved.commit)
    await workspace.push_branch(worktree, branch, saved.commit)
    agent(worktree, "commit", "-q", "--amend", "-m", "rewritten")
    rewritten = await workspace.finish(worktree, "x")

    with pytest.raises(git.PushRejected):
        await workspace.push_branch(worktree, branch, rewritten.commit)
    assert origin.tip(branch) == saved.commit


async def test_a_branch_with_a_secret_is_not_pushed(fleet: Repositories, origin: Origin) -> None:
    worktree = await prepare(fleet, origin)
    cache = worktree.cache
    (worktree.path / "key").write_text(TOKEN)
    agent(worktree, "add", "key")
    agent(worktree, "commit", "-qm", "x")
    commit = await workspace.rescue(worktree)

    with pytest.raises(workspace.SecretFound) as refused:
        await workspace.push_branch(worktree, "agent/ada/x", commit)

    assert TOKEN not in refused.value.message
    assert cache.url == origin.url
    assert origin.tip("agent/ada/x") == ""


async def test_a_folder_is_removed_only_after_it_was_rescued(
    fleet: Repositories, origin: Origin
) -> None:
    worktree = await prepare(fleet, origin)
    (worktree.path / "README").write_text("hidden")
    agent(worktree, "stash")
    (worktree.path / "precious").write_text("x")
    closed = worktree.path / "closed"
    closed.mkdir()
    (closed / "file").write_text("x")
    closed.chmod(0o500)

    commit = await workspace.remove(worktree)

    assert commit is not None
    assert not worktree.path.exists()
    kept = await worktree.cache.run("ls-tree", "-r", "--name-only", commit)
    assert "precious" in kept.text
    assert await repositories.resolve(worktree.cache, refs.rescue_ref(TASK, FIRST)) == commit
    stash = f"{refs.rescue_ref(TASK, FIRST)}-refs/stash"
    assert (await worktree.cache.run("cat-file", "-p", f"{stash}:README")).text == "hidden"


async def test_work_survives_an_agent_that_wrecks_its_repository(
    fleet: Repositories, origin: Origin
) -> None:
    worktree = await prepare(fleet, origin)
    (worktree.path / "work").write_text("x")
    trees.discard(worktree.path / ".git")
    (worktree.path / ".git").symlink_to(origin.path)

    saved = await workspace.finish(worktree, "work")

    kept = await worktree.cache.run("cat-file", "-p", f"{saved.commit}:work")
    assert kept.text == "x"
    assert agent(worktree, "rev-parse", "HEAD") == saved.commit
    assert not (worktree.path / ".git").is_symlink()


async def test_a_task_on_a_known_base_takes_few_git_commands(
    fleet: Repositories, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    await workspace.finish(await prepare(fleet, origin, task=TaskId("t0")), "nothing")
    commands: list[str] = []
    run = git.run

    async def counted(args: Sequence[str], *more: Any, **rest: Any) -> git.GitResult:
        if not rest.get("remote"):
            commands.append(args[0])
        return await run(args, *more, **rest)

    monkeypatch.setattr(git, "run", counted)
    worktree = await prepare(fleet, origin)
    (worktree.path / "work").write_text("x")
    finished = await workspace.finish(worktree, "work")
    await workspace.push_branch(
        worktree, "agent/ada/x", finished.commit, searched=finished.searched
    )

    began = ["hash-object", "update-ref", "read-tree"]
    looked = ["add", "write-tree", "diff-index", "cat-file", "cat-file"]
    assert commands == [*began, *looked, "commit-tree", "update-ref"]


async def test_work_under_review_is_begun_with_although_it_conflicts(
    fleet: Repositories, origin: Origin
) -> None:
    work = origin.push({"README": "mine\n"}, branch="agent/pr/t1")
    origin.push({"README": "theirs\n"})

    worktree = await prepare(fleet, origin, checkpoint=work, under_review=True)

    assert (worktree.start, worktree.resumed) == (work, True)
    assert agent(worktree, "show", "origin/main:README") == "theirs"


async def test_a_history_without_the_base_is_one_commit_on_it(
    fleet: Repositories, origin: Origin
) -> None:
    worktree = await prepare(fleet, origin)
    agent(worktree, "checkout", "-q", "--orphan", "fresh")
    (worktree.path / "new").write_text("x")
    agent(worktree, "add", "-A")
    agent(worktree, "commit", "-qm", "A new root")

    saved = await workspace.finish(worktree, "work")

    parent = await worktree.cache.run("rev-parse", f"{saved.commit}^@")
    assert parent.text == worktree.start
    assert [one.kind for one in saved.findings] == [snapshots.UNRELATED]


async def test_a_file_that_git_refuses_keeps_nothing_else_from_the_result(
    fleet: Repositories, origin: Origin
) -> None:
    worktree = await prepare(fleet, origin)
    (worktree.path / ".GIT").mkdir()  # on other systems it would be the repository itself
    (worktree.path / ".GIT/config").write_text("x")
    (worktree.path / "new").write_text("x")

    saved = await workspace.finish(worktree, "work")

    tree = await worktree.cache.run("ls-tree", "--name-only", saved.commit)
    assert tree.text.split() == ["README", "new", "tests"]
    assert [one.path for one in saved.findings] == ["invalid path '.GIT/config'"]
    with pytest.raises(git.GitFailed):
        await workspace.remove(worktree)


async def test_a_change_within_the_second_of_the_last_look_is_seen(
    fleet: Repositories, origin: Origin, tmp_path: Path
) -> None:
    worktree = await prepare(fleet, origin)
    place, last, copy = worktree.path / "new", worktree.state / "index", tmp_path / "index"
    place.write_text("one\n")
    await workspace.checkpoint(worktree)
    place.write_text("two\n")
    written = last.stat().st_mtime_ns
    snapshots._begin(last, copy)

    saved = await workspace.finish(worktree, "work")

    # By this time git tells what it has to read again, since it compares times by the second.
    assert copy.stat().st_mtime_ns == written
    content = await worktree.cache.run("show", f"{saved.commit}:new")
    assert content.text == "two"
