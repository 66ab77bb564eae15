"""What waits for a decision, and who waits for its answer."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

import msgspec

from agentcom.core.effects import Answer, Refuse
from agentcom.core.facts import Accepted, Fact, Heartbeat, LeaseChecked, PhaseReached
from agentcom.hub import faults
from agentcom.model import limits
from agentcom.model.errors import AgentComError, RateLimited
from agentcom.model.replies import Reply

_BUSY_RETRY_MS: Final = 250  # a full inbox is worked off in less
_LAZY: Final = frozenset({Accepted, PhaseReached, Heartbeat, LeaseChecked})
"""What can wait: it rides with the next fact, or comes alone. A lease counts from its turn."""
_LAZY_S: Final = 0.025

Answered = Callable[[Answer | Refuse], None]
"""Who is told what became of a request."""


class Inbox:
    """Facts in order of arrival; requests hold a ticket that their answer resolves."""

    def __init__(self) -> None:
        self._facts: list[Fact] = []
        self._tickets: dict[int, Answered] = {}
        self._ticket = 0
        self._due = False
        """Whether facts wait that want a turn now."""
        self._waker: asyncio.Future[None] | None = None
        self._looks = False
        self._idle = asyncio.Event()

    @property
    def backlog(self) -> int:
        """Facts that wait for a decision."""
        return len(self._facts)

    def put(self, fact: Fact) -> int:
        """Queue a fact, and return how many wait for a decision.

        Raises:
            RateLimited: it is full; only requests are told so, reports always fit.
        """
        facts = self._facts
        if fact.reply_to is not None and len(facts) >= limits.INBOX_MAX:
            del self._tickets[fact.reply_to]
            raise RateLimited("the hub has more requests than it can take", _BUSY_RETRY_MS)
        facts.append(fact)
        if not self._due:
            if type(fact.body) not in _LAZY:
                self._wake()
            elif not self._looks:
                self._looks = True
                asyncio.get_running_loop().call_later(_LAZY_S, self._look)
        return len(facts)

    def ticket(self, answered: Answered) -> int:
        """Return what a request bears as `reply_to`; its answer goes to `answered`, once."""
        self._ticket += 1
        self._tickets[self._ticket] = answered
        return self._ticket

    def ask(self, fact: Fact) -> Awaitable[Reply | msgspec.Raw]:
        """Queue a request and return its answer; raises what it was refused with."""
        future: asyncio.Future[Reply | msgspec.Raw] = asyncio.get_running_loop().create_future()
        ticket = self.ticket(partial(_settle, future))
        self.put(msgspec.structs.replace(fact, reply_to=ticket))
        return future

    def put_first(self, facts: Sequence[Fact]) -> None:
        """Queue facts that come before all others."""
        self._facts[:0] = facts
        if facts:
            self._wake()

    async def take(self) -> Sequence[Fact]:
        """Return the next batch; waits while there is none."""
        while not self._due:
            if not self._facts:
                self._idle.set()
            self._waker = asyncio.get_running_loop().create_future()
            await self._waker
        self._idle.clear()
        count = 1 if faults.point("inbox: one fact a turn") else limits.TURN_FACTS_MAX
        batch = self._facts[:count]
        del self._facts[:count]
        self._due = bool(self._facts)
        return batch

    async def drained(self) -> None:
        """Return when everything queued so far is decided and durable."""
        if self._facts:
            self._idle.clear()
            self._wake()
        await self._idle.wait()

    def resolve(self, effect: Answer | Refuse) -> None:
        """Hand an answer to who waits for it, if anyone still does."""
        answered = self._tickets.pop(effect.ticket, None)
        if answered is not None:
            answered(effect)

    def refuse_all(self, error: AgentComError) -> None:
        """Answer everybody who waits with `error`; for the end."""
        for ticket in list(self._tickets):
            self.resolve(Refuse(ticket, error))

    def _look(self) -> None:
        """See to what nobody brought along."""
        self._looks = False
        if self._facts:
            self._wake()

    def _wake(self) -> None:
        self._due = True
        if self._waker is not None and not self._waker.done():
            self._waker.set_result(None)


def _settle(future: "asyncio.Future[Reply | msgspec.Raw]", effect: Answer | Refuse) -> None:
    if future.done():
        return  # whoever asked has gone
    if isinstance(effect, Refuse):
        future.set_exception(effect.error)
    else:
        future.set_result(effect.reply)
