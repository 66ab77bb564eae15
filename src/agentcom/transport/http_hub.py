"""Routes of the hub itself: how it is, who asks, metrics, stopping, health."""

from typing import Final

from starlette.responses import Response

from agentcom.hub.limits_guard import Traffic
from agentcom.model import policy
from agentcom.model.errors import Unavailable
from agentcom.model.policy import Action, Reach
from agentcom.model.replies import Done
from agentcom.protocol.asked import Nothing
from agentcom.protocol.settings import Reloaded
from agentcom.protocol.shown import HubStatus, Whoami
from agentcom.telemetry.metrics import CONTENT_TYPE
from agentcom.transport.http_call import PREFIX, Call, Endpoint, Gate


async def _status(call: Call) -> HubStatus:
    return call.hall.status()


async def _whoami(call: Call) -> Whoami:
    who = call.who
    may = tuple(a.value for a in Action if policy.reach(who, a) is not Reach.NONE)
    return Whoami(
        user=who.user,
        role=who.role,
        project=who.project,
        credential=who.credential,
        machine=who.machine,
        actions=may,
        scopes=who.scopes,
        service=who.service,
    )


async def _drain(call: Call) -> Done:
    await call.hall.audit.done(Action.HUB_MANAGE, "hub", how="drain")
    call.hall.drain()
    return Done("the hub finishes what was asked, and stops")


async def _reload(call: Call) -> Reloaded:
    await call.hall.audit.done(Action.HUB_MANAGE, "hub", how="reload")
    return call.hall.reload(call.who.name)


async def _metrics(call: Call) -> Response:
    headers = {"cache-control": "no-store"}
    await call.hall.measure()
    return Response(call.hall.metrics.render(), 200, headers, CONTENT_TYPE)


async def _alive(_call: Call) -> Done:
    return Done("alive")


async def _ready(call: Call) -> Done:
    if not call.hall.is_ready():
        raise Unavailable("not ready")
    return Done("ready")


ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path=f"{PREFIX}/status",
        access=Action.HUB_READ,
        handler=_status,
        summary="Show how the hub is, in figures",
        reply=HubStatus,
    ),
    Endpoint(
        method="GET",
        path=f"{PREFIX}/whoami",
        access=Gate.SIGNED_IN,
        handler=_whoami,
        summary="Show whom the hub takes the caller for",
        reply=Whoami,
    ),
    Endpoint(
        method="POST",
        path=f"{PREFIX}/drain",
        access=Action.HUB_MANAGE,
        handler=_drain,
        summary="Stop the hub in good order",
        body=Nothing,
        body_optional=True,
        reply=Done,
        status=202,
        traffic=Traffic.ADMIN,
    ),
    Endpoint(
        method="POST",
        path=f"{PREFIX}/reload",
        access=Action.HUB_MANAGE,
        handler=_reload,
        summary="Take up settings that have changed",
        body=Nothing,
        body_optional=True,
        reply=Reloaded,
        traffic=Traffic.ADMIN,
    ),
    Endpoint(
        method="GET",
        path="/metrics",
        access=Action.METRICS_READ,
        handler=_metrics,
        summary="Measurements, as Prometheus reads them",
        reply=None,
        media="text/plain",
        traffic=Traffic.ADMIN,  # who looks why a hub is slow is answered, too
    ),
    Endpoint(
        method="GET",
        path="/healthz",
        access=Gate.OPEN,
        handler=_alive,
        summary="Whether the process answers",
        reply=Done,
    ),
    Endpoint(
        method="GET",
        path="/readyz",
        access=Gate.OPEN,
        handler=_ready,
        summary="Whether the hub takes requests",
        reply=Done,
    ),
)
