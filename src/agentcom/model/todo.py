"""Work that a batch left for later batches, so that a cascade is bounded per turn."""

from enum import StrEnum

import msgspec

from agentcom.model.bulk import Bulk
from agentcom.model.ids import AgentId, MachineId, TaskId, UserId


class TodoKind(StrEnum):
    """What is left to do."""

    RELEASE_DEPENDANTS = "release_dependants"
    CANCEL_BELOW = "cancel_below"
    """Of a cancelled task's sub-tasks, or of a group's tasks."""
    STOP_PAUSED = "stop_paused"
    """Ask what still runs in a paused scope to stop."""
    BULK = "bulk"
    INHERIT = "inherit"
    """Give what somebody left behind to their heir."""


class Todo(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A durable reminder; deleted by the batch that finishes it."""

    kind: TodoKind
    task: TaskId
    """The task that ended; of other kinds: the scope, or the id of the act."""
    succeeded: bool = False
    commit: str | None = None
    version: int = 1
    author: AgentId | None = None
    author_machine: MachineId | None = None
    reason: str = ""
    submitter: UserId | None = None
    """Of what is cancelled: only what this person submitted."""
    bulk: Bulk | None = None
    heir: UserId | None = None
