"""Routes of calls: one for each line of the table, `POST /api/v1/calls/NAME`."""

from typing import Final

import msgspec

from agentcom.protocol.call_table import RULES
from agentcom.protocol.calls import Call as AnyCall
from agentcom.protocol.calls import name_of
from agentcom.transport import caller
from agentcom.transport.http_call import PREFIX, Call, Endpoint


async def _do(call: Call) -> object:
    asked = call.given(AnyCall)
    speaker = caller.speaker(call.hall.engine.view, call.who, call.request.headers)
    return await call.hall.talk.do(speaker, asked, cause=call.cause, key=call.key)


def _endpoint(kind: type[AnyCall]) -> Endpoint:
    rule = RULES[kind]
    assert kind.__doc__ is not None
    return Endpoint(
        method="POST",
        path=f"{PREFIX}/calls/{name_of(kind)}",
        access=rule.action,
        handler=_do,
        summary=kind.__doc__.partition("\n")[0].rstrip("."),
        body=kind,
        body_optional=not any(field.required for field in msgspec.structs.fields(kind)),
        reply=rule.reply,
        keyed=rule.changes,
        traffic=None,  # the call spends its own
    )


ENDPOINTS: Final = tuple(map(_endpoint, RULES))
