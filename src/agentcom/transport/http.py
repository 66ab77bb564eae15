"""The HTTP door: from a request to its answer, the same way for every route.

Identity, then permission, then budget, then the input: what is refused early costs little and
tells nothing. Every answer that says no is a problem document. The routes are in the `http_*`
files; body size, host and origin were looked at by `guard.py` before.
"""

import functools
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route, Router

from agentcom.hub import acting
from agentcom.hub.acting import Acting
from agentcom.hub.requests import check_key
from agentcom.model import policy
from agentcom.model.audit import Door, Origin
from agentcom.model.errors import (
    AgentComError,
    Fault,
    Foreign,
    InvalidInput,
    NotAllowed,
    NotAuthenticated,
    NotFound,
)
from agentcom.model.identity import Identity
from agentcom.telemetry import events
from agentcom.telemetry.redact import redact
from agentcom.transport import (
    asyncapi,
    decoding,
    http_alerts,
    http_audit,
    http_blobs,
    http_calls,
    http_control,
    http_cost,
    http_fleet,
    http_following,
    http_forge,
    http_groups,
    http_hub,
    http_levels,
    http_limits,
    http_mcp,
    http_notify,
    http_people,
    http_schedules,
    http_tasks,
    openapi,
)
from agentcom.transport.guard import App
from agentcom.transport.http_call import (
    PREFIX,
    Call,
    Ended,
    Endpoint,
    Gate,
    Hall,
    WrongMediaType,
    WrongMethod,
    while_live,
)
from agentcom.transport.problem import refusal
from agentcom.transport.socket import Head

DOCUMENT_PATH: Final = f"{PREFIX}/openapi.json"
FRAMES_PATH: Final = f"{PREFIX}/asyncapi.json"
CAUSE_HEADER: Final = "x-request-id"
KEY_HEADER: Final = "idempotency-key"
PATH_CHARS_LOGGED: Final = 200
_TRACE: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_CAUSE: Final = re.compile(r"[A-Za-z0-9._-]{6,64}")
_HEADERS: Final = {"cache-control": "no-store", "x-content-type-options": "nosniff"}

log = structlog.get_logger(__name__)
_LOG: Final = logging.getLogger(__name__)  # cheaper to ask whether anybody listens


def endpoints() -> Sequence[Endpoint]:
    """Return the route table."""
    table = [
        *http_tasks.ENDPOINTS,
        *http_groups.ENDPOINTS,
        *http_fleet.ENDPOINTS,
        *http_limits.ENDPOINTS,
        *http_schedules.ENDPOINTS,
        *http_people.ENDPOINTS,
        *http_hub.ENDPOINTS,
        *http_levels.ENDPOINTS,
        *http_audit.ENDPOINTS,
        *http_cost.ENDPOINTS,
        *http_control.ENDPOINTS,
        *http_calls.ENDPOINTS,
        *http_following.ENDPOINTS,
        *http_blobs.ENDPOINTS,
        *http_forge.ENDPOINTS,
        *http_mcp.ENDPOINTS,
        *http_alerts.ENDPOINTS,
        *http_notify.ENDPOINTS,
    ]
    return [*table, _frames(), _description([*table, _frames()])]


def http_app(hall: Hall) -> App:
    """Return the ASGI app of a hub."""
    by_path: dict[str, dict[str, Endpoint]] = {}
    for endpoint in endpoints():
        by_path.setdefault(endpoint.path, {})[endpoint.method] = endpoint
    hall.auth.hold(lambda: tuple(hall.streams))
    routes = [Route(path, _At(hall, methods)) for path, methods in by_path.items()]
    return Router(routes, redirect_slashes=False, default=_At(hall, {}))


def _frames() -> Endpoint:
    """Return the route of the document about the WebSocket."""

    async def show(call: Call) -> object:
        return asyncapi.document(host=call.request.url.netloc)

    return Endpoint(
        method="GET",
        path=FRAMES_PATH,
        access=Gate.SIGNED_IN,
        handler=show,
        summary="Describe the WebSocket, as AsyncAPI",
        reply=dict[str, Any],
    )


def _description(table: Sequence[Endpoint]) -> Endpoint:
    """Return the route of the document about `table` and itself."""

    @functools.cache
    def made() -> msgspec.Raw:
        return msgspec.Raw(msgspec.json.encode(openapi.document([*table, own])))

    async def show(_call: Call) -> object:
        return made()

    own = Endpoint(
        method="GET",
        path=DOCUMENT_PATH,
        access=Gate.SIGNED_IN,
        handler=show,
        summary="Describe this interface",
        reply=dict[str, Any],
        cost=5,
    )
    return own


