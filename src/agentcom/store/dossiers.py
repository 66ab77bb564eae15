"""What belongs to a task in a store, gathered into one value, and what takes all of it out."""

from collections.abc import Sequence
from typing import Final, cast

from agentcom.model.archive import Dossier, Told
from agentcom.model.batch import (
    Change,
    Delete,
    Row,
    Table,
    children_key,
    family_key,
    group_key,
    member_key,
    result_key,
    usage_key,
)
from agentcom.model.event import task_log
from agentcom.model.graph import Tally
from agentcom.model.ids import WallTime
from agentcom.model.result import KeptResult
from agentcom.model.task import Task, TaskBody
from agentcom.model.usage import Usage
from agentcom.store.base import Query, Store

READ_ROWS: Final = 500  # at once; a task has a few, but for turns and records


async def gather(store: Store, task: Task, now: WallTime) -> Dossier:
    """Return all that a store has of a task that has ended."""
    (body,) = await store.get([(Table.BODY, task.id)])
    results = await _all(store, Table.RESULT, task)
    usage = await _all(store, Table.USAGE, task)
    return Dossier(
        task=task,
        archived_at=now,
        body=body if isinstance(body, TaskBody) else None,
        results=tuple(cast("list[KeptResult]", results)),
        usage=tuple(cast("list[Usage]", usage)),
        events=await _feed(store, task),
    )


async def removal(store: Store, dossier: Dossier) -> Sequence[Change]:
    """Return what takes a task and all that belongs to it out of a store, but for its records."""
    task = dossier.task
    changes: list[Change] = [Delete(Table.TASK, task.id, task.version)]
    if dossier.body is not None:
        changes.append(Delete(Table.BODY, task.id, dossier.body.version))
    for kept in dossier.results:
        key = result_key(task.id, kept.fence, kept.machine)
        changes.append(Delete(Table.RESULT, key, kept.version))
    for turn in dossier.usage:
        key = usage_key(task.id, turn.fence, turn.turn)
        changes.append(Delete(Table.USAGE, key, turn.version))
    places = [(Table.TALLY, children_key(task.id)), (Table.TALLY, family_key(task.id))]
    places += [(Table.MEMBER, member_key(of, task.id)) for of in _memberships(task)]
    for (table, key), row in zip(places, await store.get(places), strict=True):
        if row is not None:
            changes.append(Delete(table, key, row.version))
    return changes


async def is_below_or_above(store: Store, task: Task) -> bool:
    """Return whether a group that is not over, or sub-tasks, still need a task."""
    if task.group is not None:
        (row,) = await store.get([(Table.TALLY, group_key(task.project, task.group))])
        if isinstance(row, Tally) and row.live:
            return True
    below = Query(table=Table.MEMBER, prefix=f"{children_key(task.id)}/", limit=1)
    return bool((await store.query(below)).rows)


def _memberships(task: Task) -> Sequence[str]:
    group = [group_key(task.project, task.group)] if task.group is not None else []
    return [*group, *(children_key(parent) for parent in task.parents[-1:])]


async def _all(store: Store, table: Table, task: Task) -> list[Row]:
    rows: list[Row] = []
    before: str | None = None
    while True:
        query = Query(table=table, prefix=f"{task.id}/", before=before, limit=READ_ROWS)
        page = await store.query(query)
        rows += page.rows
        before = page.next
        if before is None:
            return rows


async def _feed(store: Store, task: Task) -> tuple[Told, ...]:
    told: list[Told] = []
    while True:
        after = told[-1].seq if told else 0
        page = await store.read(task_log(task.id), after, READ_ROWS)
        told += [Told(record.seq, record.record) for record in page]
        if len(page) < READ_ROWS:
            return tuple(told)
