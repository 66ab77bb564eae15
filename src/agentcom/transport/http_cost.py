"""Routes of costs."""

from typing import Final

from agentcom.hub.costs import CostAsked
from agentcom.model.policy import Action
from agentcom.protocol.shown import CostList
from agentcom.transport.http_call import PREFIX, Call, Endpoint


async def _costs(call: Call) -> CostList:
    return await call.hall.queries.costs.costs(call.who, call.asked(CostAsked))


ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path=f"{PREFIX}/cost",
        access=Action.COST_READ,
        handler=_costs,
        summary="Add up what agents spent, by project, agent, model, submitter, task or day",
        query=CostAsked,
        reply=CostList,
    ),
)
