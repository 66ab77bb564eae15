"""What work costs: one row for each turn of an agent, counted once by its key.

A machine reports turns (`TurnUsage`); the hub prices each when it writes the row (`Usage`). Input
counts every token that went in: those read from a cache and those written to one are parts of it.
"""

from typing import Final

import msgspec

from agentcom.model.ids import AgentId, Fence, ProjectId, TaskId, UserId, WallTime
from agentcom.model.limits import MODEL_CHARS, TOKENS_MAX, TURN_WALL_MAX_MS

DAY_MS: Final = 86_400_000


class TurnUsage(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """What one turn of an agent spent, as its machine read it."""

    turn: int
    """Counts up within the attempt, from 1."""
    agent: AgentId
    model: str = ""
    runtime: str = ""
    input: int = 0
    cached: int = 0
    """Input that was read from a cache."""
    written: int = 0
    """Input that was written to a cache."""
    output: int = 0
    wall_ms: int = 0
    included: bool = False
    """True: a subscription pays for it, however much it is."""


class Usage(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """One turn as the hub counted it. Written once."""

    task: TaskId
    fence: Fence
    turn: int
    project: ProjectId
    submitter: UserId
    agent: AgentId
    account: str | None = None
    model: str
    runtime: str
    input: int = 0
    cached: int = 0
    written: int = 0
    output: int = 0
    cost_micros: int | None = None
    """Micro-dollars; None: included in a subscription, or of a model without a known price."""
    included: bool | int = False
    unpriced: bool | int = False
    wall_ms: int = 0
    at: WallTime
    """When the hub took note of it."""
    day: int
    """Of `at`, in UTC: days since 1970-01-01."""
    late: bool | int = False
    """True: of an attempt that was not the task's newest. The money is spent all the same."""
    turns: int = 1
    """More than one, or of no task: the row stands for turns of a day whose tasks are archived,
    and what else is true or false of a turn is the number of those of which it is true."""
    version: int = 1


def fitted(spent: TurnUsage) -> TurnUsage:
    """Return `spent` within its bounds: a machine that counts wrongly must not stop a report."""
    tokens = {
        name: min(max(0, getattr(spent, name)), TOKENS_MAX)
        for name in ("input", "cached", "written", "output")
    }
    tokens["input"] = max(tokens["input"], tokens["cached"] + tokens["written"])
    return msgspec.structs.replace(
        spent,
        **tokens,
        wall_ms=min(max(0, spent.wall_ms), TURN_WALL_MAX_MS),
        model=_name(spent.model),
        runtime=_name(spent.runtime),
    )


def day_of(at: WallTime) -> int:
    """Return the UTC day of a moment: days since 1970-01-01."""
    return at // DAY_MS


def _name(text: str) -> str:
    return "".join(char for char in text[:MODEL_CHARS] if char.isprintable())
