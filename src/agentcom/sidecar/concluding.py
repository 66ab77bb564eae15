"""From the end of a run to its result: commit, check, push.

What was committed is in every result from there on: nothing that fails later loses the work.
"""

import asyncio
import functools
from collections.abc import Sequence
from typing import Final

import msgspec
import structlog

from agentcom.model import errors, refs
from agentcom.model.failure import FailureClass
from agentcom.model.result import Result
from agentcom.model.verification import Check
from agentcom.sidecar import (
    checking,
    checks,
    jobs,
    lfs,
    process,
    protected,
    repositories,
    results,
    setting_up,
    snapshots,
    trees,
    workspace,
)
from agentcom.sidecar import verify as verification
from agentcom.sidecar.boxes import Boxes
from agentcom.sidecar.config import Home, Settings
from agentcom.sidecar.machine_values import Record
from agentcom.sidecar.repositories import Cache, Say
from agentcom.sidecar.trees import Worktree

LEFT_OUT_MAX: Final = 10
"""Files that a message names; a person looks at the folder anyway."""

log = structlog.get_logger(__name__)
replace = msgspec.structs.replace


class Conclusion:
    """Makes results of what agents left in their folders."""

    def __init__(self, home: Home, settings: Settings, boxes: Boxes) -> None:
        self._home = home
        self._settings = settings
        self._boxes = boxes

    async def plan(self, record: Record, worktree: Worktree | None) -> checks.CheckPlan:
        """Return what will be checked.

        Raises:
            ProjectFileInvalid: a command or the base's file is not understood.
        """
        cache, base = (worktree.cache, worktree.base) if worktree is not None else (None, None)
        return await checks.plan(record.body.spec, self._settings, cache, base)

    async def conclude(
        self,
        record: Record,
        worktree: Worktree,
        result: Result,
        *,
        say: Say,
        before: Result | None = None,
    ) -> Result:
        """Commit, check and push the work of a run that ended well.

        An origin that is away is waited for; `say` is told so. `before` is the good end of the
        run before: what it came to is not checked again if nothing changed since.

        Raises:
            Stale: the folder belongs to a later attempt.
            AgentComError: the work could not be committed.
        """
        saved = await workspace.finish(worktree, jobs.message(record))
        if before is not None and before.commit == saved.commit:
            return replace(
                before, summary=result.summary, session=result.session, usage=result.usage
            )
        left_out = tuple(f"left out: {finding}" for finding in saved.findings)
        said = "; ".join(left_out[:LEFT_OUT_MAX])
        told = replace(result, message=said or result.message, needs_person=results.some(left_out))
        made = _with_commit(told, worktree, saved)
        try:
            if not await _is_new(worktree, saved):
                message = said or _nothing(worktree, saved)
                return results.failed_with(told, FailureClass.NO_CHANGE, message)
            plan = await self.plan(record, worktree)
            made = await _with_reasons(made, worktree, (*plan.setup, *plan.checks), left_out)
            made = await self.verified(record, worktree.cache, made)
        except (errors.AgentComError, OSError) as error:
            made = results.failed_with(made, results.class_of(error), results.said(error))
        return await self._pushed(record, worktree, made, saved, say=say)

    async def conclude_scratch(self, record: Record, result: Result) -> Result:
        """Check what a run without a repository made."""
        plan = await self.plan(record, None)
        if result.failure is not None or not plan.checks:
            return result
        # Without a commit there is nothing to check out: the folder itself is what was made.
        where, tag = self._home.scratch(record.key.task), self._home.tag(record.key.text)
        report = await verification.verify(
            where, plan.checks, commit="", attempt=tag, confined=self._confined()
        )
        return results.with_report(replace(result, commit="", verify_expected=True), report)

    async def verified(self, record: Record, cache: Cache, result: Result) -> Result:
        """Return `result` with what the base's checks find in its commit."""
        try:
            return await self._verified(record, cache, result)
        except (errors.AgentComError, OSError) as error:
            return results.failed_with(result, results.class_of(error), results.said(error))

    async def _verified(self, record: Record, cache: Cache, result: Result) -> Result:
        commit = result.commit
        assert commit is not None
        plan = await checks.plan(record.body.spec, self._settings, cache, result.base_commit)
        result = replace(result, land=plan.land, verify_expected=bool(plan.checks))
        if not plan.checks:
            return result
        tag = self._home.tag(record.key.text)
        base = result.base_commit
        assert base is not None
        async with trees.checkout(cache, commit) as where:
            report = await checking.run(
                plan,
                cache,
                where,
                base=base,
                commit=commit,
                tag=tag,
                confined=self._confined(cache),
            )
        return results.with_report(result, report)

    async def made_ready(
        self, record: Record, worktree: Worktree | None, plan: checks.CheckPlan
    ) -> Result | None:
        """Make a folder ready for its agent, as the base says; return how that failed."""
        if worktree is None:
            return None
        tag = self._home.tag(record.key.text)
        if plan.setup:  # a sidecar that was killed may have left one that still runs
            await asyncio.to_thread(process.kill_survivors, tag)
        report = await setting_up.make_ready(
            worktree, plan, tag=tag, confined=self._confined(worktree.cache)
        )
        return None if report is None else results.not_ready(report)

    def _confined(self, cache: Cache | None = None) -> verification.Confined:
        shown = lfs.borrowed(cache.path / "objects") if cache is not None else ()
        return verification.Confined(self._boxes, self._settings.checks, shown)

    async def salvage(self, record: Record, worktree: Worktree, result: Result) -> Result:
        """Return a failed result with what the attempt had made, at origin under its branch."""
        try:
            saved = await workspace.finish(worktree, jobs.message(record))
            if not await _is_new(worktree, saved):
                return result
        except (errors.AgentComError, OSError) as error:
            log.warning("rescue.failed", task=record.key.task, reason=str(error))
            return result
        kept = _with_commit(result, worktree, saved)
        pushed = await self._pushed(record, worktree, kept, saved)
        return replace(kept, branch=pushed.branch) if pushed.branch else result

    async def _pushed(
        self,
        record: Record,
        worktree: Worktree,
        result: Result,
        saved: workspace.Saved,
        *,
        say: Say | None = None,
    ) -> Result:
        branch = jobs.branch(record)
        # Origin gave the base, so it is there. Good work waits for it; what failed does not.
        good = say is not None and result.failure is None
        push = functools.partial(
            workspace.push_branch, worktree, branch, saved.commit, searched=saved.searched
        )
        try:
            await repositories.patiently(push, known=good, hurried=not good, say=say)
        except workspace.SecretFound as found:
            return results.failed_with(result, FailureClass.AGENT, found.message)
        except (errors.AgentComError, OSError) as error:
            return results.failed_with(result, FailureClass.WORKSPACE, results.said(error))
        return replace(result, branch=branch)


