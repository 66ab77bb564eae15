"""What waits for a decision, and who waits for its answer."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Final

import msgspec

from agentcom.core.effects import Answer, Refuse
from agentcom.core.facts import Accepted, Fact, PhaseReached
from agentcom.model import limits
from agentcom.model.errors import AgentComError, RateLimited
from agentcom.model.replies import Reply

_BUSY_RETRY_MS: Final = 250  # a full inbox is worked off in less
_LAZY: Final = frozenset({Accepted, PhaseReached})
"""What nobody waits for: it rides with the next fact that needs a commit, or comes alone."""
_LAZY_S: Final = 0.025


class Inbox:
    """Facts in order of arrival; requests hold a ticket that their answer resolves."""

    def __init__(self) -> None:
        self._facts: list[Fact] = []
        self._tickets: dict[int, asyncio.Future[Reply | msgspec.Raw]] = {}
        self._ticket = 0
        self._waker = asyncio.Event()
        self._soon: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()

    @property
    def backlog(self) -> int:
        """Facts that wait for a decision."""
        return len(self._facts)

    def put(self, fact: Fact) -> None:
        """Queue a fact.

        Raises:
            RateLimited: it is full; only requests are told so, reports always fit.
        """
        if len(self._facts) >= limits.INBOX_MAX and fact.reply_to is not None:
            raise RateLimited("the hub has more requests than it can take", _BUSY_RETRY_MS)
        self._facts.append(fact)
        self._idle.clear()
        if type(fact.body) not in _LAZY:
            self._waker.set()
        elif self._soon is None:
            self._soon = asyncio.get_running_loop().call_later(_LAZY_S, self._waker.set)

    def ask(self, fact: Fact) -> Awaitable[Reply | msgspec.Raw]:
        """Queue a request and return its answer; raises what it was refused with."""
        self._ticket += 1
        self.put(msgspec.structs.replace(fact, reply_to=self._ticket))
        future: asyncio.Future[Reply | msgspec.Raw] = asyncio.get_running_loop().create_future()
        self._tickets[self._ticket] = future
        return future

    def put_first(self, facts: Sequence[Fact]) -> None:
        """Queue facts that come before all others."""
        self._facts[:0] = facts
        if facts:
            self._waker.set()

    async def take(self) -> Sequence[Fact]:
        """Return the next batch; waits while there is none."""
        if not self._facts:
            self._idle.set()
        await self._waker.wait()
        batch = self._facts[: limits.TURN_FACTS_MAX]
        del self._facts[: limits.TURN_FACTS_MAX]
        if not self._facts:
            self._waker.clear()
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        return batch

    async def drained(self) -> None:
        """Return when everything queued so far is decided and durable."""
        await self._idle.wait()

    def resolve(self, effect: Answer | Refuse) -> None:
        """Hand an answer to who waits for it, if anyone still does."""
        future = self._tickets.pop(effect.ticket, None)
        if future is None or future.done():
            return
        if isinstance(effect, Refuse):
            future.set_exception(effect.error)
        else:
            future.set_result(effect.reply)

    def refuse_all(self, error: AgentComError) -> None:
        """Answer everybody who waits with `error`; for the end."""
        for ticket in list(self._tickets):
            self.resolve(Refuse(ticket, error))
