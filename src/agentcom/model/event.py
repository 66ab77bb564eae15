"""Records of task feeds: what happened to a task, in order, for people and for `why`."""

from enum import StrEnum
from typing import Final

import msgspec

from agentcom.model.failure import FailureClass
from agentcom.model.ids import AgentId, MachineId, TaskId, WallTime
from agentcom.model.task import Phase, StopReason, TaskState, Wait


class EventKind(StrEnum):
    """What happened; the words that feeds, logs and documentation share."""

    SUBMITTED = "submitted"
    UNBLOCKED = "unblocked"
    ASSIGNED = "assigned"
    ACCEPTED = "accepted"
    PHASE = "phase"
    CHECKPOINT = "checkpoint"
    STOP_ASKED = "stop_asked"
    RETURNED = "returned"
    RESUMED = "resumed"
    PARKED = "parked"
    LANDING = "landing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    RESULT_KEPT = "result_kept"
    REOPENED = "reopened"
    ADOPTED = "adopted"
    APPROVED = "approved"
    REJECTED = "rejected"
    REVIEWED = "reviewed"
    CHARGED = "charged"
    OVERLAP = "overlap"
    EDITED = "edited"
    PAUSED = "paused"
    UNPAUSED = "unpaused"
    ASKED = "asked"
    ANSWERED = "answered"
    AGENT_QUARANTINED = "agent_quarantined"

    __hash__ = str.__hash__  # Enum's own is Python code, and every record is counted by its kind


BESIDE: Final = frozenset(
    {EventKind.RESULT_KEPT, EventKind.CHARGED, EventKind.OVERLAP, EventKind.AGENT_QUARANTINED}
)
"""Kinds that tell something beside a task without moving it: they may come after its end."""


class TaskEvent(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag="task"):
    """One thing that happened to one task."""

    kind: EventKind
    task: TaskId
    state: TaskState
    at: WallTime
    cause: str = ""
    """Of the whole story of its task: the request that it was submitted with."""
    actor: str | None = None
    attempt: int | None = None
    agent: AgentId | None = None
    machine: MachineId | None = None
    phase: Phase | None = None
    wait: Wait | None = None
    until: WallTime | None = None
    stop_reason: StopReason | None = None
    failure: FailureClass | None = None
    commit: str | None = None
    detail: str | None = None
    request: str = ""
    """What somebody asked for later, such as a cancel."""


def task_log(task: TaskId) -> str:
    """Return the name of a task's feed."""
    return f"task/{task}"
