"""The one connection that writes, and its thread: it groups commits, and checkpoints between them.

Jobs come through a queue and are done in order; whatever commits wait there become one
transaction. While the disk is quick, a commit may be made `at_once` in the caller's thread
instead, which saves two hand-overs between threads. A failure that is no verdict ends all writing
for good.
"""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

import apsw

from agentcom.model.batch import Batch, Insert, Table
from agentcom.model.errors import StorageFull
from agentcom.model.ids import PoolId
from agentcom.store import sqlite_audit, sqlite_lists, sqlite_log, sqlite_rows
from agentcom.store.base import Committed, Conflict, Full, TermLost, Verdict
from agentcom.store.failures import StoreFailed
from agentcom.store.sqlite_disk import Disk, LastCommit
from agentcom.store.sqlite_lists import Arrears

GROUP_MAX: Final = 64  # commits in one transaction: bounds how long the first one waits
IDLE_S: Final = 2.0  # then the log is emptied, so that the next start is quick
QUICK_S: Final = 0.005  # what the disk may take: nobody notices a loop that stands still for that
QUICK_COMMITS: Final = 8  # in a row, before the disk is called quick
AT_ONCE_MAX: Final = 512  # changes and records; a larger batch takes milliseconds of CPU

_ROOM_ERRORS: Final = frozenset(
    {
        apsw.SQLITE_IOERR_WRITE,
        apsw.SQLITE_IOERR_SHMSIZE,
        apsw.SQLITE_IOERR_SHMMAP,
        apsw.SQLITE_IOERR_TRUNCATE,
    }
)

_T = TypeVar("_T")

Answer = tuple["Commit | Work", object]
Deliver = Callable[[Sequence[Answer]], None]


class Commit(NamedTuple):
    """A batch to write; the answer is its verdict."""

    token: object
    batch: Batch


class Look(NamedTuple):
    """Something was written at once: see whether the log is long, or wait until it is idle."""


class Work(NamedTuple):
    """Something else to do with the writer's connection; the answer is what it returns."""

    token: object
    run: Callable[[apsw.Connection], Any]


Job = Commit | Work | Look


