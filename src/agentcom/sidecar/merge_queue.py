"""Landing several tasks at once: each as one commit, verified together, in one atomic push.

Candidates are put onto the base one behind the other. What does not fit is a conflict. The last of
the chain is verified with the base's checks; if it fails, `machine_landing.py` says which shorter
ones to try. The push moves the base and the fence of every task in it, each only if origin still
has what we saw: whoever was overtaken loses that push, and whoever repeats it finds it done.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agentcom.model import errors, limits, refs
from agentcom.model.declaring import FILE_NAME
from agentcom.model.ids import Fence, TaskId
from agentcom.model.result import Landing, LandStatus
from agentcom.model.verification import Check, CheckResult, Report
from agentcom.sidecar import (
    changes,
    checks,
    fences,
    git,
    joining,
    landing,
    lfs,
    machine_landing,
    repositories,
    snapshots,
    trees,
)
from agentcom.sidecar.fences import Seen
from agentcom.sidecar.landing import Suspended
from agentcom.sidecar.repositories import Cache, Move

SAID_CHARS: Final = 1_200
"""Of a failed check's output, for who goes on with the work; the whole tail is in the report."""

Run = Callable[[checks.CheckPlan, Path, str, str], Awaitable[Report]]
"""Checks a clean checkout: the plan, the folder, its base and its commit."""
Plan = Callable[[str], Awaitable[checks.CheckPlan]]
"""Returns what is checked on a base."""
Wanted = Callable[[], Collection[TaskId] | None]
"""Whose work may still land; None: nobody's, since the lease ran out or the landing was stopped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Verified work that is to land."""

    task: TaskId
    fence: Fence
    commit: str
    checked_on: str | None
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Link:
    """A candidate as the commit that it would be in the base."""

    candidate: Candidate
    commit: str
    parent: str
    tree: str


