"""Refusals of a hub that has too much to do, before routes and tokens are looked at."""

from collections.abc import Callable

from agentcom.model.errors import AgentComError
from agentcom.transport.guard import App, Receive, Scope, Send, send_refusal
from agentcom.transport.problem import refusal

Shed = Callable[[str, str], AgentComError | None]
"""What a method and a path are refused with, if they are."""


class Shedding:
    """ASGI middleware: what is refused costs next to nothing."""

    def __init__(self, app: App, shed: Shed) -> None:
        self._app = app
        self._shed = shed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or pass it on."""
        error = self._shed(scope["method"], scope["path"]) if scope["type"] == "http" else None
        if error is None:
            await self._app(scope, receive, send)
        else:
            await send_refusal(send, refusal(error))
