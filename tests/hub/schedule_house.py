"""A hub's schedules with a clock of their own, and a store that can be told to fail."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from agentcom.core import facts
from agentcom.hub.config import HubConfig
from agentcom.hub.services import Services
from agentcom.model.batch import Batch, Insert, Table, Update
from agentcom.model.identity import Identity, Role, User
from agentcom.model.ids import DEFAULT_POOL, DEFAULT_PROJECT, BatchId, TaskId, UserId, WallTime
from agentcom.model.schedule import Schedule
from agentcom.model.task import Task, TaskSpec, TaskState
from agentcom.store.base import Full, Query, Verdict
from agentcom.store.memory import MemoryStore
from agentcom.testing.waiting import until
from tests.hub.doubles import EPOCH_MS, ManualClock

ANN = Identity(role=Role.ADMIN, user=UserId("ann"), credential="a")

BEN = Identity(role=Role.SUBMITTER, user=UserId("ben"), credential="b")

EVE = Identity(role=Role.SUBMITTER, user=UserId("eve"), credential="e")

MINUTE = 60_000

HOUR = 60 * MINUTE

SPEC = TaskSpec(title="tidy", prompt="p")


def wanted(name: str = "tidy", cron: str = "0 * * * *", **fields: Any) -> Schedule:
    """Return an hourly schedule as someone asks for it; `EPOCH_MS` is a full hour."""
    return Schedule(
        **{
            "id": "",
            "project": DEFAULT_PROJECT,
            "owner": UserId(""),
            "name": name,
            "cron": cron,
            "zone": "UTC",
            "task": SPEC,
            **fields,
        }
    )


class Store(MemoryStore):
    """Has no room for the notes of schedules while it is told so."""

    full = False

    async def commit(self, batch: Batch) -> Verdict:
        notes = any(change.table is Table.SCHEDULE for change in batch.changes)
        return Full() if self.full and notes else await super().commit(batch)


class House:
    """One hub's services; `live` runs them for a while, as one process."""

    def __init__(self, store: Store | None = None, clock: ManualClock | None = None) -> None:
        self.store = store or Store()
        self.clock = clock or ManualClock(wall=EPOCH_MS - EPOCH_MS % HOUR)
        self.services = Services(
            HubConfig(home=Path("/nowhere"), store="memory"), self.store, self.clock
        )
        self.schedules = self.services.schedules

    async def found(self) -> None:
        """Write the rows of three people."""
        await self.store.open()
        rows = [User(id=who.user, role=who.role, created_at=WallTime(1)) for who in (ANN, BEN, EVE)]
        await self.write(*[Insert(Table.USER, row.id, row) for row in rows])

    async def write(self, *changes: Any) -> None:
        batch = Batch(id=BatchId(f"own{changes!r}"), pool=DEFAULT_POOL, changes=changes)
        await self.store.commit(batch)

    @contextlib.asynccontextmanager
    async def live(self) -> AsyncIterator["House"]:
        await self.services.engine.start(1)
        engine = asyncio.create_task(self.services.engine.run())
        service = asyncio.create_task(self.schedules.run())
        await self.settle()
        await self.reach(0)
        try:
            yield self
        finally:
            for part in (engine, service):
                part.cancel()
            await asyncio.gather(engine, service, return_exceptions=True)

    async def settle(self) -> None:
        """Wait until nothing is due, or in work."""
        await until(lambda: self.schedules.is_idle)

    async def reach(self, ms: int) -> None:
        """Let time pass, and what has come run."""
        self.clock.advance(ms)
        self.schedules._timers.check()
        await self.settle()

    async def step(self, ms: int) -> None:
        """Set the wall clock, as the pulse notices it."""
        self.clock.wall += ms
        self.schedules.stepped()
        await self.reach(0)

    async def tasks(self) -> list[Task]:
        page = await self.store.query(Query(table=Table.TASK, limit=1_000))
        return [row for row in reversed(page.rows) if isinstance(row, Task)]

    async def row(self, name: str = "tidy") -> Schedule:
        (row,) = await self.store.get([(Table.SCHEDULE, f"default/{name}")])
        assert isinstance(row, Schedule)
        assert row == self.schedules.find(ANN, name), "memory and store differ"
        return row

    async def end(self, task: TaskId | None, state: TaskState = TaskState.CANCELLED) -> None:
        """End a task; one that failed is written as if an agent had it."""
        assert task is not None
        if state is TaskState.CANCELLED:
            await self.services.engine.ask(facts.Fact(body=facts.Cancel(task), actor=ANN))
            return
        (row,) = await self.store.get([(Table.TASK, task)])
        assert isinstance(row, Task)
        after = msgspec.structs.replace(row, state=state, version=row.version + 1)
        await self.write(Update(Table.TASK, task, after, row.version))
        self.services.engine.view.tasks.pop(task)
