"""Routes of costs and budgets."""

from typing import Annotated, Final

import msgspec

from agentcom.core import budgets, facts
from agentcom.hub.costs import CostAsked
from agentcom.hub.limits_guard import Traffic
from agentcom.model import policy
from agentcom.model.budget import Period
from agentcom.model.ids import WallTime
from agentcom.model.policy import Action, Reach
from agentcom.model.replies import Done
from agentcom.model.usage import DAY_MS
from agentcom.protocol.asked import NOTE_CHARS, BudgetSet
from agentcom.protocol.shown import BudgetList, BudgetShown, CostList
from agentcom.transport.http_call import PREFIX, Call, Endpoint

_BUDGETS: Final = f"{PREFIX}/budgets"


class BudgetNamed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which budget to take away."""

    scope: Annotated[str, msgspec.Meta(max_length=NOTE_CHARS)]
    period: Period = Period.TOTAL


async def _costs(call: Call) -> CostList:
    return await call.hall.queries.costs.costs(call.who, call.asked(CostAsked))


async def _budgets(call: Call) -> BudgetList:
    view, who = call.hall.engine.view, call.who
    own = policy.reach(who, Action.COST_READ) is Reach.OWN
    found = [
        BudgetShown(
            scope=row.scope,
            period=row.period,
            limits=row.limits,
            spent=row.spent,
            running=view.purse.reserved.get(key, 0),
            closed=view.purse.lacks(key),
            renews_at=WallTime((row.day + 1) * DAY_MS) if row.period is Period.DAY else None,
        )
        for key, row in sorted(view.purse.budgets.items())
        if row.project == who.project and (not own or budgets.readable(row, who.user))
    ]
    return BudgetList(tuple(found))


async def _set(call: Call) -> object:
    asked = call.given(BudgetSet)
    return await call.ask(facts.SetBudget(asked.scope, asked.period, asked.limits.limits()))


async def _remove(call: Call) -> object:
    asked = call.asked(BudgetNamed)
    return await call.ask(facts.SetBudget(asked.scope, asked.period, None), keyed=False)


ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path=f"{PREFIX}/cost",
        access=Action.COST_READ,
        handler=_costs,
        summary="Add up what agents spent, by project, agent, model, submitter, task or day",
        query=CostAsked,
        reply=CostList,
        cost=20,
    ),
    Endpoint(
        method="GET",
        path=_BUDGETS,
        access=Action.COST_READ,
        handler=_budgets,
        summary="List budgets, and what of them is spent",
        reply=BudgetList,
    ),
    Endpoint(
        method="POST",
        path=_BUDGETS,
        access=Action.BUDGET_SET,
        handler=_set,
        summary="Give a project, an agent or a submitter a budget, or change it",
        body=BudgetSet,
        reply=Done,
        keyed=True,
        traffic=Traffic.ADMIN,
    ),
    Endpoint(
        method="DELETE",
        path=_BUDGETS,
        access=Action.BUDGET_SET,
        handler=_remove,
        summary="Take a budget away: nothing bounds that scope any more",
        query=BudgetNamed,
        reply=Done,
        traffic=Traffic.ADMIN,
    ),
)
