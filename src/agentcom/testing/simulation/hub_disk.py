"""The hub's simulated disk: a journal of batches, of which a crash keeps what was synced.

Each start builds the rows from the journal's bytes and compares them with those of the process
that died: what is stored is all there is. A batch that was on its way when the process died is
lost, torn (and dropped by its checksum), or stored though nobody was ever told.
"""

import asyncio
import random
import zlib
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, TypeVar

import msgspec

from agentcom.model.batch import Batch, Row, Table
from agentcom.model.ids import PoolId
from agentcom.store import codec
from agentcom.store.base import Committed, Verdict
from agentcom.store.failures import StoreFailed
from agentcom.store.memory import MemoryStore
from agentcom.testing.simstore import Fault, SimulatedStore
from agentcom.testing.simulation.kernel import SECOND
from agentcom.testing.simulation.options import Options
from agentcom.testing.simulation.trace import Trace

T = TypeVar("T")
Committing = Callable[[Batch, int], None]
"""Is shown every durable batch, with the sequence number of its first record."""

COMPARE_EVERY: Final = 8
"""Starts between two comparisons of all rows: they cost more than the start itself."""


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine returns that never waits."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]  # it says so
    raise AssertionError("it waits for something")


class _Rows(MemoryStore):
    """Rows of one life of the hub; what is committed is in the journal and shown to the auditor."""

    def __init__(self, disk: "HubDisk", incarnation: int) -> None:
        super().__init__(incarnation=incarnation)
        self._disk = disk

    async def acquire(self, pool: PoolId, holder: str) -> int:  # noqa: ARG002  # nobody asks who
        self._disk.terms[pool] = term = self._disk.terms.get(pool, 0) + 1
        self._terms[pool] = term
        return term

    async def commit(self, batch: Batch) -> Verdict:
        verdict = await super().commit(batch)
        if isinstance(verdict, Committed):
            self._disk.written(batch, verdict.first)
        return verdict

    def take(self, other: MemoryStore) -> None:
        """Start with the rows of another store."""
        self._rows = {table: dict(rows) for table, rows in other._rows.items()}  # noqa: SLF001  # of its kind
        self._log = list(other._log)  # noqa: SLF001  # of its kind
        self._ordered = {}
        self._spans = list(other._spans)  # noqa: SLF001  # likewise
        self._recent = other._recent.copy()  # noqa: SLF001  # of its kind

    def tables(self) -> Mapping[Table, Mapping[str, Row]]:
        """Return every row, by table and key."""
        return self._rows

    def same_rows(self, other: MemoryStore) -> bool:
        """Return whether all rows and records are equal."""
        return self._rows == other._rows and self._log == other._log  # noqa: SLF001  # its kind


