"""What a store does in a recorded life: all that a hub asks of it, in small, in a seeded order."""

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple, cast
from unittest import mock

from msgspec.structs import replace

from agentcom.model.agent import Machine
from agentcom.model.batch import (
    Batch,
    Change,
    Delete,
    Insert,
    Row,
    Table,
    Update,
    hold_key,
    request_key,
    result_key,
)
from agentcom.model.hold import Hold, HoldMode
from agentcom.model.identity import RequestRecord
from agentcom.model.ids import DEFAULT_POOL, Fence, MachineId, TaskId, UserId, WallTime
from agentcom.model.result import KeptResult, Result, ResultStatus
from agentcom.model.task import Task, TaskState
from agentcom.store import sqlite_lists, sqlite_open
from agentcom.store.base import Committed, Conflict, Store
from agentcom.store.sqlite import SqliteOptions, SqliteStore
from agentcom.store.sqlite_open import Migration
from agentcom.testing.crash.operations import Kind
from agentcom.testing.crash.recording import (
    STORE,
    Acked,
    Begun,
    Content,
    Ledger,
    Recorder,
    Recording,
)
from agentcom.testing.crash.vfs import watching
from agentcom.testing.store_rows import batch, body, request, task

OPTIONS: Final = SqliteOptions(wal_bytes=96 << 10, checkpoint_pages=20, ballast_bytes=64 << 10)
ARREARS: Final = 24
LIVE_MAX: Final = 10
LARGE_BYTES: Final = 20_000
LATER: Final = Migration(9_000, "CREATE TABLE later (key TEXT PRIMARY KEY NOT NULL) STRICT")
"""A step of the schema that a newer program would bring."""
_SLOW_S: Final = 0.01
_WALL_S: Final = 1_000.0


class Plan(NamedTuple):
    """A life to record."""

    name: str
    seed: int
    steps: int
    migrates: bool = False


class Start(NamedTuple):
    """What a life begins with: files that a power loss left, and what a reader finds there."""

    files: Mapping[str, bytes]
    content: Content


def steps_of(*, migrated: bool) -> Sequence[Migration]:
    """Return the steps of the schema, with one more if `migrated`."""
    known = sqlite_open.load_migrations()
    return [*known, LATER] if migrated else known


def record(
    root: Path, plan: Plan, start: Start | None = None, deaf: Mapping[Kind, str] | None = None
) -> Recording:
    """Live in the empty folder `root`, and return what happened."""
    return asyncio.run(_record(root, plan, start, deaf))


async def _record(
    root: Path, plan: Plan, start: Start | None, deaf: Mapping[Kind, str] | None
) -> Recording:
    initial = {} if start is None else dict(start.files)
    for name, data in initial.items():
        path = root / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_bytes(data)
    ledger = Ledger(None if start is None else start.content)
    recorder = Recorder(deaf)
    with watching(root, recorder), mock.patch.object(sqlite_lists, "ARREARS_MAX", ARREARS):
        await Life(root / STORE, recorder, ledger, plan).run()
    return Recording(plan.name, initial, recorder.entries, ledger.contents, plan.migrates)


