"""Answers to requests; the same values on every door."""

from enum import StrEnum

import msgspec

from agentcom.model.ask import Ask
from agentcom.model.bulk import BulkAct
from agentcom.model.ids import DEFAULT_PROJECT, AgentId, ProjectId, TaskId, WallTime
from agentcom.model.lock import Lock
from agentcom.model.task import Task


class Submitted(msgspec.Struct, frozen=True, gc=False, tag="submitted", omit_defaults=True):
    """The tasks that now exist, in the order of the request."""

    tasks: tuple[TaskId, ...]
    unschedulable: tuple[TaskId, ...] = ()
    """Those that no agent known now could run; they wait."""


class TaskChanged(msgspec.Struct, frozen=True, gc=False, tag="task_changed", omit_defaults=True):
    """A task after what was asked of it."""

    task: Task
    unschedulable: bool = False
    """After an edit: no agent of the fleet could run it now or later."""


class Refusal(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One thing in a larger request that was not accepted."""

    name: str
    code: str
    message: str


class Welcomed(
    msgspec.Struct, frozen=True, gc=False, kw_only=True, tag="welcomed", omit_defaults=True
):
    """A machine's session."""

    session: int
    ttl_ms: int
    heartbeat_ms: int
    margin_ms: int
    refused: tuple[Refusal, ...] = ()


class Done(msgspec.Struct, frozen=True, gc=False, tag="done", omit_defaults=True):
    """It was done; there is nothing more to say."""

    detail: str = ""


class Followed(Done, frozen=True, gc=False, tag="followed", omit_defaults=True, kw_only=True):
    """A mailbox or channel is followed now."""

    after: int
    """What comes has greater sequences than this one."""


class AgentRule(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The rule that keeps a task from one agent."""

    agent: AgentId
    rule: str
    detail: str = ""


class Explanation(
    msgspec.Struct, frozen=True, gc=False, kw_only=True, tag="explanation", omit_defaults=True
):
    """Why a task is where it is, and what happens next."""

    task: Task
    summary: str
    agents: tuple[AgentRule, ...] = ()
    blocked_by: tuple[TaskId, ...] = ()
    missing: tuple[str, ...] = ()
    position: int | None = None
    next_action: str = ""
    next_at: WallTime | None = None
    starts_at: WallTime | None = None
    """For a queued task: about when, by its place and how long such work took lately."""
    activity: str = ""
    """For a running task: the last event and the open tool call, as its machine reported."""


class BulkShown(msgspec.Struct, frozen=True, kw_only=True, tag="bulk", omit_defaults=True):
    """An act on many tasks, and how far it has come; at the end nothing is `left`."""

    id: TaskId
    act: BulkAct
    tasks: int
    """How many were chosen."""
    left: int = 0
    done: int = 0
    skipped: int = 0
    """Tasks that had moved on meanwhile, or that refused it."""
    refused: tuple[Refusal, ...] = ()
    """The first of them, and why."""
    project: ProjectId = DEFAULT_PROJECT


class LockTold(msgspec.Struct, frozen=True, gc=False, tag="lock_told", omit_defaults=True):
    """A lock, held or waited for."""

    lock: Lock
    behind: tuple[str, ...] = ()
    """In words: what it waits for, the first of it."""


class AskChanged(msgspec.Struct, frozen=True, gc=False, tag="ask_changed", omit_defaults=True):
    """A question after what was asked of it."""

    ask: Ask


Reply = (
    Submitted
    | TaskChanged
    | Welcomed
    | Done
    | Followed
    | Explanation
    | BulkShown
    | LockTold
    | AskChanged
)


class WaitsFor(StrEnum):
    """What keeps a task that is not alone from starting."""

    LIMIT = "limit"
    BUDGET = "budget"
    FILES = "files"
    LOCK = "lock"
    DEPENDENCY = "dependency"


class Waiting(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """One thing that one task waits for."""

    task: TaskId
    title: str
    by: WaitsFor
    what: str = ""
    """The scope of the limit, the budget, the files, or the lock."""
    on: tuple[TaskId, ...] = ()
    """Tasks that have to end, or one of them."""
    more: int = 0
    """How many there are beside those in `on`."""
    until: WallTime | None = None
    """When a rate allows the next start, or a budget is renewed."""


class Waits(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Who waits for whom: first those behind limits and files, in order of the queue."""

    waits: tuple[Waiting, ...]
    left_out: int = 0
    """How many waits there are beside those shown."""