class Writer:
    """Owns the writing connection; `deliver` is called in the thread, with answers or errors."""

    def __init__(
        self,
        db: apsw.Connection,
        disk: Disk,
        deliver: Deliver,
        *,
        checkpoint_pages: int,
        clock_s: Callable[[], float] = time.perf_counter,
        committed: Callable[[int, Batch], None] | None = None,
    ) -> None:
        """`committed` is told of each batch that is durable, with its number, in order."""
        self._db = db
        self._disk = disk
        self._deliver = deliver
        self._checkpoint_pages = checkpoint_pages
        self._clock_s = clock_s
        self._committed = committed
        self._lock = threading.Lock()  # who holds it may use the connection
        self._quick = 0  # quick commits since the last slow one
        self._pages = 0
        self._idle_at = 0
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._next: Job | None = None
        self._stopping = False
        self._failed: StoreFailed | None = None
        self._number = sqlite_log.last_number(db)
        self._seq = sqlite_log.next_seq(db)
        self._arrears = Arrears(db)
        self._incarnation = sqlite_rows.incarnation(db)
        self._pages_free = -1
        self._terms: dict[PoolId, int] = {}
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        db.set_wal_hook(self._note_pages)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def failed(self) -> bool:
        """Whether writing has ended for good."""
        return self._failed is not None

    def put(self, job: Commit | Work) -> None:
        """Queue a job; every job gets one answer."""
        self._jobs.put(job)

    def at_once(self, batch: Batch) -> Verdict | None:
        """Commit in the caller's thread; None: nothing was done, and the batch has to be queued.

        Only while no answer is awaited: it would overtake what is queued.

        Raises:
            StoreFailed: writing has ended for good.
        """
        if (
            self._quick < QUICK_COMMITS
            or self._pages >= self._checkpoint_pages
            or len(batch.changes) + len(batch.appends) > AT_ONCE_MAX
            or not self._lock.acquire(blocking=False)
        ):
            return None
        pages = self._pages
        try:
            (verdict,) = self._attempt(partial(self._try, [Commit(None, batch)]))
        finally:
            self._lock.release()
        if not pages or self._pages >= self._checkpoint_pages:
            self._jobs.put(Look())
        return verdict

    def stop(self) -> None:
        """Finish what is queued, and end the thread; blocks."""
        self._jobs.put(None)
        self._thread.join()

    def reserve(self, *, pages_max: int, pages_free: int) -> None:
        """Bound the database to `pages_max` pages, and to `pages_free` more once it was full."""
        self._db.execute(f"PRAGMA max_page_count={pages_max}")
        self._pages_free = pages_max + pages_free

    def finish(self) -> None:
        """Leave the database without a log; after `stop`."""
        if self.failed:
            return
        self.checkpoint(apsw.SQLITE_CHECKPOINT_TRUNCATE)
        with suppress(apsw.FullError, apsw.CorruptError, apsw.IOError):
            self._db.execute("PRAGMA optimize")  # who reads what is damaged hears of it

    def checkpoint(self, mode: int) -> None:
        """Bring the log into the database; only in the thread, or before and after it."""
        self._disk.sync()
        try:
            self._db.wal_checkpoint(mode=mode)
        except (apsw.BusyError, apsw.LockedError, apsw.FullError):
            return  # a reader is at work, or there is no room: the log keeps everything
        except apsw.IOError as error:
            if not self._no_room(error):
                raise
        finally:
            self._pages = 0

    def _run(self) -> None:
        while not self._stopping:
            job = self._take(IDLE_S if self._pages else None)
            if isinstance(job, Commit):
                group = self._gather(job)
                self._guard(group, partial(self._commit, group))
            elif isinstance(job, Work):
                self._guard([job], partial(self._do, job))
            elif isinstance(job, Look):
                self._guard([], self._empty_long_log)
            elif not self._stopping:
                self._guard([], self._tidy)

    def _take(self, timeout_s: float | None) -> Job | None:
        if self._next is not None:
            job, self._next = self._next, None
            return job
        try:
            taken = self._jobs.get(timeout=timeout_s)
        except queue.Empty:
            return None
        self._stopping = taken is None
        return taken

    def _gather(self, first: Commit) -> list[Commit]:
        group = [first]
        while len(group) < GROUP_MAX:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if not isinstance(job, Commit):
                self._next, self._stopping = job, job is None
                break
            group.append(job)
        return group

    def _guard(self, jobs: Sequence[Commit | Work], work: Callable[[], Sequence[object]]) -> None:
        try:
            with self._lock:
                answers = self._attempt(work)
        except StoreFailed as error:
            answers = [error] * len(jobs)
        if jobs:
            self._deliver(list(zip(jobs, answers, strict=True)))

    def _attempt(self, work: Callable[[], Sequence[_T]]) -> Sequence[_T]:
        if self._failed is not None:
            raise self._failed
        try:
            return work()
        except Exception as error:  # the top of all writing; it is fatal
            self._failed = StoreFailed(f"the store failed: {error}")
            self._pages = 0
            raise self._failed from error

    def _commit(self, group: Sequence[Commit]) -> Sequence[Verdict]:
        verdicts = self._try(group)
        self._idle_at = self._number
        # After the verdict would be nicer to the client, but then the next group waits.
        self._empty_long_log()
        return verdicts

    def _empty_long_log(self) -> Sequence[object]:
        if self._pages >= self._checkpoint_pages:
            self.checkpoint(apsw.SQLITE_CHECKPOINT_PASSIVE)
        return ()

    def _do(self, job: Work) -> Sequence[object]:
        self._terms.clear()  # the work may raise one
        try:
            return [job.run(self._db)]
        except apsw.FullError:
            self._roll_back()
            return [StorageFull()]

    def _try(self, group: Sequence[Commit]) -> list[Verdict]:
        try:
            return self._transaction(group)
        except apsw.FullError:
            self._roll_back()
        except apsw.IOError as error:
            if not self._no_room(error):
                raise
            self._roll_back()
        if len(group) > 1:
            return [verdict for job in group for verdict in self._try([job])]
        if not _brings_tasks(group[0].batch) and self._free_room():
            return self._try(group)
        return [Full()]

    def _transaction(self, group: Sequence[Commit]) -> list[Verdict]:
        number, seq = self._number, self._seq
        verdicts: list[Verdict] = []
        self._db.execute("BEGIN IMMEDIATE")
        listing = self._arrears.many or any(job.batch.forgets for job in group)
        if listing:
            self._arrears.write(self._db, seq)
        for job in group:
            verdict = self._write(job.batch, number + 1, seq, alone=len(group) == 1)
            verdicts.append(verdict)
            if isinstance(verdict, Committed):
                number += 1
                seq += len(job.batch.appends)
        if number == self._number:
            self._db.execute("ROLLBACK")
            return verdicts
        begun = self._clock_s()
        self._db.execute("COMMIT")
        self._quick = self._quick + 1 if self._clock_s() - begun < QUICK_S else 0
        before, self._number, self._seq = self._number, number, seq
        self._disk.note(LastCommit(number, self._incarnation))
        if listing:
            self._arrears.clear()
        for job, verdict in zip(group, verdicts, strict=True):
            if isinstance(verdict, Committed):
                self._arrears.add(job.batch, verdict.first)
                before += 1
                if self._committed is not None:
                    self._committed(before, job.batch)
        return verdicts

    def _write(self, batch: Batch, number: int, seq: int, *, alone: bool) -> Verdict:
        if batch.term is not None and batch.term != self._term(batch.pool):
            return TermLost()
        if not alone:
            self._db.execute("SAVEPOINT batch")
        written = sqlite_rows.write(self._db, batch.changes)
        if written and (not batch.audits or sqlite_audit.append(self._db, batch.audits)):
            sqlite_lists.list_unnamed(self._db, batch)
            if batch.forgets:
                sqlite_log.forget(self._db, batch.forgets)
            sqlite_log.append(self._db, batch, number=number, first=seq)
            if not alone:
                self._db.execute("RELEASE batch")
            return Committed(seq)
        if alone:
            self._db.execute("ROLLBACK; BEGIN IMMEDIATE")
        else:
            self._db.execute("ROLLBACK TO batch; RELEASE batch")
        return Conflict(sqlite_rows.images(self._db, batch))

    def _term(self, pool: PoolId) -> int:
        """Return a pool's term; nobody else writes this file, so it is read once."""
        if pool not in self._terms:
            self._terms[pool] = sqlite_rows.term(self._db, pool)
        return self._terms[pool]

    def _no_room(self, error: apsw.Error) -> bool:
        """Return whether a failed write is only a full disk; a failed sync never is.

        SQLite says so itself (FULL), except where it grows its shared memory or cuts a file.
        """
        return getattr(error, "extendedresult", 0) in _ROOM_ERRORS and self._disk.is_full()

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def _free_room(self) -> bool:
        freed = self._disk.free_ballast()
        if self._pages_free > 0:
            self._db.execute(f"PRAGMA max_page_count={self._pages_free}")
            self._pages_free = -1
            freed = True
        return freed

    def _tidy(self) -> Sequence[object]:
        if self._idle_at == self._number:
            self.checkpoint(apsw.SQLITE_CHECKPOINT_RESTART)
        self._idle_at = self._number  # else commits were made at once: wait for as long again
        return ()

    def _note_pages(self, _db: apsw.Connection, _name: str, pages: int) -> int:
        self._pages = pages
        return apsw.SQLITE_OK


def _brings_tasks(batch: Batch) -> bool:
    return any(isinstance(c, Insert) and c.table is Table.TASK for c in batch.changes)
