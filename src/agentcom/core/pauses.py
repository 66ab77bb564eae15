"""What a pause means: which scopes a task is in, and whether one of them is closed.

Pure questions about one task. What a pause sets in motion is in `core/pausing.py`.
"""

from collections.abc import Mapping
from typing import Protocol

from agentcom.model.ids import PoolId, ProjectId
from agentcom.model.pause import ALL, Pause
from agentcom.model.task import Task


class Gates(Protocol):
    """What a view shows of its pauses."""

    @property
    def pool(self) -> PoolId:
        """Whose tasks these are."""
        ...

    @property
    def pauses(self) -> Mapping[str, Pause]:
        """The pauses of more than one task, by scope."""
        ...


def scopes(pool: PoolId, project: ProjectId) -> tuple[str, str, str]:
    """Return the scopes that close a project's tasks in a pool, the widest first."""
    return ALL, f"pool:{pool}", f"project:{project}"


def find(view: Gates, task: Task) -> Pause | None:
    """Return the widest pause that keeps a task from new attempts."""
    closed = view.pauses
    if closed:
        for scope in scopes(view.pool, task.project):
            pause = closed.get(scope)
            if pause is not None:
                return pause
    return task.paused


def gate(view: Gates, task: Task) -> str | None:
    """Return why a task gets no new attempt; None if it may have one."""
    pause = find(view, task)
    return None if pause is None else pause.words
