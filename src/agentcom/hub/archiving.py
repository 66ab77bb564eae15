"""Tasks that ended long ago leave the store for the archive, a few at a time.

Each step writes tasks to the archive, and only when they are durable there it takes them out of
the store, in one batch that also keeps the sums of what they cost. If the hub stops in between, a
task is in both places, and the next pass takes it out. A task that changed meanwhile stays: the
batch names the version of every row. Last go the records of the feeds that no task needs, and from
the archive what nobody wants to keep any longer.
"""

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Final, cast

import msgspec
import structlog

from agentcom.core.view import PoolView
from agentcom.hub.clock import Clock
from agentcom.hub.config import RetentionSettings
from agentcom.hub.rows import write
from agentcom.model.archive import Dossier
from agentcom.model.batch import Change, Insert, Table, Update, usage_day_key
from agentcom.model.errors import AgentComError
from agentcom.model.ids import Fence, IdSource, TaskId, WallTime
from agentcom.model.message import Entry, Head, Message, entry_key
from agentcom.model.schedule import Schedule
from agentcom.model.task import Task, TaskState
from agentcom.model.usage import DAY_MS, Usage
from agentcom.store import dossiers
from agentcom.store.archive import Archive, NoArchive, made_before
from agentcom.store.base import LogRecord, Query, Store
from agentcom.telemetry import events

FIRST_S: Final = 420.0  # a start has other things to do
EVERY_S: Final = 3_600.0
STEP_TASKS: Final = 32  # what waits behind a step waits for some milliseconds
STEP_RECORDS: Final = 512
REST: Final = 4.0  # after a step it rests for so many times as long: a fifth of a core at most
REST_MIN: Final = 0.5
FASTER_S: Final = 3_600.0  # a pass that takes longer halves its rests: more ends than can be moved
READ_ROWS: Final = 500
_OVER: Final = tuple(state.value for state in TaskState if state.terminal)

log = structlog.get_logger(__name__)
replace: Final = msgspec.structs.replace


