"""One attempt from end to end: prepare, wake, watch, checkpoint, commit, verify, push, report.

Every step can be repeated, so a restarted sidecar goes through the same ones and finds what is
done already. The result is told as a fact; storing and reporting it is the machine's business.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import structlog

from agentcom.model import errors, limits, note, refs
from agentcom.model.failure import FailureClass
from agentcom.model.result import Landing, Result, ResultStatus, Rider
from agentcom.model.task import LandPolicy, Phase
from agentcom.protocol import frames
from agentcom.protocol.review import ReviewedFrame
from agentcom.protocol.told import Letter
from agentcom.sidecar import (
    corrections,
    dropping,
    envelope,
    fences,
    git,
    handover,
    jobs,
    land,
    process,
    repositories,
    results,
    runs,
    saving,
    session_usage,
    setting_up,
    survivors,
    workspace,
)
from agentcom.sidecar import machine_values as values
from agentcom.sidecar.boxes import Boxes
from agentcom.sidecar.clock import Clock, SystemClock
from agentcom.sidecar.concluding import Conclusion
from agentcom.sidecar.config import AgentConfig, Config
from agentcom.sidecar.endpoint import Endpoint
from agentcom.sidecar.following import Course, Following
from agentcom.sidecar.forge.finding import Forges
from agentcom.sidecar.landing import StillMine
from agentcom.sidecar.machine_mail import Mail
from agentcom.sidecar.machine_values import Key, Record
from agentcom.sidecar.places import Over, Places
from agentcom.sidecar.repositories import Repositories
from agentcom.sidecar.reviews import Reviews
from agentcom.sidecar.room import Room
from agentcom.sidecar.rounds import Rounds
from agentcom.sidecar.runtime import base
from agentcom.sidecar.trees import Worktree
from agentcom.sidecar.wakefulness import Wakefulness

Tell = Callable[[values.OwnWork], Awaitable[None]]

log = structlog.get_logger(__name__)
replace = msgspec.structs.replace


class Attempts:
    """Runs the attempts of one machine."""

    def __init__(
        self,
        config: Config,
        *,
        runtimes: Mapping[str, base.Runtime],
        tell: Tell,
        clock: Clock | None = None,
        endpoint: Endpoint | None = None,
        mail: Mail | None = None,
        may_wake: Callable[[Key], bool] = lambda _key: True,
        shut_out: Callable[[str], None] = lambda _repository: None,
    ) -> None:
        """`endpoint` is where agents reach the hub; None: they do not.

        `may_wake` says whether an attempt may have another turn; `shut_out` hears of a repository
        that does not let this machine in.
        """
        self._shut_out = shut_out
        self._clock = clock or SystemClock()
        self._home = config.home
        self._settings = config.machine.settings
        self._tell = tell
        self._mail = mail or Mail(lambda _taken: None)
        self._places = Places(config, runtimes)
        self.boxes = Boxes(config.home.root)
        """Where all that runs for an attempt runs."""
        self._following = Following(
            config,
            self._places,
            boxes=self.boxes,
            tell=tell,
            ask=self._ask,
            endpoint=endpoint,
            mail=self._mail,
            may_wake=may_wake,
        )
        self._conclusion = Conclusion(config.home, config.machine.settings, self.boxes)
        self.repositories = Repositories(self._home.repositories)
        self.awake = Wakefulness()
        self.forges = Forges(config.machine.settings.forges)
        self._rounds = Rounds(config.home, self.forges, self.repositories)
        self._room = Room(self._home, self._settings)
        self._asked: dict[tuple[Key, str], asyncio.Future[dropping.Answer]] = {}

    async def run(self, record: Record, *, adopt: bool) -> None:
        """Bring one attempt to its end and tell `Ended`, or `Stopped` if its fence is stale.

        Cancelling leaves the agent running, for this sidecar's successor.
        """
        try:
            with self.awake.kept():
                result = await self._run(record, adopt=adopt)
        except Over as over:
            result = over.result
        except errors.Stale as stale:
            log.info("attempt.stale", task=record.key.task, reason=stale.message)
            await self._tell(values.Stopped(record.key))
            return
        except (errors.AgentComError, OSError) as error:
            await self.stop(record)
            await self._following.count(record)
            if isinstance(error, git.GitFailed) and error.denied and record.body.spec.repo:
                self._shut_out(record.body.spec.repo)
            result = results.failed(results.class_of(error), results.said(error))
        finally:
            self._mail.release(record.assignment.agent, record.key)
        await self._tell(values.Ended(record.key, results.fitted(result)))

    async def notify(self, key: values.Key, text: str) -> None:
        """Lay a notice where the agent of an attempt finds it."""
        log.info("attempt.notice", task=key.task, notice=note.one_line(text, limits.NOTICE_CHARS))
        folder = self._home.attempt(key.text)
        try:
            await asyncio.to_thread(handover.add_notice, folder, text)
        except OSError as error:
            log.warning("attempt.notice_lost", task=key.task, reason=results.said(error))

    def reviews(self, tell: Callable[[ReviewedFrame], None]) -> Reviews:
        """Return what looks at this machine's pull requests, and tells what it sees."""
        return Reviews(self.forges, self.repositories, self._settings, tell)

    async def land(
        self,
        record: Record,
        still_mine: StillMine,
        *,
        riders: Callable[[], Sequence[Rider] | None],
    ) -> Landing | None:
        """Perform a landing that the hub granted; see `land.land`."""
        return await land.land(
            record,
            self.repositories,
            self._settings,
            still_mine,
            forges=self.forges,
            boxes=self.boxes,
            riders=riders,
        )

    async def stop(self, record: Record) -> None:
        """End everything that runs of an attempt."""
        folder = self._home.attempt(record.key.text)
        for run in await asyncio.to_thread(runs.known, folder):
            running = await process.attach(run.attempt_dir)
            if running is not None:
                await running.stop(base.Stop.CANCELLED)
        tag = self._home.tag(record.key.text)
        await asyncio.to_thread(process.kill_survivors, tag, folder)

    def answered(self, key: Key, name: str, answer: dropping.Answer) -> None:
        """Hand on what the hub answered to an agent that asked for sub-tasks."""
        waiting = self._asked.pop((key, name), None)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    async def _ask(self, asked: values.Asked) -> dropping.Answer:
        waiting: asyncio.Future[dropping.Answer] = asyncio.get_running_loop().create_future()
        self._asked[asked.key, asked.name] = waiting
        try:
            await self._tell(asked)
            return await waiting
        finally:
            self._asked.pop((asked.key, asked.name), None)

    async def wind_down(self, record: Record, *, stale: bool) -> None:
        """End everything of an attempt, keep its work if origin answers soon, tell `Stopped`."""
        result, session = None, None
        try:
            await self.stop(record)
            session = await self._following.count(record)
            worktree = self._places.worktree(record)
            if worktree is not None:
                result = await self._keep(record, worktree, stale=stale)
        except (errors.AgentComError, OSError) as error:
            log.warning("attempt.not_kept", task=record.key.task, reason=str(error))
        await self._tell(values.Stopped(record.key, result, session))

    async def _keep(self, record: Record, worktree: Worktree, *, stale: bool) -> Result | None:
        saved: str | None = None
        result = results.failed(FailureClass.LEASE_LOST, "another attempt took over")
        async with self._following.briefly(record, "checkpoint"):
            saved = await saving.checkpoint(record, worktree, None, self._tell)
        if not stale:
            return None
        async with self._following.briefly(record, "branch"):
            result = await self._conclusion.salvage(record, worktree, result)
        return replace(result, checkpoint=saved) if result.commit else None

    # The way of an attempt ----------------------------------------------------------------------

    async def _run(self, record: Record, *, adopt: bool) -> Result:
        folder = self._home.attempt(record.key.text)
        async with self._following.reaching(record, folder) as access:
            worktree, running = await self._started(record, folder, access, adopt=adopt)
            course = await self._following.course(record, worktree, access)
            following: process.AgentProcess | None = running
            result: Result | None = None
            while following is not None:
                await self._tell(values.PhaseReached(record.key, Phase.WORKING))
                verdict = await self._following.followed(course, following)
                await self._tell(values.PhaseReached(record.key, Phase.VERIFYING))
                before = result
                result = await self._judged(record, worktree, verdict, before=before)
                following = await self._another(course, result, before)
            assert result is not None
            return replace(result, corrections=await asyncio.to_thread(runs.corrections, folder))

    async def _another(
        self, course: Course, result: Result, before: Result | None
    ) -> process.AgentProcess | None:
        """Return the next turn: letters want it, or what the checks found is to be mended."""
        if result.failure is None:
            return await self._following.woken(course)
        if not corrections.may_mend(result, before):
            return None
        record = course.record
        most = (await self._conclusion.plan(record, course.worktree)).corrections
        done = await asyncio.to_thread(runs.corrections, self._home.attempt(record.key.text))
        if done >= most:
            return None
        assert result.report is not None
        text = f"correcting {done + 1} of {most}: {result.message}"[: limits.REASON_CHARS]
        told = frames.Progress(task=record.key.task, fence=record.key.fence, text=text)
        await self._tell(values.Noted(record.key, told))
        shown = corrections.put(result.report, number=done + 1, most=most)
        return await self._following.corrected(course, shown)

    async def _judged(
        self,
        record: Record,
        worktree: Worktree | None,
        verdict: base.Verdict,
        *,
        before: Result | None,
    ) -> Result:
        zone = datetime.now().astimezone().tzinfo or UTC
        now = self._clock.now().wall
        result = results.of_verdict(verdict, now=now, zone=zone)
        result = self._rounds.with_names(record, result)
        if worktree is None:
            return await self._conclusion.conclude_scratch(record, result)
        return await self._concluded(record, worktree, result, before=before)

    async def _concluded(
        self, record: Record, worktree: Worktree, result: Result, *, before: Result | None
    ) -> Result:
        """Return the result of a run, which keeps what the run spent, whatever fails now."""
        try:
            if result.failure is None:
                say = self._waits(record)
                return await self._conclusion.conclude(
                    record, worktree, result, say=say, before=before
                )
        except errors.Stale:
            raise
        except (errors.AgentComError, OSError) as error:
            result = results.failed_with(result, results.class_of(error), results.said(error))
        said = handover.note_of(result.summary)
        saved = await saving.checkpoint(record, worktree, result.session, self._tell, note=said)
        salvaged = await self._conclusion.salvage(record, worktree, result)
        return replace(salvaged, checkpoint=saved)

    async def _started(
        self, record: Record, folder: Path, access: base.Access | None, *, adopt: bool
    ) -> tuple[Worktree | None, process.AgentProcess]:
        known = survivors.read_record(folder) if adopt else None
        if known is None:
            return await self._begin(record, self._places.agent(record), folder, access)
        worktree = self._places.worktree(record)
        if worktree is None and record.body.spec.repo is not None:
            raise errors.NotFound("the worktree of this attempt is gone")
        self._mail.shown(runs.letters_of(folder))
        log.info("attempt.adopted", task=record.key.task, attempt=record.key.text)
        return worktree, process.AgentProcess(folder, known)

    async def _begin(
        self, record: Record, agent: AgentConfig, folder: Path, access: base.Access | None
    ) -> tuple[Worktree | None, process.AgentProcess]:
        before = self._places.worktree(record, any_attempt=True)
        asked = await self._rounds.begin(record)
        worktree = await repositories.patiently(
            lambda: self._prepare(record, asked.commit), say=self._waits(record)
        )
        plan = await self._conclusion.plan(record, worktree)  # no hour of work for a bad command
        await self._rounds.check(record, plan)
        unready = await self._conclusion.made_ready(record, worktree, plan)
        if unready is not None:
            raise Over(unready)
        where = worktree.path if worktree is not None else self._places.scratch(record)
        same_place = before is not None and before.agent == agent.name
        resume = record.assignment.session if same_place else None
        kept = worktree is not None and worktree.resumed
        runtime = self._places.runtime(agent, record)
        letters: tuple[Letter, ...] = ()
        if runtime.takes_turns:
            letters = self._mail.hand(agent.name, record.key)
        job = jobs.make(
            self._home,
            record,
            agent,
            where=where,
            resume=resume,
            kept=kept,
            access=await self._following.with_tools(record, runtime, access),
            letters=envelope.put(letters) if letters else "",
            review=asked.section,
            environment=setting_up.environment(worktree),
        )
        if worktree is not None and resume is not None:
            stated = await asyncio.to_thread(session_usage.load, worktree.state)
            await asyncio.to_thread(session_usage.save, folder, stated)
        try:
            running = await self._following.launched(record, runtime, job, folder, letters)
        except process.NotStarted as error:
            raise Over(results.failed(error.failure, error.message)) from error
        return worktree, running

    async def _prepare(self, record: Record, reviewed: str | None) -> Worktree | None:
        spec, assignment = record.body.spec, record.assignment
        if spec.repo is None:
            return None
        await self._room.make(self._clock.now().wall)
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
                checkpoint=reviewed or assignment.checkpoint,
                under_review=reviewed is not None,
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
            raise Over(await self._conclusion.verified(record, cache, done)) from landed

    def _waits(self, record: Record) -> repositories.Say:
        async def say(reason: str) -> None:
            text = f"origin does not answer and is asked again: {reason}"[: limits.REASON_CHARS]
            told = frames.Progress(task=record.key.task, fence=record.key.fence, text=text)
            await self._tell(values.Noted(record.key, told))

        return say