@dataclass(slots=True, kw_only=True)
class Queue:
    """One granted landing of several candidates, in their order."""

    cache: Cache
    base_branch: str
    plan: Plan
    run: Run
    wanted: Wanted
    ended: dict[TaskId, Landing] = field(default_factory=dict)
    """What became of each; who is not here is to be landed again."""
    verified: int = 0
    """How many verifications it took."""
    _reports: dict[tuple[str, str], Report] = field(default_factory=dict)

    async def land(self, candidates: Sequence[Candidate]) -> Mapping[TaskId, Landing]:
        """Bring what is good into the base; the same again changes nothing.

        Raises:
            Suspended: nothing may land any more; what has landed is found by the next try.
            PushRejected: origin does not allow it, or the race was lost too often.
            GitFailed: origin did not answer, several times.
            Conflict: the base fails its own checks, or this machine lacks those of the work.
        """
        commits = [candidate.commit for candidate in candidates]
        await repositories.patiently(lambda: repositories.ensure(self.cache, commits))
        lost: git.GitFailed | None = None
        before: Mapping[TaskId, Seen] = {}
        tries = 0
        while True:
            seen, left = await self._look(candidates)
            if not left:
                return self.ended
            if lost is not None:
                if not landing.again(lost, tries, moved=before != seen):
                    raise lost
                tries += 1
            chain = await self._chain(_base(seen), left)
            link_count = await self._passing(chain)
            if not link_count:
                lost = None
                continue  # one was thrown out, or nothing fits: look at what is left
            chain = chain[:link_count]
            if not self._all_wanted(chain):
                continue
            before, lost = seen, await self._push(seen, chain)
            if lost is None:
                tries = 0
                await self._landed(chain)
            elif repositories.may_pass(lost):
                await repositories.pause(tries)

    def _allowed(self) -> Collection[TaskId]:
        allowed = self.wanted()
        if allowed is None:
            raise Suspended
        return allowed

    def _all_wanted(self, chain: Sequence[_Link]) -> bool:
        allowed = self._allowed()
        return all(link.candidate.task in allowed for link in chain)

    async def _look(
        self, candidates: Sequence[Candidate]
    ) -> tuple[Mapping[TaskId, Seen], list[Candidate]]:
        """Return what origin holds, and who is still to land; the others have ended."""
        allowed = self._allowed()
        left = [one for one in candidates if one.task not in self.ended and one.task in allowed]
        if not left:
            return {}, []
        tasks = [one.task for one in left]
        seen = await repositories.patiently(
            lambda: fences.look_all(self.cache, tasks, self.base_branch)
        )
        for one in left:
            try:
                done = await landing.done(self.cache, seen[one.task], one.fence, one.commit)
            except errors.Stale as stale:
                self.ended[one.task] = _refused(LandStatus.STALE, stale.message)
                continue
            if done is not None:
                self.ended[one.task] = Landing(status=LandStatus.LANDED, commit=done.commit)
        return seen, [one for one in left if one.task not in self.ended]

    async def _chain(self, base: str, candidates: Sequence[Candidate]) -> list[_Link]:
        """Put the candidates onto `base` one by one, up to one that changes the checks."""
        chain: list[_Link] = []
        tip = base
        plan = await self.plan(base)
        compared = [check for check in plan.checks if check.kind.compares]
        for one in candidates:
            try:
                link = await _put(self.cache, tip, one)
            except git.MergeConflict as error:
                said = f"{error.message}; the work is {one.commit[:12]}: bring it onto the new base"
                self.ended[one.task] = _refused(LandStatus.CONFLICT, said)
                continue
            failed = await self._beyond(compared, link)
            if failed:
                report = Report(commit=link.commit, checks=tuple(failed))
                self.ended[one.task] = _failed(report)
                continue
            chain.append(link)
            tip = link.commit
            if await _oid(self.cache, tip, FILE_NAME) != await _oid(self.cache, base, FILE_NAME):
                break  # who comes behind is checked as it says from here on
        return chain

    async def _beyond(self, compared: Sequence[Check], link: _Link) -> list[CheckResult]:
        """Return which checks of what is changed one candidate alone does not pass."""
        change = await changes.read(self.cache, link.parent, link.commit, compared)
        results = [changes.judge(check, change) for check in compared]
        return [result for result in results if not result.passed]

    async def _passing(self, chain: Sequence[_Link]) -> int:
        """Return how many first ones pass together; throw out the one that they fail with.

        Raises:
            Conflict: the base fails its own checks.
        """
        if not chain:
            return 0
        search = machine_landing.Search(len(chain))
        while True:
            match search.step():
                case machine_landing.Check(count):
                    report = await self._report(chain[:count])
                    search.found(count, passed=report.verified)
                case machine_landing.Land(count):
                    return count
                case machine_landing.ThrowOut(good):
                    if not good:
                        await self._trust_base(chain[0].parent)
                    guilty = chain[good]
                    report = await self._report(chain[: good + 1])
                    self.ended[guilty.candidate.task] = _failed(report)
                    return good

    async def _report(self, chain: Sequence[_Link]) -> Report:
        """Return what the checks find in the last of `chain`, which stands on all before it."""
        base, last = chain[0].parent, chain[-1]
        known = self._reports.get((base, last.tree))
        if known is not None:
            return known
        plan = await self.plan(base)
        if len(chain) == 1 and await self._is_checked(last):
            passed = CheckResult(name="as its agent's machine found it", passed=True)
            report = Report(commit=last.commit, checks=(passed,))
        else:
            report = await self._run(plan, base, last.commit)
        self._reports[base, last.tree] = report
        return report

    async def _run(self, plan: checks.CheckPlan, base: str, commit: str) -> Report:
        self._allowed()
        self.verified += 1
        async with trees.checkout(self.cache, commit) as where:
            return await self.run(_together(plan), where, base, commit)

    async def _is_checked(self, link: _Link) -> bool:
        """Tell whether these very files were verified on this very base."""
        one = link.candidate
        same = one.checked_on == link.parent
        return same and link.tree == await snapshots.tree_of(self.cache, one.commit)

    async def _trust_base(self, base: str) -> None:
        """Make sure that a candidate is to blame, and not the base."""
        tree = await snapshots.tree_of(self.cache, base)
        report = self._reports.get((base, tree))
        if report is None:
            report = self._reports[base, tree] = await self._run(await self.plan(base), base, base)
        if not report.verified:
            raise errors.Conflict(f"the base branch fails its own checks: {_names(report)}")

    async def _push(
        self, seen: Mapping[TaskId, Seen], chain: Sequence[_Link]
    ) -> git.GitFailed | None:
        # Every ref really moves: a lease on a ref that stays as it is would not be sent.
        moves = [
            Move(ref=refs.fence_ref(link.candidate.task), new=link.commit,
                 old=seen[link.candidate.task].commit)
            for link in chain
        ]  # fmt: skip
        base = chain[0].parent
        if chain[-1].commit != base:
            ref = f"refs/heads/{self.base_branch}"
            moves.append(Move(ref=ref, new=chain[-1].commit, old=base))
        try:
            await lfs.push(self.cache, *moves)
        except git.GitFailed as failure:
            return failure
        return None

    async def _landed(self, chain: Sequence[_Link]) -> None:
        base, last = chain[0].parent, chain[-1]
        report = self._reports[base, last.tree]
        if await _oid(self.cache, base, FILE_NAME) == await _oid(
            self.cache, last.commit, FILE_NAME
        ):
            self._reports[last.commit, last.tree] = report  # it is the next one's base
        for link in chain:
            self.ended[link.candidate.task] = Landing(
                status=LandStatus.LANDED,
                commit=link.commit,
                report=report if link is last else None,
            )