class HubDisk:
    """What survives the hub's process."""

    def __init__(self, options: Options, trace: Trace, committed: Committing) -> None:
        self.journal: list[bytes] = []
        self.terms: dict[PoolId, int] = {}
        self.incarnation = 1_700_000_000
        self.rows = _Rows(self, self.incarnation)
        self._options = options
        self._trace = trace
        self._committed = committed
        self._rng = random.Random(f"{options.seed}/disk")
        self._replica = MemoryStore(incarnation=self.incarnation)
        self.batches: list[Batch] = []
        """What the journal says, as far as a start or a restore has read it."""
        self._starts = 0

    def written(self, batch: Batch, first: int) -> None:
        """Take note of a durable batch."""
        self.journal.append(_framed(codec.encode_batch(batch)))
        self._committed(batch, first)

    def boot(self) -> MemoryStore:
        """Return the rows as a new process finds them."""
        self._starts += 1
        self._replay()
        if self._starts % COMPARE_EVERY == 0:
            same = self.rows.same_rows(self._replica)
            self._trace.check("I17 journal and rows agree", same, "the rows differ")
        self.rows = _Rows(self, self.incarnation)
        self.rows.take(self._replica)
        return self.rows

    def crash(self, pending: Batch | None) -> None:
        """End the process; a batch that was being synced is lost, torn, or kept."""
        if pending is None:
            return
        fate = self._rng.random()
        if fate < 1 / 3:
            self._trace.counts["fault: batch torn"] += 1
            whole = _framed(codec.encode_batch(pending))
            self.journal.append(whole[: 1 + int(self._rng.random() * (len(whole) - 1))])
        elif fate < 2 / 3 and isinstance(at_once(self.rows.commit(pending)), Committed):
            self._trace.counts["fault: batch kept, not told"] += 1
        else:
            self._trace.counts["fault: batch lost"] += 1

    def restore(self, length: int, incarnation: int) -> None:
        """Put back the copy that was taken when the journal had `length` records."""
        self._read()
        del self.journal[length:], self.batches[length:]
        self.incarnation = incarnation
        self._replica = MemoryStore(incarnation=incarnation)
        for batch in self.batches:
            self._repeat(batch)
        self.rows = _Rows(self, incarnation)
        self.rows.take(self._replica)

    def _replay(self) -> None:
        for batch in self._read():
            self._repeat(batch)

    def _repeat(self, batch: Batch) -> None:
        verdict = at_once(self._replica.commit(_without_term(batch)))
        self._trace.check("I17 the journal replays", isinstance(verdict, Committed), verdict)

    def _read(self) -> list[Batch]:
        """Read what the journal got since it was read last."""
        found: list[Batch] = []
        for at in range(len(self.batches), len(self.journal)):
            record = _whole(self.journal[at])
            if record is None:  # torn: the process died while it wrote
                del self.journal[at:]
                break
            found.append(codec.decode_batch(record))
        self.batches += found
        return found


class HubStore(SimulatedStore):
    """The store of one process on the disk: slow, full, or failing as the seed has it."""

    def __init__(
        self,
        disk: HubDisk,
        options: Options,
        rng: random.Random,
        *,
        is_quiet: Callable[[], bool],
        is_full: Callable[[], bool],
    ) -> None:
        super().__init__(_Fate(options, rng, is_quiet, is_full), inner=disk.boot())
        self.pending: Batch | None = None
        self._options = options
        self._rng = rng
        self._is_quiet = is_quiet

    @property
    def busy(self) -> bool:
        """Whether a batch is decided and its fate is open."""
        return self._order.locked()

    async def _commit(self, batch: Batch, fault: Fault) -> Verdict:
        self.pending = batch
        life = self._life
        sync_us = self._options.sync_us if not self._is_quiet() else 0
        if sync_us:
            await asyncio.sleep(self._rng.expovariate(1 / sync_us) / SECOND)
        if life != self._life:
            raise StoreFailed("the process stopped before it committed")
        self.pending = None
        return await super()._commit(batch, fault)


class _Fate:
    """What happens to the next commit."""

    def __init__(
        self,
        options: Options,
        rng: random.Random,
        is_quiet: Callable[[], bool],
        is_full: Callable[[], bool],
    ) -> None:
        self._rng = rng
        self._is_quiet = is_quiet
        self._is_full = is_full
        self._rates = (
            (Fault.FULL, options.full),
            (Fault.CONFLICT, options.conflict),
            (Fault.UNKNOWN_APPLIED, options.unknown / 2),
            (Fault.UNKNOWN_LOST, options.unknown / 2),
            (Fault.TERM_LOST, options.term_lost),
            (Fault.CRASH_APPLIED, options.sync_fails / 2),
            (Fault.CRASH_LOST, options.sync_fails / 2),
            (Fault.SLOW, options.slow),
        )

    def next(self) -> Fault:
        if self._is_quiet():
            return Fault.NONE
        if self._is_full():
            return Fault.FULL
        left = self._rng.random()
        for fault, rate in self._rates:
            left -= rate
            if left < 0:
                return fault
        return Fault.NONE


def _without_term(batch: Batch) -> Batch:
    return msgspec.structs.replace(batch, term=None)


def _framed(record: bytes) -> bytes:
    return zlib.crc32(record).to_bytes(4, "big") + record


def _whole(framed: bytes) -> bytes | None:
    record = framed[4:]
    return record if zlib.crc32(record).to_bytes(4, "big") == framed[:4] else None
