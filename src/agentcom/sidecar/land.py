"""Performing a granted landing: the pure git work is in `landing.py`, the decision at the hub."""

from pathlib import Path

import msgspec

from agentcom.model import errors, limits, refs
from agentcom.model.result import Landing, LandStatus
from agentcom.model.task import LandPolicy
from agentcom.model.verification import Report
from agentcom.sidecar import checks, git, landing, pulling, repositories, setting_up
from agentcom.sidecar import verify as verification
from agentcom.sidecar.boxes import Boxes
from agentcom.sidecar.config import Home, Settings
from agentcom.sidecar.forge.finding import Forges
from agentcom.sidecar.landing import StillMine, Work
from agentcom.sidecar.machine_values import Record
from agentcom.sidecar.repositories import Cache, Repositories


async def land(
    record: Record,
    caches: Repositories,
    settings: Settings,
    still_mine: StillMine,
    *,
    forges: Forges | None = None,
) -> Landing | None:
    """Bring the attempt's commit into its base, or to review where that is how it lands.

    None if the lease ran out before the push. `forges` are those that this machine can speak to.
    """
    try:
        return await _land(record, caches, settings, still_mine, forges)
    except landing.Suspended:
        return None
    except errors.Stale as error:
        return _refused(LandStatus.STALE, error)
    except git.MergeConflict as error:
        return _refused(LandStatus.CONFLICT, error)
    except (errors.AgentComError, OSError) as error:
        return _refused(LandStatus.ERROR, error)


async def _land(
    record: Record,
    caches: Repositories,
    settings: Settings,
    still_mine: StillMine,
    forges: Forges | None,
) -> Landing:
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
    verify = _Verify(record, settings, cache, still_mine, checked_on=checked_on, base=branch)
    if not still_mine():
        raise landing.Suspended
    try:
        if _policy(record) is LandPolicy.PULL_REQUEST:
            forge = await (forges or Forges(settings.forges)).of(repo)
            work = Work(commit=commit, checked_on=None, verify=verify.on_the_base)
            order = pulling.Order(record=record, work=work, base=branch, still_mine=still_mine)
            return await pulling.bring(cache, forge, order)
        landed = await landing.land(
            cache,
            task=assignment.task,
            fence=assignment.fence,
            commit=commit,
            base_branch=branch,
            verify=verify,
            checked_on=checked_on,
            still_mine=still_mine,
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


class _Verify:
    """Runs the checks of the moved base on the commit that is to land, and minds the lease."""

    def __init__(
        self,
        record: Record,
        settings: Settings,
        cache: Cache,
        still_mine: StillMine,
        *,
        checked_on: str | None,
        base: str,
    ) -> None:
        self.report: Report | None = None
        self._base = refs.origin_ref(base)
        self._record = record
        self._settings = settings
        self._cache = cache
        self._still_mine = still_mine
        self._checked_on = checked_on

    async def __call__(self, where: Path, base: str) -> bool:
        plan = await self._plan(base)
        if not self._still_mine():
            raise landing.Suspended
        # The caches lie in the machine's home, by whose tag a clean-up finds what a crash left.
        root = self._cache.root.parent
        tag = Home(root).tag(self._record.key.text)
        commit = (await git.run(("rev-parse", "--verify", "HEAD"), where)).text
        setup = await setting_up.checked_out(self._cache, commit, where, plan, base=base)
        self.report = await verification.verify(
            where,
            plan.checks,
            commit="",
            setup=setup,
            attempt=tag,
            environment=plan.environment,
            confined=verification.Confined(
                Boxes(root), self._settings.checks, (self._cache.path / "objects",)
            ),
        )
        return self.report.verified

    async def on_the_base(self, where: Path, _tip: str) -> bool:
        """Run the checks that the base declared, on work that stands on somebody's commits."""
        base = self._checked_on or await repositories.resolve(self._cache, self._base)
        if base is None:
            raise errors.NotFound("the base branch is gone: there is nothing to check by")
        return await self(where, base)

    async def _plan(self, base: str) -> checks.CheckPlan:
        result = self._record.result
        return await checks.plan_again(
            self._record.body.spec,
            self._settings,
            self._cache,
            checked_on=self._checked_on,
            base=base,
            first=result.report if result is not None else None,
        )


def _branch(record: Record) -> str | None:
    key = record.result.land_key if record.result is not None else None
    return key.rpartition("#")[2] if key else record.body.spec.base


def _refused(status: LandStatus, error: Exception) -> Landing:
    return Landing(status=status, message=str(error)[: limits.REASON_CHARS])
