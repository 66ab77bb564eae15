"""The store in one SQLite file: the asynchronous face.

One connection writes (`sqlite_writer.py`): in a thread of its own, or at once in the event loop's
while the disk is quick. Another thread reads listings; rows asked for by key are read at once.
Which SQL that is stands in `sqlite_rows.py`, `sqlite_log.py` and `sqlite_lists.py`; what is
refused at the start in `sqlite_open.py`; the files around the database in `sqlite_disk.py`.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import apsw
import msgspec

from agentcom.model.batch import Batch, Row, Table
from agentcom.model.errors import StoreRefused
from agentcom.model.ids import BatchId, PoolId, WallTime
from agentcom.model.snapshot import Snapshot
from agentcom.store import (
    codec,
    invariants,
    rules,
    sqlite_audit,
    sqlite_lists,
    sqlite_log,
    sqlite_open,
    sqlite_rows,
    sqlite_search,
)
from agentcom.store.absent import Absent
from agentcom.store.base import LogRecord, Page, Problem, Query, Verdict
from agentcom.store.failures import StoreDamaged, StoreFailed
from agentcom.store.search import Found, Words
from agentcom.store.sqlite_disk import Disk, LastCommit
from agentcom.store.sqlite_journal import Journal
from agentcom.store.sqlite_open import Migration
from agentcom.store.sqlite_writer import Answer, Commit, Work, Writer
from agentcom.store.sums import Sum, Sums

INLINE_KEYS: Final = 256  # rows by key that are read in the event loop: some microseconds each
PAGE_BYTES: Final = 4_096

_REQUEST: Final = Table.REQUEST
_T = TypeVar("_T")


class SqliteOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How much room a store takes, and what it puts up with."""

    wal_bytes: int = 16 << 20
    """Size of the log from the start; a log that need not grow commits twice as fast."""
    checkpoint_pages: int = 3_000
    """Pages in the log before they are copied to the database: just below `wal_bytes`."""
    ballast_bytes: int = 32 << 20
    """Room that is given up when the disk is full, so that completions still fit."""
    bytes_max: int | None = None
    """Size that the database may reach, ballast included; None: the disk's."""
    accept_rollback: bool = False
    """Open a database that may be older than its last commit, and raise the incarnation."""


DEFAULT: Final = SqliteOptions()
SMALL: Final = SqliteOptions(wal_bytes=0, ballast_bytes=0)
"""For stores of a moment, such as tests: no room is set aside."""


