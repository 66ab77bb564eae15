"""Budgets: what a task, or everything in a scope, may spend; and what of it is spent.

Four amounts are counted alike: tokens (input and output), micro-dollars, milliseconds of turns,
and turns. A limit that is None does not bound. When work is given out: `core/budgets.py`.
"""

from enum import StrEnum
from typing import Final

import msgspec

from agentcom.model import limits
from agentcom.model.errors import InvalidInput
from agentcom.model.ids import ProjectId
from agentcom.model.usage import Usage

AMOUNTS: Final = ("tokens", "cost_micros", "wall_ms", "turns")


class Period(StrEnum):
    """How long a budget lasts; a day is one of UTC."""

    DAY = "day"
    TOTAL = "total"


class Amounts(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What was spent."""

    tokens: int = 0
    cost_micros: int = 0
    wall_ms: int = 0
    turns: int = 0


class Budget(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """What may be spent; what is None is not bounded (of a task: by the default alone)."""

    tokens: int | None = None
    cost_micros: int | None = None
    wall_ms: int | None = None
    turns: int | None = None


class ScopeBudget(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """The budget of a project, an agent or a submitter, and what is spent of it."""

    project: ProjectId
    scope: str
    """`project:NAME`, `agent:NAME` or `submitter:NAME`."""
    period: Period
    limits: Budget
    spent: Amounts = Amounts()
    day: int = 0
    """Of a budget by the day: the UTC day that `spent` is about."""
    version: int = 1


OF_TASK: Final = Budget(
    tokens=limits.TASK_TOKENS,
    cost_micros=limits.TASK_COST_MICROS,
    wall_ms=limits.TASK_WALL_MS,
    turns=limits.TASK_TURNS,
)
"""What a task may spend whose submitter said nothing, each amount by itself."""
NOTHING: Final = Amounts()


def check(budget: Budget, field: str = "budget") -> None:
    """Check the bounds of a budget; raises `InvalidInput`."""
    for name in AMOUNTS:
        limit = getattr(budget, name)
        if limit is not None and not 1 <= limit <= limits.BUDGET_MAX:
            raise InvalidInput(f"{field}.{name}", f"from 1 to {limits.BUDGET_MAX}")
    if budget == Budget():
        raise InvalidInput(field, f"at least one of {', '.join(AMOUNTS)}")


def of_turn(usage: Usage) -> Amounts:
    """Return what a turn takes from a budget; one without a price takes no money."""
    return Amounts(usage.input + usage.output, usage.cost_micros or 0, usage.wall_ms, 1)


def plus(spent: Amounts, more: Amounts, times: int = 1) -> Amounts:
    """Return the sum of what was spent and `times` that."""
    return Amounts(
        spent.tokens + times * more.tokens,
        spent.cost_micros + times * more.cost_micros,
        spent.wall_ms + times * more.wall_ms,
        spent.turns + times * more.turns,
    )


def used_up(budget: Budget, spent: Amounts) -> str | None:
    """Return, in words, the first amount of which nothing is left; None if something is."""
    for name in AMOUNTS:
        limit, used = getattr(budget, name), getattr(spent, name)
        if limit is not None and used >= limit:
            return words(name, used, limit)
    return None


def task_used_up(budget: Budget | None, spent: Amounts) -> str | None:
    """Return, in words, what a task has no more of; `budget` is what its submitter said."""
    if budget is None:
        return used_up(OF_TASK, spent)
    for name in AMOUNTS:
        said, used = getattr(budget, name), getattr(spent, name)
        limit = getattr(OF_TASK, name) if said is None else said
        if used >= limit:
            return words(name, used, limit)
    return None


def words(name: str, used: int, limit: int) -> str:
    """Return an amount and its limit as people say them."""
    if name == "cost_micros":
        return f"${used / 1_000_000:,.2f} of ${limit / 1_000_000:,.2f}"
    if name == "wall_ms":
        return f"{used // 1_000:,} of {limit // 1_000:,} s of turns"
    return f"{used:,} of {limit:,} {name}"
