"""One act on many tasks, worked off in bounded steps."""

from enum import StrEnum

import msgspec

from agentcom.model.identity import Identity
from agentcom.model.ids import TaskId
from agentcom.model.task import TaskState


class BulkAct(StrEnum):
    """What is done to each task."""

    CANCEL = "cancel"
    RETRY = "retry"


class Bulk(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is left of an act on many tasks, and how it went so far."""

    act: BulkAct
    actor: Identity
    left: tuple[TaskId, ...]
    """Tasks that are still to be looked at, in order."""
    states: tuple[TaskState, ...] = ()
    """Only tasks that are in one of these when their turn comes; empty: whatever they are in."""
    reason: str = ""
    done: int = 0
    skipped: int = 0
    """Tasks that had moved on meanwhile, or that the act was refused for."""
