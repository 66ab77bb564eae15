"""What must be true of the rows that a hub left behind, of many tasks, without keeping them all."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agentcom.app import STORE_FILE
from agentcom.model.batch import Row, Table
from agentcom.model.event import BESIDE, EventKind
from agentcom.model.ids import TaskId
from agentcom.model.result import KeptResult
from agentcom.model.task import Task, TaskState
from agentcom.store.base import Query, Store
from agentcom.store.sqlite import SqliteStore

_PAGE: Final = 2_000


@dataclass(slots=True)
class Findings:
    """What stands in a store, and what is wrong with it."""

    problems: list[str] = field(default_factory=list)
    tasks: int = 0
    states: Counter[TaskState] = field(default_factory=Counter)
    again: int = 0
    """Attempts beyond the first of their task."""
    events: Counter[EventKind] = field(default_factory=Counter)
    records: int = 0
    late_results: int = 0
    """Results that were kept and not applied."""


async def audit(home: Path, accepted: Collection[TaskId]) -> Findings:
    """Read the whole store of a hub that is not running, and hold it against what was accepted.

    Every accepted task must be there, be over, and have ended exactly once, and there must be no
    other task.
    """
    store = SqliteStore(home / STORE_FILE)
    await store.open()
    found = Findings()
    try:
        found.problems += [f"store: {problem.what}" for problem in await store.verify()]
        await _tasks(store, found, set(accepted))
        await _ends(store, found)
        await _results(store, found)
    finally:
        await store.close()
    return found


async def _tasks(store: Store, found: Findings, missing: set[TaskId]) -> None:
    before: str | None = None
    while True:
        page = await store.query(Query(table=Table.TASK, before=before, limit=_PAGE))
        for row in page.rows:
            _task(row, found, missing)
        before = page.next
        if before is None:
            break
    found.problems += [f"accepted task {task} is lost" for task in sorted(missing)]


def _task(row: Row, found: Findings, missing: set[TaskId]) -> None:
    assert isinstance(row, Task)
    found.tasks += 1
    found.states[row.state] += 1
    found.again += max(0, row.attempt - 1)
    if row.id not in missing:
        found.problems.append(f"task {row.id} was never accepted")
    missing.discard(row.id)
    if not row.state.terminal:
        found.problems.append(f"task {row.id} has not ended: {row.state} {row.wait or ''}")


async def _ends(store: Store, found: Findings) -> None:
    """A record in a terminal state is an end, unless it tells of something beside the task."""
    after = 0
    ended: set[TaskId] = set()
    while records := await store.read(None, after, _PAGE):
        after = records[-1].seq
        found.records += len(records)
        for record in records:
            event = record.record
            found.events[event.kind] += 1
            if event.state.terminal and event.kind not in BESIDE:
                if event.task in ended:
                    found.problems.append(f"task {event.task} ended twice")
                ended.add(event.task)
    if len(ended) != found.tasks:
        found.problems.append(f"{len(ended)} tasks have ended by the log, of {found.tasks}")


async def _results(store: Store, found: Findings) -> None:
    before: str | None = None
    while True:
        page = await store.query(Query(table=Table.RESULT, before=before, limit=_PAGE))
        for row in page.rows:
            assert isinstance(row, KeptResult)
            found.late_results += not row.applied
        before = page.next
        if before is None:
            return
