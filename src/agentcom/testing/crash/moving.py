"""A life in which tasks move to the archive: each is in one of two files, or in both.

What must be true of both files at any moment is in `Pair.wrong`: a power loss, a kill and a full
disk are held against the same words.
"""

import asyncio
import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final, Self, cast
from unittest import mock

from msgspec.structs import replace

from agentcom.core import loading
from agentcom.core.view import PoolView
from agentcom.hub import archiving, speaking
from agentcom.hub.archiving import Archiver
from agentcom.hub.config import RetentionSettings
from agentcom.hub.costs import CostAsked, Costs
from agentcom.hub.searching import Searching
from agentcom.hub.writing import Asked
from agentcom.model.archive import Dossier, Told
from agentcom.model.batch import Append, Batch, Insert, Table, result_key
from agentcom.model.errors import StorageFull
from agentcom.model.event import EventKind, task_log
from agentcom.model.identity import Identity, Role
from agentcom.model.ids import (
    DEFAULT_POOL,
    Fence,
    Instant,
    MachineId,
    Now,
    TaskId,
    UserId,
    WallTime,
    encode_base32,
)
from agentcom.model.result import KeptResult, Result, ResultStatus
from agentcom.model.task import Task, TaskBody, TaskState
from agentcom.model.usage import Usage
from agentcom.protocol import calls, told
from agentcom.store import dossiers
from agentcom.store.base import Committed
from agentcom.store.sqlite import SqliteOptions, SqliteStore
from agentcom.store.sqlite_archive import ARCHIVE_FILE, SqliteArchive
from agentcom.testing.crash.full import SmallDisk
from agentcom.testing.crash.operations import Kind
from agentcom.testing.crash.quick import quick_stores
from agentcom.testing.crash.recording import STORE, Acked, Begun, Recorder, Recording
from agentcom.testing.crash.vfs import watching
from agentcom.testing.store_rows import batch, body, event, task, usage

TASKS: Final = 9
ROUND: Final = 3
"""Tasks that end before the archive's next turn."""
STEP: Final = 2
"""Tasks that go at once."""
PROMPTS: Final = (40, 6_000, 300)
"""Bytes; the second takes pages of its own."""
TURNS: Final = 2
COST_MICROS: Final = 7
ARCHIVE: Final = f"{Path(STORE).parent}/{ARCHIVE_FILE}"
OPTIONS: Final = SqliteOptions(wal_bytes=64 << 10, ballast_bytes=0)
_DAY_MS: Final = 86_400_000
_NOW: Final = Now(Instant(1_000), WallTime(1_800_000_000_000))
_ENDED: Final = WallTime(_NOW.wall - 100 * _DAY_MS)
_KEEP: Final = RetentionSettings(tasks_days=1)
_ADMIN: Final = Identity(role=Role.ADMIN, user=UserId("ada"), credential="c")
_KINDS: Final = (EventKind.SUBMITTED, EventKind.ASSIGNED, EventKind.COMPLETED)


def ended(number: int) -> Batch:
    """Return what a task leaves that ended long ago, with all that a task may have."""
    name = _name(number)
    row = replace(task(name, TaskState.COMPLETED), changed_at=_ENDED, attempt=1)
    kept = KeptResult(
        task=name,
        fence=Fence(1, 1),
        agent=None,
        machine=MachineId("m"),
        at=_ENDED,
        result=Result(status=ResultStatus.DONE, summary=f"did {name}"),
        applied=True,
    )
    records = [replace(event(name, kind), at=_ENDED) for kind in _KINDS]
    made = batch(
        f"add-{name}",
        Insert(Table.TASK, name, row),
        Insert(Table.BODY, name, body(name, f"please {'x' * PROMPTS[number % len(PROMPTS)]}")),
        Insert(Table.RESULT, result_key(name, kept.fence, kept.machine), kept),
        *(usage(name, 1 + n, at=_ENDED, cost_micros=COST_MICROS) for n in range(TURNS)),
    )
    return replace(made, appends=tuple(Append(task_log(name), record) for record in records))


