"""Machines, the agents on them, and what a machine says it holds."""

from enum import StrEnum

import msgspec

from agentcom.model.ask import AskId
from agentcom.model.ids import (
    DEFAULT_POOL,
    DEFAULT_PROJECT,
    AccountId,
    AgentId,
    Fence,
    MachineId,
    PoolId,
    ProjectId,
    TaskId,
    UserId,
    WallTime,
)
from agentcom.model.task import LandPolicy, Phase


class AgentState(StrEnum):
    """What an agent is doing, derived from its machine's session and its holds."""

    OFFLINE = "offline"
    IDLE = "idle"
    ASSIGNED = "assigned"
    WORKING = "working"
    BLOCKED = "blocked"
    DRAINING = "draining"
    QUARANTINED = "quarantined"


class AgentSpec(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """An agent as its machine describes it when it connects."""

    name: AgentId
    runtime: str
    capabilities: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    slots: int = 1
    prompts: bool = True
    """False: it runs commands, and cannot follow a prompt."""
    accepts: tuple[str, ...] = ()
    """What tasks it takes, as requirements on their project, submitter and kind."""
    version: str = ""
    account: AccountId | None = None
    """Whose quota its model calls use up; the same on every machine with that login."""
    problem: str = ""
    """What keeps it from working, and what to do: then it gets no new work."""


class Agent(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """An identity that can run tasks."""

    id: AgentId
    machine: MachineId
    runtime: str
    project: ProjectId = DEFAULT_PROJECT
    pool: PoolId = DEFAULT_POOL
    capabilities: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    slots: int = 1
    cli_version: str = ""
    paused: bool = False
    absent: bool = False
    """True if its machine connected without it last time."""
    accepts: tuple[str, ...] = ()
    version: int = 1
    account: AccountId | None = None
    failed: tuple[TaskId, ...] = ()
    """Different tasks that it failed in a row, for reasons of its own."""
    quarantined: str | None = None
    """Why it gets no new work, until a trial succeeds or a person resumes it."""
    quarantined_at: WallTime | None = None
    problem: str = ""
    """What its machine says keeps it from working."""
    tried_at: WallTime | None = None
    """When it will be given one task as a trial; None: it is on trial, or a person has to look."""
    on_trial: bool = False
    strikes: int = 0
    """How often in a row its trial failed."""

    @property
    def shut(self) -> bool:
        """Whether it gets nothing: it is in quarantine, and not on trial."""
        return self.quarantined is not None and not self.on_trial

    @property
    def usable(self) -> int:
        """How many attempts it may have now."""
        return 1 if self.on_trial else self.slots

    @property
    def ready(self) -> bool:
        """Whether it may be given work, as far as it is concerned itself."""
        return not (self.paused or self.absent or self.shut or self.problem)


class AccountState(StrEnum):
    """Whether an account has quota, as far as anybody knows."""

    OPEN = "open"
    PARKED = "parked"
    TRYING = "trying"


class Canary(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """The one attempt that tries an account again after its quota's reset."""

    task: TaskId
    fence: Fence


class Account(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A provider's account that has no quota left; one that has some has no row."""

    id: AccountId
    parked_until: WallTime | None = None
    """None: the reset has come, and one attempt may try."""
    canary: Canary | None = None
    reason: str = ""
    """What the provider said."""
    strikes: int = 1
    """How often in a row its quota was found used up."""
    version: int = 1

    @property
    def closed(self) -> bool:
        """Whether no attempt may begin; else one may, to try it."""
        return self.parked_until is not None or self.canary is not None


class Machine(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A computer of the fleet; `session` and `ttl_ms` belong to its newest connection."""

    id: MachineId
    name: str
    owner: UserId
    created_at: WallTime
    session: int = 0
    ttl_ms: int = 0
    draining: bool = False
    removed: bool = False
    last_seen: WallTime | None = None
    resources: dict[str, int] = {}
    """Named resources that its attempts share."""
    project: ProjectId = DEFAULT_PROJECT
    """Whose operators let it in, and look after it."""
    version: int = 1


class HeldStage(StrEnum):
    """How far a machine has come with an attempt that it holds."""

    STORED = "stored"
    RUNNING = "running"
    FINISHED = "finished"
    """Over; its report is sent until it is acknowledged."""
    READY = "ready"
    """Its result is acknowledged, and it waits for the grant to land."""
    LANDING = "landing"


class Held(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One attempt that a machine says it has."""

    task: TaskId
    fence: Fence
    stage: HeldStage
    phase: Phase | None = None


class Assignment(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What a machine needs to start an attempt. The specification travels beside it."""

    task: TaskId
    fence: Fence
    agent: AgentId
    deadline_at: WallTime
    checkpoint: str | None = None
    session: str | None = None
    inputs: tuple[str, ...] = ()
    """Commits of the dependencies, to be merged into the fresh base."""
    landing_only: bool = False
    commit: str | None = None
    branch: str | None = None
    base_commit: str | None = None
    failures: int = 0
    cause: str = ""
    note: str | None = None
    """The last words of the attempt before, if there was one."""
    reason: str | None = None
    """Why that one ended, if it is known."""
    answered: tuple[AskId, ...] = ()
    """Questions of attempts before that ended; they travel beside it."""
    land: LandPolicy = LandPolicy.MERGE
    """How `commit` lands, if it is to land."""
    pull_request: str | None = None
    """Where the work of attempts before is reviewed: the agent is shown what people want there."""
    reviewed: tuple[str, ...] = ()
    """Of a landing alone: what its commit answers there."""
