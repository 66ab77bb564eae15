"""The route for events of forges; off unless the operator gave a secret."""

from typing import Final

from agentcom.core.facts import Fact
from agentcom.core.review_facts import ForgeHinted
from agentcom.model.replies import Done
from agentcom.transport.http_call import PREFIX, Call, Endpoint, Gate


async def _take(call: Call) -> Done:
    data = await call.request.body()  # the guard bounds it
    url = call.hall.forge_events.take(call.request.headers, data)
    if url is None:
        return Done("nothing to look at")
    call.hall.engine.put(Fact(body=ForgeHinted(url), cause=call.cause))
    return Done("looked at")


ENDPOINTS: Final = (
    Endpoint(
        method="POST",
        path=f"{PREFIX}/forge-events",
        access=Gate.OPEN,
        handler=_take,
        summary="Take a forge's event, signed with the hub's secret",
        reply=Done,
    ),
)
