"""One attempt from end to end: prepare, wake, watch, checkpoint, commit, verify, push, report.

Every step can be repeated, so a restarted sidecar goes through the same ones and finds what is
done already. The result is told as a fact; storing and reporting it is the machine's business.
"""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec
import structlog

from agentcom.model import errors, refs
from agentcom.model.failure import FailureClass
from agentcom.model.result import Result, ResultStatus
from agentcom.model.task import LandPolicy, Phase
from agentcom.sidecar import (
    checks,
    fences,
    git,
    landing,
    process,
    repositories,
    results,
    survivors,
    trees,
    workspace,
)
from agentcom.sidecar import machine_values as values
from agentcom.sidecar import verify as verification
from agentcom.sidecar.config import AgentConfig, Config
from agentcom.sidecar.machine_values import Record
from agentcom.sidecar.repositories import Cache, Repositories
from agentcom.sidecar.runtime import base
from agentcom.sidecar.trees import Worktree
from agentcom.sidecar.watching import Watch

PUSH_TRIES_MAX: Final = 4
"""Pushes of a result to an origin that does not answer, 1, 2 and 4 s apart."""
COMMAND_RUNTIME: Final = "command"
"""The driver of plain commands, which every agent's place can run."""
_KEPT_VARIABLES: Final = ("PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR")
_OURS: Final = "AGENTCOM_"
"""Our own variables may hold a token; no agent gets them, whatever its configuration names."""

Tell = Callable[[values.OwnWork], Awaitable[None]]

log = structlog.get_logger(__name__)
replace = msgspec.structs.replace


