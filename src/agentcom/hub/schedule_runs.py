"""One schedule whose time has come: what runs, what is skipped, and when it pauses itself.

A run is an ordinary submit of its owner, under a request key made of the schedule and the planned
time. So however often the hub dies between a run and its note, each planned time runs once.
"""

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
import structlog

from agentcom.core import loops
from agentcom.core.facts import Fact, Submit
from agentcom.core.view import PoolView
from agentcom.hub.cron import Cron
from agentcom.hub.requests import Causes, payload_hash
from agentcom.model import policy
from agentcom.model.batch import Table, request_key
from agentcom.model.errors import AgentComError, Conflict, InvalidInput, KeyReused
from agentcom.model.identity import Identity, User
from agentcom.model.ids import TaskId, WallTime
from agentcom.model.limits import SCHEDULE_LATE_MS, SCHEDULE_MISSED_RUNS
from agentcom.model.policy import Action
from agentcom.model.replies import Reply, Submitted
from agentcom.model.schedule import Missed, Overlap, Schedule, run_key
from agentcom.model.task import TaskSpec, TaskState
from agentcom.store.base import Store
from agentcom.telemetry import events

Ask = Callable[[Fact], Awaitable[Reply | msgspec.Raw]]

replace: Final = msgspec.structs.replace
log = structlog.get_logger(__name__)


