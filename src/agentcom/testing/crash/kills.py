"""SIGKILL at each operation that a hub under load asks of the disk, hub after hub on one store."""

import asyncio
import contextlib
import itertools
import multiprocessing
import os
import random
import shutil
import signal
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

from agentcom import app
from agentcom.client.connection import ConnectionLost
from agentcom.client.dialling import NotReached
from agentcom.client.hub import HubClient
from agentcom.model import errors
from agentcom.model.batch import Table
from agentcom.model.ids import TaskId
from agentcom.model.task import Task, TaskSpec
from agentcom.store.base import Query
from agentcom.store.sqlite import SMALL, SqliteStore
from agentcom.testing.crash import hub
from agentcom.testing.crash.hub import How, Started, Strike
from agentcom.testing.crash.operations import Kind

SUBMITS: Final = 24
"""Submits of one hub's life; then it is asked to stop, and may be killed at that."""
SUBMITTERS: Final = 3
AGAIN: Final = 4
"""Acknowledged submits that are repeated at every new hub."""
FRESH_EVERY: Final = 120
"""Hubs that live on one store, one after the other; then there is a new one."""
WARM: Final = "agentcom.testing.crash.warm"
KILLED: Final = -signal.SIGKILL
_PATIENCE_S: Final = 30.0
_ASK_S: Final = 15.0
_PAGE: Final = 1_000


class Round(NamedTuple):
    """What became of one hub."""

    exit_code: int | None
    """`KILLED`, or its own; None: it would not end."""
    problems: list[str]


class Struck:
    """One store, the hubs that it had, and what they promised."""

    def __init__(self, folder: Path, *, seed: int) -> None:
        self._folder = folder
        self._home = folder / "home"
        self._rng = random.Random(seed)  # noqa: S311 - a seed repeats it
        self._token = ""
        self._numbers = itertools.count(1)
        self._asked: dict[str, int] = {}
        """Key -> how many tasks were asked for."""
        self._acknowledged: dict[str, Sequence[TaskId]] = {}
        self._problems: list[str] = []
        folder.mkdir(parents=True, exist_ok=True)
        self._home.mkdir(mode=0o700)

    @property
    def acknowledged(self) -> int:
        """How many submits were acknowledged."""
        return len(self._acknowledged)

    async def struck(self, strike: Strike) -> Sequence[Round]:
        """Let a hub be struck; a log is made only after one that has ended in peace."""
        before = [await self.live(None)] if strike.kind is Kind.CREATE else []
        return [*before, await self.live(strike)]

    async def live(self, strike: Strike | None) -> Round:
        """Start a hub, load it until it is struck or has done its part, and look at the store."""
        self._problems = []
        process, pipe = self._start(strike)
        died = asyncio.create_task(asyncio.to_thread(process.join))
        try:
            started = await asyncio.to_thread(_heard, pipe)
            if started is not None:
                self._token = started.token or self._token
                await self._load(started.url, died)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(cast("int", process.pid), signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE_S):
                    await asyncio.shield(died)
        finally:
            exit_code = process.exitcode
            process.kill()
            await died
            pipe.close()
        if exit_code not in (0, KILLED) and (strike is None or strike.how is not How.FAIL):
            self._problems.append(f"it ended by itself, with {exit_code}")
        await self._inspect()
        return Round(exit_code, [f"{strike}: {problem}" for problem in self._problems])

    def counts(self) -> Counter[tuple[Kind, str]]:
        """Return what the last hub that ended in peace asked of the disk."""
        counts: Counter[tuple[Kind, str]] = Counter()
        for line in (self._folder / hub.COUNTS).read_text("ascii").splitlines():
            kind, path, count = line.split()
            counts[Kind(kind), path] = int(count)
        return counts

    def _start(self, strike: Strike | None) -> tuple[Any, Connection]:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([WARM])
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=hub.run, args=(self._home, strike, theirs), daemon=True)
        process.start()
        theirs.close()
        return process, ours

    # The load -----------------------------------------------------------------------------------

    async def _load(self, url: str, died: asyncio.Task[None]) -> None:
        load = asyncio.create_task(self._submit_all(url))
        await asyncio.wait({load, died}, return_when=asyncio.FIRST_COMPLETED)
        load.cancel()
        with contextlib.suppress(asyncio.CancelledError, NotReached, ConnectionLost):
            await load

    async def _submit_all(self, url: str) -> None:
        async with await HubClient.connect(url, self._token, proxy=False) as client:
            known = sorted(self._acknowledged)
            again = [key for key in self._asked if key not in self._acknowledged]
            again += self._rng.sample(known, min(AGAIN, len(known)))
            new = [f"k{next(self._numbers):06d}" for _ in range(SUBMITS)]
            self._asked |= {key: self._rng.choice((1, 1, 2, 5)) for key in new}
            keys = iter([*again, *new])
            async with asyncio.TaskGroup() as group:
                for _ in range(SUBMITTERS):
                    group.create_task(self._submit_some(client, keys))

    async def _submit_some(self, client: HubClient, keys: Iterator[str]) -> None:
        for key in keys:
            specs = [
                TaskSpec(title=f"{key}/{number}", prompt="x" * 400)
                for number in range(self._asked[key])
            ]
            try:
                tasks = (await client.submit(specs, key, timeout_s=_ASK_S)).tasks
            except (errors.Timeout, errors.Unavailable):
                continue
            if self._acknowledged.setdefault(key, tasks) != tasks:
                self._problems.append(f"{key} made {tasks} beside {self._acknowledged[key]}")

    # What must be there -------------------------------------------------------------------------

    async def _inspect(self) -> None:
        """Look at a copy of what the hub left, so that the next hub finds it as it is."""
        copy = self._folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self._home, copy)
        store = SqliteStore(copy / app.STORE_FILE, options=SMALL)
        try:
            await store.open()
        except errors.StoreRefused as error:
            self._problems.append(str(error))
            return
        try:
            self._problems += [problem.what for problem in await store.verify()]
            tasks = await _tasks(store)
        finally:
            await store.close()
        found: defaultdict[str, list[TaskId]] = defaultdict(list)
        for task in tasks:
            found[task.title.partition("/")[0]].append(task.id)
        for key, ids in self._acknowledged.items():
            if sorted(ids) != sorted(found[key]):
                self._problems.append(f"{key} is acknowledged as {ids}, and there is {found[key]}")
        for key, ids in found.items():
            if ids and len(ids) != self._asked[key]:
                self._problems.append(f"{key} asked for {self._asked[key]} tasks, and made {ids}")


