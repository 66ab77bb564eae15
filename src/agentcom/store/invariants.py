"""What must be true of all rows together; every store's `verify` asks here."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final, cast

from agentcom.model.batch import Row, Table
from agentcom.model.graph import Edge
from agentcom.model.hold import Hold
from agentcom.model.ids import TaskId
from agentcom.model.task import Task
from agentcom.store.base import Problem

Rows = Callable[[Table], Iterable[tuple[str, Row]]]

FIX: Final = (
    "put a sound copy back (`agentcom backup restore`), and report this with what `agentcom doctor`"
    " says"
)


def problems(rows: Rows) -> list[Problem]:
    """Return what is wrong with `rows`, each table read once."""
    found: list[Problem] = []
    live: set[TaskId] = set()
    held: set[TaskId] = set()
    for key, row in _sound(rows, Table.TASK, found):
        task = cast("Task", row)
        if task.id != key:
            found.append(_problem(f"the row of task {key} names {task.id}"))
        if not task.state.terminal:
            live.add(task.id)
        if task.state.held:
            held.add(task.id)
            if task.agent is None or task.machine is None or not task.attempt:
                found.append(_problem(f"task {key} is under way, but nobody holds it"))
    for key, row in _sound(rows, Table.HOLD, found):
        if cast("Hold", row).task not in held:
            found.append(_problem(f"hold {key} belongs to no attempt under way"))
    for key, row in _sound(rows, Table.EDGE, found):
        if cast("Edge", row).task not in live:
            found.append(_problem(f"dependency {key} belongs to no live task"))
    missing = live.difference(key for key, _ in _sound(rows, Table.BODY, found))
    found += [_problem(f"task {task} has no specification") for task in sorted(missing)]
    _read_the_rest(rows, found)
    return found


def _read_the_rest(rows: Rows, found: list[Problem]) -> None:
    for table in Table:
        if table not in (Table.TASK, Table.HOLD, Table.EDGE, Table.BODY):
            deque(_sound(rows, table, found), maxlen=0)


def _sound(rows: Rows, table: Table, found: list[Problem]) -> Iterator[tuple[str, Row]]:
    for key, row in rows(table):
        if row.version < 1:
            found.append(_problem(f"{table} {key} has version {row.version}"))
        yield key, row


def _problem(what: str) -> Problem:
    return Problem(what, FIX)
