"""What the hub's services get in tests: a clock and ids that only move when they are told."""

import asyncio
from collections.abc import Sequence

from agentcom.model.batch import Batch, Row, Table
from agentcom.model.ids import Instant, Now, WallTime
from agentcom.store.base import Verdict
from agentcom.store.memory import MemoryStore

EPOCH_MS = 1_800_000_000_000


class ManualClock:
    """Both times, moved by hand."""

    def __init__(self, instant: int = 1_000, wall: int = EPOCH_MS) -> None:
        self.instant = instant
        self.wall = wall

    def now(self) -> Now:
        return Now(Instant(self.instant), WallTime(self.wall))

    def advance(self, ms: int) -> None:
        self.instant += ms
        self.wall += ms


class CountingIds:
    """Ids that count."""

    def __init__(self) -> None:
        self.count = 0

    def new(self) -> str:
        self.count += 1
        return f"id{self.count:06d}"


class FixedRng:
    """Chance that always comes out alike."""

    def __init__(self, value: float = 0.0) -> None:
        self.value = value

    def random(self) -> float:
        return self.value


class YieldingStore(MemoryStore):
    """Lets others run between a read and the write that follows, and counts the reads."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.writes = 0

    async def get(self, keys: Sequence[tuple[Table, str]]) -> list[Row | None]:
        self.reads += 1
        rows = await super().get(keys)
        await asyncio.sleep(0)
        return rows

    async def commit(self, batch: Batch) -> Verdict:
        self.writes += 1
        await asyncio.sleep(0)
        return await super().commit(batch)
