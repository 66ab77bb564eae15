"""What an attempt produced, and what the hub keeps of it."""

from enum import StrEnum
from typing import Final

import msgspec

from agentcom.model.failure import FailureClass
from agentcom.model.ids import AgentId, Fence, MachineId, TaskId, WallTime
from agentcom.model.task import LandPolicy
from agentcom.model.verification import Report

MERGES: Final = frozenset({LandPolicy.MERGE, LandPolicy.QUEUE})
"""Policies that bring verified work into the base; a queue does so for several tasks at once."""


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


class Protected(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A change that a person must see before the work counts."""

    reason: str
    path: str = ""
    diff: str = ""
    """The change itself, as git shows it, up to a bound."""


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
    protected: tuple[Protected, ...] = ()
    """The changes among those reasons."""
    corrections: int = 0
    """Turns in which its agent mended what the checks had found."""
    resets_at: WallTime | None = None
    session: str | None = None
    checkpoint: str | None = None
    usage: TokenUsage = TokenUsage()
    reviewed: tuple[str, ...] = ()
    """What the attempt was shown of its pull request: comments and runs of CI."""

    @property
    def verified(self) -> bool:
        """Whether checks ran on its very commit, and all passed."""
        report = self.report
        return report is not None and report.verified and report.commit == self.commit

    @property
    def lands(self) -> bool:
        """Whether its work goes on to the base: by itself if it is verified, or by way of review.

        Where people review it, what a person must look at stands in the pull request.
        """
        if self.status is not ResultStatus.DONE or not (self.commit and self.land_key):
            return False
        if self.land is LandPolicy.PULL_REQUEST:
            return self.verified or not self.verify_expected
        return self.land in MERGES and self.verified and not self.needs_person


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
    OPENED = "opened"
    """It is at its forge, for review."""
    REJECTED = "rejected"
    """Its pull request was closed without being merged."""


class Rider(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Work that lands with another task's, by the machine that lands that one."""

    task: TaskId
    fence: Fence
    commit: str
    base_commit: str | None = None
    title: str = ""
    seq: int = 0
    """Its place among those that wait for the same base: riders land in this order."""


class Landing(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """The sidecar's report of a landing."""

    status: LandStatus
    commit: str | None = None
    message: str = ""
    report: Report | None = None
    branch: str | None = None
    pull_request: str | None = None
    """Its address, if it was opened."""
    riders: tuple["RiderLanding", ...] = ()
    """What became of those that rode along; who is not among them waits again."""


class RiderLanding(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """What became of one that rode along."""

    task: TaskId
    fence: Fence
    landing: Landing


class ReviewOutcome(StrEnum):
    """What became of a pull request that was open."""

    WANTED = "wanted"
    """Someone who may write, or CI, wants something else."""
    MERGED = "merged"
    CLOSED = "closed"


class Clash(msgspec.Struct, frozen=True, gc=False):
    """What a trial merge with another task's newest checkpoint came to."""

    task: TaskId
    paths: tuple[str, ...] = ()
    """Files in conflict, the first of them; none if what was in conflict is so no more."""