class _At:
    """All methods of one path, as an ASGI app."""

    def __init__(self, hall: Hall, methods: Mapping[str, Endpoint]) -> None:
        self._hall = hall
        self._methods = methods

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        cause = _cause(request) or self._hall.causes.new()
        call = Call(hall=self._hall, request=request, cause=cause, identity=None)
        try:
            response = await self._answer(call)
        except AgentComError as error:
            response = self._refused(call, error)
        except ClientDisconnect:
            return
        except Exception:  # a call is a unit of its own: the hub goes on
            log.exception(events.REQUEST_FAILED, cause=cause, path=_path(request))
            response = self._refused(call, Fault())
        response.headers[CAUSE_HEADER] = cause
        if _LOG.isEnabledFor(logging.DEBUG):
            asked = {"method": request.method, "path": _path(request)}
            log.debug(events.REQUEST_ANSWERED, cause=cause, status=response.status_code, **asked)
        await response(scope, receive, send)

    async def _answer(self, call: Call) -> Response:
        request, hall = call.request, call.hall
        endpoint = self._endpoint(request.method)
        identity = call.identity = await _identify(call, endpoint)
        acting.enter(_acting(call))
        if identity is not None and not isinstance(endpoint.access, Gate):
            # Of the things themselves, the handler or the core looks at the owner.
            policy.authorize(identity, endpoint.access, owner=identity.user)
        if identity is None:
            hall.budgets.spend_address(call.peer, hall.clock.now(), endpoint.cost)
        elif endpoint.traffic is not None:
            hall.budgets.spend_known(call.peer, hall.clock.now(), endpoint.cost)
            hall.budgets.spend(identity, endpoint.traffic, hall.clock.now(), endpoint.cost)
        if endpoint.query is not None:
            call.query = _query(request, endpoint.query)
        if endpoint.body is not None:
            call.body = await _body(request, endpoint)
        if endpoint.keyed and KEY_HEADER in request.headers:
            call.key = check_key(request.headers[KEY_HEADER].strip('"'))
        found = await _handle(endpoint, call)
        if isinstance(found, Response):
            return found
        content = msgspec.json.encode(found)
        return Response(content, endpoint.status, dict(_HEADERS), "application/json")

    def _endpoint(self, method: str) -> Endpoint:
        if not self._methods:
            raise NotFound("there is nothing at this path; see /api/v1/openapi.json")
        endpoint = self._methods.get("GET" if method == "HEAD" else method)
        if endpoint is None:
            raise WrongMethod
        return endpoint

    def _refused(self, call: Call, error: AgentComError) -> Response:
        request = call.request
        self._hall.metrics.rejected.labels(error.code).inc()
        if call.identity is not None and isinstance(error, NotAllowed | Foreign):
            access = self._endpoint(request.method).access
            self._hall.audit.refused(_acting(call), access, error, target=_path(request))
        log.info(
            events.REQUEST_REFUSED,
            cause=call.cause,
            method=request.method,
            path=_path(request),
            code=error.code,
        )
        answer = refusal(error, cause=call.cause)
        response = Response(answer.body, answer.status, dict(_HEADERS))
        for name, value in answer.headers:
            response.headers[name.decode()] = value.decode()
        if isinstance(error, WrongMethod):
            response.headers["allow"] = ", ".join(sorted(_allowed(self._methods)))
        if isinstance(error, NotAuthenticated):
            response.headers["www-authenticate"] = "Bearer"
        return response


async def _identify(call: Call, endpoint: Endpoint) -> Identity | None:
    """Return who asks; None where nobody is asked."""
    if endpoint.access is Gate.OPEN:
        return None
    head = Head(
        method=call.request.method,
        path=b"",
        query=b"",
        headers=call.request.scope["headers"],
        peer=call.peer,
        secure=False,
    )
    bearer = head.bearer
    if bearer is None:
        raise NotAuthenticated("send `Authorization: Bearer <token>`")
    return await call.hall.auth.authenticate(bearer, address=head.peer)


def _acting(call: Call) -> Acting:
    return Acting(identity=call.identity, origin=Origin(Door.HTTP, call.peer), cause=call.cause)


async def _handle(endpoint: Endpoint, call: Call) -> object:
    """Return what the handler makes of a call; nothing is told to a token that has ended."""
    who = call.identity
    if who is None:
        return await endpoint.handler(call)
    if not call.hall.auth.is_live(who):  # its body took a while
        raise Ended
    if getattr(call.body, "wait_ms", 0):
        return await while_live(call.hall.auth, who, endpoint.handler(call))
    return await endpoint.handler(call)


def _query(request: Request, kind: type[msgspec.Struct]) -> object:
    lists = {field.name for field in msgspec.structs.fields(kind) if field.default == ()}
    given: dict[str, object] = {}
    for name in request.query_params:
        values = request.query_params.getlist(name)
        if any("\0" in value for value in values):
            raise InvalidInput(name[:64], "NUL characters are not allowed")
        if name in lists:
            given[name] = [part for value in values for part in value.split(",") if part]
        elif len(values) > 1:
            raise InvalidInput(name[:64], "give it once")
        else:
            given[name] = values[0]
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise decoding.invalid(error) from None


async def _body(request: Request, endpoint: Endpoint) -> object:
    data = await request.body()
    if not data and endpoint.body_optional:
        return endpoint.body()
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise WrongMediaType
    kind = endpoint.body
    if isinstance(kind, http_tasks.OneOrMany):
        kind = kind.choose(data)
    return decoding.decode(data, kind)


def _cause(request: Request) -> str | None:
    """Return the id that the caller gave this request, if it looks like one."""
    trace = _TRACE.fullmatch(request.headers.get("traceparent", ""))
    if trace:
        return trace[1]
    named = _CAUSE.fullmatch(request.headers.get(CAUSE_HEADER, ""))
    # An id is logged, answered and sent to collectors: what looks like a key is none.
    return named[0] if named and redact(named[0]) == named[0] else None


def _allowed(methods: Mapping[str, Endpoint]) -> Sequence[str]:
    return [*methods, "HEAD"] if "GET" in methods else [*methods]


def _path(request: Request) -> str:
    return redact(request.url.path)[:PATH_CHARS_LOGGED]  # first: half a token looks like none