class Archiver:
    """Moves what is over from one store to its archive."""

    def __init__(
        self,
        store: Store,
        archive: Archive,
        *,
        clock: Clock,
        ids: IdSource,
        view: Callable[[], PoolView],
        keep: RetentionSettings,
    ) -> None:
        self._store = store
        self.archive = archive
        self._clock = clock
        self._ids = ids
        self._view = view
        self._keep_ms = round(keep.tasks_days * DAY_MS)
        self._archive_ms = round(keep.archive_days * DAY_MS)
        self._pass_began = 0.0
        self._tried: set[tuple[int, int]] = set()
        """Records that were to go in the last pass; what is left of them is kept by others."""

    @property
    def works(self) -> bool:
        """Whether anything ever goes."""
        return self._keep_ms + self._archive_ms > 0 and not isinstance(self.archive, NoArchive)

    async def run(self) -> None:
        """Move until cancelled; a supervisor's child."""
        await asyncio.sleep(FIRST_S)
        while True:
            try:
                tasks = await self.work()
                log.info(events.STORE_ARCHIVED, tasks=tasks, dropped=await self.drop())
            except AgentComError as error:  # the disk is full, or the archive damaged
                log.warning(events.STORE_NOT_ARCHIVED, reason=error.message, code=error.code)
            await asyncio.sleep(EVERY_S)

    async def work(self) -> int:
        """Move all that may go now; return how many tasks went.

        Raises:
            StorageFull: there is no room; what was moved is moved.
            ArchiveDamaged: the archive cannot be read; nothing leaves the store.
        """
        until = WallTime(self._clock.now().wall - self._keep_ms)
        moved = 0
        self._pass_began = asyncio.get_running_loop().time()
        if not self._keep_ms:
            return moved
        named = await self._named()
        after: str | None = ""
        while after is not None:
            began = asyncio.get_running_loop().time()
            after, tasks = await self._step(after, until, named)
            moved += tasks
            await self._rest(began)
        if moved:
            await self._store.index(0)
        await self._forget(until)
        return moved

    async def drop(self) -> int:
        """Delete from the archive what is over; return how many tasks.

        Raises:
            StorageFull: there is no room to delete in.
            ArchiveDamaged: the archive cannot be read.
        """
        gone, after = 0, "" if self._archive_ms else None
        until = WallTime(self._clock.now().wall - self._archive_ms)
        while after is not None:
            began = asyncio.get_running_loop().time()
            after, count = await self.archive.drop(until, after, STEP_TASKS)
            gone += count
            await self._rest(began)
        return gone

    async def _rest(self, began: float) -> None:
        now = asyncio.get_running_loop().time()
        await asyncio.sleep(rest_of(now - self._pass_began) * (now - began))

    # Tasks ----------------------------------------------------------------------------------------

    async def _step(
        self, after: str, until: WallTime, named: frozenset[str]
    ) -> tuple[str | None, int]:
        """Move tasks with ids above one; return the last that was looked at, and how many went.

        The last is None if there are no more.
        """
        query = Query(
            table=Table.TASK,
            where={"state": _OVER},
            after=after,
            before=made_before(until),
            limit=STEP_TASKS,
        )
        page = await self._store.query(query)
        now = self._clock.now().wall
        found = [
            await dossiers.gather(self._store, task, now)
            for task in cast("list[Task]", page.rows)
            if task.changed_at <= until and not await self._is_needed(task, named)
        ]
        if not found:
            return page.next, 0
        await self.archive.put(found)
        return page.next, await self._take_out(found)

    async def _take_out(self, found: Sequence[Dossier]) -> int:
        """Delete tasks that are in the archive; return how many. One that changed stays."""
        changes: list[Change] = []
        for one in found:
            changes += await dossiers.removal(self._store, one)
        changes += await self._sums_of([turn for one in found for turn in one.usage])
        if await write(self._store, self._ids, *changes):
            return len(found)
        if len(found) == 1:
            return 0
        return sum([await self._take_out([one]) for one in found])

    async def _sums_of(self, turns: Iterable[Usage]) -> list[Change]:
        """Return what adds turns to the rows of their days."""
        days: defaultdict[str, list[Usage]] = defaultdict(list)
        for turn in turns:
            days[_day_key(turn)].append(turn)
        rows = await self._store.get([(Table.USAGE, key) for key in days])
        changes: list[Change] = []
        for (key, spent), row in zip(days.items(), rows, strict=True):
            old = cast("Usage | None", row)
            new = added(spent if old is None else [old, *spent])
            if old is None:
                changes.append(Insert(Table.USAGE, key, new))
            else:
                changes.append(
                    Update(Table.USAGE, key, replace(new, version=old.version + 1), old.version)
                )
        return changes

    # What still names a task ----------------------------------------------------------------------

    async def _is_needed(self, task: Task, named: frozenset[str]) -> bool:
        view = self._view()
        if task.id in named or task.id in view.dependants or task.id in view.todos:
            return True
        if task.id in view.holds or any(parent in view.tasks for parent in task.parents):
            return True
        if any(ask.task == task.id for ask in view.asks.values()):
            return True
        return await dossiers.is_below_or_above(self._store, task)

    async def _named(self) -> frozenset[str]:
        """Return the tasks that schedules, and letters that nobody has taken, speak of."""
        named = {
            row.last_task
            for row in cast("list[Schedule]", await self._all(Query(table=Table.SCHEDULE)))
            if row.last_task is not None
        }
        heads = cast("list[Head]", await self._all(Query(table=Table.HEAD, prefix="mail/")))
        for head in heads:
            if head.open:
                named |= await self._letters(head)
        return frozenset(named)

    async def _letters(self, head: Head) -> set[TaskId]:
        query = Query(
            table=Table.ENTRY, prefix=f"{head.log}/", after=entry_key(head.log, head.settled)
        )
        open_ones = [
            entry.message
            for entry in cast("list[Entry]", await self._all(query))
            if not entry.state.over
        ]
        found: set[TaskId] = set()
        for start in range(0, len(open_ones), READ_ROWS):
            part = open_ones[start : start + READ_ROWS]
            rows = await self._store.get([(Table.MESSAGE, message) for message in part])
            letters = [row for row in rows if isinstance(row, Message)]
            found |= {letter.task for letter in letters if letter.task is not None}
        return found

    async def _all(self, query: Query) -> Sequence[object]:
        rows: list[object] = []
        after = query.after or ""
        while True:
            page = await self._store.query(replace(query, after=after, limit=READ_ROWS))
            rows += page.rows
            if page.next is None:
                return rows
            after = page.next

    # Records --------------------------------------------------------------------------------------

    async def _forget(self, until: WallTime) -> None:
        """Delete the records of before a time whose tasks are gone from the store."""
        tried: set[tuple[int, int]] = set()
        after, open_from = 0, None
        while True:
            began = asyncio.get_running_loop().time()
            page = await self._store.read(None, after, STEP_RECORDS)
            old = [record for record in page if record.record.at <= until]
            ranges, open_from = _ranges(old, await self._gone(old), open_from)
            tried.update(ranges)
            new = tuple(one for one in ranges if one not in self._tried)
            if new:
                await write(self._store, self._ids, forgets=new)
            if len(old) < STEP_RECORDS:
                break
            after = page[-1].seq
            await self._rest(began)
        self._tried = tried

    async def _gone(self, records: Sequence[LogRecord]) -> set[TaskId]:
        tasks = list(dict.fromkeys(record.record.task for record in records))
        rows = await self._store.get([(Table.TASK, task) for task in tasks])
        return {task for task, row in zip(tasks, rows, strict=True) if row is None}


def rest_of(pass_s: float) -> float:
    """Return for how many times as long as its last step a pass rests that has taken so long."""
    return max(REST_MIN, REST / (1 << int(pass_s / FASTER_S)))


def _ranges(
    records: Sequence[LogRecord], gone: set[TaskId], open_from: int | None
) -> tuple[list[tuple[int, int]], int | None]:
    """Return the sequences of records that lie side by side and whose tasks are gone.

    `open_from` is where the records before these began to be such; the same is returned for the
    next ones: what one batch brought may be longer than what is read at once.
    """
    ranges: list[tuple[int, int]] = []
    for record in records:
        if record.record.task not in gone:
            open_from = None
            continue
        if open_from is None or not ranges or ranges[-1][0] != open_from:
            open_from = record.seq if open_from is None else open_from
            ranges.append((open_from, record.seq))
        ranges[-1] = (open_from, record.seq)
    return ranges, open_from


def _day_key(turn: Usage) -> str:
    whose = [turn.submitter, turn.agent, turn.account, turn.model, turn.runtime]
    digest = hashlib.sha256(msgspec.json.encode(whose)).hexdigest()[:32]
    return usage_day_key(turn.project, turn.day, digest)


def added(turns: Sequence[Usage]) -> Usage:
    """Return one row for turns of one day that differ in their tasks and numbers only."""
    costs = [turn.cost_micros for turn in turns if turn.cost_micros is not None]
    return replace(
        turns[0],
        task=TaskId(""),
        fence=Fence(0, 0),
        turn=0,
        cost_micros=sum(costs) if costs else None,
        at=min(turn.at for turn in turns),
        version=1,
        **{name: sum(int(getattr(turn, name)) for turn in turns) for name in _ADDED},
    )


_ADDED: Final = (
    *("input", "cached", "written", "output"),
    *("included", "unpriced", "late", "wall_ms", "turns"),
)
