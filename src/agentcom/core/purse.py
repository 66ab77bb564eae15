"""What a pool knows of budgets: their rows, what is reserved, and which of them give nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from agentcom.model import budget as amounts
from agentcom.model import limits
from agentcom.model.batch import budget_key
from agentcom.model.budget import Amounts, Period, ScopeBudget
from agentcom.model.ids import AgentId, ProjectId, WallTime
from agentcom.model.requirement import PROMPT
from agentcom.model.task import Task
from agentcom.model.usage import DAY_MS

ESTIMATE: Final = Amounts(limits.TURN_TOKENS, limits.TURN_COST_MICROS, limits.TURN_WALL_MS, 1)
"""What a running attempt reserves for its turn."""
_PERIODS: Final = (Period.DAY.value, Period.TOTAL.value)


@dataclass(slots=True)
class Purse:
    """A part of the view; it changes by the view's `put` and `drop` only."""

    budgets: dict[str, ScopeBudget] = field(default_factory=dict)
    reserved: dict[str, int] = field(default_factory=dict)
    """Attempts that work at the cost of each budget."""
    shut: dict[AgentId, None] = field(default_factory=dict)
    """Agents whose own budget gives nothing."""

    def keys(self, project: ProjectId, names: Sequence[str]) -> tuple[str, ...]:
        """Return the keys of the budgets that scopes of a project have."""
        keys = [budget_key(project, name, period) for name in names for period in _PERIODS]
        return tuple([key for key in keys if key in self.budgets])

    def scopes(self, task: Task) -> tuple[str, ...]:
        """Return the keys of the budgets that a task spends from, whoever does it."""
        if not self.budgets or task.landing_only or PROMPT not in task.needs:
            return ()
        names = f"project:{task.project}", f"submitter:{task.submitter}"
        return self.keys(task.project, names)

    def lacks(self, key: str) -> str | None:
        """Return, in words, why a budget gives nothing now, reservations counted."""
        budget, running = self.budgets.get(key), self.reserved.get(key, 0)
        if budget is None:
            return None
        spent = amounts.used_up(budget.limits, budget.spent)
        if spent is not None:
            return f"the budget of {named(budget)} is used up: {spent}"
        reserved = amounts.plus(budget.spent, ESTIMATE, running)
        full = amounts.used_up(budget.limits, reserved)
        if full is None:
            return None
        return f"the budget of {named(budget)} is reserved for {running} running attempts: {full}"

    def opens_at(self, key: str) -> WallTime | None:
        """Return when a budget is renewed, if it is used up and by the day."""
        budget = self.budgets[key]
        spent = amounts.used_up(budget.limits, budget.spent)
        by_day = budget.period is Period.DAY
        return WallTime((budget.day + 1) * DAY_MS) if by_day and spent else None


def named(budget: ScopeBudget) -> str:
    """Return a budget as people name it."""
    per = "by the day" if budget.period is Period.DAY else "in all"
    return f"{budget.scope} {per}"
