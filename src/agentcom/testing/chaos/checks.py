"""What must be true of the hub's rows, the machines' outboxes and the origin after all faults."""

import subprocess
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

from agentcom.core import loading
from agentcom.model.batch import Row, Table, result_key
from agentcom.model.event import EventKind
from agentcom.model.ids import DEFAULT_POOL, Fence, Instant, MachineId, Now, TaskId, WallTime
from agentcom.model.result import KeptResult
from agentcom.model.task import Task, TaskState
from agentcom.sidecar.outbox import Outbox
from agentcom.store.base import Query, Store
from agentcom.store.sqlite import SqliteStore
from agentcom.testing import invariants
from agentcom.testing.chaos.beliefs import Finished
from agentcom.testing.chaos.fleet import MACHINES, Fleet

_PAGE: Final = 1_000
_LISTED: Final = (Table.TASK, Table.BODY, Table.EDGE, Table.HOLD, Table.TODO)


@dataclass(slots=True, kw_only=True)
class Findings:
    """What was found in a store, and what is wrong with it."""

    problems: list[str] = field(default_factory=list)
    tasks: dict[TaskId, Task] = field(default_factory=dict)
    results: list[KeptResult] = field(default_factory=list)
    events: Counter[EventKind] = field(default_factory=Counter)


async def inspect(path: Path, acknowledged: Collection[TaskId]) -> Findings:
    """Look at the store that a hub left behind: sound, whole, and every promise in it."""
    store = SqliteStore(path)
    incarnation = await store.open()
    found = Findings()
    try:
        found.problems += [f"store: {problem.what}" for problem in await store.verify()]
        rows = [row for table in _LISTED for row in await _all(store, table)]
        found.tasks = {row.id: row for row in rows if isinstance(row, Task)}
        found.results = cast("list[KeptResult]", await _all(store, Table.RESULT))
        missing = [task for task in acknowledged if task not in found.tasks]
        found.problems += [f"acknowledged task {task} is lost" for task in missing]
        view, _ = loading.load(
            await store.scan(DEFAULT_POOL), incarnation=incarnation, term=None, now=_now()
        )
        keyed = cast("Mapping[tuple[Table, str], Row]", dict(enumerate(rows)))
        try:
            # A hub that is not running has agents without tasks: nothing may be issued yet.
            view.beyond[MachineId("none")] = None
            invariants.check(view, keyed)
        except AssertionError as error:
            found.problems.append(f"invariant: {error}")
        await _count_events(store, found)
    finally:
        await store.close()
    return found


async def _count_events(store: Store, found: Findings) -> None:
    after = 0
    completions: Counter[str] = Counter()
    while records := await store.read(None, after, _PAGE):
        after = records[-1].seq
        found.events.update(r.record.kind for r in records)
        ends = (r.record.task for r in records if r.record.kind is EventKind.COMPLETED)
        completions.update(ends)
    twice = [task for task, count in completions.items() if count > 1]
    found.problems += [f"task {task} was completed twice" for task in twice]


def all_ended(found: Findings) -> Sequence[str]:
    """Return what has not ended, whoever asked for it."""
    return [
        f"task {task.id} has not ended: {task.state} {task.wait or task.phase or ''}"
        for task in found.tasks.values()
        if not task.state.terminal
    ]


def nothing_dropped(fleet: Fleet, found: Findings, finished: Iterable[Finished]) -> Sequence[str]:
    """Return finished results that the hub neither applied nor kept."""
    known = {result_key(row.task, row.fence, row.machine) for row in found.results}
    wanted: dict[str, str] = {}
    ids = {name: fleet.home(name).load().machine.machine for name in MACHINES}
    for one in finished:
        wanted[result_key(one.task, one.fence, ids[one.machine])] = one.machine
    problems = []
    for name in MACHINES:
        outbox = Outbox(fleet.home(name).outbox)
        kept = [record for record in outbox.kept() if record.result is not None]
        wanted |= {result_key(r.key.task, r.key.fence, ids[name]): name for r in kept}
        problems += [
            f"{name} still holds {record.key.text} as {record.stage}" for record in outbox.scan()
        ]
    return [
        *problems,
        *(
            f"the finished result {key} of {name} is dropped"
            for key, name in wanted.items()
            if key not in known
        ),
    ]


def merged_once(origin: Path, found: Findings, merging: Mapping[TaskId, str]) -> Sequence[str]:
    """Return tasks whose work is in the base twice, or not although they completed."""
    there = set(git(origin, "ls-tree", "-r", "--name-only", "main").splitlines())
    problems = []
    landed = 0
    for task, path in merging.items():
        row = found.tasks.get(task)
        landed += path in there
        if row is None:
            continue
        completed = row.state is TaskState.COMPLETED
        if completed and path not in there:
            problems.append(f"task {task} is completed, but {path} is not in main")
        if not completed and path in there:
            problems.append(f"task {task} is in main, but {row.state.value}: {row.reason}")
    moves = len(git(origin, "reflog", "show", "--format=%H", "main").splitlines()) - 1
    if moves != landed:
        problems.append(f"main moved {moves} times for the work of {landed} tasks")
    return problems


def fences(found: Findings) -> int:
    """Return how many attempts were issued in all."""
    return sum(task.fence.attempt for task in found.tasks.values())


def never_issued(found: Findings) -> Sequence[str]:
    """Return results whose fence is newer than anything that the hub has issued."""
    newest = {task.id: task.fence for task in found.tasks.values()}
    return [
        f"result of task {row.task} has fence {row.fence}, which was never issued"
        for row in found.results
        if row.fence > newest.get(row.task, Fence(0, 0))
    ]


def make_origin(folder: Path) -> Path:
    """Make a bare repository with one commit on `main`, and return its path."""
    work, origin = folder / "project", folder / "origin.git"
    work.mkdir()
    (work / "README.md").write_text("Work goes in here.\n", "utf-8")
    git(folder, "init", "-q", "--bare", "-b", "main", str(origin))
    git(origin, "config", "core.logAllRefUpdates", "always")
    git(work, "init", "-q", "-b", "main")
    git(work, "add", "--all")
    identity = ("-c", "user.name=Chaos", "-c", "user.email=chaos@agentcom.invalid")
    git(work, *identity, "commit", "-q", "-m", "Begin")
    git(work, "push", "-q", str(origin), "main")
    return origin


def git(folder: Path, *arguments: str) -> str:
    """Return what git says in `folder`.

    Raises:
        CalledProcessError: git refused.
    """
    done = subprocess.run(  # noqa: S603 - arguments of this package
        ["git", "-C", str(folder), *arguments],  # noqa: S607 - the same git as the sidecar's
        check=True,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    return done.stdout.strip()


async def _all(store: Store, table: Table) -> Sequence[Row]:
    rows: list[Row] = []
    before: str | None = None
    while True:
        page = await store.query(Query(table=table, before=before, limit=_PAGE))
        rows += page.rows
        if page.next is None:
            return rows
        before = page.next


def _now() -> Now:
    return Now(Instant(0), WallTime(time.time_ns() // 1_000_000))
