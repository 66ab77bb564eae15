"""Which tasks an act on many is about: found in the store, counted, and bounded."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from agentcom.model.batch import Table
from agentcom.model.bulk import BulkAct
from agentcom.model.errors import InvalidInput, NotAllowed
from agentcom.model.identity import Identity, Role
from agentcom.model.ids import TaskId
from agentcom.model.limits import BULK_LOOK_MAX, BULK_TASKS_MAX
from agentcom.model.task import Task, TaskBody, TaskState
from agentcom.protocol.asked import TaskChoice
from agentcom.store.base import Query, Store

_STEP: Final = 500
"""Rows that are read at once."""
_STATES: Final[Mapping[BulkAct, tuple[TaskState, ...]]] = MappingProxyType(
    {
        BulkAct.CANCEL: tuple(state for state in TaskState if not state.terminal),
        BulkAct.RETRY: (TaskState.FAILED, TaskState.CANCELLED),
    }
)
"""What an act is about if nobody says which states are meant."""


class Chooser:
    """Finds tasks for one caller at a time."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def choose(
        self, identity: Identity, act: BulkAct, asked: TaskChoice
    ) -> tuple[Sequence[TaskId], tuple[TaskState, ...]]:
        """Return the tasks that are meant, the oldest first, and the states that they are in.

        Raises:
            InvalidInput: nothing narrows the choice, or it is wider than one act may be.
            NotAllowed: the project is not the caller's.
        """
        if asked == TaskChoice():
            raise InvalidInput("filter", "say which tasks: a state, a label, a time, a project")
        if asked.project not in (None, identity.project):
            raise NotAllowed("this token is for another project")
        states = asked.state or _STATES[act]
        where: dict[str, Sequence[str]] = {
            "project": [identity.project],
            "state": [state.value for state in states],
        }
        submitter = asked.submitter
        if identity.role is Role.SUBMITTER or submitter == "@me":
            where["submitter"] = [identity.user]
        if submitter not in (None, "@me", identity.user):
            if identity.role is Role.SUBMITTER:
                raise NotAllowed("a submitter acts on their own tasks")
            where["submitter"] = [submitter]
        found = await self._find(where, asked)
        return found[::-1], states

    async def _find(self, where: dict[str, Sequence[str]], asked: TaskChoice) -> list[TaskId]:
        found: list[TaskId] = []
        place: str | None = None
        for _ in range(BULK_LOOK_MAX // _STEP):
            query = Query(table=Table.TASK, where=where, before=place, limit=_STEP)
            page = await self._store.query(query)
            found += await self._fitting(page.rows, asked)
            if len(found) > BULK_TASKS_MAX:
                break
            place = page.next
            if place is None:
                return found
        many = f"over {BULK_TASKS_MAX} tasks, or over {BULK_LOOK_MAX} to look at: narrow the choice"
        raise InvalidInput("filter", many)

    async def _fitting(self, rows: Sequence[object], asked: TaskChoice) -> list[TaskId]:
        tasks = [row for row in rows if isinstance(row, Task)]
        if asked.since is not None:
            tasks = [task for task in tasks if task.changed_at >= asked.since]
        if asked.labels and tasks:
            bodies = await self._store.get([(Table.BODY, task.id) for task in tasks])
            pairs = zip(tasks, bodies, strict=True)
            tasks = [task for task, body in pairs if _has_labels(body, asked.labels)]
        return [task.id for task in tasks]


def _has_labels(body: object, labels: Mapping[str, str]) -> bool:
    return isinstance(body, TaskBody) and labels.items() <= body.spec.labels.items()
