"""Performing a granted landing: the pure git work is in `landing.py`, the decision at the hub."""

from collections.abc import Callable
from pathlib import Path

import msgspec

from agentcom.model import errors, limits
from agentcom.model.result import Landing, LandStatus
from agentcom.model.verification import Check, Report
from agentcom.sidecar import checks, git, landing
from agentcom.sidecar import verify as verification
from agentcom.sidecar.config import Settings
from agentcom.sidecar.machine_values import Record
from agentcom.sidecar.repositories import Repositories

StillMine = Callable[[], bool]
"""Whether the machine's own lease runs; asked before each step that cannot be undone."""


class _Suspended(Exception):
    """The lease ran out on the way."""


async def land(
    record: Record, repositories: Repositories, settings: Settings, still_mine: StillMine
) -> Landing | None:
    """Bring the attempt's commit into its base; None if the lease ran out before the push."""
    try:
        return await _land(record, repositories, settings, still_mine)
    except _Suspended:
        return None
    except errors.Stale as error:
        return _refused(LandStatus.STALE, error)
    except git.MergeConflict as error:
        return _refused(LandStatus.CONFLICT, error)
    except (errors.AgentComError, OSError) as error:
        return _refused(LandStatus.ERROR, error)


async def _land(
    record: Record, repositories: Repositories, settings: Settings, still_mine: StillMine
) -> Landing:
    spec, result, assignment = record.body.spec, record.result, record.assignment
    commit = result.commit if result is not None else assignment.commit
    if spec.repo is None or not commit:
        raise errors.InvalidInput("commit", "there is nothing to land")
    branch = _branch(record) or await repositories.default_branch(spec.repo)
    cache = await repositories.fetch(spec.repo)
    base_commit = result.base_commit if result is not None else assignment.base_commit
    plan = await checks.plan(spec, settings, cache, base_commit)
    verify = _Verify(record, plan, still_mine)
    if not still_mine():
        raise _Suspended
    try:
        landed = await landing.land(
            cache,
            task=assignment.task,
            fence=assignment.fence,
            commit=commit,
            base_branch=branch,
            verify=verify,
        )
    except landing.VerifyFailed as error:
        report = verify.report
        return msgspec.structs.replace(_refused(LandStatus.VERIFICATION, error), report=report)
    report = verify.report
    if report is not None:
        report = msgspec.structs.replace(report, commit=landed.commit)
    return Landing(status=LandStatus.LANDED, commit=landed.commit, report=report)


class _Verify:
    """Runs the base's checks on the rebased commit, and minds the lease."""

    def __init__(self, record: Record, plan: checks.CheckPlan, still_mine: StillMine) -> None:
        self.report: Report | None = None
        self._record = record
        self._plan = plan
        self._still_mine = still_mine

    async def __call__(self, where: Path) -> bool:
        wanted: tuple[Check, ...] = self._plan.checks
        if wanted:
            self.report = await verification.verify(
                where, wanted, commit="", setup=self._plan.setup, attempt=self._record.key.text
            )
        if not self._still_mine():
            raise _Suspended
        return self.report is None or self.report.verified


def _branch(record: Record) -> str | None:
    key = record.result.land_key if record.result is not None else None
    return key.rpartition("#")[2] if key else record.body.spec.base


def _refused(status: LandStatus, error: Exception) -> Landing:
    return Landing(status=status, message=str(error)[: limits.REASON_CHARS])
