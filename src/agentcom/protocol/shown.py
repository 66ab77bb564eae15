"""What the HTTP door's reading routes answer: rows, if they hold no secret, and shapes of these."""

import msgspec

from agentcom.model.agent import AccountState, AgentState
from agentcom.model.budget import Amounts, Budget, Period
from agentcom.model.event import TaskEvent
from agentcom.model.failure import FailureClass
from agentcom.model.graph import Condition, Edge, OnFailure
from agentcom.model.identity import Role, Scope, User
from agentcom.model.ids import AccountId, AgentId, MachineId, ProjectId, TaskId, UserId, WallTime
from agentcom.model.pause import Pause
from agentcom.model.result import KeptResult
from agentcom.model.schedule import Schedule
from agentcom.model.task import Phase, Task, TaskBody, TaskState, Wait
from agentcom.protocol.frames import Activity


class TaskPage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tasks, newest first; `next` is the cursor of the page after."""

    tasks: tuple[Task, ...]
    next: str | None = None


class CostShown(msgspec.Struct, frozen=True, omit_defaults=True):
    """What some turns of agents cost together."""

    name: str | None = None
    """What these turns have in common; None: nothing is known, or it is a total."""
    turns: int = 0
    cost_micros: int = 0
    """Micro-dollars, of the turns that have a price."""
    input: int = 0
    """Tokens, those from a cache and those written to one included."""
    cached: int = 0
    written: int = 0
    output: int = 0
    included: int = 0
    """Turns that a subscription pays for: they are not in `cost_micros`."""
    unpriced: int = 0
    """Turns of models without a known price: they are not in `cost_micros`."""
    late: int = 0
    """Turns of attempts that were not their task's newest any more."""
    wall_ms: int = 0


