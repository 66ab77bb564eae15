"""What an attempt produced, and what the hub keeps of it."""

from enum import StrEnum

import msgspec

from agentcom.model.failure import FailureClass
from agentcom.model.ids import AgentId, Fence, MachineId, TaskId, WallTime
from agentcom.model.task import LandPolicy
from agentcom.model.verification import Report


class ResultStatus(StrEnum):
    """What the sidecar says about an attempt that ended by itself."""

    DONE = "done"
    FAILED = "failed"
    PARKED = "parked"


class TokenUsage(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Tokens that an attempt spent."""

    input: int = 0
    cached: int = 0
    output: int = 0


class Result(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """What an attempt produced. Success is the hub's judgement of these fields."""

    status: ResultStatus
    failure: FailureClass | None = None
    message: str = ""
    summary: str = ""
    commit: str | None = None
    branch: str | None = None
    base_commit: str | None = None
    report: Report | None = None
    verify_expected: bool = False
    """True if checks were declared: then a result without a passing report is no success."""
    land: LandPolicy = LandPolicy.BRANCH
    land_key: str | None = None
    """`<repo>#<branch>`: what landing must hold alone."""
    needs_person: tuple[str, ...] = ()
    resets_at: WallTime | None = None
    session: str | None = None
    checkpoint: str | None = None
    usage: TokenUsage = TokenUsage()


class KeptResult(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A result as the hub stored it: applied, or kept for a person because it came too late."""

    task: TaskId
    fence: Fence
    agent: AgentId | None
    machine: MachineId
    at: WallTime
    result: Result
    applied: bool
    refused: str | None = None
    version: int = 1


class ReportKind(StrEnum):
    """Which report of a machine is acknowledged; the tags of their frames."""

    CHECKPOINT = "checkpoint"
    FINISH = "finish"
    STOPPED = "stopped"
    LANDED = "landed"
    USAGE = "usage"


class LandStatus(StrEnum):
    """What became of a landing."""

    LANDED = "landed"
    CONFLICT = "conflict"
    VERIFICATION = "verification"
    STALE = "stale"
    ERROR = "error"


class Landing(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """The sidecar's report of a landing."""

    status: LandStatus
    commit: str | None = None
    message: str = ""
    report: Report | None = None
