"""Small rows and batches, and shorthand to write and read them in tests of stores."""

from collections.abc import Sequence
from typing import Any

import msgspec

from agentcom.model.batch import (
    Append,
    Batch,
    Change,
    Insert,
    Row,
    Table,
    usage_key,
)
from agentcom.model.event import EventKind, TaskEvent, task_log
from agentcom.model.identity import RequestRecord
from agentcom.model.ids import (
    DEFAULT_POOL,
    DEFAULT_PROJECT,
    AgentId,
    BatchId,
    Fence,
    MachineId,
    PoolId,
    ProjectId,
    TaskId,
    UserId,
    WallTime,
)
from agentcom.model.schedule import Schedule
from agentcom.model.task import Task, TaskBody, TaskSpec, TaskState
from agentcom.model.usage import Usage, day_of
from agentcom.store.base import Committed, Store


def task(name: str, state: TaskState = TaskState.QUEUED, *, version: int = 1) -> Task:
    """Return a task's row; one that is under way has a holder."""
    return Task(
        id=TaskId(name),
        project=DEFAULT_PROJECT,
        submitter=UserId("ada"),
        title=name,
        state=state,
        changed_at=WallTime(1),
        version=version,
        agent=AgentId("bob") if state.held else None,
        machine=MachineId("m") if state.held else None,
        attempt=int(state.held),
    )


def body(name: str, prompt: str = "") -> TaskBody:
    """Return the specification of a task."""
    spec = TaskSpec(title=name, prompt=prompt)
    return TaskBody(
        id=TaskId(name), submitter=UserId("ada"), created_at=WallTime(1), cause="", spec=spec
    )


def event(name: str, kind: EventKind = EventKind.SUBMITTED) -> TaskEvent:
    """Return a record of a task's feed."""
    return TaskEvent(kind=kind, task=TaskId(name), state=TaskState.QUEUED, at=WallTime(1))


def request(key: str, expires_at: int) -> RequestRecord:
    """Return the record of a request."""
    return RequestRecord(
        key=key, payload="00", reply=msgspec.Raw(b"{}"), expires_at=WallTime(expires_at)
    )


def usage(name: str, turn: int = 1, *, at: int = 1, **fields: Any) -> Insert:
    """Return what one turn writes; its model is `m`, unless `fields` say otherwise."""
    row = Usage(
        task=TaskId(name),
        fence=Fence(1, 1),
        turn=turn,
        project=fields.pop("project", DEFAULT_PROJECT),
        submitter=fields.pop("submitter", UserId("ada")),
        agent=fields.pop("agent", AgentId("bob")),
        model=fields.pop("model", "m"),
        runtime="claude",
        at=WallTime(at),
        day=day_of(WallTime(at)),
        **fields,
    )
    return Insert(Table.USAGE, usage_key(name, row.fence, turn), row)


def schedule(owner: str, project: str = DEFAULT_PROJECT) -> Schedule:
    """Return a schedule that is named after its owner."""
    return Schedule(
        id=f"{project}-{owner}",
        project=ProjectId(project),
        owner=UserId(owner),
        name=owner,
        cron="@daily",
        zone="UTC",
        task=TaskSpec(title="t", prompt="p"),
        next_at=WallTime(1),
    )


def new_task(name: str, state: TaskState = TaskState.QUEUED) -> tuple[Change, ...]:
    """Return what a submit writes."""
    return Insert(Table.TASK, name, task(name, state)), Insert(Table.BODY, name, body(name))


def batch(
    name: str,
    *changes: Change,
    appends: Sequence[str] = (),
    term: int | None = None,
    pool: PoolId = DEFAULT_POOL,
) -> Batch:
    """Return a batch; `appends` are tasks that something happened to."""
    records = tuple(Append(task_log(TaskId(each)), event(each)) for each in appends)
    return Batch(id=BatchId(name), pool=pool, term=term, changes=changes, appends=records)


async def committed(store: Store, wanted: Batch) -> int:
    """Commit, and return the first sequence."""
    verdict = await store.commit(wanted)
    assert isinstance(verdict, Committed), verdict
    return verdict.first


async def one(store: Store, table: Table, key: str) -> Row | None:
    """Return one row."""
    return (await store.get([(table, key)]))[0]
