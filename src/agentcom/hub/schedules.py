"""Schedules: kept in the store, in memory by name, and run when their time comes.

One timer waits for the earliest time; nothing is polled. What runs and what does not is in
`hub/schedule_runs.py`. All writes go through one lock, so a person's order and a run never cross.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from agentcom.core import intake
from agentcom.hub import acting
from agentcom.hub.clock import Clock
from agentcom.hub.cron import Cron
from agentcom.hub.cursors import Cursors
from agentcom.hub.queries import page_limit
from agentcom.hub.rows import write
from agentcom.hub.schedule_runs import NotNow, Runs, identity_of
from agentcom.hub.timers import Timers
from agentcom.model import limits, policy
from agentcom.model.audit import AuditNote
from agentcom.model.batch import Change, Delete, Insert, Table, Update
from agentcom.model.edit import ScheduleEdit
from agentcom.model.errors import (
    AgentComError,
    Conflict,
    InvalidInput,
    NameTaken,
    NotFound,
    Unavailable,
)
from agentcom.model.identity import Identity, User
from agentcom.model.ids import IdSource, Instant, UserId, WallTime, check_name
from agentcom.model.policy import Action
from agentcom.model.schedule import Missed, Overlap, Schedule, schedule_key
from agentcom.model.task import Task, TaskState
from agentcom.protocol.shown import ScheduleList
from agentcom.store.base import Query, Store

_PAGE: Final = 500
_DAY_MS: Final = 86_400_000
_WITHIN_MS: Final = (limits.ATTEMPT_DEADLINE_MIN_MS, limits.ATTEMPT_DEADLINE_MAX_MS)

replace: Final = msgspec.structs.replace


class Schedules:
    """Every schedule of this hub."""

    def __init__(
        self, store: Store, clock: Clock, ids: IdSource, runs: Runs, cursors: Cursors
    ) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids
        self._runs = runs
        self._cursors = cursors
        self._rows: dict[str, Schedule] | None = None
        self._timers = Timers[str](clock, self._come)
        self._due: dict[str, None] = {}
        self._news = asyncio.Event()
        self._lock = asyncio.Lock()

    # The service ----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Let schedules run until cancelled; a supervisor's child."""
        try:
            async with self._lock:
                await self._load()
            while True:
                await self._news.wait()
                self._news.clear()
                while self._due:
                    async with self._lock:
                        await self._fire()
        finally:
            self._timers.clear_all()

    @property
    def is_idle(self) -> bool:
        """Whether all that has come is done."""
        busy = self._rows is None or self._news.is_set() or self._lock.locked()
        return not busy and not self._due

    def stepped(self) -> None:
        """The wall clock was set: what waits for a time of day is mapped anew."""
        for row in [*(self._rows or {}).values()]:
            self._put(row)

    async def _load(self) -> None:
        """Read all schedules, and learn which of their runs are live."""
        self._runs.load()
        self._timers.clear_all()
        self._rows = {}
        place: str | None = None
        while True:
            query = Query(table=Table.SCHEDULE, before=place, limit=_PAGE)
            page = await self._store.query(query)
            for row in page.rows:
                assert isinstance(row, Schedule)
                self._put(row)
            place = page.next
            if place is None:
                return

    def _come(self, key: str, _late_ms: int) -> None:
        self._due[key] = None
        self._news.set()

    async def _fire(self) -> None:
        """Run some of the schedules whose time has come, and write down what became of them."""
        now = self._clock.now().wall
        keys = list(self._due)[: limits.SCHEDULE_BATCH]
        for key in keys:
            del self._due[key]
        rows = [row for row in map(self._known.get, keys) if row is not None]
        come = [row for row in rows if _is_due(row, now)]
        for row in rows:
            if row not in come:  # the clock has moved since its timer was set
                self._put(row)
        owners = await self._owners(come)
        ended = await self._ended(come)
        work = [self._one(row, owners.get(row.owner), ended.get(row.id), now) for row in come]
        await self._note(list(zip(come, await asyncio.gather(*work), strict=True)))

    async def _one(
        self, row: Schedule, owner: User | None, ended: TaskState | None, now: WallTime
    ) -> Schedule:
        try:
            return await self._runs.run(row, owner, ended, now)
        except NotNow as stopped:
            return stopped.schedule

    async def _note(self, both: Sequence[tuple[Schedule, Schedule]]) -> None:
        """Store how schedules are now; until that is done they come again, with the same keys."""
        news = [replace(new, version=old.version + 1) for old, new in both]
        changes: list[Change] = [
            Update(Table.SCHEDULE, _key(old), new, old.version)
            for (old, _), new in zip(both, news, strict=True)
        ]
        try:
            written = not changes or await write(self._store, self._ids, *changes)
        except AgentComError:
            for old, _ in both:
                self._put(old, later_ms=limits.SCHEDULE_RETRY_MS)
            return
        if not written:  # another hub wrote
            await self._load()
            return
        now = self._clock.now().wall
        for new in news:
            self._put(new, later_ms=limits.SCHEDULE_RETRY_MS if _is_due(new, now) else 0)

    async def _owners(self, rows: Sequence[Schedule]) -> Mapping[UserId, User]:
        names = list({row.owner: None for row in rows})
        found = await self._store.get([(Table.USER, name) for name in names])
        return {row.id: row for row in found if isinstance(row, User)}

    async def _ended(self, rows: Sequence[Schedule]) -> Mapping[str, TaskState]:
        """Return how the last run of each schedule ended, if it has."""
        over = [row for row in rows if row.last_task is not None and not self._runs.is_live(row)]
        found = await self._store.get([(Table.TASK, str(row.last_task)) for row in over])
        return {
            row.id: task.state
            for row, task in zip(over, found, strict=True)
            if isinstance(task, Task)
        }

    def _put(self, row: Schedule, *, later_ms: int = 0) -> None:
        """Keep a row as it is stored, and wait for its time."""
        key, row = _key(row), self._plausible(row)
        self._known[key] = row
        if row.paused or row.next_at is None:
            self._timers.clear(key)
            return
        now = self._clock.now()
        wait_ms = max(later_ms, row.next_at - now.wall, 0)
        self._timers.set(key, Instant(now.instant + wait_ms), key)

    def _plausible(self, row: Schedule) -> Schedule:
        """Return a row whose next time is not beyond one that only a wrong clock has seen."""
        now, last = self._clock.now().wall, row.last_at or 0
        if row.paused or row.next_at is None or row.next_at <= now:
            return row
        start = last if now < last <= now + _DAY_MS else now  # what ran within the day runs once
        try:
            first = Cron(row.cron, row.zone).after(WallTime(start))
        except InvalidInput:
            return row  # its run says so
        return row if first is None or row.next_at <= first else replace(row, next_at=first)

    @property
    def _known(self) -> dict[str, Schedule]:
        if self._rows is None:
            raise Unavailable("the hub is starting")
        return self._rows

    # What people ask ------------------------------------------------------------------------------

    def find(self, identity: Identity, name: str) -> Schedule:
        """Return a schedule of the caller's project; raises `NotFound`."""
        row = self._known.get(schedule_key(identity.project, name))
        if row is None:
            raise NotFound("there is no such schedule, or not for this token")
        return row

    def listed(self, identity: Identity, *, cursor: str | None, limit: int) -> ScheduleList:
        """Return one page of the schedules of the caller's project, by name."""
        before = self._cursors.read(identity, "schedules", cursor) if cursor else ""
        prefix = schedule_key(identity.project, "")
        names = sorted(key for key in self._known if key.startswith(prefix) and key > before)
        page = names[: page_limit(limit)]
        more = len(names) > len(page)
        place = self._cursors.make(identity, "schedules", page[-1]) if more else None
        return ScheduleList(tuple(self._known[key] for key in page), place)

    def coming(self, schedule: Schedule) -> tuple[WallTime, ...]:
        """Return the next times of a schedule, were it not paused."""
        try:
            cron = Cron(schedule.cron, schedule.zone)
        except InvalidInput:
            return ()
        first = schedule.next_at
        if schedule.paused or first is None:
            first = cron.after(self._clock.now().wall)
        if first is None:
            return ()
        return (first, *cron.coming(first, limits.SCHEDULE_NEXT - 1))

    async def add(self, identity: Identity, wanted: Schedule) -> Schedule:
        """Store a new schedule of the caller's.

        Raises:
            InvalidInput: a field is not allowed, or its time never comes.
            NameTaken: the project has one of this name.
        """
        async with self._lock:
            row = replace(
                wanted,
                id=self._ids.new(),
                project=identity.project,
                owner=identity.user,
                next_at=_first_time(wanted, self._clock.now().wall),
            )
            prefix = schedule_key(identity.project, "")
            if sum(key.startswith(prefix) for key in self._known) >= limits.SCHEDULES_MAX:
                raise InvalidInput("name", f"a project has at most {limits.SCHEDULES_MAX}")
            insert = Insert(Table.SCHEDULE, _key(row), row)
            note = self._audit(Action.SCHEDULE_CREATE, row, "add")
            known = _key(row) in self._known
            if known or not await write(self._store, self._ids, insert, audits=[note]):
                raise NameTaken(f"a schedule is called {row.name} already; choose another name")
            self._put(row)
            return row

    async def pause(self, identity: Identity, name: str) -> Schedule:
        """Let a schedule rest until someone resumes it."""
        async with self._lock:
            row = self._own(identity, name)
            return await self._change(row, replace(row, paused=True), "pause")

    async def resume(self, identity: Identity, name: str) -> Schedule:
        """Let a schedule go on; times that passed meanwhile are not made up for."""
        async with self._lock:
            row = self._own(identity, name)
            if not row.paused:
                return row
            self._runs.approve(row)
            following = _first_time(row, self._clock.now().wall)
            after = replace(row, paused=False, reason=None, failures=0, next_at=following)
            return await self._change(row, after, "resume")

    async def edit(
        self, identity: Identity, name: str, change: ScheduleEdit, version: int
    ) -> Schedule:
        """Give a schedule new values; a run that is under way keeps what it was given.

        Raises:
            Conflict: it changed since the caller read it.
            InvalidInput: nothing is to change, or a value is not allowed.
        """
        async with self._lock:
            row = self._own(identity, name)
            if version != row.version:
                raise _changed()
            after = change.applied_to(row)
            if after == row:
                raise InvalidInput("change", "say what is to change")
            first = _first_time(after, self._clock.now().wall)
            if (after.cron, after.zone) != (row.cron, row.zone):
                after = replace(after, next_at=first)
            return await self._change(row, after, "edit")

    async def run_now(self, identity: Identity, name: str, key: str | None) -> Schedule:
        """Let a schedule run at once, whatever its times say, as its owner."""
        async with self._lock:
            row = self._own(identity, name)
            owner = (await self._owners([row])).get(row.owner)
            once = f"schedule/{row.id}/{key or self._ids.new()}"
            task = await self._runs.submit(row, identity_of(row, owner), row.task, once)
            if task == row.last_task:
                return row  # a repeat
            after = replace(row, last_task=task, runs=row.runs + 1)
            return await self._change(row, after, "run")

    async def remove(self, identity: Identity, name: str) -> None:
        """End a schedule; its tasks stay."""
        async with self._lock:
            row = self._own(identity, name)
            delete = Delete(Table.SCHEDULE, _key(row), row.version)
            note = self._audit(Action.SCHEDULE_CHANGE, row, "remove")
            if not await write(self._store, self._ids, delete, audits=[note]):
                await self._load()
                raise _changed()
            del self._known[_key(row)]
            self._timers.clear(_key(row))
            self._runs.forget(row)

    def owned(self, owner: UserId) -> Sequence[str]:
        """Return the names of a person's schedules."""
        return sorted(row.name for row in self._known.values() if row.owner == owner)

    async def pass_on(self, owner: UserId, to: UserId) -> None:
        """Give a person's schedules to another one, paused: nothing runs in a strange name."""
        async with self._lock:
            for row in [one for one in self._known.values() if one.owner == owner]:
                reason = f"{owner} was removed: look at it, then resume it"
                after = replace(row, owner=to, paused=True, reason=reason)
                await self._change(row, after, "pass_on")

    def _own(self, identity: Identity, name: str) -> Schedule:
        row = self.find(identity, name)
        policy.authorize(identity, Action.SCHEDULE_CHANGE, owner=row.owner, project=row.project)
        return row

    async def _change(self, row: Schedule, after: Schedule, how: str) -> Schedule:
        after = replace(after, version=row.version + 1)
        note = self._audit(Action.SCHEDULE_CHANGE, row, how)
        update = Update(Table.SCHEDULE, _key(row), after, row.version)
        if not await write(self._store, self._ids, update, audits=[note]):
            await self._load()
            raise _changed()
        self._put(after)
        return after

    def _audit(self, action: Action, row: Schedule, how: str) -> AuditNote:
        detail = {"how": how, "owner": str(row.owner)}
        return acting.note(self._clock.now().wall, action, f"schedule:{_key(row)}", detail=detail)