class NotNow(Exception):
    """The hub cannot store a run now; `schedule` is how far it came."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__(schedule.id)
        self.schedule = schedule


class Runs:
    """Lets schedules run."""

    def __init__(
        self, store: Store, ask: Ask, view: Callable[[], PoolView], causes: Causes
    ) -> None:
        self._store = store
        self._ask = ask
        self._view = view
        self._causes = causes
        self._last: dict[str, TaskId] = {}
        """The newest run of a schedule, also one that could not be noted."""
        self._approved: dict[str, None] = {}
        """Schedules that a person let go on though they looked like loops."""

    def load(self) -> None:
        """Learn which runs are live: some may have begun just before the hub died."""
        self._last.clear()
        for task in self._view().tasks.values():
            if task.lineage.startswith(loops.SCHEDULE):
                schedule = task.lineage.removeprefix(loops.SCHEDULE)
                self._last[schedule] = max(task.id, self._last.get(schedule, task.id))

    def forget(self, schedule: Schedule) -> None:
        """Forget a schedule that is gone."""
        self._last.pop(schedule.id, None)
        self._approved.pop(schedule.id, None)

    def approve(self, schedule: Schedule) -> None:
        """Let a schedule run once more, whatever was counted: a person has looked at it."""
        self._approved[schedule.id] = None

    def is_live(self, schedule: Schedule) -> bool:
        """Return whether the newest run has not ended."""
        newest = max(schedule.last_task or TaskId(""), self._last.get(schedule.id, TaskId("")))
        return newest in self._view().tasks

    async def run(
        self, schedule: Schedule, owner: User | None, ended: TaskState | None, now: WallTime
    ) -> Schedule:
        """Return a schedule after the times that have come, and do what they ask for.

        `ended` is how its last run ended, if it has.

        Raises:
            NotNow: the hub cannot store now; ask again with what that says.
        """
        try:
            identity = identity_of(schedule, owner)
            planned, following = plan(schedule, now)
        except AgentComError as error:
            return _paused(schedule, error.message)
        failures = _failures(schedule, ended)
        after = replace(schedule, next_at=following, reason=None)
        for at in planned:
            after = await self._at(after, identity, at, now, failures)
            if after.paused:
                return after
        return after if planned else _skipped(after, "its time came while no hub ran")

    async def _at(
        self, schedule: Schedule, identity: Identity, at: WallTime, now: WallTime, failures: int
    ) -> Schedule:
        """Do what one planned time asks for; raises `NotNow`."""
        again, key = replace(schedule, next_at=at), run_key(schedule.id, at)
        if not await self._has_run(schedule, identity, key):
            reason = self._held_back(schedule, at, now)
            if reason is not None:
                return _skipped(schedule, reason)
            reason = self._suspicion(schedule, now)
            if reason is not None:
                return _paused(again, reason)
        try:
            task = await self.submit(schedule, identity, spec_at(schedule, at), key)
        except KeyReused:
            return schedule  # it ran, as another version of itself
        except Conflict as error:
            return _skipped(schedule, error.message)
        except AgentComError as error:
            if error.retryable:
                raise NotNow(again) from None
            return _paused(again, error.message)
        ran = {"last_at": at, "last_task": task, "runs": schedule.runs + 1}
        return replace(schedule, failures=failures, **ran)

    async def submit(
        self, schedule: Schedule, identity: Identity, spec: TaskSpec, key: str
    ) -> TaskId:
        """Let a schedule run once per `key`; raises what the submit was refused with."""
        body = Submit((spec,), lineage=loops.schedule_lineage(schedule.id))
        fact = Fact(
            body=body,
            actor=identity,
            cause=self._causes.new(),
            key=key,
            payload=payload_hash(body),
        )
        reply = await self._ask(fact)
        if isinstance(reply, msgspec.Raw):
            reply = msgspec.json.decode(reply, type=Submitted)
        assert isinstance(reply, Submitted)
        (task,) = reply.tasks
        self._last[schedule.id] = task
        log.info(events.SCHEDULE_RAN, schedule=schedule.name, task=task)
        return task

    async def _has_run(self, schedule: Schedule, identity: Identity, key: str) -> bool:
        """Return whether a planned time has had its run, and only the note of it is missing."""
        newest = self._last.get(schedule.id)
        if newest in (None, schedule.last_task):
            return False
        (known,) = await self._store.get([(Table.REQUEST, request_key(identity.user, key))])
        return known is not None

    def _held_back(self, schedule: Schedule, at: WallTime, now: WallTime) -> str | None:
        """Return why a time passes without a run; None if it does not."""
        within = schedule.start_within_ms
        if within is not None and at + within <= now:
            return "it came too late to start in time"
        if schedule.overlap is Overlap.SKIP and self.is_live(schedule):
            return "its last run had not ended"
        return None

    def _suspicion(self, schedule: Schedule, now: WallTime) -> str | None:
        if schedule.task.repeats or schedule.id in self._approved:
            self._approved.pop(schedule.id, None)
            return None
        lineage = (schedule.project, loops.schedule_lineage(schedule.id))
        return loops.suspicion(self._view(), lineage, now)


def plan(schedule: Schedule, now: WallTime) -> tuple[list[WallTime], WallTime | None]:
    """Return which of the times that have come run, and the next one; raises `InvalidInput`."""
    first = schedule.next_at
    assert first is not None
    cron = Cron(schedule.cron, schedule.zone)
    following = cron.after(first)
    planned = [first]
    if following is not None and following <= now:
        count = SCHEDULE_MISSED_RUNS if schedule.missed is Missed.ALL else 1
        planned = cron.newest(first, now, count)
        following = cron.after(now)
    if schedule.missed is Missed.SKIP:
        planned = [at for at in planned if now - at <= SCHEDULE_LATE_MS]
    return planned, following


def spec_at(schedule: Schedule, at: WallTime) -> TaskSpec:
    """Return what a schedule submits for a planned time; always the same."""
    if schedule.start_within_ms is None:
        return schedule.task
    return replace(schedule.task, start_by=WallTime(at + schedule.start_within_ms))


def identity_of(schedule: Schedule, owner: User | None) -> Identity:
    """Return as whom a schedule submits.

    Raises:
        InvalidInput: its owner is gone.
        NotAllowed: its owner may not submit any more.
    """
    if owner is None or owner.removed:
        raise InvalidInput("owner", f"{schedule.owner} is no user any more")
    identity = Identity(
        role=owner.role,
        user=owner.id,
        credential=f"schedule/{schedule.id}",
        project=schedule.project,
    )
    policy.authorize(identity, Action.TASK_SUBMIT, owner=owner.id)
    return identity


def _failures(schedule: Schedule, ended: TaskState | None) -> int:
    if ended is TaskState.FAILED:
        return schedule.failures + 1
    return 0 if ended is TaskState.COMPLETED else schedule.failures


def _skipped(schedule: Schedule, reason: str) -> Schedule:
    log.info(events.SCHEDULE_SKIPPED, schedule=schedule.name, reason=reason)
    return replace(schedule, reason=f"skipped: {reason}")


def _paused(schedule: Schedule, reason: str) -> Schedule:
    log.warning(events.SCHEDULE_PAUSED, schedule=schedule.name, reason=reason)
    return replace(schedule, paused=True, reason=f"paused itself: {reason}")
