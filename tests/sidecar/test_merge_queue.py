"""Several tasks land at once: in order, each as one commit, and never twice."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agentcom.model import errors, refs
from agentcom.model.declaring import of_line
from agentcom.model.ids import TaskId
from agentcom.model.result import Landing
from agentcom.model.verification import Report
from agentcom.sidecar import checking, checks, fences, landing, repositories, workspace
from agentcom.sidecar.merge_queue import Candidate, Queue
from agentcom.sidecar.repositories import Cache, Repositories
from tests.sidecar.git_origin import ADA, BOB, FIRST, SECOND, Origin

NOT_BROKEN = "sh -c '! ls broken*'"


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return Origin(tmp_path / "forge")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repositories, "RETRY_S", 0.0)


@dataclass
class Bench:
    """A machine that lands what others made."""

    folder: Path
    origin: Origin
    declared: Sequence[str] = (NOT_BROKEN,)
    unwanted: Collection[str] = ()
    suspended: bool = False
    queue: Queue | None = None
    verified: list[str] = field(default_factory=list)

    @property
    def fleet(self) -> Repositories:
        return Repositories(self.folder)

    async def work(
        self, name: str, files: Mapping[str, str], *, on: Sequence[str] = ()
    ) -> Candidate:
        """Do a task's work, as far as landing."""
        cache = await self.fleet.fetch(self.origin.url)
        task = TaskId(name)
        worktree = await workspace.prepare(
            cache, task=task, base_branch="main", fence=FIRST, agent=ADA, depends_on_commits=on
        )
        for path, text in files.items():
            (worktree.path / path).write_text(text)
        saved = await workspace.finish(worktree, f"work on {name}")
        await workspace.push_branch(worktree, f"agent/{name}", saved.commit)
        return Candidate(
            task=task, fence=FIRST, commit=saved.commit, checked_on=worktree.base, title=name
        )

    async def land(self, *candidates: Candidate, **more: Any) -> dict[str, str]:
        """Land them on a machine of its own, and return how each ended."""
        cache = await self.fleet.fetch(self.origin.url)
        plan = checks.CheckPlan(checks=tuple(of_line("verify", one) for one in self.declared))

        async def planned(_base: str) -> checks.CheckPlan:
            return plan

        async def run(plan: checks.CheckPlan, where: Path, base: str, commit: str) -> Report:
            self.verified.append(commit)
            return await checking.run(plan, cache, where, base=base, commit=commit, tag="t")

        def wanted() -> Collection[TaskId] | None:
            tasks = {one.task for one in candidates if one.task not in self.unwanted}
            return None if self.suspended else tasks

        self.queue = Queue(
            cache=cache, base_branch="main", plan=planned, run=run, wanted=wanted, **more
        )
        return said(await self.queue.land(candidates))


def said(ended: Mapping[TaskId, Landing]) -> dict[str, str]:
    return {str(task): one.status.value for task, one in ended.items()}


@pytest.fixture
def bench(tmp_path: Path, origin: Origin) -> Bench:
    return Bench(tmp_path / "machine", origin)


def landed(origin: Origin) -> list[str]:
    """Return the titles on top of what was there, the oldest first."""
    return origin.log()[-2::-1]


async def test_one_verification_serves_many_and_each_is_one_commit(
    bench: Bench, origin: Origin
) -> None:
    three = [await bench.work(name, {f"{name}.txt": name}) for name in ("a", "b", "c")]

    ended = await bench.land(*three)

    assert ended == {"a": "landed", "b": "landed", "c": "landed"}
    assert landed(origin) == ["a", "b", "c"]
    assert bench.verified == [origin.tip()]
    for one in three:
        commit = origin.ref(refs.fence_ref(one.task))
        assert f"{one.task}.txt" in origin.files(commit)
    assert origin.ref(refs.fence_ref(TaskId("c"))) == origin.tip()


async def test_only_the_guilty_are_thrown_out_and_the_base_is_good_at_every_commit(
    bench: Bench, origin: Origin
) -> None:
    files = [{f"{name}.txt": name} for name in "abcdefgh"]
    files[2] = {"broken-c": "x"}
    files[5] = {"README": "theirs\n"}
    files[6] = {"README": "mine\n"}
    work = [await bench.work(name, made) for name, made in zip("abcdefgh", files, strict=True)]

    ended = await bench.land(*work)

    good = dict.fromkeys("abdefh", "landed")
    assert ended == {**good, "c": "verification", "g": "conflict"}
    assert landed(origin) == list("abdefh")
    for commit in origin.log_commits():
        assert not any(path.startswith("broken") for path in origin.files(commit))
    assert bench.queue is not None
    guilty, clash = (bench.queue.ended[TaskId(name)] for name in "cg")
    assert "broken-c" in guilty.message
    assert guilty.report is not None
    assert "README" in clash.message
    assert work[6].commit[:12] in clash.message


