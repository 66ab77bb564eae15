"""Every live task by its id; those that wait in a long queue are kept in a few words.

Most tasks of a long queue were asked for alike: by the same person, with the same needs. Of such a
task only what tells it from an earlier one is kept, beside that one. Whoever reads it gets it
whole, so nobody else has to know.
"""

from collections.abc import Iterator, MutableMapping
from typing import Any, Final, TypeVar, final, overload

import msgspec

from agentcom.model.ids import ProjectId, TaskId, UserId, WallTime
from agentcom.model.limits import KINDS_OF_TASKS, WHOLE_TASKS
from agentcom.model.task import Task, TaskState

_Kind = tuple[ProjectId, UserId, tuple[str, ...], int]
_Default = TypeVar("_Default")
_QUEUED: Final = TaskState.QUEUED
_replace: Final = msgspec.structs.replace


@final
class _Brief(msgspec.Struct, frozen=True, gc=False):
    """What tells a task from one that is alike."""

    alike: Task
    title: str
    changed_at: WallTime
    start_tag: float
    seq: int
    cause: str

    def whole(self, task_id: TaskId) -> Task:
        return _replace(
            self.alike,
            id=task_id,
            title=self.title,
            changed_at=self.changed_at,
            start_tag=self.start_tag,
            seq=self.seq,
            cause=self.cause,
        )


class LiveTasks(MutableMapping[TaskId, Task]):
    """Tasks by id, in the order in which they came; `whole_max` of them are kept as they are."""

    __slots__ = ("_alike", "_rows", "_whole_max")

    def __init__(self, whole_max: int = WHOLE_TASKS) -> None:
        self._rows: dict[TaskId, Task | _Brief] = {}
        self._alike: dict[_Kind, Task] = {}
        """The newest whole task of each kind."""
        self._whole_max = whole_max

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[TaskId]:
        return iter(self._rows)

    def __contains__(self, task_id: object) -> bool:
        return task_id in self._rows

    def __getitem__(self, task_id: TaskId) -> Task:
        row = self._rows[task_id]
        return row.whole(task_id) if type(row) is _Brief else row

    @overload
    def get(self, task_id: TaskId, /) -> Task | None: ...
    @overload
    def get(self, task_id: TaskId, default: Task | _Default, /) -> Task | _Default: ...
    def get(self, task_id: TaskId, default: object = None, /) -> object:
        row = self._rows.get(task_id)
        if row is None:
            return default
        return row.whole(task_id) if type(row) is _Brief else row

    def __setitem__(self, task_id: TaskId, task: Task) -> None:
        rows = self._rows
        if len(rows) >= self._whole_max and task.state is _QUEUED and not task.attempt:
            rows[task_id] = self._shortened(task)
        else:
            rows[task_id] = task

    def pop(self, task_id: TaskId, *default: Any) -> Any:
        row = self._rows.pop(task_id, *default)
        return row.whole(task_id) if type(row) is _Brief else row

    def kept(self, task_id: TaskId) -> object | None:
        """Return what is kept of a task now, for `restore`; None: it is not here."""
        return self._rows.get(task_id)

    def restore(self, task_id: TaskId, kept: Any) -> None:
        """Keep of a task what was kept before."""
        if kept is None:
            del self._rows[task_id]
        else:
            self._rows[task_id] = kept

    def __delitem__(self, task_id: TaskId) -> None:
        del self._rows[task_id]

    def _shortened(self, task: Task) -> Task | _Brief:
        """Return a task in a few words, or as it is if no other one is like it."""
        kind = task.project, task.submitter, task.needs, task.priority
        alike = self._alike.get(kind)
        if alike is not None:
            title = alike.title if task.title == alike.title else task.title  # one object less
            brief = _Brief(alike, title, task.changed_at, task.start_tag, task.seq, task.cause)
            if brief.whole(task.id) == task:
                return brief
        if len(self._alike) >= KINDS_OF_TASKS:
            self._alike.clear()
        self._alike[kind] = task
        return task