class Life:
    """One store, used until the plan is done."""

    def __init__(self, path: Path, recorder: Recorder, ledger: Ledger, plan: Plan) -> None:
        self._path = path
        self._recorder = recorder
        self._ledger = ledger
        self._plan = plan
        self._rng = random.Random(f"{plan.name}/{plan.seed}")  # noqa: S311 - a seed repeats it
        self._made = 0
        self._slow = False
        self._now_s = 0.0
        self.store = self._new(migrated=False)
        self.is_open = False

    async def run(self) -> None:
        """Open, do what is planned, and close."""
        await self._open()
        await self._lead()
        for number in range(self._plan.steps):
            await self._act()
            if self._plan.migrates and number == self._plan.steps // 2:
                await self._reopen(migrated=True)
        await self.close()

    async def close(self) -> None:
        """Close the store, if it is open."""
        if self.is_open:
            self.is_open = False
            await self.store.close()

    async def _open(self) -> None:
        await self.store.open()
        self.is_open = True

    def _new(self, *, migrated: bool) -> SqliteStore:
        return SqliteStore(
            self._path,
            options=OPTIONS,
            wall_s=lambda: _WALL_S,
            clock_s=self._clock_s,
            migrations=steps_of(migrated=migrated),
        )

    def _clock_s(self) -> float:
        self._now_s += _SLOW_S if self._slow else 0.0
        return self._now_s

    async def _act(self) -> None:
        acts: dict[Callable[[], object], int] = {
            self._submit: 22,
            self._start: 14,
            self._finish: 14,
            self._forget: 9,
            self._note: 9,
            self._touch: 5,
            self._group: 9,
            self._large: 3,
            self._prune: 4,
            self.store.checkpoint: 4,
            self._conflict: 3,
            self._reopen: 2,
            self._lead: 2,
        }
        (act,) = self._rng.choices(list(acts), list(acts.values()))
        done = act()
        if asyncio.iscoroutine(done):
            await done

    # What is asked ------------------------------------------------------------------------------

    async def _submit(self) -> None:
        if len(self._tasks(TaskState.QUEUED)) < LIVE_MAX:
            await self._commit(self._new_task(self._rng.randint(0, 600)))

    async def _large(self) -> None:
        await self._commit(self._new_task(LARGE_BYTES))

    async def _start(self) -> None:
        for one in self._tasks(TaskState.QUEUED)[:1]:
            running = replace(task(one.id, TaskState.RUNNING), version=one.version + 1)
            hold = Hold(task=one.id, attempt=1, key="slot", mode=HoldMode.SHARED)
            taken = Insert(Table.HOLD, hold_key(one.id, "slot"), hold)
            await self._commit(self._batch(_update(one, running), taken, appends=[one.id]))

    async def _finish(self) -> None:
        for one in self._tasks(TaskState.RUNNING)[:2]:
            done = replace(task(one.id, TaskState.COMPLETED), version=one.version + 1)
            kept = KeptResult(
                task=one.id,
                fence=Fence(1, 1),
                agent=one.agent,
                machine=MachineId("m"),
                at=WallTime(1),
                result=Result(status=ResultStatus.DONE, summary="y" * self._rng.randint(0, 300)),
                applied=True,
            )
            await self._commit(
                self._batch(
                    _update(one, done),
                    Delete(Table.HOLD, hold_key(one.id, "slot"), expected=1),
                    Insert(Table.RESULT, result_key(one.id, kept.fence, "m"), kept),
                    appends=[one.id],
                )
            )

    async def _forget(self) -> None:
        """Delete what is over; a batch with no record of it."""
        for one in self._tasks(TaskState.COMPLETED)[:2]:
            await self._commit(
                self._batch(
                    Delete(Table.TASK, one.id, expected=one.version),
                    Delete(Table.BODY, one.id, expected=1),
                    Delete(Table.RESULT, result_key(one.id, Fence(1, 1), "m"), expected=1),
                )
            )

    async def _note(self) -> None:
        """Change a row of no task: a batch without records."""
        key = f"m{self._rng.randrange(3)}"
        if key not in self._ledger.keys(Table.MACHINE):
            new = Machine(id=MachineId(key), name=key, owner=UserId("ada"), created_at=WallTime(1))
            await self._commit(self._batch(Insert(Table.MACHINE, key, new)))
            return
        old = cast("Machine", self._ledger.row(Table.MACHINE, key))
        changed = replace(old, session=old.session + 1, version=old.version + 1)
        await self._commit(self._batch(Update(Table.MACHINE, key, changed, expected=old.version)))

    async def _touch(self) -> None:
        """Change a task without a record: it has to be listed at once."""
        for one in self._tasks(TaskState.QUEUED)[-1:]:
            changed = replace(one, version=one.version + 1)
            await self._commit(self._batch(_update(one, changed)))

    async def _group(self) -> None:
        """Let several batches wait for a slow disk, so that they become one transaction."""
        self._slow = True
        await self._note()  # the disk is slow from here on
        gate = self._recorder.hold_writer()
        waiting = [asyncio.create_task(self._lead())]
        await asyncio.sleep(0)
        batches = [self._new_task(self._rng.randint(0, 200)) for _ in range(4)]
        waiting += [asyncio.create_task(self._commit(each)) for each in batches]
        await asyncio.sleep(0)  # each has queued its batch; the writer waits in what came before
        gate.set()
        await asyncio.gather(*waiting)
        self._slow = self._rng.random() < 0.3  # noqa: PLR2004 - often quick again

    async def _prune(self) -> None:
        now = WallTime(self._made // 2)
        rows = [(key, self._ledger.row(Table.REQUEST, key)) for key in self._requests()]
        gone = [key for key, row in rows if cast("RequestRecord", row).expires_at <= now]
        if gone:
            with self._step(self._ledger.delete(Table.REQUEST, gone)):
                assert await self.store.prune(now) == len(gone)

    async def _conflict(self) -> None:
        for one in self._tasks(TaskState.QUEUED)[:1]:
            wrong = batch(self._name("w"), Delete(Table.TASK, one.id, expected=99))
            assert isinstance(await self.store.commit(wrong), Conflict)

    async def _lead(self) -> None:
        with self._step(self._ledger.lead()):
            assert await self.store.acquire(DEFAULT_POOL, "crash") == self._ledger.term

    async def _reopen(self, *, migrated: bool = False) -> None:
        if self._plan.migrates and not migrated:
            return
        await self.close()
        self.store = self._new(migrated=migrated)
        await self._open()

    # How it is asked ----------------------------------------------------------------------------

    async def _commit(self, wanted: Batch) -> None:
        with self._step(self._ledger.commit(wanted)):
            await _committed(self.store, wanted)
        # Asked in the writer's turn: whatever it has to tidy up after the commit is done, too.
        assert await self.store.outcome(wanted.id)

    @contextlib.contextmanager
    def _step(self, number: int) -> Iterator[None]:
        self._recorder.entries.append(Begun(number))
        yield
        self._recorder.entries.append(Acked(number))

    def _new_task(self, prompt: int) -> Batch:
        name = self._name("t")
        asked = request(request_key("ada", name), expires_at=self._made + 20)
        return self._batch(
            Insert(Table.TASK, name, task(name)),
            Insert(Table.BODY, name, body(name, "x" * prompt)),
            Insert(Table.REQUEST, asked.key, asked),
            appends=[name],
        )

    def _batch(self, *changes: Change, appends: Sequence[str] = ()) -> Batch:
        name = self._name("b")
        return batch(name, *changes, appends=appends, term=self._ledger.term)

    def _name(self, kind: str) -> str:
        self._made += 1
        return f"{kind}{self._made:05d}-{self._plan.name}"

    def _tasks(self, state: TaskState) -> Sequence[Task]:
        rows = [self._ledger.row(Table.TASK, key) for key in self._ledger.keys(Table.TASK)]
        return [row for row in cast("list[Task]", rows) if row.state is state]

    def _requests(self) -> Sequence[str]:
        return self._ledger.keys(Table.REQUEST)


async def _committed(store: Store, wanted: Batch) -> None:
    verdict = await store.commit(wanted)
    assert isinstance(verdict, Committed), verdict


def _update(old: Task, new: Row) -> Change:
    return Update(Table.TASK, TaskId(old.id), new, expected=old.version)