async def test_a_landing_that_was_cut_off_after_its_push_is_found_done(
    bench: Bench, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = [await bench.work(name, {f"{name}.txt": name}) for name in "ab"]
    push = repositories.push

    async def cut_off(cache: Cache, *moves: repositories.Move) -> None:
        await push(cache, *moves)
        raise asyncio.CancelledError

    with monkeypatch.context() as patch:
        patch.setattr(repositories, "push", cut_off)
        with pytest.raises(asyncio.CancelledError):
            await bench.land(*two)
    tip = origin.tip()
    origin.push({"later": "x"})

    ended = await Bench(bench.folder.with_name("other"), origin).land(*two)

    assert ended == {"a": "landed", "b": "landed"}
    assert landed(origin) == ["a", "b", "change later"]
    assert bench.queue is not None
    assert origin.ref(refs.fence_ref(TaskId("b"))) == tip


async def test_what_was_overtaken_stays_out_and_the_others_land(
    bench: Bench, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    three = [await bench.work(name, {f"{name}.txt": name}) for name in "abc"]
    push = repositories.push
    raced: list[object] = []

    async def overtaken(cache: Cache, *moves: repositories.Move) -> None:
        if not raced:
            raced.append(moves)
            other = await Repositories(bench.folder.with_name("other")).fetch(origin.url)
            await fences.claim(other, task=TaskId("b"), fence=SECOND, agent=BOB, base_branch="main")
        await push(cache, *moves)

    monkeypatch.setattr(repositories, "push", overtaken)

    assert await bench.land(*three) == {"a": "landed", "b": "stale", "c": "landed"}
    assert landed(origin) == ["a", "c"]


async def test_a_base_that_moves_meanwhile_is_verified_with_what_came(
    bench: Bench, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = [await bench.work(name, {f"{name}.txt": name}) for name in "ab"]
    push = repositories.push
    moved: list[str] = []

    async def late(cache: Cache, *moves: repositories.Move) -> None:
        if not moved:
            moved.append(origin.push({"meanwhile": "x"}))
        await push(cache, *moves)

    monkeypatch.setattr(repositories, "push", late)

    assert await bench.land(*two) == {"a": "landed", "b": "landed"}
    assert landed(origin) == ["change meanwhile", "a", "b"]
    assert len(bench.verified) == 2


async def test_a_base_that_is_red_already_blames_nobody(bench: Bench, origin: Origin) -> None:
    two = [await bench.work(name, {f"{name}.txt": name}) for name in "ab"]
    tip = origin.push({"broken": "x"})

    with pytest.raises(errors.Conflict, match="fails its own checks"):
        await bench.land(*two)

    assert bench.queue is not None
    assert bench.queue.ended == {}
    assert origin.tip() == tip


async def test_work_that_stands_on_other_work_fits_behind_it(bench: Bench, origin: Origin) -> None:
    first = await bench.work("a", {"README": "hello\nand a\n"})
    second = await bench.work("b", {"README": "hello\nand a\nand b\n"}, on=[first.commit])

    assert await bench.land(first, second) == {"a": "landed", "b": "landed"}
    assert origin.show("main", "README") == "hello\nand a\nand b"
    assert landed(origin) == ["a", "b"]


async def test_who_is_not_wanted_any_more_does_not_land(bench: Bench, origin: Origin) -> None:
    three = [await bench.work(name, {f"{name}.txt": name}) for name in "abc"]
    bench.unwanted = ("b",)

    assert await bench.land(*three) == {"a": "landed", "c": "landed"}
    assert landed(origin) == ["a", "c"]


async def test_nothing_lands_without_a_lease(bench: Bench, origin: Origin) -> None:
    work = await bench.work("a", {"a": "a"})
    bench.suspended, tip = True, origin.tip()

    with pytest.raises(landing.Suspended):
        await bench.land(work)
    assert origin.tip() == tip


async def test_bounds_of_a_change_are_each_ones_own(bench: Bench, origin: Origin) -> None:
    bench.declared = ("diff:files=1", NOT_BROKEN)
    work = [
        await bench.work("a", {"a": "a"}),
        await bench.work("b", {"b": "b", "c": "c"}),
        await bench.work("d", {"d": "d"}),
    ]

    assert await bench.land(*work) == {"a": "landed", "b": "verification", "d": "landed"}
    assert bench.queue is not None
    assert "2 files changed, at most 1" in bench.queue.ended[TaskId("b")].message
    assert len(bench.verified) == 1


async def test_what_changes_the_checks_is_the_last_that_the_old_ones_verify(
    bench: Bench, origin: Origin
) -> None:
    work = [
        await bench.work("a", {"a": "a"}),
        await bench.work("b", {".agentcom.toml": "verify = 'true'\n"}),
        await bench.work("c", {"c": "c"}),
    ]

    await bench.land(*work)

    assert landed(origin) == ["a", "b", "c"]
    assert len(bench.verified) == 2


async def test_work_that_is_in_the_base_already_has_landed(bench: Bench, origin: Origin) -> None:
    first, same = await bench.work("a", {"a": "a"}), await bench.work("b", {"a": "a"})

    assert await bench.land(first, same) == {"a": "landed", "b": "landed"}
    assert landed(origin) == ["a"]
    assert origin.ref(refs.fence_ref(TaskId("b"))) == origin.tip()


async def test_what_was_verified_on_this_very_base_is_not_verified_again(
    bench: Bench, origin: Origin
) -> None:
    work = await bench.work("a", {"a": "a"})

    assert await bench.land(work) == {"a": "landed"}
    assert bench.verified == []