async def _put(cache: Cache, tip: str, one: Candidate) -> _Link:
    """Return a candidate as one commit on top of `tip`.

    Raises:
        MergeConflict: both changed the same places.
    """
    try:
        head = await joining.merge(cache, tip, one.commit, what="the base branch")
    except git.MergeConflict:
        # Step by step it may fit: what it stands on can be in the base as another commit.
        head = await joining.onto(cache, tip, one.commit)
    tree = await snapshots.tree_of(cache, head)
    commit = tip
    if tree != await snapshots.tree_of(cache, tip):
        message = f"{one.title}\n\nTask: {one.task}\n"
        commit = await snapshots.commit_tree(cache, tree, message, tip)
    return _Link(candidate=one, commit=commit, parent=tip, tree=tree)


async def _oid(cache: Cache, commit: str, path: str) -> str:
    done = await cache.run("rev-parse", "-q", "--verify", f"{commit}:{path}", check=False)
    return done.text


def _base(seen: Mapping[TaskId, Seen]) -> str:
    return next(iter(seen.values())).base


def _together(plan: checks.CheckPlan) -> checks.CheckPlan:
    """Return what is checked of several at once: bounds of changes are each one's own."""
    kept = tuple(check for check in plan.checks if not check.kind.compares)
    return checks.CheckPlan(checks=kept, setup=plan.setup, land=plan.land)


def _names(report: Report) -> str:
    return ", ".join(check.name for check in report.checks if not check.passed) or "none ran"


def _failed(report: Report) -> Landing:
    """Return that a candidate is thrown out, with what its next attempt must know."""
    said = f"the checks fail together with what is in the base by now: {_names(report)}"
    failed = next((check for check in report.checks if not check.passed), None)
    tail = (failed.said or failed.output_tail[-SAID_CHARS:]) if failed is not None else ""
    message = f"{said}\n{tail}" if tail else said
    return _refused(LandStatus.VERIFICATION, message, report)


def _refused(status: LandStatus, message: str, report: Report | None = None) -> Landing:
    return Landing(status=status, message=message[: limits.REASON_CHARS], report=report)
