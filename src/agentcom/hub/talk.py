"""Calls of agents and people, from any door to the service that answers them.

A service offers its handlers by kind of call. Here is what holds for all: who may, how much at
once, and that a repeat under the same key is the same.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from agentcom.hub.clock import Clock
from agentcom.hub.limits_guard import Budgets, Traffic
from agentcom.hub.requests import check_key, payload_hash
from agentcom.hub.speaking import Speaker
from agentcom.hub.writing import Asked
from agentcom.model import policy
from agentcom.model.errors import NotFound
from agentcom.protocol.call_table import RULES
from agentcom.protocol.calls import Call

Answer = msgspec.Struct | msgspec.Raw
"""What a call comes to; as bytes if it is an answer that was given before."""
Handler = Callable[[Speaker, Any, Asked], Awaitable[Answer]]


class Talk:
    """All calls of a hub."""

    def __init__(self, clock: Clock, budgets: Budgets) -> None:
        self._clock = clock
        self._budgets = budgets
        self._handlers: dict[type[Call], Handler] = {}

    def offer(self, handlers: Mapping[type[Call], Handler]) -> None:
        """Add what a service answers."""
        self._handlers.update(handlers)

    async def do(
        self, speaker: Speaker, call: Call, *, cause: str, key: str | None = None
    ) -> Answer:
        """Make a call and return its answer.

        Raises:
            AgentComError: it is refused.
        """
        handler = self._handlers.get(type(call))
        if handler is None:
            raise NotFound("this hub does not have that call")
        rule, identity = RULES[type(call)], speaker.identity
        # Whose thing it is, the service looks up, and asks again where that matters.
        policy.authorize(identity, rule.action, owner=identity.user)
        self._budgets.spend(identity, Traffic.TALK, self._clock.now(), rule.cost)
        if key is not None and rule.changes:
            asked = Asked(cause=cause, key=check_key(key), payload=payload_hash(call))
        else:
            asked = Asked(cause=cause)
        return await handler(speaker, call, asked)
