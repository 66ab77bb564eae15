"""Tests of agentcom.sidecar.workspace and what it stands on: repositories, trees, snapshots."""

import asyncio
import os
from pathlib import Path

import pytest

from agentcom.model import errors, refs
from agentcom.model.ids import Fence, WallTime
from agentcom.sidecar import fences, git, landing, repositories, trees, workspace
from agentcom.sidecar.repositories import Cache, Repositories
from agentcom.sidecar.trees import Worktree
from tests.sidecar import git_origin
from tests.sidecar.git_origin import ADA, BOB, FIRST, SECOND, TASK, Origin

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


async def prepare(
    fleet: Repositories, origin: Origin, fence: Fence = FIRST, **more: object
) -> Worktree:
    cache = await fleet.fetch(origin.url)
    options = {"task": TASK, "base_branch": "main", "agent": ADA} | more
    return await workspace.prepare(cache, fence=fence, **options)  # type: ignore[arg-type] # test


def agent(worktree: Worktree, *args: str) -> str:
    """Run git as the agent does: in its folder, with its configuration."""
    return git_origin.git(worktree.path, *args)


# -- the clone cache


async def test_every_fetch_sees_what_origin_has_now(fleet: Repositories, origin: Origin) -> None:
    cache = await fleet.fetch(origin.url)
    pushed = origin.push({"new": "x"})

    await fleet.fetch(origin.url)

    assert await repositories.resolve(cache, refs.origin_ref("main")) == pushed


async def test_a_branch_that_is_gone_on_origin_is_gone_here(
    fleet: Repositories, origin: Origin
) -> None:
    origin.push({"x": "x"}, branch="old")
    cache = await fleet.fetch(origin.url)
    git_origin.git(origin.path, "branch", "-D", "old")

    await fleet.fetch(origin.url)

    assert await repositories.resolve(cache, refs.origin_ref("old")) is None


async def test_a_failing_fetch_is_an_error_and_never_a_stale_tree(
    fleet: Repositories, origin: Origin
) -> None:
    await fleet.fetch(origin.url)
    origin.path.rename(origin.path.with_name("gone"))

    with pytest.raises(git.GitFailed):
        await fleet.fetch(origin.url)


