"""Performing a granted landing: the pure git work is in `landing.py`, the decision at the hub."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import structlog

from agentcom.model import errors, limits, refs
from agentcom.model.ids import TaskId
from agentcom.model.result import Landing, LandStatus, Rider, RiderLanding
from agentcom.model.task import LandPolicy
from agentcom.model.verification import Report
from agentcom.sidecar import (
    checking,
    checks,
    contents,
    git,
    landing,
    lfs,
    merge_queue,
    pulling,
    repositories,
    results,
)
from agentcom.sidecar import verify as verification
from agentcom.sidecar.boxes import Boxes
from agentcom.sidecar.config import Home, Settings
from agentcom.sidecar.forge.finding import Forges
from agentcom.sidecar.landing import StillMine, Work
from agentcom.sidecar.machine_values import Record
from agentcom.sidecar.repositories import Cache, Repositories

log = structlog.get_logger(__name__)


async def land(
    record: Record,
    caches: Repositories,
    settings: Settings,
    still_mine: StillMine,
    *,
    forges: Forges | None = None,
    boxes: Boxes | None = None,
    riders: Callable[[], Sequence[Rider] | None] = lambda: None,
) -> Landing | None:
    """Bring the attempt's commit into its base, or to review where that is how it lands.

    None if the lease ran out before the push. `forges` are those that this machine can speak to,
    `boxes` where its checks run. With `riders`, if only none: as one commit, and behind it the work
    of those still wanted.
    """
    try:
        task = await _task(record, caches, settings, still_mine, boxes)
        if riders() is not None:
            return await _land_queued(record, task, lambda: riders() or ())
        return await _land(record, task, forges)
    except landing.Suspended:
        return None
    except errors.Stale as error:
        return _refused(LandStatus.STALE, error)
    except git.MergeConflict as error:
        return _refused(LandStatus.CONFLICT, error)
    except (errors.AgentComError, OSError) as error:
        return _refused(LandStatus.ERROR, error)


@dataclass(frozen=True, slots=True)
class _Task:
    """What is to land, where, and who may say so."""

    settings: Settings
    cache: Cache
    branch: str
    commit: str
    checked_on: str | None
    still_mine: StillMine
    boxes: Boxes


async def _task(
    record: Record,
    caches: Repositories,
    settings: Settings,
    still_mine: StillMine,
    boxes: Boxes | None,
) -> _Task:
    spec, result, assignment = record.body.spec, record.result, record.assignment
    commit = result.commit if result is not None else assignment.commit
    if spec.repo is None or not commit:
        raise errors.InvalidInput("commit", "there is nothing to land")
    repo = spec.repo
    branch = _branch(record)
    if branch is None:
        branch = await repositories.patiently(lambda: caches.default_branch(repo))
    cache = await repositories.patiently(lambda: caches.fetch(repo))
    checked_on = result.base_commit if result is not None else assignment.base_commit
    if lfs.program() is not None or not lfs.chosen(cache):
        await _settle(cache, branch)
    if not still_mine():
        raise landing.Suspended
    # The caches lie in the machine's home.
    known = boxes or Boxes(cache.root.parent)
    return _Task(settings, cache, branch, commit, checked_on, still_mine, known)


async def _settle(cache: Cache, branch: str) -> None:
    """Find out what this machine has to fetch for a checkout: another one may have worked."""
    base = await repositories.resolve(cache, refs.origin_ref(branch))
    if base is not None:
        says = await landing.read_project_file(cache, base)
        await contents.settle(cache, base, base, says)


async def _land(record: Record, task: _Task, forges: Forges | None) -> Landing:
    verify = _Verify(record, task)
    try:
        if _policy(record) is LandPolicy.PULL_REQUEST:
            forge = await (forges or Forges(task.settings.forges)).of(task.cache.url)
            work = Work(commit=task.commit, checked_on=None, verify=verify.on_the_base)
            mine = task.still_mine
            order = pulling.Order(record=record, work=work, base=task.branch, still_mine=mine)
            return await pulling.bring(task.cache, forge, order)
        under_review = record.assignment.pull_request is not None
        landed = await landing.land(
            task.cache,
            task=record.assignment.task,
            fence=record.assignment.fence,
            commit=task.commit,
            base_branch=task.branch,
            verify=verify,
            checked_on=task.checked_on,
            review=refs.pull_branch(record.assignment.task) if under_review else None,
            still_mine=task.still_mine,
        )
    except landing.VerifyFailed as error:
        report = verify.report
        return msgspec.structs.replace(_refused(LandStatus.VERIFICATION, error), report=report)
    report = verify.report
    if report is not None:
        report = msgspec.structs.replace(report, commit=landed.commit)
    return Landing(status=LandStatus.LANDED, commit=landed.commit, report=report)


def _policy(record: Record) -> LandPolicy:
    return record.result.land if record.result is not None else record.assignment.land


async def _land_queued(
    record: Record, task: _Task, riders: Callable[[], Sequence[Rider]]
) -> Landing:
    verify = _Verify(record, task)
    own = record.assignment.task

    def wanted() -> Collection[TaskId] | None:
        return {own, *(rider.task for rider in riders())} if task.still_mine() else None

    queue = merge_queue.Queue(
        cache=task.cache,
        base_branch=task.branch,
        plan=verify.plan,
        run=verify.run,
        wanted=wanted,
    )
    along, ended = riders(), queue.ended
    try:
        await queue.land(_candidates(record, task, along))
    except (errors.AgentComError, OSError) as error:
        if own not in ended:  # whoever is behind it tries for itself
            ended[own] = _refused(LandStatus.ERROR, error)
    landed = sum(one.status is LandStatus.LANDED for one in ended.values())
    counts = {"of": 1 + len(along), "landed": landed, "verifications": queue.verified}
    log.info("landing.queue", task=own, **counts)
    told = tuple(
        RiderLanding(task=rider.task, fence=rider.fence, landing=ended[rider.task])
        for rider in along
        if rider.task in ended
    )
    return results.fitted_landing(msgspec.structs.replace(ended[own], riders=told))


def _candidates(
    record: Record, task: _Task, along: Sequence[Rider]
) -> Sequence[merge_queue.Candidate]:
    first = merge_queue.Candidate(
        task=record.assignment.task,
        fence=record.assignment.fence,
        commit=task.commit,
        checked_on=task.checked_on,
        title=record.body.spec.title,
    )
    behind = (
        merge_queue.Candidate(
            task=rider.task,
            fence=rider.fence,
            commit=rider.commit,
            checked_on=rider.base_commit,
            title=rider.title,
        )
        for rider in along
    )
    return [first, *behind]


class _Verify:
    """Runs the checks of the moved base on the commit that is to land, and minds the lease."""

    def __init__(self, record: Record, task: _Task) -> None:
        self.report: Report | None = None
        self._record = record
        self._task = task

    async def __call__(self, where: Path, base: str, commit: str) -> bool:
        plan = await self.plan(base)
        if not self._task.still_mine():
            raise landing.Suspended
        self.report = await self.run(plan, where, base, commit)
        return self.report.verified

    async def on_the_base(self, where: Path, _tip: str, commit: str) -> bool:
        """Run the checks that the base declared, on work that stands on somebody's commits."""
        known = refs.origin_ref(self._task.branch)
        base = self._task.checked_on or await repositories.resolve(self._task.cache, known)
        if base is None:
            raise errors.NotFound("the base branch is gone: there is nothing to check by")
        return await self(where, base, commit)

    async def plan(self, base: str) -> checks.CheckPlan:
        """Return what is checked on a base."""
        result = self._record.result
        return await checks.plan_again(
            self._record.body.spec,
            self._task.settings,
            self._task.cache,
            checked_on=self._task.checked_on,
            base=base,
            first=result.report if result is not None else None,
        )

    async def run(self, plan: checks.CheckPlan, where: Path, base: str, commit: str) -> Report:
        """Return what the checks find in a clean checkout."""
        # The caches lie in the machine's home, by whose tag a clean-up finds what a crash left.
        cache = self._task.cache
        root, shown = cache.root.parent, lfs.borrowed(cache.path / "objects")
        return await checking.run(
            plan,
            cache,
            where,
            base=base,
            commit=commit,
            tag=Home(root).tag(self._record.key.text),
            confined=verification.Confined(self._task.boxes, self._task.settings.checks, shown),
        )


def _branch(record: Record) -> str | None:
    key = record.result.land_key if record.result is not None else None
    return key.rpartition("#")[2] if key else record.body.spec.base


def _refused(status: LandStatus, error: Exception) -> Landing:
    return Landing(status=status, message=str(error)[: limits.REASON_CHARS])
