"""A store with tasks that ended long ago, its archive, and what moves them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from agentcom.core import loading
from agentcom.core.view import PoolView
from agentcom.hub.archiving import Archiver
from agentcom.hub.config import RetentionSettings
from agentcom.hub.costs import CostAsked, CostBy, Costs
from agentcom.model.archive import Dossier
from agentcom.model.batch import Append, Change, Insert, Row, Table, result_key
from agentcom.model.event import EventKind, task_log
from agentcom.model.identity import Identity, Role
from agentcom.model.ids import (
    DEFAULT_POOL,
    Fence,
    MachineId,
    TaskId,
    UserId,
    WallTime,
    encode_base32,
)
from agentcom.model.result import KeptResult, Result, ResultStatus
from agentcom.model.task import Task, TaskState
from agentcom.model.usage import DAY_MS
from agentcom.protocol.shown import CostList
from agentcom.store.archive import Archive
from agentcom.store.base import Query, Store
from agentcom.testing.store_rows import batch, body, committed, event, task, usage
from tests.hub.doubles import CountingIds, ManualClock

KEEP = RetentionSettings(archive_days=365)
VIEWER = Identity(role=Role.VIEWER, user=UserId("vic"), credential="c2")


class ArchiveHouse:
    """What is moved, from where to where."""

    def __init__(self, store: Store, archive: Archive) -> None:
        self.store = store
        self.archive = archive
        self.clock = ManualClock()
        self.ids = CountingIds()
        self.count = 0

    def name(self, days_ago: float) -> TaskId:
        """Return an id that was made so long ago."""
        self.count += 1
        ms = self.clock.wall - round(days_ago * DAY_MS)
        return TaskId(encode_base32(ms, length=10) + f"{self.count:012d}")

    async def add(
        self,
        *,
        days_ago: float = 100,
        state: TaskState = TaskState.COMPLETED,
        turns: int = 0,
        more: Sequence[Change] = (),
        **fields: Any,
    ) -> Task:
        """Store a task of so long ago with all that a task may have."""
        name = self.name(days_ago)
        at = WallTime(self.clock.wall - round(days_ago * DAY_MS))
        row = replace(task(name, state), changed_at=at, attempt=1, **fields)
        kept = KeptResult(
            task=name,
            fence=Fence(1, 1),
            agent=None,
            machine=MachineId("m"),
            at=at,
            result=Result(status=ResultStatus.DONE, summary=f"did {name}"),
            applied=True,
        )
        changes: list[Change] = [
            Insert(Table.TASK, name, row),
            Insert(Table.BODY, name, body(name, f"please do {name}")),
            Insert(Table.RESULT, result_key(name, kept.fence, kept.machine), kept),
            *(usage(name, 1 + n, at=at, cost_micros=7 + n, input=3) for n in range(turns)),
            *more,
        ]
        records = [replace(event(name, kind), at=at) for kind in _KINDS]
        made = batch(f"add-{name}", *changes)
        appends = tuple(Append(task_log(name), record) for record in records)
        await committed(self.store, replace(made, appends=appends))
        return row

    async def put(self, *changes: Change) -> None:
        self.count += 1
        await committed(self.store, batch(f"put{self.count}", *changes))

    async def view(self) -> PoolView:
        rows = await self.store.scan(DEFAULT_POOL)
        found, _ = loading.load(
            rows, incarnation=1, term=None, now=self.clock.now(), pool=DEFAULT_POOL
        )
        return found

    async def fixed_view(self) -> Callable[[], PoolView]:
        """Return what the pool looks like now, for an archiver of one's own."""
        view = await self.view()
        return lambda: view

    async def work(self) -> int:
        """Move what may go; return how many tasks went."""
        view = await self.view()
        return await self.archiver(lambda: view).work()

    def archiver(self, view: Callable[[], PoolView], keep: RetentionSettings = KEEP) -> Archiver:
        return Archiver(
            self.store,
            self.archive,
            clock=self.clock,
            ids=self.ids,
            view=view,
            keep=keep,
        )

    async def costs(self) -> Mapping[str, CostList]:
        """Return what was spent, in all ways that do not name tasks."""
        costs = Costs(self.store)
        return {
            by: await costs.costs(VIEWER, CostAsked(by=by)) for by in CostBy if by != CostBy.TASK
        }

    async def rows_of(self, name: str) -> list[Row]:
        """Return every row whose key has a task in it."""
        found: list[Row] = []
        for table in Table:
            page = await self.store.query(Query(table=table, fragment=name))
            found += page.rows
        return found

    async def dossier(self, name: str) -> Dossier:
        found = await self.archive.get(name)
        assert found is not None
        return found


_KINDS = (EventKind.SUBMITTED, EventKind.ASSIGNED, EventKind.COMPLETED)
