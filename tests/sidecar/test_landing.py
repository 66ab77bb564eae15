"""Tests of agentcom.sidecar.landing: real races on a real origin."""

import asyncio
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest

from agentcom.model import errors, refs
from agentcom.model.ids import AgentId, Fence, TaskId
from agentcom.sidecar import fences, git, landing, repositories, workspace
from agentcom.sidecar.landing import Landed
from agentcom.sidecar.repositories import Cache, Move, Repositories
from tests.sidecar import git_origin
from tests.sidecar.git_origin import ADA, BOB, FIRST, SECOND, TASK, Machine, Origin

THIRD = Fence(7, 3)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Origin:
    return Origin(tmp_path_factory.mktemp("template") / "forge")


@pytest.fixture
def origin(tmp_path: Path, template: Origin) -> Origin:
    return Origin(tmp_path / "forge", like=template)


def names(folder: Path) -> list[str]:
    return sorted(place.name for place in folder.iterdir())


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repositories, "RETRY_S", 0.0)


@pytest.fixture
def ada(tmp_path: Path, origin: Origin) -> Machine:
    return Machine(tmp_path / "ada", origin, ADA)


@pytest.fixture
def bob(tmp_path: Path, origin: Origin) -> Machine:
    return Machine(tmp_path / "bob", origin, BOB)


async def test_work_lands_and_the_fence_moves_with_it(ada: Machine, origin: Origin) -> None:
    before = origin.tip()
    commit = await ada.work(FIRST, {"a": "a"})

    landed = await ada.land(FIRST, commit)

    assert landed == Landed(commit=commit, base_before=before, rebased=False)
    assert origin.tip() == origin.ref(refs.fence_ref(TASK)) == commit


async def test_landing_twice_is_landing_once(ada: Machine, origin: Origin) -> None:
    commit = await ada.work(FIRST, {"a": "a"})
    first = await ada.land(FIRST, commit)
    origin.push({"later": "x"})

    again = await ada.land(FIRST, commit)

    assert again.commit == first.commit
    assert origin.log() == ["change later", "work of ada", "change README tests/test_a.py"]


async def test_work_is_rebased_and_verified_again_when_the_base_moved(
    ada: Machine, origin: Origin
) -> None:
    commit = await ada.work(FIRST, {"a": "a"})
    moved = origin.push({"meanwhile": "x"})
    seen: list[list[str]] = []

    async def verify(where: Path, base: str, commit: str) -> bool:
        seen.append(names(where))
        return True

    landed = await ada.land(FIRST, commit, verify)

    assert landed.rebased
    assert landed.base_before == moved
    assert seen == [[".git", "README", "a", "meanwhile", "tests"]]
    assert origin.log() == ["work of ada", "change meanwhile", "change README tests/test_a.py"]
    assert not list((ada.repositories.cache(origin.url).root / "scratch").iterdir())


async def test_a_branch_under_review_follows_unless_others_pushed_there(
    ada: Machine, origin: Origin
) -> None:
    commit = await ada.work(FIRST, {"a": "a"})
    git_origin.git(origin.path, "update-ref", "refs/heads/agent/pr/t1", commit)
    others = origin.push({"review": "x"}, "agent/pr/t1")
    origin.push({"meanwhile": "x"})

    landed = await ada.land(FIRST, commit, review="agent/pr/t1")

    assert (landed.rebased, origin.tip()) == (True, landed.commit)
    assert origin.tip("agent/pr/t1") == others


async def test_a_branch_under_review_moves_with_each_base_that_is_tried(
    ada: Machine, origin: Origin
) -> None:
    commit = await ada.work(FIRST, {"a": "a"})
    git_origin.git(origin.path, "update-ref", "refs/heads/agent/pr/t1", commit)
    origin.push({"meanwhile": "x"})
    tries: list[str] = []

    async def verify(_where: Path, _base: str, one: str) -> bool:
        tries.append(one)
        if len(tries) == 1:
            origin.push({"later": "x"})
        return True

    landed = await ada.land(FIRST, commit, verify, review="agent/pr/t1")

    assert len(tries) == 2
    assert origin.tip("agent/pr/t1") == landed.commit == origin.tip() == tries[1]


