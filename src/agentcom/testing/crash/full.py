"""A disk that is full after so many bytes: what is refused, what still fits, what comes back."""

import asyncio
import errno
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import apsw

from agentcom.model.batch import Batch, Insert, Table, Update
from agentcom.model.errors import StoreRefused
from agentcom.model.task import TaskState
from agentcom.store.base import Committed, Full
from agentcom.store.failures import StoreFailed
from agentcom.store.sqlite import SqliteOptions, SqliteStore
from agentcom.testing.crash.operations import DiskFault, Kind, Operation
from agentcom.testing.crash.quick import quick_stores
from agentcom.testing.crash.recording import STORE, Ledger, read_content
from agentcom.testing.crash.vfs import watching
from agentcom.testing.store_rows import batch, body, new_task, task

OPTIONS: Final = SqliteOptions(wal_bytes=64 << 10, checkpoint_pages=20, ballast_bytes=512 << 10)
TASKS: Final = 24
PROMPT_BYTES: Final = 6_000
REPORTS: Final = 6
_BALLAST: Final = "store.db-ballast"
_PATIENCE_S: Final = 20.0


class SmallDisk:
    """A watcher that refuses what would make the files larger than the disk."""

    def __init__(self, room_bytes: int | None = None) -> None:
        self.grown: list[int] = []
        """The bytes in use after each growth: where a disk may be full."""
        self._room = room_bytes
        self._sizes: dict[str, int] = {}

    def resize(self, room_bytes: int | None) -> None:
        """Give the disk another size; None: without a bound."""
        self._room = room_bytes

    def room(self) -> int | None:
        """Return how many bytes are free."""
        return None if self._room is None else max(0, self._room - self.used)

    def before(self, operation: Operation) -> None:
        """Refuse what does not fit, after as much of it as does."""
        room = self.room()
        if room is None or operation.kind not in (Kind.WRITE, Kind.TRUNCATE):
            return
        growth = self._end(operation) - self._sizes.get(operation.path, 0)
        if growth > room:
            written = max(0, len(operation.data) - growth + room)
            if written:
                self._note(operation.path, operation.offset + written)
            raise DiskFault(errno.ENOSPC, written)

    def after(self, operation: Operation) -> None:
        """Keep the books."""
        match operation.kind:
            case Kind.WRITE:
                self._note(operation.path, self._end(operation))
            case Kind.TRUNCATE:
                self._sizes[operation.path] = operation.offset
                self.grown.append(self.used)
            case Kind.UNLINK:
                self._sizes.pop(operation.path, None)
            case Kind.RENAME:
                self._sizes[operation.target] = self._sizes.pop(operation.path, 0)
            case _:
                pass

    def _note(self, path: str, end: int) -> None:
        if end > self._sizes.get(path, 0):
            self._sizes[path] = end
            self.grown.append(self.used)

    def _end(self, operation: Operation) -> int:
        return operation.offset + len(operation.data)

    @property
    def used(self) -> int:
        """How many bytes all files have."""
        return sum(self._sizes.values())


class Point(NamedTuple):
    """When a disk is full."""

    room_bytes: int
    after_open: bool
    """Whether the room is counted from the moment the store was open, or from an empty disk."""

    def __str__(self) -> str:
        since = "after the start" if self.after_open else "on an empty disk"
        return f"full {self.room_bytes} bytes {since}"


class Filled(NamedTuple):
    """What became of a store on a disk that got full."""

    opened: bool
    """Whether the room was enough to open it."""
    stored: int
    """Tasks that were acknowledged before the disk was full."""
    refused: bool
    reported: int
    """Reports that were acknowledged while it was."""
    problems: list[str]


