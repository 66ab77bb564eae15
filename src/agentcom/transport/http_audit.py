"""Routes of the audit log: list it, take it out whole."""

from typing import Final

from starlette.responses import StreamingResponse

from agentcom.hub.audit_log import AuditAsked
from agentcom.hub.limits_guard import Traffic
from agentcom.model.policy import Action
from agentcom.protocol.audited import AuditPage
from agentcom.transport.http_call import PREFIX, Call, Endpoint

LINES: Final = "application/x-ndjson"
_AUDIT: Final = f"{PREFIX}/audit"


async def _list(call: Call) -> AuditPage:
    return await call.hall.audit.listed(call.who, call.asked(AuditAsked))


async def _export(call: Call) -> StreamingResponse:
    await call.hall.audit.done(Action.AUDIT_READ, "audit", how="export")
    headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
    return StreamingResponse(call.hall.audit.lines(), 200, headers, LINES)


ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path=_AUDIT,
        access=Action.AUDIT_READ,
        handler=_list,
        summary="List the audit log, newest first",
        query=AuditAsked,
        reply=AuditPage,
    ),
    Endpoint(
        method="GET",
        path=f"{_AUDIT}/export",
        access=Action.AUDIT_READ,
        handler=_export,
        summary="Take the audit log out, one entry a line, with its hashes",
        reply=None,
        media=LINES,
        traffic=Traffic.ADMIN,
    ),
)
