"""Schedules: what is submitted again and again, when, and what becomes of a run that is late."""

from enum import StrEnum

import msgspec

from agentcom.model.ids import ProjectId, TaskId, UserId, WallTime
from agentcom.model.task import TaskSpec


class Missed(StrEnum):
    """What becomes of times at which no hub ran."""

    SKIP = "skip"
    ONCE = "once"
    """One run makes up for all of them."""
    ALL = "all"
    """Each has its run, up to a bound."""


class Overlap(StrEnum):
    """What becomes of a run whose predecessor has not ended."""

    SKIP = "skip"
    QUEUE = "queue"


class Schedule(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A task that is submitted whenever its time comes, as its owner would."""

    id: str
    project: ProjectId
    owner: UserId
    name: str
    """Unique in its project."""
    cron: str
    zone: str
    """IANA name of the time zone that the expression is read in."""
    task: TaskSpec
    missed: Missed = Missed.ONCE
    overlap: Overlap = Overlap.SKIP
    start_within_ms: int | None = None
    """A run that has not started by then expires; None: it waits for as long as it takes."""
    paused: bool = False
    reason: str | None = None
    """Why it paused itself, or why its last time passed without a run."""
    next_at: WallTime | None = None
    """None: no time comes any more."""
    last_at: WallTime | None = None
    """The time that the last run was planned for."""
    last_task: TaskId | None = None
    runs: int = 0
    failures: int = 0
    """Runs that failed, one after the other, before the newest one began."""
    version: int = 1


def schedule_key(project: str, name: str) -> str:
    """Return the key of a schedule's row."""
    return f"{project}/{name}"


def run_key(schedule: str, planned: WallTime) -> str:
    """Return the request key of the run at a planned time: it happens once, however often asked."""
    return f"schedule/{schedule}/{planned}"