def _first_time(row: Schedule, now: WallTime) -> WallTime:
    """Check a schedule, and return its first time after `now`; raises `InvalidInput`."""
    check_name(row.name)
    if row.missed is Missed.ALL and row.overlap is Overlap.SKIP:
        rule = "`all` goes with overlap `queue`: runs that are made up for would skip each other"
        raise InvalidInput("missed", rule)
    within, low, high = row.start_within_ms, *_WITHIN_MS
    if within is not None and not low <= within <= high:
        raise InvalidInput("start_within_ms", "from one second to seven days")
    spec = row.task
    for field in ("not_before", "start_by", "ref"):
        if getattr(spec, field) is not None:
            raise InvalidInput(f"task.{field}", "not in a schedule: its times say when it starts")
    if spec.depends_on:
        raise InvalidInput("task.depends_on", "not in a schedule: its runs depend on nothing")
    intake.check_spec(spec)
    first = Cron(row.cron, row.zone).after(now)
    if first is None:
        raise InvalidInput("cron", "its time never comes")
    return first


def _is_due(row: Schedule, now: WallTime) -> bool:
    return not row.paused and row.next_at is not None and row.next_at <= now


def _key(row: Schedule) -> str:
    return schedule_key(row.project, row.name)


def _changed() -> Conflict:
    return Conflict("the schedule changed meanwhile; look at it, then decide")