def points(folder: Path) -> Sequence[Point]:
    """Return when to be full: each byte where a store grows, the byte before, and in between."""
    disk = SmallDisk()
    marks: list[int] = []
    _lived(folder, disk, opened=lambda: marks.append(disk.used))
    start = marks[0]
    found = []
    for end in sorted(set(disk.grown)):
        after_open = end > start
        base = start if after_open else 0
        rooms = {end - base - 1, end - base, end - base - 600}
        found += [Point(room, after_open) for room in sorted(rooms) if room >= 0]
    return found


def fill(folder: Path, point: Point) -> Filled:
    """Use a store until its disk is full; then make room, and check it all."""
    if not point.after_open:
        return _lived(folder, SmallDisk(point.room_bytes))
    disk = SmallDisk()
    return _lived(folder, disk, opened=lambda: disk.resize(disk.used + point.room_bytes))


def _lived(folder: Path, disk: SmallDisk, opened: Callable[[], None] = lambda: None) -> Filled:
    root = folder / "full"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    with watching(root, disk), quick_stores():
        return asyncio.run(_live(root / STORE, disk, opened))


async def _live(path: Path, disk: SmallDisk, opened: Callable[[], None]) -> Filled:
    ledger, problems = Ledger(), list[str]()
    store = SqliteStore(path, options=OPTIONS)
    has_opened = await _opens(store)
    if not has_opened:
        disk.resize(None)
        store = SqliteStore(path, options=OPTIONS)
        await store.open()
    opened()
    stored = reported = 0
    refused = False
    try:
        async with asyncio.timeout(_PATIENCE_S):
            refused = not await _fill(store, ledger)
            stored = len(ledger.keys(Table.TASK))
            promised = min(stored, REPORTS) if path.with_name(_BALLAST).exists() else 0
            reported = await _report(store, ledger)
            disk.resize(None)
            if not await _submit(store, ledger, TASKS):
                problems.append("with room again, it takes no task")
            problems += await _wrong(store, ledger)
            await store.close()
        again = SqliteStore(path, options=OPTIONS)
        await again.open()
        problems += await _wrong(again, ledger)
        await again.close()
        if reported < promised:
            problems.append(f"{reported} of {promised} reports found room")
    except (StoreFailed, StoreRefused, TimeoutError, apsw.Error, OSError) as error:
        problems.append(f"after {stored} tasks and {reported} reports: {error!r}")
    return Filled(has_opened, stored, refused, reported, problems)


async def _opens(store: SqliteStore) -> bool:
    try:
        await store.open()
    except (StoreRefused, apsw.Error, OSError):
        return False
    return True


async def _fill(store: SqliteStore, ledger: Ledger) -> bool:
    """Submit until all are stored (True) or one is refused."""
    for number in range(TASKS):
        if not await _submit(store, ledger, number):
            return False
    return True


async def _submit(store: SqliteStore, ledger: Ledger, number: int) -> bool:
    name = f"t{number:03d}"
    new, _ = new_task(name)
    long = Insert(Table.BODY, name, body(name, "x" * PROMPT_BYTES))
    return await _commit(store, ledger, batch(f"b-{name}", new, long, appends=[name]))


async def _report(store: SqliteStore, ledger: Ledger) -> int:
    """Complete tasks, while the disk is full; return how many of them."""
    count = 0
    for name in ledger.keys(Table.TASK)[:REPORTS]:
        done = Update(Table.TASK, name, task(name, TaskState.COMPLETED, version=2), expected=1)
        count += await _commit(store, ledger, batch(f"d-{name}", done, appends=[name]))
    return count


async def _commit(store: SqliteStore, ledger: Ledger, wanted: Batch) -> bool:
    verdict = await store.commit(wanted)
    if isinstance(verdict, Committed):
        ledger.commit(wanted)
        return True
    assert isinstance(verdict, Full), verdict
    return False


async def _wrong(store: SqliteStore, ledger: Ledger) -> Sequence[str]:
    problems = [problem.what for problem in await store.verify()]
    if await store._read(read_content) != ledger.contents[-1]:  # noqa: SLF001 - as Judge does
        problems.append("it does not contain what was acknowledged, and nothing else")
    return problems
