"""How tests of budgets give, spend and ask."""

from collections.abc import Sequence
from typing import Any

from agentcom.core import facts
from agentcom.core.effects import Stop
from agentcom.model.batch import Table, budget_key
from agentcom.model.budget import Budget, Period, ScopeBudget
from agentcom.model.ids import AgentId, TaskId
from agentcom.model.replies import Explanation
from agentcom.model.task import StopReason, TaskState
from agentcom.model.usage import TurnUsage
from agentcom.testing.world import agent, machine
from tests.core.acts import Pool

DAY, TOTAL = Period.DAY, Period.TOTAL

ANN = "submitter:ann"


def give(pool: Pool, scope: str = ANN, *, per: Period = TOTAL, **limits: int) -> str:
    """Give a scope a budget, and return its key."""
    pool.ask(facts.SetBudget(scope, per, Budget(**limits)))
    return budget_key("default", scope, per)


def budget(pool: Pool, key: str) -> ScopeBudget:
    row = pool.rows[Table.BUDGET, key]
    assert isinstance(row, ScopeBudget)
    return row


def spend(pool: Pool, task: TaskId, turn: int = 1, **fields: Any) -> Sequence[object]:
    """Let the holder report a turn of 100 tokens, unless `fields` say otherwise."""
    row = pool.task(task)
    tokens = {"input": 60, "output": 40, "wall_ms": 1_000, "model": "m", **fields}
    spent = TurnUsage(turn=turn, agent=AgentId(row.agent or ""), **tokens)
    return pool.tell(facts.Used(task, row.fence, (spent,)), machine(row.machine or ""))


def asked_to_stop(effects: Sequence[object]) -> list[TaskId]:
    stops = [one for one in effects if isinstance(one, Stop)]
    return [one.task for one in stops if one.reason is StopReason.BUDGET]


def why(pool: Pool, task: TaskId) -> Explanation:
    answer = pool.ask(facts.Explain(task))
    assert isinstance(answer, Explanation)
    return answer


def states(pool: Pool, tasks: Sequence[TaskId]) -> list[TaskState]:
    return [pool.task(task).state for task in tasks]


def two_slots(pool: Pool) -> None:
    pool.machine("m1", agent("m1", slots=2))