class SqliteStore:
    """Durable state in the file `path`, for one hub."""

    def __init__(
        self,
        path: Path,
        *,
        options: SqliteOptions = DEFAULT,
        wall_s: Callable[[], float] = time.time,
        clock_s: Callable[[], float] = time.perf_counter,
        migrations: Sequence[Migration] | None = None,
        journal: Journal | None = None,
    ) -> None:
        self._path = path
        self._options = options
        self._wall_s = wall_s
        self._clock_s = clock_s
        self._migrations = migrations
        self._journal = journal
        self._loop: asyncio.AbstractEventLoop | None = None
        self._disk = Disk(path)
        self._db: apsw.Connection | None = None
        self._writer: Writer | None = None
        self._by_key: apsw.Connection | None = None
        self._listing: apsw.Connection | None = None
        self._reader: ThreadPoolExecutor | None = None
        self._requests = Absent()
        """Request keys that came since the start; those of before: learned when first needed."""
        self._requests_before: Absent | None = None
        self._learning = False
        self._awaited = 0
        """Jobs of the writer's thread whose answer has not come back."""

    async def open(self) -> int:
        assert self._writer is None, "a store is opened once"
        self._loop = asyncio.get_running_loop()
        self._reader = ThreadPoolExecutor(1, "store-reader")
        try:
            return await self._loop.run_in_executor(self._reader, self._open)
        except BaseException:
            self._reader.shutdown()
            self._disk.close()
            raise

    async def close(self) -> None:
        reader, self._reader = self._reader, None
        writer, self._writer = self._writer, None  # nobody uses a connection that is being closed
        by_key, self._by_key = self._by_key, None
        if reader is None or self._loop is None:
            return
        await self._loop.run_in_executor(reader, self._close, writer, by_key)
        reader.shutdown()

    async def acquire(self, pool: PoolId, holder: str) -> int:
        return await self._work(lambda db: sqlite_rows.raise_term(db, pool, holder))

    async def scan(self, pool: PoolId) -> Snapshot:
        return await self._read(lambda db: sqlite_rows.scan(db, pool))

    async def get(self, keys: Sequence[tuple[Table, str]]) -> list[Row | None]:
        if self._surely_absent(keys):
            return [None] * len(keys)
        if len(keys) > INLINE_KEYS:
            return await self._read(lambda db: sqlite_rows.get_all(db, keys))
        assert self._by_key is not None, "the store is not open"
        try:
            return sqlite_rows.get_all(self._by_key, keys)
        except (apsw.Error, msgspec.DecodeError) as error:
            raise _unreadable(error) from error

    async def query(self, query: Query) -> Page:
        return await self._read(lambda db: sqlite_rows.query(db, query))

    async def sums(self, asked: Sums) -> Sequence[Sum]:
        return await self._read(lambda db: sqlite_rows.sums(db, asked))

    async def search(self, asked: Words) -> Found:
        return await self._read(lambda db: sqlite_search.find(db, asked))

    async def index(self, limit: int) -> bool:
        return await self._work(lambda db: sqlite_search.index(db, limit))

    async def commit(self, batch: Batch) -> Verdict:
        rules.check_batch(batch)
        for change in batch.changes:
            if change.table is _REQUEST:
                self._requests.add(change.key)
        if not self._awaited:
            verdict = self._thread.at_once(batch)
            if verdict is not None:
                await asyncio.sleep(0)  # others get their turn after every commit, waited or not
                return verdict
        future = self._future()
        self._put(Commit(future, batch))
        return cast("Verdict", await future)

    async def outcome(self, batch: BatchId) -> bool:
        # In the writer's turn: what was handed over before is decided by then.
        return await self._work(lambda db: sqlite_log.was_committed(db, batch))

    async def read(self, log: str | None, after: int, limit: int) -> Sequence[LogRecord]:
        return await self._read(lambda db: sqlite_log.read(db, log, after, limit))

    async def prune(self, now: WallTime) -> int:
        keys = await self._read(lambda db: sqlite_rows.expired(db, now))
        gone = 0
        for start in range(0, len(keys), sqlite_rows.PRUNE_ROWS):
            part = keys[start : start + sqlite_rows.PRUNE_ROWS]
            gone += await self._work(partial(sqlite_rows.delete_expired, keys=part, now=now))
        for _ in range(sqlite_open.GIVE_BACK_STEPS):
            if not await self._work(sqlite_open.give_back):
                break
            await asyncio.sleep(sqlite_open.GIVE_BACK_S)
        return gone

    async def snapshot(self, path: str) -> None:
        await asyncio.to_thread(self._aside, lambda db: sqlite_open.copy(db, Path(path)))

    async def verify(self) -> Sequence[Problem]:
        try:
            return await asyncio.to_thread(self._aside, _verify)
        except sqlite_open.DAMAGE as error:  # it cannot even be looked through
            return [Problem(f"the database is damaged: {error}", invariants.FIX)]

    async def checkpoint(self) -> None:
        writer = self._thread
        await self._work(lambda _db: writer.checkpoint(apsw.SQLITE_CHECKPOINT_RESTART))
        await self._read(lambda _db: self._disk.make_ballast(self._options.ballast_bytes))

    async def raise_incarnation(self) -> int:
        """Make every fence of before this moment stale: for a store that was restored."""
        at_s = self._wall_s()
        at = WallTime(int(at_s * 1_000))
        return await self._work(lambda db: sqlite_audit.raise_incarnation(db, int(at_s), at))

    def _surely_absent(self, keys: Sequence[tuple[Table, str]]) -> bool:
        """Return whether all `keys` are of requests that nobody has made yet."""
        before = self._requests_before
        if before is None:
            if not self._learning and keys and keys[0][0] is _REQUEST:
                self._learning = True
                assert self._reader is not None, "the store is not open"
                self._reader.submit(self._learn_requests)
            return False
        since = self._requests
        for table, key in keys:
            if table is not _REQUEST or not since.lacks(key) or not before.lacks(key):
                return False
        return True

    def _learn_requests(self) -> None:
        """Read which keys are stored, once, in the reader's thread."""
        assert self._listing is not None, "the store is not open"
        absent = Absent()
        for key in sqlite_rows.keys(self._listing, _REQUEST):
            absent.add(key)
        self._requests_before = absent

    @property
    def _thread(self) -> Writer:
        assert self._writer is not None, "the store is not open"
        return self._writer

    def _open(self) -> int:
        self._disk.lock()
        now_s = int(self._wall_s())
        db = sqlite_open.open_database(self._disk, incarnation=now_s, migrations=self._migrations)
        try:
            writer = self._start(db, now_s)
            incarnation = sqlite_rows.incarnation(db)
        except BaseException as error:
            self._close_readers()
            db.close()
            if isinstance(error, (*sqlite_open.DAMAGE, msgspec.DecodeError)):
                raise sqlite_open.damaged(self._path, str(error)) from error
            raise
        self._db = db
        self._writer = writer
        if self._journal is not None:
            self._journal.start(incarnation)
        writer.start()
        return incarnation

    def _start(self, db: apsw.Connection, now_s: int) -> Writer:
        self._check_last(db, now_s)
        self._by_key = sqlite_open.connect(self._path, read_only=True)
        self._listing = sqlite_open.connect(self._path, read_only=True)
        pages = self._options.checkpoint_pages
        writer = Writer(
            db,
            self._disk,
            self._deliver,
            checkpoint_pages=pages,
            clock_s=self._clock_s,
            committed=None if self._journal is None else self._journal.note,
        )
        self._set_room(writer)
        return writer

    def _check_last(self, db: apsw.Connection, now_s: int) -> None:
        last = self._disk.read_last()
        number = sqlite_log.last_number(db)
        if last is not None and last.number > number and not self._options.accept_rollback:
            raise StoreRefused(
                f"{self._path} ends at commit {number}, but commit {last.number} was"
                " acknowledged: it was rolled back by hand, or its -wal file is gone. Put the"
                " newer files back, or accept the loss, for one start:"
                " AGENTCOM_HUB_ACCEPT_ROLLBACK=true agentcom up"
            )
        if self._options.accept_rollback:  # also when all files are of one copy, and so agree
            known = last.incarnation if last is not None else 0
            at = WallTime(now_s * 1_000)
            sqlite_audit.raise_incarnation(db, max(now_s, known + 1), at)
        self._disk.note(LastCommit(number, sqlite_rows.incarnation(db)))
        self._disk.sync()

    def _set_room(self, writer: Writer) -> None:
        options = self._options
        if options.ballast_bytes:
            self._disk.make_ballast(options.ballast_bytes)
        if options.wal_bytes:
            self._disk.grow_log(options.wal_bytes)
        if options.bytes_max is not None:
            free = options.ballast_bytes // PAGE_BYTES
            writer.reserve(pages_max=options.bytes_max // PAGE_BYTES - free, pages_free=free)

    def _close(self, writer: Writer | None, by_key: apsw.Connection | None) -> None:
        assert writer is not None
        assert by_key is not None
        assert self._db is not None
        writer.stop()
        if self._journal is not None:
            self._journal.close()
        by_key.close()
        self._close_readers()
        writer.finish()
        self._db.close()
        self._db = None
        self._disk.close()

    def _close_readers(self) -> None:
        for db in (self._by_key, self._listing):
            if db is not None:
                db.close()
        self._by_key = self._listing = None

    def _future(self) -> asyncio.Future[Any]:
        assert self._loop is not None, "the store is not open"
        return self._loop.create_future()

    async def _work(self, run: Callable[[apsw.Connection], _T]) -> _T:
        future = self._future()
        self._put(Work(future, run))
        return cast("_T", await future)

    def _put(self, job: Commit | Work) -> None:
        self._thread.put(job)
        self._awaited += 1

    async def _read(self, run: Callable[[apsw.Connection], _T]) -> _T:
        assert self._loop is not None, "the store is not open"
        assert self._listing is not None, "the store is not open"
        try:
            return await self._loop.run_in_executor(self._reader, run, self._listing)
        except (apsw.Error, msgspec.DecodeError) as error:
            raise _unreadable(error) from error

    def _aside(self, run: Callable[[apsw.Connection], _T]) -> _T:
        db = sqlite_open.connect(self._path, read_only=True)
        try:
            return run(db)
        finally:
            db.close()

    def _deliver(self, answers: Sequence[Answer]) -> None:
        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._resolve, answers)

    def _resolve(self, answers: Sequence[Answer]) -> None:
        self._awaited -= len(answers)
        for job, answer in answers:
            future = cast("asyncio.Future[object]", job.token)
            if future.done():
                continue
            if isinstance(answer, BaseException):
                future.set_exception(answer)
            else:
                future.set_result(answer)