class Pair:
    """A store and its archive, open."""

    def __init__(self, root: Path, options: SqliteOptions = OPTIONS) -> None:
        self.store = SqliteStore(root / STORE, options=options)
        self.archive = SqliteArchive(root / ARCHIVE)
        self._made = 0

    async def __aenter__(self) -> Self:
        """Open the store; the archive is opened when it is used."""
        await self.store.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close both."""
        await self.archive.close()
        await self.store.close()

    def new(self) -> str:
        """Return a batch's id; each pair begins anew, since none asks about another's."""
        self._made += 1
        return f"move{self._made:04d}"

    def now(self) -> Now:
        """Return a moment at which all tasks ended long ago."""
        return _NOW

    async def add(self, number: int) -> None:
        """Store a task that ended long ago."""
        verdict = await self.store.commit(ended(number))
        assert isinstance(verdict, Committed), verdict

    async def move(self) -> int:
        """Let tasks go to the archive; return how many went.

        Raises:
            StorageFull: there is no room.
        """
        view, _ = loading.load(
            await self.store.scan(DEFAULT_POOL), incarnation=1, term=None, now=_NOW
        )
        return await self._archiver(view).work()

    async def tasks(self) -> Sequence[int]:
        """Return the numbers of the tasks that are in one of the files, or in both."""
        return [number for number in range(TASKS) if any(await self._dossiers(number))]

    async def wrong(self, count: int) -> list[str]:
        """Return what is wrong with two files that must have the first `count` tasks."""
        problems = [problem.what for problem in await self.store.verify()]
        there = await self.tasks()
        if there != list(range(count)):
            problems.append(f"of {count} tasks there are only {there}")
        for number in there:
            found = [one for one in await self._dossiers(number) if one is not None]
            problems += [
                f"task {number} is not what it was, in one of {len(found)} places"
                for one in found
                if _without_places(one) != _expected(number)
            ]
        hits = await self._hits()
        if sorted(hits) != [_name(number) for number in there]:
            problems.append(f"a search finds {hits} of {there}")
        costs = await Costs(self.store).costs(_ADMIN, CostAsked())
        wanted = COST_MICROS * TURNS * len(there)
        if costs.total.cost_micros != wanted and there:
            problems.append(f"turns cost {costs.total.cost_micros}, not {wanted}")
        return problems

    async def count(self) -> tuple[int, int]:
        """Return how many tasks the store has, and the archive."""
        rows = await self.store.get([(Table.TASK, _name(number)) for number in range(TASKS)])
        return sum(row is not None for row in rows), (await self.archive.size()).tasks

    async def _dossiers(self, number: int) -> Sequence[Dossier | None]:
        """Return what the store has of a task, and what the archive has."""
        name = _name(number)
        (row,) = await self.store.get([(Table.TASK, name)])
        kept = await self.archive.get(name)
        if row is None:
            return None, kept
        return await dossiers.gather(self.store, cast("Task", row), _NOW.wall), kept

    async def _hits(self) -> Sequence[str]:
        search = Searching(self.store, _nobody, self.archive)
        asked = calls.Search(text="please", kinds=("task",), limit=TASKS * 3)
        found = await search.search(speaking.person(_ADMIN), asked, Asked(cause=""))
        return [hit.id for hit in cast("told.Hits", found).hits]

    def _archiver(self, view: PoolView) -> Archiver:
        return Archiver(
            self.store, self.archive, clock=self, ids=self, view=lambda: view, keep=_KEEP
        )


def record(root: Path, name: str, deaf: Mapping[Kind, str] | None = None) -> Recording:
    """Live in the empty folder `root`: tasks come, end, and go to the archive, round for round."""
    recorder = Recorder(deaf)

    async def live() -> None:
        for first in range(0, TASKS, ROUND):
            async with Pair(root) as pair:
                for number in range(first, first + ROUND):
                    recorder.entries.append(Begun(number + 1))
                    await pair.add(number)
                    recorder.entries.append(Acked(number + 1))
                assert await pair.move() == ROUND

    with watching(root, recorder), quick_stores(), in_small():
        asyncio.run(live())
    return Recording(name, {}, recorder.entries, [])


def first_move(recording: Recording) -> int:
    """Return the number of the first operation on the archive; before it there is nothing new."""
    done = [entry.operation for entry in recording.entries if not isinstance(entry, Begun | Acked)]
    return next(at for at, one in enumerate(done) if one.path.startswith(ARCHIVE))


def sizes(folder: Path) -> Sequence[int]:
    """Return where the files grow while tasks go to the archive, in bytes beyond what was there."""
    disk = SmallDisk()
    start: list[int] = []
    problems = _filled(folder, disk, lambda: start.append(disk.used))
    assert not problems, problems
    ends = sorted({end - start[0] for end in disk.grown if end > start[0]})
    return [size for end in ends for size in (end - 1, end)]


def fill(folder: Path, room_bytes: int) -> list[str]:
    """Let the disk be full while tasks go to the archive; return what is wrong then, or later."""
    disk = SmallDisk()
    return _filled(folder, disk, lambda: disk.resize(disk.used + room_bytes))


def _filled(folder: Path, disk: SmallDisk, ready: Callable[[], object]) -> list[str]:
    root = folder / "moving"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    with watching(root, disk), quick_stores(), in_small():
        return asyncio.run(_fill(root, disk, ready))


async def _fill(root: Path, disk: SmallDisk, ready: Callable[[], object]) -> list[str]:
    async with Pair(root) as pair:
        for number in range(TASKS):
            await pair.add(number)
        await pair.store.checkpoint()  # its log is written from the start: it has room when others
        ready()
        with contextlib.suppress(StorageFull):
            await pair.move()
        disk.resize(None)
        problems = await pair.wrong(TASKS)
        await pair.move()
        problems += await pair.wrong(TASKS)
        if await pair.count() != (0, TASKS):
            problems.append(f"with room again there are {await pair.count()} in store and archive")
    async with Pair(root) as again:
        return [*problems, *await again.wrong(TASKS)]


@contextmanager
def in_small() -> Iterator[None]:
    """Move few tasks at once, and without a rest."""
    with mock.patch.multiple(archiving, STEP_TASKS=STEP, REST=0.0, REST_MIN=0.0):
        yield


async def _nobody(*_: object) -> bool:
    return False


def _name(number: int) -> TaskId:
    return TaskId(encode_base32(_ENDED, length=10) + f"{number:012d}")


@cache
def _expected(number: int) -> Dossier:
    """Return what is known of a task, without the places of its records."""
    made = ended(number)
    rows = [change.row for change in made.changes if isinstance(change, Insert)]
    return Dossier(
        task=next(row for row in rows if isinstance(row, Task)),
        archived_at=_NOW.wall,
        body=next(row for row in rows if isinstance(row, TaskBody)),
        results=tuple(row for row in rows if isinstance(row, KeptResult)),
        usage=tuple(row for row in rows if isinstance(row, Usage))[::-1],
        events=tuple(Told(0, append.record) for append in made.appends),
    )


def _without_places(found: Dossier) -> Dossier:
    return replace(found, events=tuple(Told(0, one.record) for one in found.events))
