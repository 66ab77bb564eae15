"""Questions: one asks, someone answers, or the time for it runs out."""

from enum import StrEnum
from typing import NewType

import msgspec

from agentcom.model.address import Address
from agentcom.model.ids import DEFAULT_PROJECT, AgentId, Fence, ProjectId, TaskId, WallTime

AskId = NewType("AskId", str)


class AskState(StrEnum):
    """How far a question has come."""

    OPEN = "open"
    ANSWERED = "answered"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    """Its task is over, or its asker does not want to know any more."""


class Ask(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """One question."""

    id: AskId
    asker: Address
    question: str
    at: WallTime
    project: ProjectId = DEFAULT_PROJECT
    to: Address | None = None
    """Who shall answer; None: whoever asked for the task, or an operator."""
    options: tuple[str, ...] = ()
    """If there are any, the answer is one of them."""
    deadline_at: WallTime | None = None
    fallback: str | None = None
    """The answer that is taken when the time runs out; None: it expires unanswered."""
    task: TaskId | None = None
    """The task that cannot go on without the answer."""
    fence: Fence | None = None
    agent: AgentId | None = None
    state: AskState = AskState.OPEN
    answer: str = ""
    answered_by: Address | None = None
    ended_at: WallTime | None = None
    version: int = 1
