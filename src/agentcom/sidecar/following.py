"""Following the agent of an attempt: its run, and one more for each time that letters wake it.

A run is one process of the agent's program. In its session the next run goes on where the one
before ended; what all of them said and spent is the attempt's.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
import structlog

from agentcom.model.limits import MAIL_TURNS_MAX
from agentcom.protocol.told import Letter
from agentcom.sidecar import (
    computer,
    confines,
    dropping,
    envelope,
    jobs,
    process,
    runs,
    saving,
    session_usage,
    setting_up,
    survivors,
)
from agentcom.sidecar import machine_values as values
from agentcom.sidecar.boxes import Boxes
from agentcom.sidecar.config import AgentConfig, Config
from agentcom.sidecar.desk import RunDesk
from agentcom.sidecar.endpoint import Endpoint
from agentcom.sidecar.machine_mail import Mail, names_of
from agentcom.sidecar.machine_values import Key, Record
from agentcom.sidecar.permissions import Permissions
from agentcom.sidecar.places import Over, Places
from agentcom.sidecar.runtime import base
from agentcom.sidecar.trees import Worktree
from agentcom.sidecar.turns import Turns
from agentcom.sidecar.watching import Watch
from agentcom.sidecar.whole_log import WholeLog

RUN_MS_MIN: Final = 1_000
"""Of a turn that letters begin just before the deadline."""

TALK_BYTES_MAX: Final = 512 << 20
"""Of what an agent that is talked to prints: beyond it nobody could answer it any more."""

Tell = Callable[[values.OwnWork], Awaitable[None]]

log = structlog.get_logger(__name__)
replace = msgspec.structs.replace


@dataclass(slots=True)
class Course:
    """The runs of one attempt so far."""

    record: Record
    worktree: Worktree | None
    access: base.Access | None
    turns: Turns
    stated: session_usage.Stated
    """What the session had cost when the next run begins."""
    whole: WholeLog
    verdicts: list[base.Verdict] = field(default_factory=list)
    woken: int = 0
    """Turns that letters began, in runs of their own and in those of others."""


class Following:
    """Starts and follows the runs of one machine's attempts."""

    def __init__(
        self,
        config: Config,
        places: Places,
        *,
        boxes: Boxes,
        tell: Tell,
        ask: dropping.Ask,
        endpoint: Endpoint | None,
        mail: Mail,
        may_wake: Callable[[Key], bool],
    ) -> None:
        self._home = config.home
        self._settings = config.machine.settings
        self._places = places
        self._boxes = boxes
        self._tell = tell
        self._ask = ask
        self._endpoint = endpoint
        self._mail = mail
        self._may_wake = may_wake

    @contextlib.asynccontextmanager
    async def reaching(self, record: Record, folder: Path) -> AsyncIterator[base.Access | None]:
        """Let the agent of an attempt reach the hub while the context lasts."""
        if self._endpoint is None:
            yield None
            return
        async with self._endpoint.serving(record.key, folder) as access:
            yield access

    async def with_tools(
        self, record: Record, runtime: base.Runtime, access: base.Access | None
    ) -> base.Access | None:
        """Return `access` with what the hub offers by MCP, for a runtime that takes it."""
        if access is None or self._endpoint is None or not runtime.uses_mcp:
            return access
        return replace(access, tools=await self._endpoint.has_tools(record.key))

    async def launched(
        self,
        record: Record,
        runtime: base.Runtime,
        job: base.Job,
        folder: Path,
        letters: Sequence[Letter],
    ) -> process.AgentProcess:
        """Start a run in its own folder; the letters in its prompt are shown by that."""
        known = await asyncio.to_thread(runs.known, self._home.attempt(record.key.text))
        spent_ms = sum(process.duration_ms(run.attempt_dir) for run in known)
        spec, agent = record.body.spec, self._places.agent(record)
        limits = process.ProcessLimits(
            deadline_ms=max(RUN_MS_MIN, spec.deadline_ms - spent_ms),
            grace_ms=self._settings.stop_grace_ms,
        )
        bounds = confines.bound(limits, agent.confines, spec.uses, computer.resources())
        worktree = self._places.worktree(record)
        launch = await asyncio.to_thread(
            self._boxes.attempt,
            runtime.launch(job),
            job,
            agent.confines,
            runtime=runtime.name,
            objects=worktree.cache.path / "objects" if worktree is not None else None,
            temporary=self._home.temporary(record.key.text),
        )
        if launch.talks:
            bounds = replace(bounds, output_bytes_max=TALK_BYTES_MAX)
        named = names_of(record.assignment.agent, letters)
        if named:
            await asyncio.to_thread(runs.keep_letters, folder, named)
        tag = self._home.tag(record.key.text)
        running = await process.start(
            folder, launch, limits=bounds, attempt=tag, supervisors=self._boxes.supervisors
        )
        self._mail.shown(named)
        return running

    # Turns --------------------------------------------------------------------------------------

    async def course(
        self, record: Record, worktree: Worktree | None, access: base.Access | None
    ) -> Course:
        """Return the course of an attempt before its first run."""
        stated = await asyncio.to_thread(session_usage.load, self._home.attempt(record.key.text))
        whole = await asyncio.to_thread(WholeLog, self._home.attempt(record.key.text))
        return Course(record, worktree, access, self._turns(record), stated, whole)

    async def followed(self, course: Course, running: process.AgentProcess) -> base.Verdict:
        """Follow the agent to the end of this run, and of each turn that letters begin then.

        Return the verdict on all its runs.
        """
        following: process.AgentProcess | None = running
        while following is not None:
            desk = self._desk(course, following)
            watch = self._watch(course.record, course.stated, course.turns, desk, course.whole)
            verdict = await self._watched(course.record, course.worktree, watch, following)
            course.woken += desk.woken
            session = verdict.session or watch.session
            course.verdicts.append(replace(verdict, session=session))
            course.stated = watch.stated or course.stated
            following = await self.woken(course)
        return runs.joined(course.verdicts)

    async def woken(self, course: Course) -> process.AgentProcess | None:
        """Return the next run, if there is one: it went on before a restart, or letters want it."""
        record, number = course.record, len(course.verdicts) + 1
        folder = runs.folder(self._home.attempt(record.key.text), number)
        known = await asyncio.to_thread(survivors.read_record, folder)
        if known is not None:
            self._mail.shown(runs.letters_of(folder))
            course.woken += not runs.is_correction(folder)
            return process.AgentProcess(folder, known)
        if course.woken >= MAIL_TURNS_MAX or not self._may_go_on(course):
            return None
        agent = self._places.agent(record)
        letters = self._mail.hand(agent.name, record.key, waking=True)
        if not letters:
            return None
        log.info("attempt.woken", task=record.key.task, letters=len(letters), run=number)
        course.woken += 1
        return await self._again(course, agent, envelope.put(letters), folder, letters)

    async def corrected(self, course: Course, shown: str) -> process.AgentProcess | None:
        """Return a further run that mends what the checks found, as `shown` says.

        None if the agent's session cannot go on.
        """
        record, number = course.record, len(course.verdicts) + 1
        if not self._may_go_on(course) or number > runs.RUNS_MAX:
            return None
        folder = runs.folder(self._home.attempt(record.key.text), number)
        await asyncio.to_thread(runs.keep_correction, folder)
        log.info("attempt.corrected", task=record.key.task, run=number)
        return await self._again(course, self._places.agent(record), shown, folder)

    def _may_go_on(self, course: Course) -> bool:
        """Tell whether another turn can begin in the session of the last one."""
        record, last = course.record, course.verdicts[-1]
        if last.failure is not None or last.session is None:
            return False
        runtime = self._places.runtime(self._places.agent(record), record)
        return runtime.takes_turns and self._may_wake(record.key)

    async def _again(
        self,
        course: Course,
        agent: AgentConfig,
        shown: str,
        folder: Path,
        letters: Sequence[Letter] = (),
    ) -> process.AgentProcess | None:
        record, worktree = course.record, course.worktree
        runtime = self._places.runtime(agent, record)
        job = jobs.again(
            self._home,
            record,
            agent,
            where=worktree.path if worktree is not None else self._places.scratch(record),
            session=course.verdicts[-1].session or "",
            letters=shown,
            folder=folder,
            access=await self.with_tools(record, runtime, course.access),
            environment=setting_up.environment(worktree),
        )
        try:
            return await self.launched(record, runtime, job, folder, letters)
        except process.NotStarted as error:  # what the agent did stands; its letters wait
            log.warning("attempt.not_woken", task=record.key.task, reason=error.message)
            return None

    async def _watched(
        self,
        record: Record,
        worktree: Worktree | None,
        watch: Watch,
        running: process.AgentProcess,
    ) -> base.Verdict:
        where = worktree.path if worktree is not None else self._places.scratch(record)
        if worktree is None:
            async with dropping.served(record.key, where, self._ask):
                return await watch.follow(running)
        interval_ms = self._settings.checkpoint_interval_ms
        async with (
            dropping.served(record.key, where, self._ask),
            saving.often(record, worktree, watch, interval_ms=interval_ms, tell=self._tell),
        ):
            verdict = await watch.follow(running)
        if watch.stated is not None:
            await asyncio.to_thread(session_usage.save, worktree.state, watch.stated)
        return verdict

    async def count(self, record: Record) -> str | None:
        """Tell what a stopped run has spent: its output is on this disk to its last line.

        Return the session that its agent had, if it is known.
        """
        session: str | None = None
        folder = self._home.attempt(record.key.text)
        known = await asyncio.to_thread(runs.known, folder)
        if not known:
            return None
        with contextlib.suppress(Over):  # its agent left this machine: nobody can read it
            before = stated = await asyncio.to_thread(session_usage.load, folder)
            turns = self._turns(record)
            async with self.briefly(record, "usage"):
                for run in known:
                    watch = self._watch(record, stated, turns)
                    await watch.count(run)
                    session = watch.session or session
                    stated = watch.stated or stated
            worktree = self._places.worktree(record)
            if stated != before and worktree is not None:
                await asyncio.to_thread(session_usage.save, worktree.state, stated)
        return session

    def _turns(self, record: Record) -> Turns:
        agent = self._places.agent(record)
        return Turns(agent.name, self._places.runtime(agent, record).name, agent.settings)

    def _desk(self, course: Course, running: process.AgentProcess) -> RunDesk:
        key, folder = course.record.key, running.attempt_dir
        permissions = Permissions(self._endpoint, key, folder.name)

        def may_wake() -> bool:
            return course.woken + desk.woken < MAIL_TURNS_MAX and self._may_wake(key)

        desk = RunDesk(
            course.record.assignment.agent,
            key,
            folder,
            mail=self._mail,
            permissions=permissions,
            may_wake=may_wake,
        )
        return desk

    def _watch(
        self,
        record: Record,
        before: session_usage.Stated,
        turns: Turns,
        desk: RunDesk | None = None,
        whole: WholeLog | None = None,
    ) -> Watch:
        runtime = self._places.runtime(self._places.agent(record), record)
        turns.another_run()
        return Watch(
            record.key,
            runtime,
            self._settings,
            tell=self._tell,
            before=before,
            turns=turns,
            desk=desk,
            whole=whole,
        )

    @contextlib.asynccontextmanager
    async def briefly(self, record: Record, what: str) -> AsyncIterator[None]:
        """Give what is done here so long as a stop may take."""
        try:
            async with asyncio.timeout(self._settings.keep_ms / 1000):
                yield
        except TimeoutError:
            log.warning("attempt.not_kept", task=record.key.task, what=what, reason="too slow")
