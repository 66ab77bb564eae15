"""What people ask over HTTP, as bodies of requests. A field that is not here is refused."""

from typing import Annotated, Final

import msgspec

from agentcom.model.budget import Budget, Period
from agentcom.model.edit import ScheduleEdit, TaskEdit
from agentcom.model.graph import Dependency
from agentcom.model.identity import Role, Scope
from agentcom.model.ids import AgentId, MachineId, ProjectId, UserId
from agentcom.model.limits import REASON_CHARS, SUBMIT_TASKS_MAX
from agentcom.model.schedule import Missed, Overlap
from agentcom.model.task import LandPolicy, TaskSpec, TaskState

DAY_MS: Final = 86_400_000
TOKEN_TTL_MAX_MS: Final = 3_650 * DAY_MS
GRACE_MAX_MS: Final = 7 * DAY_MS  # two live tokens for one purpose are a risk
NOTE_CHARS: Final = 200
CODE_CHARS: Final = 256
Version = Annotated[int, msgspec.Meta(ge=1, le=(1 << 53) - 1)]

Milliseconds = Annotated[int, msgspec.Meta(ge=1, le=TOKEN_TTL_MAX_MS)]
Lifetime = Annotated[int, msgspec.Meta(ge=0, le=TOKEN_TTL_MAX_MS)]
"""Of a token; 0: it has no end. Left out: 90 days, which each use begins anew."""
Scopes = Annotated[tuple[Scope, ...], msgspec.Meta(max_length=len(Scope))]


class DependencyAsked(Dependency, frozen=True, forbid_unknown_fields=True):
    """One edge of the graph."""


class BudgetAsked(
    Budget, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """What may be spent."""

    def limits(self) -> Budget:
        """Return the same as the core knows it."""
        return Budget(**msgspec.structs.asdict(self))


class BudgetSet(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The budget that a scope shall have."""

    scope: Annotated[str, msgspec.Meta(max_length=NOTE_CHARS)]
    """`project:NAME`, `agent:NAME` or `submitter:NAME`."""
    period: Period = Period.TOTAL
    limits: BudgetAsked


class TaskAsked(
    TaskSpec, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """One task that someone asks for."""

    depends_on: tuple[DependencyAsked, ...] = ()
    budget: BudgetAsked | None = None

    def spec(self) -> TaskSpec:
        """Return the same as the core knows it."""
        depends_on = tuple(
            Dependency(edge.task, edge.condition, edge.on_failure, edge.children)
            for edge in self.depends_on
        )
        budget = self.budget.limits() if self.budget is not None else None
        fields = {**msgspec.structs.asdict(self), "depends_on": depends_on, "budget": budget}
        return TaskSpec(**fields)


class TasksAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Several tasks: all of them, or none."""

    tasks: Annotated[tuple[TaskAsked, ...], msgspec.Meta(min_length=1, max_length=SUBMIT_TASKS_MAX)]


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An empty object, which may be left out."""


class LimitAsked(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """A limit to set; it takes the place of the one that the scope had."""

    scope: str
    concurrency: int | None = None
    rate: int | None = None
    per_ms: int = 0
    weight: float | None = None


class ScopeAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose limit is meant."""

    scope: str


class CancelAsked(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Why a task shall end."""

    reason: Annotated[str, msgspec.Meta(max_length=REASON_CHARS)] = ""


class DecideAsked(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a person says to a task that waits for one."""

    message: Annotated[str, msgspec.Meta(max_length=REASON_CHARS)] = ""


class LandWanted(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How a task's branch is to land."""

    land: LandPolicy = LandPolicy.MERGE


class AdoptAsked(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Which kept result to take as the task's."""

    attempt: Annotated[int, msgspec.Meta(ge=1, le=(1 << 53) - 1)]
    machine: MachineId | None = None


class MachineInvited(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """How many machines may come in by a code, and until when."""

    name: str | None = None
    uses: int = 1
    ttl_ms: Milliseconds | None = None


class ScheduleAsked(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """What shall be submitted again and again, and when."""

    name: str
    cron: str
    task: TaskAsked
    zone: str = "UTC"
    missed: Missed = Missed.ONCE
    overlap: Overlap = Overlap.SKIP
    start_within_ms: int | None = None
    paused: bool = False


class TaskChangeAsked(
    TaskEdit, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """New values for some fields of what a schedule submits."""


class ScheduleEditAsked(
    ScheduleEdit, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """New values for some fields of a schedule, and the version that the caller has seen."""

    version: Version
    task: TaskChangeAsked = TaskChangeAsked()

    def change(self) -> ScheduleEdit:
        """Return the same as the hub knows it."""
        fields = ScheduleEdit.__struct_fields__
        return ScheduleEdit(**{name: getattr(self, name) for name in fields})


class UserInvited(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """Who may come in by a code, and as what."""

    name: UserId
    role: Role = Role.SUBMITTER
    ttl_ms: Milliseconds | None = None
    project: ProjectId | None = None
    """By default that of who invites; another one only by an admin of the hub's own."""


class ServiceAsked(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """An account for a program, and its first token."""

    name: UserId
    role: Role = Role.SUBMITTER
    project: ProjectId | None = None
    ttl_ms: Lifetime | None = None
    note: Annotated[str, msgspec.Meta(max_length=NOTE_CHARS)] = ""
    scopes: Scopes = ()


class CodeRedeemed(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """A code, and the name that a machine wants to have."""

    code: Annotated[str, msgspec.Meta(max_length=CODE_CHARS)]
    name: Annotated[str, msgspec.Meta(max_length=NOTE_CHARS)] = ""


class TokenAsked(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """A token for a person or a program: by default one's own, with one's own role."""

    owner: UserId | None = None
    role: Role | None = None
    ttl_ms: Lifetime | None = None
    note: Annotated[str, msgspec.Meta(max_length=NOTE_CHARS)] = ""
    agent: AgentId | None = None
    """Set: for an agent of that name that a person starts, and that works by MCP."""
    scopes: Scopes = ()
    """What of the role it is confined to; none: all of it."""


class RotationAsked(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How long the old token goes on working."""

    grace_ms: Annotated[int, msgspec.Meta(ge=0, le=GRACE_MAX_MS)] = DAY_MS


class PauseAsked(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """Why nothing shall begin there, and whether what runs shall stop."""

    reason: Annotated[str, msgspec.Meta(max_length=REASON_CHARS)] = ""
    stop: bool = False


class EditAsked(
    TaskEdit, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """New values for some fields of a task, and the version that the caller has seen."""

    version: Version

    def change(self) -> TaskEdit:
        """Return the same as the core knows it."""
        given = {name: value for name, value in self.given().items() if name != "version"}
        return msgspec.structs.replace(TaskEdit(), **given)


class TaskChoice(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """Which tasks are meant: those that fit all that is said."""

    state: tuple[TaskState, ...] = ()
    """By default: live ones to cancel, failed and cancelled ones to retry."""
    submitter: str | None = None
    """A user, or `@me`."""
    project: str | None = None
    labels: dict[str, str] = {}
    since: Annotated[int, msgspec.Meta(ge=0, le=(1 << 53) - 1)] | None = None
    """UTC milliseconds: those that changed since then."""


class ManyAsked(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """Many tasks: named one by one, or chosen."""

    tasks: Annotated[tuple[str, ...], msgspec.Meta(max_length=SUBMIT_TASKS_MAX)] = ()
    filter: TaskChoice | None = None
    reason: Annotated[str, msgspec.Meta(max_length=REASON_CHARS)] = ""
    dry_run: bool = False
    """Only say how many, and which, it would be."""