def _nothing(worktree: Worktree, saved: workspace.Saved) -> str:
    """Return in words that there is no result; an agent may have put its work elsewhere."""
    message = "the agent ended without changing anything"
    if not saved.elsewhere:
        return message
    names = ", ".join(saved.elsewhere[:LEFT_OUT_MAX])
    kept = f"{refs.rescue_ref(worktree.task, worktree.fence)}-refs"
    return (
        f"{message} on the branch that it had checked out at the end; commits of its own are on "
        f"{names}, kept on this machine as {kept} in {worktree.cache.path}"
    )


async def _is_new(worktree: Worktree, saved: workspace.Saved) -> bool:
    """Tell whether a commit has anything that base and dependencies do not give."""
    return saved.tree != await snapshots.tree_of(worktree.cache, worktree.joined)


async def _with_reasons(
    result: Result, worktree: Worktree, declared: Sequence[Check], left_out: Sequence[str]
) -> Result:
    """Return `result` with what a person must see before it counts."""
    cache, commit = worktree.cache, result.commit
    assert commit is not None
    found = await protected.changes(cache, worktree.base, commit, declared)
    reasons = results.some((*left_out, *(change.reason for change in found)))
    return replace(result, needs_person=reasons, protected=tuple(found[: results.REASONS_MAX]))


def _with_commit(result: Result, worktree: Worktree, saved: workspace.Saved) -> Result:
    return replace(
        result,
        commit=saved.commit,
        base_commit=worktree.base,
        land_key=f"{worktree.url}#{worktree.base_branch}",
    )
