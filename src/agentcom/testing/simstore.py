"""A store that misbehaves by plan: every verdict, every unknown, slowness and crashes.

What it says is always true to the contract, so a hub that goes wrong on it is wrong. Rows live
in a `MemoryStore`; a crash loses what was not yet acknowledged, or, just as well, keeps it.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from typing import Final, Protocol, assert_never

from agentcom.model.batch import Batch, Row, Table
from agentcom.model.ids import BatchId, PoolId, Rng, WallTime
from agentcom.model.snapshot import Snapshot
from agentcom.store.base import (
    Conflict,
    Full,
    LogRecord,
    Page,
    Problem,
    Query,
    TermLost,
    Verdict,
)
from agentcom.store.failures import CommitUnknown, StoreFailed
from agentcom.store.memory import MemoryStore
from agentcom.store.search import Found, Words
from agentcom.store.sums import Sum, Sums

SLOW_MS: Final = 300  # a disk that is busy with something else


class Fault(StrEnum):
    """What happens to one commit."""

    NONE = "none"
    CONFLICT = "conflict"
    FULL = "full"
    TERM_LOST = "term_lost"
    UNKNOWN_APPLIED = "unknown_applied"
    UNKNOWN_LOST = "unknown_lost"
    SLOW = "slow"
    CRASH_APPLIED = "crash_applied"
    CRASH_LOST = "crash_lost"


class Faults(Protocol):
    """Chooses the fault of every commit."""

    def next(self) -> Fault:
        """Return what happens to the commit that comes now."""
        ...


class SeededFaults:
    """Faults by chance, each with its rate (0 to 1 in all), the same for the same `rng`."""

    def __init__(self, rng: Rng, rates: Mapping[Fault, float]) -> None:
        self._rng = rng
        self._rates = tuple(rates.items())

    def next(self) -> Fault:
        left = self._rng.random()
        for fault, rate in self._rates:
            left -= rate
            if left < 0:
                return fault
        return Fault.NONE


class ScriptedFaults:
    """Faults in a given order, then none."""

    def __init__(self, *faults: Fault) -> None:
        self._faults = deque(faults)

    def next(self) -> Fault:
        return self._faults.popleft() if self._faults else Fault.NONE


class SimulatedStore:
    """Wraps a `MemoryStore`; after a crash every call fails until `open`."""

    def __init__(
        self,
        faults: Faults,
        *,
        inner: MemoryStore | None = None,
        sleep_ms: Callable[[int], Awaitable[None]] | None = None,
    ) -> None:
        self.inner = MemoryStore() if inner is None else inner
        self._faults = faults
        self._sleep_ms = _sleep_ms if sleep_ms is None else sleep_ms
        self._order = asyncio.Lock()
        self._up = False
        self._life = 0

    async def open(self) -> int:
        self._up = True
        return await self.inner.open()

    async def close(self) -> None:
        self._up = False

    def crash(self) -> None:
        """Stop at once: commits on their way are lost, and their callers get `StoreFailed`."""
        self._up = False
        self._life += 1

    async def acquire(self, pool: PoolId, holder: str) -> int:
        return await self._running().acquire(pool, holder)

    async def scan(self, pool: PoolId) -> Snapshot:
        return await self._running().scan(pool)

    async def get(self, keys: Sequence[tuple[Table, str]]) -> list[Row | None]:
        return await self._running().get(keys)

    async def query(self, query: Query) -> Page:
        return await self._running().query(query)

    async def search(self, asked: Words) -> Found:
        return await self._running().search(asked)

    async def index(self, limit: int) -> bool:
        return await self._running().index(limit)

    async def sums(self, asked: Sums) -> Sequence[Sum]:
        return await self._running().sums(asked)

    async def commit(self, batch: Batch) -> Verdict:
        async with self._order:
            return await self._commit(batch, self._faults.next())

    async def outcome(self, batch: BatchId) -> bool:
        return await self._running().outcome(batch)

    async def read(self, log: str | None, after: int, limit: int) -> Sequence[LogRecord]:
        return await self._running().read(log, after, limit)

    async def prune(self, now: WallTime) -> int:
        return await self._running().prune(now)

    async def snapshot(self, path: str) -> None:
        await self._running().snapshot(path)

    async def verify(self) -> Sequence[Problem]:
        return await self._running().verify()

    async def checkpoint(self) -> None:
        await self._running().checkpoint()

    async def _commit(self, batch: Batch, fault: Fault) -> Verdict:
        inner = self._running()
        match fault:
            case Fault.NONE:
                return await inner.commit(batch)
            case Fault.SLOW:
                return await self._commit_slowly(batch)
            case Fault.CONFLICT:
                return Conflict(inner.images(batch))
            case Fault.FULL:
                return Full()
            case Fault.TERM_LOST:
                return await self._lose_term(batch)
            case Fault.UNKNOWN_APPLIED | Fault.UNKNOWN_LOST:
                await self._apply_if(fault is Fault.UNKNOWN_APPLIED, batch)
                raise CommitUnknown(batch.id)
            case Fault.CRASH_APPLIED | Fault.CRASH_LOST:
                await self._apply_if(fault is Fault.CRASH_APPLIED, batch)
                self.crash()
                raise StoreFailed("the process stopped while it committed")
            case _:
                assert_never(fault)

    async def _apply_if(self, applied: bool, batch: Batch) -> None:
        if applied:
            await self.inner.commit(batch)

    async def _lose_term(self, batch: Batch) -> Verdict:
        if batch.term is None:  # no pool's rows: there is no term to lose
            return await self.inner.commit(batch)
        await self.inner.acquire(batch.pool, "another hub")
        return TermLost()

    async def _commit_slowly(self, batch: Batch) -> Verdict:
        life = self._life
        await self._sleep_ms(SLOW_MS)
        if life != self._life:
            raise StoreFailed("the process stopped before it committed")
        return await self._running().commit(batch)

    def _running(self) -> MemoryStore:
        if not self._up:
            raise StoreFailed("the store is not open")
        return self.inner


async def _sleep_ms(duration_ms: int) -> None:
    await asyncio.sleep(duration_ms / 1_000)
