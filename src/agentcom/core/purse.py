"""What a pool knows of budgets: their rows, what is reserved, and who waits for them."""

from dataclasses import dataclass, field

from agentcom.model.budget import ScopeBudget
from agentcom.model.ids import AgentId, TaskId


@dataclass(slots=True)
class Purse:
    """A part of the view; it changes by the view's `put` and `drop` only."""

    budgets: dict[str, ScopeBudget] = field(default_factory=dict)
    reserved: dict[str, int] = field(default_factory=dict)
    """Attempts that work at the cost of each budget."""
    gated: dict[TaskId, None] = field(default_factory=dict)
    """Queued tasks that are kept from the matcher, since a budget of theirs gives nothing."""
    shut: dict[AgentId, None] = field(default_factory=dict)
    """Agents whose own budget gives nothing."""