async def test_callers_at_the_same_time_share_one_fetch(
    fleet: Repositories, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    real = repositories.fetch

    async def counted(cache: Cache, *refspecs: str) -> None:
        nonlocal calls
        calls += 1
        await real(cache, *refspecs)

    monkeypatch.setattr(repositories, "fetch", counted)

    await asyncio.gather(*(fleet.fetch(origin.url) for _ in range(20)))

    # The first began before the others asked; one more answers all of those.
    assert calls == 2


async def test_two_processes_may_fetch_the_same_repository(tmp_path: Path, origin: Origin) -> None:
    one, two = Repositories(tmp_path / "machine"), Repositories(tmp_path / "machine")

    caches = await asyncio.gather(one.fetch(origin.url), two.fetch(origin.url))

    assert caches[0] == caches[1]


async def test_the_default_branch_is_origins(fleet: Repositories, origin: Origin) -> None:
    assert await fleet.default_branch(origin.url) == "main"


async def test_tidying_drops_nothing_that_a_worktree_borrows(
    fleet: Repositories, origin: Origin
) -> None:
    worktree = await prepare(fleet, origin)
    (worktree.path / "a").write_text("a")
    commit = await workspace.rescue(worktree)
    await worktree.cache.run("update-ref", "-d", refs.rescue_ref(TASK, FIRST))

    await repositories.tidy(worktree.cache)

    assert await repositories.contains(worktree.cache, commit, worktree.base)
    assert agent(worktree, "fsck") == ""


async def test_a_lock_file_from_a_crash_does_not_stop_work(
    fleet: Repositories, origin: Origin, tmp_path: Path
) -> None:
    cache = await fleet.fetch(origin.url)
    lock = cache.path / "refs/remotes/origin/main.lock"
    lock.touch()
    os.utime(lock, (0, 0))
    tip = origin.push({"x": "x"})

    await Repositories(tmp_path / "machine").fetch(origin.url)

    assert await repositories.resolve(cache, refs.origin_ref("main")) == tip


# -- prepare


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


# -- fences


async def test_the_fence_is_on_origin_before_the_agent_starts(
    fleet: Repositories, origin: Origin
) -> None:
    worktree = await prepare(fleet, origin)

    seen = await fences.look(worktree.cache, TASK, "main")

    assert seen.fence == FIRST
    assert seen.commit == origin.ref(refs.fence_ref(TASK))


async def test_a_claim_twice_is_one_claim(fleet: Repositories, origin: Origin) -> None:
    cache = await fleet.fetch(origin.url)
    claim = {"task": TASK, "fence": SECOND, "agent": ADA, "base_branch": "main"}

    assert await fences.claim(cache, **claim) == await fences.claim(cache, **claim)  # type: ignore[arg-type] # test


@pytest.mark.parametrize(("fence", "name"), [(FIRST, ADA), (SECOND, BOB), (Fence(6, 9), BOB)])
async def test_an_older_or_foreign_claim_is_stale(
    fleet: Repositories, origin: Origin, tmp_path: Path, fence: Fence, name: str
) -> None:
    await prepare(fleet, origin, SECOND)
    other = Repositories(tmp_path / "other machine")

    with pytest.raises(errors.Stale):
        await prepare(other, origin, fence, agent=name)


async def test_of_many_claims_at_once_the_newest_wins(origin: Origin, tmp_path: Path) -> None:
    machines = [Repositories(tmp_path / f"m{n}") for n in range(4)]
    for machine in machines:
        await machine.fetch(origin.url)

    await asyncio.gather(
        *(prepare(machine, origin, Fence(7, 2 + n)) for n, machine in enumerate(machines)),
        return_exceptions=True,
    )
    seen = await fences.look(await machines[0].fetch(origin.url), TASK, "main")

    assert seen.fence == Fence(7, 5)


async def test_a_commit_that_only_looks_like_a_fence_is_none(
    fleet: Repositories, origin: Origin
) -> None:
    text = f"agentcom fence 9.9\n\ntask: {TASK}\nagent: bob\n"
    git_origin.git(origin.clone, "commit", "-q", "--allow-empty", "-m", text)
    git_origin.git(origin.clone, "push", "-q", "origin", f"HEAD:{refs.fence_ref(TASK)}")

    seen = await fences.look(await fleet.fetch(origin.url), TASK, "main")

    assert seen.fence is None


# -- checkpoint


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
    week_ms = workspace.CHECKPOINT_KEEP_MS

    soon = await workspace.expire_checkpoints(worktree.cache, WallTime(now_s * 1_000 + week_ms))
    late = await workspace.expire_checkpoints(
        worktree.cache, WallTime((now_s + 1) * 1_000 + week_ms)
    )

    assert (soon, late) == ([], [ref])
    assert origin.ref(ref) == ""


# -- finish, push, rescue


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
    (worktree.path / "a").write_text("b")
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

    assert await worktree.cache.run("cat-file", "-e", f"{saved.commit}:work")
    assert agent(worktree, "rev-parse", "HEAD") == saved.commit
    assert not (worktree.path / ".git").is_symlink()


# -- clean checkouts and the base's files


async def test_a_clean_checkout_has_the_commit_and_nothing_else(
    fleet: Repositories, origin: Origin, tmp_path: Path
) -> None:
    cache = await fleet.fetch(origin.url)
    where = await trees.clean_checkout(cache, origin.tip(), tmp_path / "clean")

    assert sorted(p.name for p in where.iterdir()) == [".git", "README", "tests"]
    assert git_origin.git(where, "rev-parse", "HEAD") == origin.tip()
    assert git_origin.git(where, "status", "--porcelain") == ""
    async with trees.checkout(cache, origin.tip()) as lent:
        assert (lent / "README").exists()
    assert not lent.exists()
    with pytest.raises(errors.Conflict):
        await trees.clean_checkout(cache, origin.tip(), where)


async def test_base_files_come_from_the_base_alone(fleet: Repositories, origin: Origin) -> None:
    base = origin.push({".agentcom.toml": "verify = 'pytest'\n"})
    (origin.clone / "link").symlink_to("/etc/passwd")
    linked = origin.push({"x": "x"})
    cache = await fleet.fetch(origin.url)

    assert await landing.read_base_file(cache, base, ".agentcom.toml") == "verify = 'pytest'\n"
    for path in ("nothing", "tests", "link", "-x", "../x", "*"):
        assert await landing.read_base_file(cache, linked, path) is None


# -- repositories that want to run something


EVIL_CONFIG = """
[core]
    fsmonitor = {evil}
    hooksPath = {hooks}
    sshCommand = {evil}
    pager = {evil}
    alternateRefsCommand = {evil}
[filter "evil"]
    clean = {evil}
    smudge = {evil}
    process = {evil}
    required = true
[diff]
    external = {evil}
[diff "evil"]
    textconv = {evil}
[merge "evil"]
    driver = {evil}
[uploadpack]
    packObjectsHook = {evil}
[remote "origin"]
    promisor = true
    uploadpack = {evil}
    receivepack = {evil}
[extensions]
    partialClone = origin
[credential]
    helper = !{evil}
"""
HOOKS = ("post-checkout", "pre-commit", "pre-push", "post-index-change", "reference-transaction")


async def test_nothing_that_a_hostile_repository_names_is_run(
    fleet: Repositories, origin: Origin, tmp_path: Path
) -> None:
    proof, evil, hooks = tmp_path / "proof", tmp_path / "evil", tmp_path / "hooks"
    evil.write_text(f"#!/bin/sh\ntouch '{proof}'\ncat\n")
    evil.chmod(0o755)
    attributes = "* filter=evil diff=evil merge=evil\n"
    origin.push({".gitattributes": attributes, "data": "x\n"})
    modules = f'[submodule "m"]\n\tpath = m\n\turl = ext::{evil}\n'
    origin.push({".gitmodules": modules})
    worktree = await prepare(fleet, origin)
    git_dir = worktree.path / ".git"
    for place in (hooks, git_dir / "hooks"):
        place.mkdir()
        for name in HOOKS:
            (place / name).symlink_to(evil)
    (git_dir / "config").write_text(
        (git_dir / "config").read_text() + EVIL_CONFIG.format(evil=evil, hooks=hooks)
    )
    nested = worktree.path / "m"
    git_origin.git(worktree.path, "init", "-q", str(nested))
    git_origin.git(nested, "commit", "-q", "--allow-empty", "-m", "x")
    (nested / ".git/config").write_text(EVIL_CONFIG.format(evil=evil, hooks=hooks))
    (nested / "file").write_text("x")
    (worktree.path / "data").write_text("y\n")
    (worktree.path / "leak").symlink_to("/etc/passwd")
    proof.unlink(missing_ok=True)

    first = await workspace.checkpoint(worktree)
    (nested / "file").write_text("y")
    (nested / ".git/index").unlink(missing_ok=True)
    saved = await workspace.finish(worktree, "x")
    await workspace.push_branch(worktree, "agent/ada/x", saved.commit)
    base = origin.push({"data2": "moved"})
    landed = await landing.land(
        worktree.cache, task=TASK, fence=FIRST, commit=saved.commit, base_branch="main"
    )

    assert first is not None
    assert landed.base_before == base
    assert not proof.exists()
    assert origin.show("main", "leak") == "/etc/passwd"  # the link itself, not what it leads to


async def test_planted_links_lead_none_of_our_writes_elsewhere(
    fleet: Repositories, origin: Origin, tmp_path: Path
) -> None:
    worktree = await prepare(fleet, origin)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for name in ("config", "index", "HEAD", "objects/info/alternates"):
        (worktree.path / ".git" / name).unlink()
        (worktree.path / ".git" / name).symlink_to(victim)
    (worktree.path / "work").write_text("x")

    await workspace.finish(worktree, "x")

    assert victim.read_text() == "precious"


async def test_hooks_of_the_users_template_are_not_copied(
    fleet: Repositories, origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = tmp_path / "template/hooks"
    template.mkdir(parents=True)
    (template / "pre-commit").write_text("#!/bin/sh\nexit 1\n")
    monkeypatch.setenv("GIT_TEMPLATE_DIR", str(template.parent))

    worktree = await prepare(fleet, origin)

    assert not (worktree.path / ".git/hooks").exists()
    assert not (worktree.cache.path / "hooks").exists()
    assert os.environ["GIT_TEMPLATE_DIR"]
