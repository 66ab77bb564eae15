"""Tasks: what was asked (`TaskSpec`) and where it stands (`Task`).

A task's row is hot and small; the specification and the results (`model/result.py`) are rows of
their own, so an event of the life cycle never touches a prompt. How a task moves: `core/tasks.py`.
"""

from enum import StrEnum

import msgspec

from agentcom.model import limits
from agentcom.model.ask import AskId
from agentcom.model.budget import Amounts, Budget
from agentcom.model.failure import FailureClass, OnQuota
from agentcom.model.graph import Approval, Dependency, ReviewBy
from agentcom.model.ids import AgentId, Fence, MachineId, ProjectId, TaskId, UserId, WallTime
from agentcom.model.pause import Pause


class TaskState(StrEnum):
    """Where a task stands; the last three are terminal."""

    WAITING = "waiting"
    QUEUED = "queued"
    ASSIGNED = "assigned"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    held: bool
    """Whether an attempt is under way."""
    terminal: bool
    """Whether only `retry` or `adopt` leads on from here."""

    # Read and looked up for every event: plain attributes, and no hash in Python code.
    __hash__ = str.__hash__

    def __init__(self, text: str) -> None:
        self.held = text in ("assigned", "running")
        self.terminal = text in ("completed", "failed", "cancelled")


class Wait(StrEnum):
    """What a waiting task waits for."""

    DEPENDENCIES = "dependencies"
    START_TIME = "start_time"
    RETRY = "retry"
    ANSWER = "answer"
    QUOTA = "quota"
    APPROVAL = "approval"
    REVIEW = "review"


class Phase(StrEnum):
    """What a running attempt is doing."""

    PREPARING = "preparing"
    WORKING = "working"
    VERIFYING = "verifying"
    LANDING = "landing"


class StopReason(StrEnum):
    """Why the hub wants a held attempt to end."""

    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    PAUSED = "paused"
    PREEMPTED = "preempted"
    REVOKED = "revoked"
    BUDGET = "budget"
    ASKED = "asked"


class LandPolicy(StrEnum):
    """What happens to good work: keep its branch, bring it into the base, or ask for review."""

    BRANCH = "branch"
    MERGE = "merge"
    QUEUE = "queue"
    PULL_REQUEST = "pull-request"


class TaskSpec(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """What a submitter asks for. Bounds are checked by `core/intake.py`."""

    title: str
    prompt: str = ""
    command: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    prefers: tuple[str, ...] = ()
    """Needs that are only wished for, each with a weight if not 1: `gpu`, `zone=eu*3`."""
    uses: dict[str, int] = {}
    """Named resources of the machine, for as long as an attempt runs: cpu, browser, db."""
    keys: tuple[str, ...] = ()
    """What it has in common with other tasks, for limits on `key:NAME`."""
    scope: tuple[str, ...] = ()
    """Files that it will touch; tasks of one repository whose globs overlap exclude each other."""
    scope_shared: bool = False
    """True: it only reads them; readers do not exclude each other."""
    kind: str = ""
    """What sort of work it is; agents may restrict themselves to some."""
    priority: int = 0
    emergency: bool = False
    depends_on: tuple[Dependency, ...] = ()
    group: str | None = None
    parent: TaskId | None = None
    """The task whose agent asked for this one; set by the hub."""
    reviews: str | None = None
    """A task (id or `ref`) that this one reviews: never given to the author of its result."""
    review_by: ReviewBy = ReviewBy.OTHER_AGENT
    approval: Approval | None = None
    """Set: no agent runs it, a person approves or rejects it."""
    ref: str | None = None
    repo: str | None = None
    base: str | None = None
    verify: tuple[str, ...] = ()
    land: LandPolicy | None = None
    corrections: int | None = None
    not_before: WallTime | None = None
    start_by: WallTime | None = None
    deadline_ms: int = limits.ATTEMPT_DEADLINE_MS
    failures_max: int = limits.FAILURES_MAX
    on_quota: OnQuota = OnQuota.MOVE
    unique_key: str | None = None
    budget: Budget | None = None
    labels: dict[str, str] = {}
    repeats: bool = False


class TaskBody(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The stored specification: written at submit, and once more by each edit."""

    id: TaskId
    submitter: UserId
    created_at: WallTime
    cause: str
    spec: TaskSpec
    version: int = 1


class Task(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The hot row: everything that decisions about one task read."""

    id: TaskId
    project: ProjectId
    submitter: UserId
    title: str
    state: TaskState
    changed_at: WallTime
    version: int = 1
    wait: Wait | None = None
    until: WallTime | None = None
    needs: tuple[str, ...] = ()
    prefers: tuple[str, ...] = ()
    uses: tuple[tuple[str, int], ...] = ()
    keys: tuple[str, ...] = ()
    """Scopes beside its project and submitter: repository, branch, the keys it was given."""
    files: tuple[str, ...] = ()
    files_shared: bool = False
    kind: str = ""
    emergency: bool = False
    priority: int = 0
    start_tag: float = 0.0
    seq: int = 0
    incarnation: int = 0
    attempt: int = 0
    agent: AgentId | None = None
    machine: MachineId | None = None
    phase: Phase | None = None
    stop_reason: StopReason | None = None
    deadline_at: WallTime | None = None
    deadline_ms: int = limits.ATTEMPT_DEADLINE_MS
    holders: tuple[tuple[Fence, MachineId], ...] = ()
    """Who held the attempts before the newest one; a late result must come from one of them."""
    failures: int = 0
    failures_max: int = limits.FAILURES_MAX
    leases_lost: int = 0
    lost: bool = False
    """True while the newest holder may still come back: it fell silent, it gave no verdict."""
    failure: FailureClass | None = None
    reason: str | None = None
    checkpoint: str | None = None
    session: str | None = None
    commit: str | None = None
    branch: str | None = None
    base_commit: str | None = None
    land_key: str | None = None
    landing_only: bool = False
    land: LandPolicy = LandPolicy.MERGE
    pull_request: str | None = None
    reviewed: tuple[str, ...] = ()
    rounds: int = 0
    """Of review: where, what its newest work answers there, and how often it went back."""
    must_verify: bool = False
    verified: bool = False
    unique_key: str | None = None
    cause: str = ""
    group: str | None = None
    parents: tuple[TaskId, ...] = ()
    """The task whose agent asked for it, last; before it that one's own parents."""
    approval: Approval | None = None
    author: AgentId | None = None
    author_machine: MachineId | None = None
    """Who made the result, where that is not who held the newest attempt."""
    on_quota: OnQuota = OnQuota.MOVE
    budget: Budget | None = None
    spent: Amounts | None = None
    """By all attempts, since the task was submitted or reopened; None: nothing."""
    note: str | None = None
    """The last words of its newest attempt, for the next one."""
    paused: Pause | None = None
    lost_on: tuple[str, ...] = ()
    """Names of the machines that vanished with it, for as long as `leases_lost` counts them."""
    crashed_on: tuple[AgentId, ...] = ()
    """Different agents that crashed on it since it was submitted or reopened."""
    expires_at: WallTime | None = None
    lineage: str = ""
    asks: tuple[AskId, ...] = ()
    answered: tuple[AskId, ...] = ()
    unheard: tuple[AskId, ...] = ()
    """Questions of its agents: open ones, ended ones, and those whose end its attempt must hear."""
    land_seq: int = 0

    @property
    def fence(self) -> Fence:
        """The newest fence ever issued for this task."""
        return Fence(self.incarnation, self.attempt)