class CostList(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Costs, the largest first (days in their order), and the total of all."""

    by: str
    since: WallTime
    groups: tuple[CostShown, ...]
    total: CostShown
    more: bool = False
    """True: there are more groups than were asked for; `total` counts them too."""


class BudgetShown(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A budget, and what of it is spent."""

    scope: str
    period: Period
    limits: Budget
    spent: Amounts = Amounts()
    running: int = 0
    """Attempts that work at its cost; each has reserved an estimate of one turn."""
    closed: str | None = None
    """Why it gives no attempt now; None: it does."""
    renews_at: WallTime | None = None


class BudgetList(msgspec.Struct, frozen=True):
    """The budgets of a project, as far as they concern the caller."""

    budgets: tuple[BudgetShown, ...]


class TaskShown(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All there is to say about one task."""

    task: Task
    body: TaskBody | None = None
    edges: tuple[Edge, ...] = ()
    """What it depends on, while it is live."""
    result: KeptResult | None = None
    """The newest one, applied or kept."""
    activity: Activity | None = None
    """What its attempt reported last."""
    cost: CostShown | None = None
    """What it has cost so far, all attempts together; None: nothing, or not for this token."""
    archived_at: WallTime | None = None


class GraphTask(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A task, as far as a graph shows it."""

    id: TaskId
    title: str
    state: TaskState
    wait: Wait | None = None
    phase: Phase | None = None
    agent: AgentId | None = None
    failure: FailureClass | None = None
    reason: str | None = None


class GraphEdge(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What leads from one task to another."""

    task: TaskId
    on: TaskId
    kind: str
    """`depends`, `reviews`, or `parent`: the agent of `on` asked for `task`."""
    condition: Condition = Condition.SUCCESS
    on_failure: OnFailure = OnFailure.FAIL
    children: bool = False


class ResultList(msgspec.Struct, frozen=True):
    """Results of one task, newest first."""

    results: tuple[KeptResult, ...]


class EventRecord(msgspec.Struct, frozen=True):
    """A record of a feed and its sequence."""

    seq: int
    event: TaskEvent


class EventPage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Records in order; ask for more after `after`, if `more` is set."""

    events: tuple[EventRecord, ...]
    after: int
    more: bool = False


class LogTail(msgspec.Struct, frozen=True):
    """The end of an attempt's log, or what was asked for of it; `next` and `size` are in bytes."""

    task: TaskId
    attempt: int
    text: str
    next: int | None = None
    size: int | None = None


class AgentShown(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An agent and what it does."""

    id: AgentId
    state: AgentState
    machine: MachineId
    machine_name: str
    runtime: str
    project: ProjectId
    capabilities: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    slots: int = 1
    slots_used: int = 0
    paused: bool = False
    suspect: bool = False
    cli_version: str = ""
    tasks: tuple[TaskId, ...] = ()
    account: AccountId | None = None
    quarantined: str | None = None
    """Why it gets no new work until a trial succeeds or a person resumes it."""
    quarantined_at: WallTime | None = None
    tried_at: WallTime | None = None
    """When it tries one task; None: it does now, or a person has to look."""
    problem: str = ""


class AgentList(msgspec.Struct, frozen=True, omit_defaults=True):
    """Agents by name; `next` is the cursor of the page after."""

    agents: tuple[AgentShown, ...]
    next: str | None = None


class AccountShown(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An account whose quota agents use up, on whatever machines."""

    id: AccountId
    state: AccountState
    until: WallTime | None = None
    """When one attempt tries it again."""
    canary: TaskId | None = None
    """The task whose attempt tries it."""
    reason: str = ""
    """What its provider said."""
    strikes: int = 0
    """How often in a row its quota was found used up."""
    machines: tuple[str, ...] = ()
    """Names of the machines that have it."""
    agents: tuple[AgentId, ...] = ()


class AccountList(msgspec.Struct, frozen=True, omit_defaults=True):
    """Accounts by name; `next` is the cursor of the page after."""

    accounts: tuple[AccountShown, ...]
    next: str | None = None


class MachineShown(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A machine, its session and what it holds."""

    id: MachineId
    name: str
    owner: UserId
    created_at: WallTime
    connected: bool = False
    suspect: bool = False
    draining: bool = False
    last_seen: WallTime | None = None
    lease_ttl_ms: int = 0
    agents: tuple[AgentId, ...] = ()
    tasks: tuple[TaskId, ...] = ()


class MachineList(msgspec.Struct, frozen=True, omit_defaults=True):
    """Machines by name; `next` is the cursor of the page after."""

    machines: tuple[MachineShown, ...]
    next: str | None = None


class LimitShown(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A limit, and what is taken of it."""

    scope: str
    concurrency: int | None = None
    rate: int | None = None
    per_ms: int = 0
    weight: float | None = None
    taken: dict[str, int] = {}
    """Attempts under way by scope, the most first."""
    waiting: int = 0
    """Queued tasks that stand behind it."""


class LimitList(msgspec.Struct, frozen=True, omit_defaults=True):
    """All limits, by scope."""

    limits: tuple[LimitShown, ...]


class PauseList(msgspec.Struct, frozen=True):
    """What is paused beside single tasks, the widest first."""

    pauses: tuple[Pause, ...]


class ScheduleShown(msgspec.Struct, frozen=True):
    """A schedule and its coming times."""

    schedule: Schedule
    coming: tuple[WallTime, ...]


class ScheduleList(msgspec.Struct, frozen=True, omit_defaults=True):
    """Schedules by name; `next` is the cursor of the page after."""

    schedules: tuple[Schedule, ...]
    next: str | None = None


class UserList(msgspec.Struct, frozen=True, omit_defaults=True):
    """People; `next` is the cursor of the page after."""

    users: tuple[User, ...]
    next: str | None = None


class Invitation(msgspec.Struct, frozen=True):
    """A code that lets someone in. It is shown this once."""

    code: str
    """With the fingerprint of the hub's certificate, if that is its own."""
    url: str
    join: str
    """`URL#CODE`, for `agentcom join`."""
    expires_at: WallTime


class Admitted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who came in by a code. `token` is shown this once."""

    token: str
    name: str
    role: Role
    user: UserId
    machine: MachineId | None = None


class Whoami(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who the hub takes the caller for, and what they may do."""

    user: UserId
    role: Role
    project: ProjectId
    credential: str
    machine: MachineId | None = None
    actions: tuple[str, ...] = ()
    scopes: tuple[Scope, ...] = ()
    """What the token is confined to; none: all of its role."""
    service: bool = False
    """Whether it is a program's account."""


class HubStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the hub is, in figures."""

    version: str
    state: str
    incarnation: int
    store: str
    started_at: WallTime
    uptime_ms: int
    issuing: bool
    """False if the hub stopped giving out work, since its store is older than the fleet."""
    tasks: dict[str, int]
    """Live tasks by state."""
    ended: dict[str, int]
    """Tasks that ended since the start, by state."""
    agents: dict[str, int]
    """Agents by state."""
    machines: int
    machines_connected: int
    backlog: int
    """Facts that wait for a decision."""
    pauses: int = 0
    """Pauses of everything, of pools and of projects."""


class GroupShown(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A group of tasks, and how far it is."""

    name: str
    tasks: int
    live: int
    states: dict[str, int]
    """How many of its tasks are in which state."""
    percent: int
    """How many of a hundred tasks are over, in whatever way."""
    created_at: WallTime
    changed_at: WallTime
    failures: tuple[GraphTask, ...] = ()
    """The first ones that failed; shown for one group only, as is the next."""
    critical_path: int = 0
    """How many tasks have to run one after the other, at least, before it is done."""
    more: bool = False
    """True: only its newest tasks were looked at for these two."""


class GroupList(msgspec.Struct, frozen=True, omit_defaults=True):
    """Groups by name, the last first; `next` is the cursor of the page after."""

    groups: tuple[GroupShown, ...]
    next: str | None = None


class GraphShown(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Tasks and what leads from one to another."""

    tasks: tuple[GraphTask, ...]
    edges: tuple[GraphEdge, ...]
    more: bool = False
    """True: there are more tasks than are shown."""