async def test_a_branch_that_a_dead_landing_moved_follows_whoever_lands_then(
    ada: Machine, bob: Machine, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = await ada.work(FIRST, {"a": "a"})
    git_origin.git(origin.path, "update-ref", "refs/heads/agent/pr/t1", commit)
    origin.push({"meanwhile": "x"})

    async def dies(*_: object) -> NoReturn:
        raise asyncio.CancelledError

    with monkeypatch.context() as killed:
        killed.setattr(landing, "_push", dies)
        with pytest.raises(asyncio.CancelledError):
            await ada.land(FIRST, commit, review="agent/pr/t1")
    moved = origin.tip("agent/pr/t1")
    origin.push({"later": "x"})

    await bob.cache()
    landed = await bob.land(FIRST, commit, review="agent/pr/t1")

    assert moved not in {commit, landed.commit}
    assert origin.tip("agent/pr/t1") == landed.commit == origin.tip()


async def test_checks_are_not_run_again_on_the_same_base(ada: Machine) -> None:
    async def never(where: Path, base: str, commit: str) -> bool:
        raise AssertionError(where)

    landed = await ada.land(FIRST, await ada.work(FIRST, {"a": "a"}), never)

    assert not landed.rebased


async def test_work_that_fails_on_the_new_base_does_not_land(ada: Machine, origin: Origin) -> None:
    commit = await ada.work(FIRST, {"a": "a"})
    moved = origin.push({"meanwhile": "x"})

    async def verify(_: Path, base: str, commit: str) -> bool:
        return False

    with pytest.raises(landing.VerifyFailed):
        await ada.land(FIRST, commit, verify)
    assert origin.tip() == moved


async def test_a_conflict_with_the_base_names_its_files(ada: Machine, origin: Origin) -> None:
    commit = await ada.work(FIRST, {"README": "mine\n"})
    moved = origin.push({"README": "theirs\n"})

    with pytest.raises(git.MergeConflict) as conflict:
        await ada.land(FIRST, commit)
    assert conflict.value.files == ("README",)
    assert origin.tip() == moved


async def test_a_base_that_moves_while_checks_run_is_followed(ada: Machine, origin: Origin) -> None:
    commit = await ada.work(FIRST, {"a": "a"})
    origin.push({"m0": "x"})
    count = itertools.count(1)

    async def verify(_: Path, base: str, commit: str) -> bool:
        if (turn := next(count)) <= 3:
            origin.push({f"m{turn}": "x"})
        return True

    landed = await ada.land(FIRST, commit, verify)

    assert origin.tip() == landed.commit
    assert origin.log()[:5] == ["work of ada", "change m3", "change m2", "change m1", "change m0"]


async def test_a_base_that_never_stands_still_is_given_up(ada: Machine, origin: Origin) -> None:
    commit = await ada.work(FIRST, {"a": "a"})
    origin.push({"start": "x"})
    count = itertools.count()

    async def verify(_: Path, base: str, commit: str) -> bool:
        origin.push({f"m{next(count)}": "x"})
        return True

    with pytest.raises(git.PushRejected):
        await ada.land(FIRST, commit, verify)
    assert next(count) == landing.LAND_ATTEMPTS_MAX


async def test_a_rule_of_origin_is_an_error_at_once(ada: Machine, origin: Origin) -> None:
    commit = await ada.work(FIRST, {"a": "a"})
    before = origin.ref(refs.fence_ref(TASK))
    hook = origin.path / "hooks/update"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text('#!/bin/sh\ntest "$1" != refs/heads/main || { echo protected >&2; exit 1; }\n')
    hook.chmod(0o755)

    with pytest.raises(git.PushRejected, match="protected"):
        await ada.land(FIRST, commit)
    # All or none: the fence did not move either.
    assert origin.ref(refs.fence_ref(TASK)) == before


# -- zombies


async def test_a_zombie_cannot_land_after_a_newer_claim(
    ada: Machine, bob: Machine, origin: Origin
) -> None:
    commit = await ada.work(FIRST, {"a": "a"})
    before = origin.tip()
    await bob.prepare(SECOND)

    with pytest.raises(errors.Stale):
        await ada.land(FIRST, commit)
    assert origin.tip() == before


async def test_a_claim_between_look_and_push_stops_the_zombie(
    ada: Machine, bob: Machine, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = await ada.work(FIRST, {"a": "a"})
    before = origin.tip()
    real = repositories.push

    async def overtaken(cache: Cache, *moves: Move) -> None:
        if len(moves) == 2:
            monkeypatch.setattr(repositories, "push", real)
            await bob.prepare(SECOND)
        await real(cache, *moves)

    monkeypatch.setattr(repositories, "push", overtaken)

    with pytest.raises(errors.Stale):
        await ada.land(FIRST, commit)
    assert origin.tip() == before
    assert (await fences.look(await bob.cache(), TASK, "main")).fence == SECOND


async def test_a_landing_between_look_and_push_stops_the_claim(
    ada: Machine, bob: Machine, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = await ada.work(FIRST, {"a": "a"})
    real = repositories.push

    async def overtaken(cache: Cache, *moves: Move) -> None:
        monkeypatch.setattr(repositories, "push", real)
        await ada.land(FIRST, commit)
        await real(cache, *moves)

    monkeypatch.setattr(repositories, "push", overtaken)

    with pytest.raises(fences.AlreadyLanded) as landed:
        await bob.prepare(SECOND)
    assert landed.value.commit == commit == origin.tip()


async def test_the_newer_attempt_lands_and_the_zombie_finds_it_done(
    ada: Machine, bob: Machine, origin: Origin
) -> None:
    old = await ada.work(FIRST, {"a": "old"})
    new = await bob.work(SECOND, {"a": "new"})
    await bob.land(SECOND, new)

    zombie = await ada.land(FIRST, old)

    assert zombie.commit == new
    assert origin.log() == ["work of bob", "change README tests/test_a.py"]


async def test_a_landing_whose_report_was_lost_is_recognised_by_the_next_attempt(
    ada: Machine, bob: Machine, origin: Origin
) -> None:
    commit = await ada.work(FIRST, {"a": "a"})
    origin.push({"meanwhile": "x"})
    landed = await ada.land(FIRST, commit)
    origin.push({"later": "x"})

    # With an agent: nothing to do. Without one: nothing lands twice, though the hash differs.
    with pytest.raises(fences.AlreadyLanded) as known:
        await bob.prepare(SECOND)
    again = await bob.land(SECOND, commit)

    assert known.value.commit == again.commit == landed.commit != commit
    assert origin.log().count("work of ada") == 1


async def test_a_push_that_arrived_though_the_line_broke_counts(
    ada: Machine, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = await ada.work(FIRST, {"a": "a"})
    real = repositories.push

    async def broken(cache: Cache, *moves: Move) -> None:
        await real(cache, *moves)
        raise git.GitFailed("push", 128, "the remote end hung up unexpectedly")

    monkeypatch.setattr(repositories, "push", broken)

    landed = await ada.land(FIRST, commit)

    assert landed.commit == origin.tip() == commit


async def test_a_broken_line_is_an_error_if_nothing_arrived(
    ada: Machine, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = await ada.work(FIRST, {"a": "a"})
    before = origin.tip()

    async def broken(*_: object) -> None:
        raise git.GitFailed("push", 128, "could not read from remote")

    monkeypatch.setattr(repositories, "push", broken)

    with pytest.raises(git.GitFailed, match="could not read"):
        await ada.land(FIRST, commit)
    assert origin.tip() == before


async def test_a_landing_that_a_person_took_back_needs_a_new_claim(
    ada: Machine, bob: Machine, origin: Origin
) -> None:
    before = origin.tip()
    commit = await ada.work(FIRST, {"a": "a"})
    await ada.land(FIRST, commit)
    git_origin.git(origin.path, "update-ref", "refs/heads/main", before)

    with pytest.raises(errors.Stale):
        await ada.land(FIRST, commit)
    landed = await bob.land(SECOND, await bob.work(SECOND, {"b": "b"}))

    assert origin.tip() == landed.commit


async def test_two_machines_that_land_the_same_attempt_land_it_once(
    ada: Machine, bob: Machine, origin: Origin
) -> None:
    commit = await ada.work(FIRST, {"a": "a"})
    origin.push({"meanwhile": "x"})
    await bob.cache()

    one, two = await asyncio.gather(ada.land(FIRST, commit), bob.land(FIRST, commit))

    assert one.commit == two.commit == origin.tip()
    assert origin.log().count("work of ada") == 1


@pytest.mark.parametrize(
    "turn", [0, 5, *(pytest.param(turn, marks=pytest.mark.slow) for turn in range(1, 5))]
)
async def test_zombie_claim_and_landings_in_any_order_leave_one_landing(
    ada: Machine, bob: Machine, origin: Origin, tmp_path: Path, turn: int
) -> None:
    old = await ada.work(FIRST, {"a": "old"})
    third = Machine(tmp_path / "cy", origin, AgentId("cy"))
    await third.cache()

    async def zombie() -> None:
        await ada.land(FIRST, old)

    async def newer() -> None:
        await bob.land(SECOND, await bob.work(SECOND, {"a": "new"}))

    async def newest() -> None:
        await third.land(THIRD, await third.work(THIRD, {"a": "newest"}))

    order = list(itertools.permutations([zombie, newer, newest]))[turn]
    ends = await asyncio.gather(*(step() for step in order), return_exceptions=True)

    refused = [end for end in ends if end is not None]
    assert all(isinstance(end, errors.Stale | fences.AlreadyLanded) for end in refused), refused
    assert len([line for line in origin.log() if line.startswith("work of")]) == 1
    assert origin.ref(refs.fence_ref(TASK)) == origin.tip()


async def test_many_tasks_land_on_one_branch_at_once(origin: Origin, tmp_path: Path) -> None:
    fleet = Repositories(tmp_path / "machine")

    async def task(number: int) -> Landed:
        cache = await fleet.fetch(origin.url)
        name = TaskId(f"task{number}")
        worktree = await workspace.prepare(
            cache, task=name, base_branch="main", fence=FIRST, agent=ADA
        )
        (worktree.path / f"f{number}").write_text("x")
        saved = await workspace.finish(worktree, f"work {number}")
        return await landing.land(
            cache, task=name, fence=FIRST, commit=saved.commit, base_branch="main"
        )

    await asyncio.gather(*(task(number) for number in range(3)))

    assert sorted(origin.log())[1:] == ["work 0", "work 1", "work 2"]


# -- the line and the lease


async def test_a_line_that_breaks_for_a_moment_is_tried_again_without_new_checks(
    ada: Machine, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = await ada.work(FIRST, {"a": "a"})
    origin.push({"meanwhile": "x"})
    broken = ["fetch", "fetch", "push", "push"]
    checked: list[str] = []
    real = git.run

    async def run(args: Sequence[str], cwd: Path, **more: Any) -> git.GitResult:
        if args[0] in broken:
            broken.remove(args[0])
            raise git.GitFailed(args[0], 128, "could not read from remote")
        return await real(args, cwd, **more)

    async def verify(_: Path, base: str, commit: str) -> bool:
        checked.append(base)
        return True

    monkeypatch.setattr(git, "run", run)
    landed = await ada.land(FIRST, commit, verify)

    assert (broken, checked) == ([], [landed.base_before])
    assert origin.tip() == landed.commit


async def test_a_command_that_hung_is_not_given_its_time_again(monkeypatch: Any) -> None:
    asked: list[None] = []

    async def ask() -> None:
        asked.append(None)
        raise git.GitFailed("fetch", None, "stopped after 1800 s")

    with pytest.raises(git.GitFailed):
        await repositories.patiently(ask)
    assert len(asked) == 1


async def test_the_lease_is_asked_after_the_checks_right_before_the_push(
    ada: Machine, origin: Origin
) -> None:
    commit = await ada.work(FIRST, {"a": "a"})
    moved = origin.push({"meanwhile": "x"})
    mine = [True]

    async def verify(where: Path, base: str, commit: str) -> bool:
        mine[0] = False
        return True

    with pytest.raises(landing.Suspended):
        await landing.land(
            await ada.cache(),
            task=TASK,
            fence=FIRST,
            commit=commit,
            base_branch="main",
            verify=verify,
            still_mine=lambda: mine[0],
        )
    assert origin.tip() == moved


async def test_work_that_took_a_newer_base_by_itself_is_checked_on_it(
    ada: Machine, origin: Origin
) -> None:
    worktree = await ada.prepare(FIRST)
    moved = origin.push({"meanwhile": "x"})
    git_origin.agent(worktree, "fetch", "-q", origin.url, "main")
    git_origin.agent(worktree, "reset", "-q", "--hard", "FETCH_HEAD")
    (worktree.path / "a").write_text("a")
    saved = await workspace.finish(worktree, "x")
    checked: list[str] = []

    async def verify(_: Path, base: str, commit: str) -> bool:
        checked.append(base)
        return True

    landed = await landing.land(
        worktree.cache,
        task=TASK,
        fence=FIRST,
        commit=saved.commit,
        base_branch="main",
        verify=verify,
        checked_on=worktree.base,
    )

    assert not landed.rebased
    assert checked == [moved]