class _Over(Exception):
    """The attempt has its result before its time."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.message)
        self.result = result


class Attempts:
    """Runs the attempts of one machine."""

    def __init__(self, config: Config, *, runtimes: Mapping[str, base.Runtime], tell: Tell) -> None:
        self._config = config
        self._home = config.home
        self._settings = config.machine.settings
        self._runtimes = runtimes
        self._tell = tell
        self.repositories = Repositories(self._home.repositories)

    async def run(self, record: Record, *, adopt: bool) -> None:
        """Bring one attempt to its end and tell `Ended`, or `Stopped` if its fence is stale.

        Cancelling leaves the agent running, for this sidecar's successor.
        """
        try:
            result = await self._run(record, adopt=adopt)
        except _Over as over:
            result = over.result
        except errors.Stale as stale:
            log.info("attempt.stale", task=record.key.task, reason=stale.message)
            await self._tell(values.Stopped(record.key))
            return
        except (errors.AgentComError, OSError) as error:
            result = results.failed(results.class_of(error), str(error))
        await self._tell(values.Ended(record.key, results.fitted(result)))

    async def wind_down(self, record: Record, *, stale: bool) -> None:
        """End everything of an attempt, keep its work, and tell `Stopped`."""
        folder = self._home.attempt(record.key.text)
        running = await process.attach(folder)
        if running is not None:
            await running.stop(base.Stop.CANCELLED)
        await asyncio.to_thread(process.kill_survivors, record.key.text, folder)
        result = None
        worktree = self._worktree(record)
        if worktree is not None:
            saved = await self.checkpoint(record, worktree, None)
            if stale:
                result = await self._salvage(
                    record,
                    worktree,
                    results.failed(FailureClass.LEASE_LOST, "another attempt took over"),
                )
                result = replace(result, checkpoint=saved) if result.commit else None
        await self._tell(values.Stopped(record.key, result))

    async def checkpoint(
        self, record: Record, worktree: Worktree, session: str | None
    ) -> str | None:
        """Bring the work so far to origin and return the commit that is there now.

        What is new is told as `Saved`; a failure is logged, no more.
        """
        try:
            saved = await workspace.checkpoint(worktree)
        except (errors.AgentComError, OSError) as error:
            log.warning("checkpoint.failed", task=record.key.task, reason=str(error))
            return None
        if saved is None:
            return await workspace.saved(worktree)
        for finding in saved.findings:
            log.warning("checkpoint.left_out", task=record.key.task, finding=str(finding))
        await self._tell(values.Saved(record.key, saved.commit, session))
        return saved.commit

    # The way of an attempt ----------------------------------------------------------------------

    async def _run(self, record: Record, *, adopt: bool) -> Result:
        folder = self._home.attempt(record.key.text)
        known = survivors.read_record(folder) if adopt else None
        agent = self._agent(record)
        watch = Watch(record.key, self._runtime(agent, record), self._settings, tell=self._tell)
        if known is None:
            worktree, running = await self._begin(record, agent, folder)
        else:
            worktree, running = self._worktree(record), process.AgentProcess(folder, known)
            log.info("attempt.adopted", task=record.key.task, attempt=record.key.text)
        if worktree is None and record.body.spec.repo is not None:
            raise errors.NotFound("the worktree of this attempt is gone")
        await self._tell(values.PhaseReached(record.key, Phase.WORKING))
        verdict = await self._watched(record, worktree, watch, running)
        await self._tell(values.PhaseReached(record.key, Phase.VERIFYING))
        result = results.of_verdict(verdict, watch.session)
        if worktree is None:
            return await self._conclude_scratch(record, result)
        if verdict.failure is not None:
            saved = await self.checkpoint(record, worktree, watch.session)
            return replace(await self._salvage(record, worktree, result), checkpoint=saved)
        return await self._conclude(record, worktree, result)

    async def _begin(
        self, record: Record, agent: AgentConfig, folder: Path
    ) -> tuple[Worktree | None, process.AgentProcess]:
        before = self._worktree(record, any_attempt=True)
        worktree = await self._prepare(record)
        where = worktree.path if worktree is not None else self._scratch(record)
        same_place = before is not None and before.agent == agent.name
        resume = record.assignment.session if same_place else None
        job = self._job(record, agent, folder, where, resume)
        launch = self._runtime(agent, record).launch(job)
        bounds = process.ProcessLimits(
            deadline_ms=record.body.spec.deadline_ms, grace_ms=self._settings.stop_grace_ms
        )
        try:
            running = await process.start(folder, launch, limits=bounds, attempt=record.key.text)
        except process.NotStarted as error:
            raise _Over(results.failed(error.failure, error.message)) from error
        return worktree, running

    async def _prepare(self, record: Record) -> Worktree | None:
        spec, assignment = record.body.spec, record.assignment
        if spec.repo is None:
            return None
        cache = await self.repositories.fetch(spec.repo)
        branch = spec.base or await self.repositories.default_branch(spec.repo)
        try:
            return await workspace.prepare(
                cache,
                task=assignment.task,
                base_branch=branch,
                fence=assignment.fence,
                agent=assignment.agent,
                depends_on_commits=assignment.inputs,
                checkpoint=assignment.checkpoint,
            )
        except fences.AlreadyLanded as landed:
            base_commit = await repositories.resolve(cache, refs.origin_ref(branch))
            done = Result(
                status=ResultStatus.DONE,
                message=landed.message,
                commit=landed.commit,
                base_commit=base_commit,
                land=LandPolicy.MERGE,
                land_key=f"{spec.repo}#{branch}",
            )
            raise _Over(await self._verified(record, cache, done)) from landed

    async def _watched(
        self,
        record: Record,
        worktree: Worktree | None,
        watch: Watch,
        running: process.AgentProcess,
    ) -> base.Verdict:
        if worktree is None:
            return await watch.follow(running)
        over = asyncio.Event()
        saver = asyncio.create_task(self._save_often(record, worktree, watch, over))
        try:
            return await watch.follow(running)
        finally:
            # A checkpoint that has begun ends first: the final commit is next in its place.
            over.set()
            watch.turn_ended.set()
            await saver

    async def _save_often(
        self, record: Record, worktree: Worktree, watch: Watch, over: asyncio.Event
    ) -> None:
        interval_s = self._settings.checkpoint_interval_ms / 1000
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(interval_s):
                    await watch.turn_ended.wait()
            watch.turn_ended.clear()
            if not over.is_set():
                await self.checkpoint(record, worktree, watch.session)

    async def _conclude(self, record: Record, worktree: Worktree, result: Result) -> Result:
        if not await workspace.changed(worktree):
            return replace(
                result,
                status=ResultStatus.FAILED,
                failure=FailureClass.NO_CHANGE,
                message="the agent ended without changing anything",
            )
        saved = await workspace.finish(worktree, _message(record))
        left_out = "; ".join(f"left out: {finding}" for finding in saved.findings[:10])
        reasons = await landing.protected_changes(worktree.cache, worktree.base, saved.commit)
        result = replace(
            result,
            message=left_out or result.message,
            commit=saved.commit,
            base_commit=worktree.base,
            land_key=f"{worktree.url}#{worktree.base_branch}",
            needs_person=results.some(reasons),
        )
        result = await self._verified(record, worktree.cache, result)
        return await self._pushed(record, worktree, result)

    async def _verified(self, record: Record, cache: Cache, result: Result) -> Result:
        commit = result.commit
        assert commit is not None
        plan = await checks.plan(record.body.spec, self._settings, cache, result.base_commit)
        result = replace(result, land=plan.land, verify_expected=bool(plan.checks))
        if not plan.checks:
            return result
        async with trees.checkout(cache, commit) as where:
            report = await verification.verify(
                where, plan.checks, commit=commit, setup=plan.setup, attempt=record.key.text
            )
        return results.with_report(result, report)

    async def _conclude_scratch(self, record: Record, result: Result) -> Result:
        plan = await checks.plan(record.body.spec, self._settings, None, None)
        if result.failure is not None or not plan.checks:
            return result
        # Without a commit there is nothing to check out: the folder itself is what was made.
        report = await verification.verify(
            self._home.scratch(record.key.task), plan.checks, commit="", attempt=record.key.text
        )
        return results.with_report(replace(result, commit="", verify_expected=True), report)

    async def _pushed(self, record: Record, worktree: Worktree, result: Result) -> Result:
        assert result.commit is not None
        branch = self.branch(record)
        for tries in range(PUSH_TRIES_MAX):
            try:
                await workspace.push_branch(worktree, branch, result.commit)
            except workspace.SecretFound as found:
                return results.failed_with(result, FailureClass.AGENT, found.message)
            except git.GitFailed as error:
                if not error.retryable or tries == PUSH_TRIES_MAX - 1:
                    return results.failed_with(result, FailureClass.WORKSPACE, error.message)
                log.warning("push.failed", task=record.key.task, reason=error.message)
                await asyncio.sleep(1 << tries)
            else:
                return replace(result, branch=branch)
        raise AssertionError("the loop returns")

    async def _salvage(self, record: Record, worktree: Worktree, result: Result) -> Result:
        """Return a failed result with what the attempt had made, at origin under its branch."""
        try:
            if not await workspace.changed(worktree):
                return result
            saved = await workspace.finish(worktree, _message(record))
        except (errors.AgentComError, OSError) as error:
            log.warning("rescue.failed", task=record.key.task, reason=str(error))
            return result
        kept = replace(
            result,
            commit=saved.commit,
            base_commit=worktree.base,
            land_key=f"{worktree.url}#{worktree.base_branch}",
        )
        pushed = await self._pushed(record, worktree, kept)
        return replace(kept, branch=pushed.branch) if pushed.branch else result

    # Places and names ---------------------------------------------------------------------------

    def branch(self, record: Record) -> str:
        """Return the branch that the attempt pushes."""
        assignment = record.assignment
        return refs.branch_name(
            agent=assignment.agent,
            task=assignment.task,
            title=record.body.spec.title,
            fence=assignment.fence,
        )

    def _worktree(self, record: Record, *, any_attempt: bool = False) -> Worktree | None:
        if record.body.spec.repo is None:
            return None
        worktree = trees.load(self._home.repositories, record.key.task)
        mine = worktree is not None and worktree.fence == record.key.fence
        return worktree if mine or any_attempt else None

    def _agent(self, record: Record) -> AgentConfig:
        agent = self._config.agent(record.assignment.agent)
        if agent is None:
            message = f"this machine has no agent {record.assignment.agent} any more"
            raise _Over(results.failed(FailureClass.NOT_INSTALLED, message))
        return agent

    def _runtime(self, agent: AgentConfig, record: Record) -> base.Runtime:
        # Any agent's place can run a plain command; only its own runtime follows a prompt.
        name = COMMAND_RUNTIME if record.body.spec.command else agent.runtime
        runtime = self._runtimes.get(name)
        if runtime is None:
            raise _Over(results.failed(FailureClass.NOT_INSTALLED, f"no runtime {name} here"))
        return runtime

    def _scratch(self, record: Record) -> Path:
        where = self._home.scratch(record.key.task)
        where.mkdir(mode=0o700, parents=True, exist_ok=True)
        return where

    def _job(
        self, record: Record, agent: AgentConfig, folder: Path, where: Path, resume: str | None
    ) -> base.Job:
        spec = record.body.spec
        home = self._home.agent(agent.name)
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        names = [*_KEPT_VARIABLES, *agent.environment]
        names = [name for name in names if name in os.environ and not name.startswith(_OURS)]
        job = base.Job(
            task=record.key.task,
            attempt=record.key.text,
            prompt=spec.prompt,
            task_file=str(folder / "task.json"),
            worktree=str(where),
            home=str(home),
            command=spec.command,
            resume=resume,
            settings=agent.settings,
            environment={name: os.environ[name] for name in names},
        )
        _write_task_file(job, title=spec.title)
        return job


def _write_task_file(job: base.Job, *, title: str) -> None:
    """Write what the agent is to do; it may read it, and nobody else."""
    task = {
        "task": job.task,
        "attempt": job.attempt,
        "title": title,
        "prompt": job.prompt,
        "command": list(job.command),
        "worktree": job.worktree,
    }
    handle = os.open(job.task_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(msgspec.json.encode(task))


def _message(record: Record) -> str:
    return f"{record.body.spec.title}\n\nTask: {record.key.task}\n"
