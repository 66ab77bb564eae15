"""Routes of limits: list, set, drop."""

from typing import Final

import msgspec

from agentcom.core import facts
from agentcom.hub.limits_guard import Traffic
from agentcom.model.limit import Limit
from agentcom.model.policy import Action
from agentcom.model.replies import Done
from agentcom.protocol.asked import LimitAsked, ScopeAsked
from agentcom.protocol.shown import LimitList
from agentcom.transport.http_call import PREFIX, Call, Endpoint

_LIMITS: Final = f"{PREFIX}/limits"


async def _list(call: Call) -> LimitList:
    return call.hall.fleet.limits()


async def _set(call: Call) -> object:
    limit = Limit(**msgspec.structs.asdict(call.given(LimitAsked)))
    return await call.ask(facts.SetLimit(limit))


async def _drop(call: Call) -> object:
    return await call.ask(facts.DropLimit(call.asked(ScopeAsked).scope))


ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path=_LIMITS,
        access=Action.LIMIT_READ,
        handler=_list,
        summary="List limits, and what is taken of them",
        reply=LimitList,
    ),
    Endpoint(
        method="POST",
        path=_LIMITS,
        access=Action.LIMIT_SET,
        handler=_set,
        summary="Set the limit of a scope",
        body=LimitAsked,
        reply=Done,
        keyed=True,
        traffic=Traffic.ADMIN,
    ),
    Endpoint(
        method="DELETE",
        path=_LIMITS,
        access=Action.LIMIT_SET,
        handler=_drop,
        summary="Take the limit of a scope away",
        query=ScopeAsked,
        reply=Done,
        keyed=True,
        traffic=Traffic.ADMIN,
    ),
)
