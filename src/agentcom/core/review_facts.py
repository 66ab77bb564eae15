"""Facts about pull requests: what machines see at forges, and what people and forges say."""

import msgspec

from agentcom.model.ids import Fence, MachineId, TaskId
from agentcom.model.result import ReviewOutcome
from agentcom.model.task import LandPolicy


class Reviewed(msgspec.Struct, frozen=True, gc=False):
    """The machine that watches a pull request has seen what became of it."""

    task: TaskId
    fence: Fence
    outcome: ReviewOutcome
    detail: str = ""
    commit: str | None = None
    """Of a merge: what the base has now."""


class LandAsked(msgspec.Struct, frozen=True, gc=False):
    """Someone orders that a task's branch lands now."""

    task: TaskId
    land: LandPolicy = LandPolicy.MERGE


class ReviewsLeft(msgspec.Struct, frozen=True, gc=False):
    """A machine that watches pull requests may be away for long enough."""

    machine: MachineId


class ForgeHinted(msgspec.Struct, frozen=True, gc=False):
    """A forge says that something happened to a pull request; only a reason to look."""

    url: str
