"""Facts: everything that can happen to a pool, already decoded and authorised.

Past tense for what others report, plain verbs for what people ask. Who is behind a fact stands
in `Fact.actor`, which the door took from the connection, never from the payload.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from agentcom.core import ask_facts, due_facts, lock_facts, review_facts
from agentcom.model.agent import AgentSpec, Held
from agentcom.model.audit import Origin
from agentcom.model.batch import Row, Table
from agentcom.model.budget import Budget, Period
from agentcom.model.bulk import BulkAct
from agentcom.model.edit import TaskEdit
from agentcom.model.identity import Identity, Role
from agentcom.model.ids import AccountId, AgentId, Fence, MachineId, TaskId, UserId
from agentcom.model.limit import Limit
from agentcom.model.result import Clash, Landing, Result
from agentcom.model.task import Phase, TaskSpec, TaskState
from agentcom.model.todo import TodoKind
from agentcom.model.usage import TurnUsage


class Submit(msgspec.Struct, frozen=True, gc=False):
    """Someone asks for tasks; all of them, or none."""

    specs: tuple[TaskSpec, ...]
    parent: TaskId | None = None
    """Set: its agent asks, through the machine that holds the attempt `fence`."""
    fence: Fence | None = None
    lineage: str = ""
    """What this repeats, such as a schedule; set by the hub itself, never by a door."""


class Cancel(msgspec.Struct, frozen=True, gc=False):
    """Someone wants a task to end."""

    task: TaskId
    reason: str = ""


class Retry(msgspec.Struct, frozen=True, gc=False):
    """Someone reopens a failed or cancelled task."""

    task: TaskId


class Adopt(msgspec.Struct, frozen=True, gc=False):
    """Someone accepts a kept result (also: approves one that waits for a person)."""

    task: TaskId
    fence: Fence
    machine: MachineId


class Decide(msgspec.Struct, frozen=True, gc=False):
    """Someone approves or rejects a task that waits for a person."""

    task: TaskId
    approved: bool
    message: str = ""


class CancelGroup(msgspec.Struct, frozen=True, gc=False):
    """Someone wants all live tasks of a group to end."""

    name: str
    reason: str = ""


class PauseAgent(msgspec.Struct, frozen=True, gc=False):
    """Someone stops (or resumes) new work for an agent; what runs goes on."""

    agent: AgentId
    paused: bool


class ResumeAccount(msgspec.Struct, frozen=True, gc=False):
    """Someone says that an account has quota again."""

    account: AccountId


class DrainMachine(msgspec.Struct, frozen=True, gc=False):
    """Someone stops (or resumes) new work for a machine; what runs goes on."""

    machine: MachineId
    draining: bool


class RemoveMachine(msgspec.Struct, frozen=True, gc=False):
    """Someone takes a machine out of the fleet; its attempts are revoked."""

    machine: MachineId


class PassOn(msgspec.Struct, frozen=True, gc=False):
    """Someone is removed: what is live of theirs passes to another person."""

    user: UserId
    to: UserId


class GiveMachine(msgspec.Struct, frozen=True, gc=False):
    """A machine belongs to somebody else from now on."""

    machine: MachineId
    owner: UserId


class Enrol(msgspec.Struct, frozen=True, gc=False):
    """A machine redeemed a join code."""

    machine: MachineId
    name: str
    owner: UserId


class Explain(msgspec.Struct, frozen=True, gc=False):
    """Someone asks why a task is where it is; changes nothing."""

    task: TaskId


class MachineConnected(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A machine's session begins; its report is the whole truth about what it holds."""

    agents: tuple[AgentSpec, ...]
    held: tuple[Held, ...]
    ttl_ms: int
    connection: int
    resources: dict[str, int] = {}


class MachineDisconnected(msgspec.Struct, frozen=True, gc=False):
    """A machine's socket closed. Its lease runs on."""

    machine: MachineId
    connection: int


class Heartbeat(msgspec.Struct, frozen=True, gc=False):
    """A machine renews its lease, and says what it holds."""

    session: int
    held: tuple[Held, ...]


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """A machine stored an assignment and starts it."""

    task: TaskId
    fence: Fence


class PhaseReached(msgspec.Struct, frozen=True, gc=False):
    """An attempt came to its next phase."""

    task: TaskId
    fence: Fence
    phase: Phase


class Checkpointed(msgspec.Struct, frozen=True, gc=False):
    """An attempt's work so far is safe at the origin."""

    task: TaskId
    fence: Fence
    commit: str
    session: str | None = None
    note: str | None = None
    """The newest words of its agent."""
    touched: tuple[str, ...] = ()
    touched_count: int = 0
    """Paths that differ from what the attempt began with: the first of them, and how many."""
    clashes: tuple[Clash, ...] = ()
    """What is new about conflicts with the work of other tasks."""


class CanaryLived(msgspec.Struct, frozen=True, gc=False):
    """The attempt that tries an account spends tokens, or calls tools."""

    task: TaskId
    fence: Fence


