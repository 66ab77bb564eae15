"""The route of the MCP door: who asks, and for which tools; the rest is `http_mcp_server.py`'s."""

import asyncio
import importlib
import importlib.util
from collections.abc import Awaitable, MutableMapping
from typing import Any, Final

import msgspec
from starlette.responses import Response

from agentcom.hub import acting
from agentcom.hub.limits_guard import Traffic
from agentcom.model.audit import Door, Origin
from agentcom.model.errors import AgentComError, RateLimited
from agentcom.transport.guard import App, Receive, Scope, Send, send_refusal
from agentcom.transport.http_call import Call, Ended, Endpoint, Gate, while_live
from agentcom.transport.http_mcp_tool import Guest, Profile
from agentcom.transport.problem import refusal

PATH: Final = "/mcp"
REQUESTS_MAX: Final = 256  # of one token that have no answer yet: waits of a machine's agents
_BUSY_MS: Final = 1_000
_SDK: Final = "mcp"
_SERVER: Final = "agentcom.transport.http_mcp_server"


class NotInstalled(AgentComError):
    """This hub was installed without its MCP door; add it with `pip install 'agentcom[mcp]'`."""

    code = "not_installed"
    status = 501


class McpAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which tools the client wants to see."""

    profile: Profile = Profile.MINIMAL


async def _answer(call: Call) -> Response:
    module = await _load()
    acting.enter(msgspec.structs.replace(acting.now(), origin=Origin(Door.MCP, call.peer)))
    guest = Guest(
        hall=call.hall,
        identity=call.who,
        headers=call.request.headers,
        cause=call.cause,
        profile=call.asked(McpAsked).profile,
    )
    if call.hall.asked.get(call.who.credential, 0) >= REQUESTS_MAX:
        raise RateLimited(f"at most {REQUESTS_MAX} requests at once", _BUSY_MS)
    return _Served(module.serve, {module.GUEST: guest}, guest)


async def _load() -> Any:
    """Return the module with the SDK; the first time, others go on meanwhile."""
    if importlib.util.find_spec(_SDK) is None:
        raise NotInstalled
    return await asyncio.to_thread(importlib.import_module, _SERVER)


class _Served(Response):
    """An answer that another app gives; this one's headers go with it."""

    def __init__(self, app: App, scope: dict[str, object], guest: Guest) -> None:
        super().__init__()
        self._app = app
        self._scope = scope
        self._guest = guest
        self._asked = guest.hall.asked
        self._credential = guest.identity.credential

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def with_headers(message: MutableMapping[str, Any]) -> None:
            nonlocal started
            started = True
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *self._more()]}
            await send(message)

        self._asked[self._credential] = self._asked.get(self._credential, 0) + 1
        serving = self._app({**scope, **self._scope}, receive, with_headers)
        try:
            await while_live(self._guest.hall.auth, self._guest.identity, _run(serving))
        except Ended as error:
            if not started:
                await send_refusal(send, refusal(error))
        finally:
            self._asked[self._credential] -= 1
            if not self._asked[self._credential]:
                del self._asked[self._credential]

    def _more(self) -> list[tuple[bytes, bytes]]:
        return [(name, value) for name, value in self.raw_headers if name != b"content-length"]


async def _run(serving: Awaitable[None]) -> None:
    await serving


ENDPOINTS: Final = (
    Endpoint(
        method="POST",
        path=PATH,
        access=Gate.SIGNED_IN,
        handler=_answer,
        summary="Speak MCP: the tools of agents",
        query=McpAsked,
        reply=None,
        traffic=Traffic.TALK,
        cost=3,
        also="text/event-stream",
    ),
)