def _unreadable(error: Exception) -> StoreFailed:
    if isinstance(error, (*sqlite_open.DAMAGE, msgspec.DecodeError)):
        return StoreDamaged(
            f"a part of the hub's data cannot be read ({error}): see agentcom doctor, then put a"
            " sound copy back (agentcom backup ls, agentcom backup restore)"
        )
    return StoreFailed(f"the store cannot be read: {error}")


def _verify(db: apsw.Connection) -> list[Problem]:
    db.execute("BEGIN")  # one moment for all tables, while writing goes on
    damage = [what for (what,) in db.execute("PRAGMA integrity_check(16)") if what != "ok"]
    found = [Problem(f"the database is damaged: {what}", invariants.FIX) for what in damage]
    if found:
        return found

    def rows(table: Table) -> Iterator[tuple[str, Row]]:
        for key, version, doc in sqlite_rows.every(db, table):
            try:
                row = codec.decode(table, doc)
            except msgspec.DecodeError as error:
                found.append(Problem(f"{table} {key} cannot be read: {error}", invariants.FIX))
                continue
            if row.version != version:
                found.append(Problem(f"{table} {key} disagrees with its column", invariants.FIX))
            yield key, row

    found += [Problem(what, invariants.FIX) for what in sqlite_log.wrong(db)]
    if not found:  # the lists cannot be judged by documents that cannot be read
        found += [
            Problem(f"task {key} is live, or listed as live, alone", invariants.FIX)
            for key in sqlite_lists.wrong(db)
        ]
    return [*invariants.problems(rows), *found]