class Finished(msgspec.Struct, frozen=True, gc=False):
    """An attempt ended by itself."""

    task: TaskId
    fence: Fence
    result: Result
    turns: tuple[TurnUsage, ...] = ()
    """What it spent, as far as the hub is not known to have counted it."""


class Stopped(msgspec.Struct, frozen=True, gc=False):
    """A machine confirms that an attempt has ended, or never started."""

    task: TaskId
    fence: Fence
    result: Result | None = None
    turns: tuple[TurnUsage, ...] = ()
    session: str | None = None


class Declined(msgspec.Struct, frozen=True, gc=False):
    """A machine cannot start an attempt now."""

    task: TaskId
    fence: Fence
    reason: str


class Landed(msgspec.Struct, frozen=True, gc=False):
    """A landing ended, one way or the other."""

    task: TaskId
    fence: Fence
    landing: Landing


class Used(msgspec.Struct, frozen=True, gc=False):
    """An attempt spent something, and goes on."""

    task: TaskId
    fence: Fence
    turns: tuple[TurnUsage, ...]


class LeaseChecked(msgspec.Struct, frozen=True, gc=False):
    """The time has come to look whether a machine's lease still runs."""

    machine: MachineId


class Recovered(msgspec.Struct, frozen=True, gc=False):
    """Work may be given out, after a restore or a rebuilt memory: every agent is looked at."""


class SetLimit(msgspec.Struct, frozen=True, gc=False):
    """Someone bounds what may run or start in a scope."""

    limit: Limit


class DropLimit(msgspec.Struct, frozen=True, gc=False):
    """Someone takes a bound away."""

    scope: str


class GateDue(msgspec.Struct, frozen=True, gc=False):
    """A rate allows the next start now."""

    scope: str


class LookAgain(msgspec.Struct, frozen=True, gc=False):
    """An agent (None: the search behind limits) has not seen all that there might be yet."""

    agent: AgentId | None = None


class SetBudget(msgspec.Struct, frozen=True, gc=False):
    """Someone gives a project, an agent or a submitter a budget; `limits` None takes it away."""

    scope: str
    period: Period
    limits: Budget | None


class BudgetsRenewed(msgspec.Struct, frozen=True, gc=False):
    """A new day may have begun, and budgets by the day with it."""


class TodoDue(msgspec.Struct, frozen=True, gc=False):
    """A cascade has more to do."""

    task: TaskId
    kind: TodoKind


class Pause(msgspec.Struct, frozen=True, gc=False):
    """Someone closes a scope for new attempts, or (`paused` False) opens it again."""

    scope: str
    paused: bool
    reason: str = ""
    stop: bool = False
    """Whether what runs shall stop, too."""


class Edit(msgspec.Struct, frozen=True, gc=False):
    """Someone changes a task; `version` is the one that they have seen."""

    task: TaskId
    version: int
    change: TaskEdit


class ActOnMany(msgspec.Struct, frozen=True, gc=False):
    """Someone cancels or reopens many tasks; those in none of `states` by then are left alone."""

    act: BulkAct
    tasks: tuple[TaskId, ...]
    states: tuple[TaskState, ...] = ()
    reason: str = ""


Asked = (
    Submit
    | Cancel
    | Retry
    | Adopt
    | Decide
    | CancelGroup
    | PauseAgent
    | ResumeAccount
    | DrainMachine
    | RemoveMachine
    | PassOn
    | GiveMachine
    | Enrol
    | Explain
    | SetLimit
    | DropLimit
    | SetBudget
    | Pause
    | Edit
    | ActOnMany
    | lock_facts.LockAsked
    | ask_facts.Wish
    | review_facts.LandAsked
)
"""What people ask."""
Reported = (
    MachineConnected
    | Heartbeat
    | Accepted
    | PhaseReached
    | Checkpointed
    | CanaryLived
    | Finished
    | Stopped
    | Declined
    | Landed
    | Used
    | review_facts.Reviewed
)
"""What machines say, and say again if nobody heard it."""
Own = (
    MachineDisconnected
    | LeaseChecked
    | due_facts.Due
    | GateDue
    | LookAgain
    | Recovered
    | TodoDue
    | BudgetsRenewed
    | lock_facts.LocksDue
    | ask_facts.AskDue
    | review_facts.ForgeHinted
    | review_facts.ReviewsLeft
)
"""What the hub tells itself: nobody else will say it again."""
Body = Asked | Reported | Own

Found = Mapping[tuple[Table, str], Row | None]
NOTHING_FOUND: Final[Found] = {}
HUB: Final = Identity(role=Role.ADMIN, user=UserId("hub"), credential="hub")
"""The actor of timers and cascades."""


class Fact(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One input of a turn."""

    body: Body
    actor: Identity = HUB
    cause: str = ""
    reply_to: int | None = None
    """The door's ticket for the answer; None if nobody waits."""
    key: str | None = None
    payload: str | None = None
    """The request key and the hash of what it came with, for `replay`."""
    found: Found = NOTHING_FOUND
    """Stored rows that the live view lacks, fetched as `pool.wanted` asked."""
    origin: Origin | None = None
    """Where a request of a person came from; the audit log says so of what it records."""