async def strikes(folder: Path) -> Sequence[Strike]:
    """Return every moment at which a hub can be killed, found by letting one live in peace."""
    store = Struck(folder, seed=0)
    for _ in range(2):  # the first one makes the store
        await store.live(None)
    found = []
    for (kind, path), count in sorted(store.counts().items()):
        if kind is not Kind.READ:
            ending = path.rpartition(app.STORE_FILE)[2] if app.STORE_FILE in path else path
            both = itertools.product(range(1, count + 1), (How.KILL_BEFORE, How.KILL_AFTER))
            found += [Strike(kind, ending or app.STORE_FILE, at, how) for at, how in both]
    return found


def sample(found: Sequence[Strike], count: int, *, seed: int) -> Sequence[Strike]:
    """Return some of the moments: of every kind and file in turn, each at random."""
    rng = random.Random(seed)  # noqa: S311 - a seed repeats it
    groups: defaultdict[tuple[Kind, str], list[Strike]] = defaultdict(list)
    for strike in found:
        groups[strike.kind, strike.ending].append(strike)
    for group in groups.values():
        rng.shuffle(group)
    turns = itertools.chain.from_iterable(itertools.zip_longest(*groups.values()))
    return list(itertools.islice((one for one in turns if one is not None), count))


async def _tasks(store: SqliteStore) -> Sequence[Task]:
    rows: list[Task] = []
    before = None
    while True:
        page = await store.query(Query(table=Table.TASK, before=before, limit=_PAGE))
        rows += cast("Sequence[Task]", page.rows)
        before = page.next
        if before is None:
            return rows


def _heard(pipe: Connection) -> Started | None:
    """Return what a hub says; None if it dies before."""
    try:
        return cast("Started", pipe.recv()) if pipe.poll(_PATIENCE_S) else None
    except (EOFError, OSError):
        return None
