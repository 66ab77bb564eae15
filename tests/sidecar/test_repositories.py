"""Tests of agentcom.sidecar.repositories, fences and trees."""

import asyncio
import os
from pathlib import Path

import pytest

from agentcom.model import errors, refs
from agentcom.model.ids import Fence
from agentcom.sidecar import fences, git, landing, repositories, trees, workspace
from agentcom.sidecar.repositories import Cache, Repositories
from tests.sidecar import git_origin
from tests.sidecar.git_origin import ADA, BOB, FIRST, SECOND, TASK, Origin, agent, prepare


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Origin:
    return Origin(tmp_path_factory.mktemp("template") / "forge")


@pytest.fixture
def origin(tmp_path: Path, template: Origin) -> Origin:
    return Origin(tmp_path / "forge", like=template)


@pytest.fixture
def fleet(tmp_path: Path) -> Repositories:
    return Repositories(tmp_path / "machine")


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

    # If the first began before the others asked, one more answers all of those.
    assert calls <= 2


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
    assert agent(worktree, "fsck", "--no-dangling") == ""


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


async def test_a_lock_that_a_killed_fetch_left_does_not_stop_the_next_one(
    fleet: Repositories, origin: Origin
) -> None:
    cache = await fleet.fetch(origin.url)
    lock = cache.path / f"{refs.origin_ref('main')}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.touch()
    os.utime(lock, (0, 0))
    moved = origin.push({"meanwhile": "x"})

    await repositories.fetch(cache, f"+refs/heads/main:{refs.origin_ref('main')}")

    assert await repositories.resolve(cache, refs.origin_ref("main")) == moved


async def test_what_a_killed_fetch_left_goes_and_what_may_be_written_stays(
    fleet: Repositories, origin: Origin
) -> None:
    cache = await fleet.fetch(origin.url)
    old, new = (cache.path / "objects/pack" / name for name in ("tmp_pack_old", "tmp_pack_new"))
    for half in (old, new):
        half.write_bytes(b"PACK")
    os.utime(old, (0, 0))

    await fleet.fetch(origin.url)

    assert (old.exists(), new.exists()) == (False, True)
