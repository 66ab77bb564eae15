"""Whether an agent may do what it asks for: a question to a person, as any other of an agent.

It names a short deadline, and "deny" is what counts then: an attempt keeps its slot for so long,
and its agent, which is told no, can go on another way.
"""

import asyncio
import contextlib
from enum import StrEnum
from typing import Final

import structlog

from agentcom.model import errors, note
from agentcom.model.ask import Ask, AskId, AskState
from agentcom.model.limits import PERMISSION_MS, WAIT_MAX_MS
from agentcom.protocol import calls, told
from agentcom.sidecar.endpoint import Endpoint
from agentcom.sidecar.machine_values import Key
from agentcom.sidecar.runtime import base

TITLE_CHARS: Final = 1_000
"""Of what the agent wants to do; a whole file that it writes is not asked about."""
_MARGIN_S: Final = 15.0
"""For a hub that answers late that the time was over."""
_AGAIN_S: Final = 1.0

log = structlog.get_logger(__name__)


class Choice(StrEnum):
    """What a person can answer."""

    ALLOW = "allow"
    DENY = "deny"


class Permissions:
    """The permissions that the agent of one run asks for."""

    def __init__(self, endpoint: Endpoint | None, key: Key, run: str) -> None:
        """`run` is the name of the run in its attempt; without an endpoint nobody can be asked."""
        self._endpoint = endpoint
        self._key = key
        self._run = run
        self._open: dict[str, AskId] = {}

    async def allows(self, asked: base.PermissionAsked) -> bool:
        """Return a person's answer; without one in time: no."""
        try:
            async with asyncio.timeout(PERMISSION_MS / 1_000 + _MARGIN_S):
                ask = await self._put(asked)
                self._open[asked.id] = ask.id
                while ask.state is AskState.OPEN:
                    ask = await self._do(calls.AskShow(ask=ask.id, wait_ms=WAIT_MAX_MS))
        except (TimeoutError, errors.AgentComError) as error:
            log.warning("permission.denied", task=self._key.task, reason=str(error) or "no answer")
            return False
        self._open.pop(asked.id, None)
        return ask.state is AskState.ANSWERED and ask.answer == Choice.ALLOW

    async def withdraw(self, asked: base.PermissionAsked) -> None:
        """Take back a question whose agent is gone."""
        ask = self._open.pop(asked.id, None)
        if ask is not None and self._endpoint is not None:
            call = calls.AskWithdraw(ask=ask)
            with contextlib.suppress(errors.AgentComError):  # it is over, or ends with the task
                await self._endpoint.do(self._key, call, told.AskShown)

    async def _put(self, asked: base.PermissionAsked) -> Ask:
        title = note.one_line(" ".join(asked.title.split()), TITLE_CHARS)
        call = calls.AskPut(
            question=f"Permission: may the agent do this? {title}",
            options=tuple(Choice),
            deadline_ms=PERMISSION_MS,
            fallback=Choice.DENY,
        )
        fence = self._key.fence
        request = f"permission/{fence.incarnation}.{fence.attempt}/{self._run}/{asked.id}"
        return await self._do(call, request)

    async def _do(self, call: calls.Call, request: str | None = None) -> Ask:
        """Make a call, again while the hub is away."""
        if self._endpoint is None:
            raise errors.Unavailable("there is nobody to ask")
        while True:
            try:
                return (await self._endpoint.do(self._key, call, told.AskShown, request)).ask
            except (errors.Unavailable, errors.Timeout, errors.RateLimited):
                await asyncio.sleep(_AGAIN_S)
