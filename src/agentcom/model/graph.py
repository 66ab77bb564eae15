"""Graphs of tasks: dependencies and what becomes of them, reviews, approval, groups, families."""

from enum import StrEnum

import msgspec

from agentcom.model.ids import AgentId, MachineId, TaskId, WallTime


class Condition(StrEnum):
    """When a dependency counts as met."""

    SUCCESS = "success"
    ANY_END = "any_end"


class OnFailure(StrEnum):
    """What becomes of a task when what it depends on ends, and not as the condition wants."""

    FAIL = "fail"
    SKIP = "skip"
    """It ends as cancelled: that it was not needed is no failure."""
    WAIT = "wait"
    """It waits until the dependency is retried and succeeds."""


class ReviewBy(StrEnum):
    """How far a review must be from the author of what it reviews."""

    OTHER_AGENT = "other_agent"
    OTHER_MACHINE = "other_machine"


class Approval(StrEnum):
    """Who decides a task that no agent runs."""

    PERSON = "person"


class Dependency(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One edge of the graph; `task` is an id, or the `ref` of a task in the same submit."""

    task: str
    condition: Condition = Condition.SUCCESS
    on_failure: OnFailure = OnFailure.FAIL
    children: bool = False
    """True: its sub-tasks that are live when it ends are waited for, too."""


class Edge(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A dependency of a live task; `commit` is what the dependency produced."""

    task: TaskId
    on: TaskId
    condition: Condition = Condition.SUCCESS
    met: bool = False
    commit: str | None = None
    version: int = 1
    on_failure: OnFailure = OnFailure.FAIL
    children: bool = False
    review: ReviewBy | None = None
    """Set: the task reviews what `on` produced."""
    author: AgentId | None = None
    author_machine: MachineId | None = None
    """Who produced it, once that is known."""


class Member(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """That a task belongs to a group, or is a sub-task; written once, and kept."""

    task: TaskId
    version: int = 1


class Tally(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """How many tasks a group (or a task's family) has, and in which states.

    Of a family only `made` is counted: what bounds how many sub-tasks an agent may ask for.
    """

    id: str
    made: int = 0
    live: int = 0
    states: dict[str, int] = {}
    created_at: WallTime = WallTime(0)
    changed_at: WallTime = WallTime(0)
    version: int = 1
