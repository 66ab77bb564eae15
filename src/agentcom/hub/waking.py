"""Who was woken and who writes to whom, as far as `core/waking.py` asks for it.

In memory: after a restart of the hub the counts begin anew, so a loop goes on for as long again.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

from agentcom.core import waking
from agentcom.core.view import PoolView
from agentcom.core.waking import Exchange, Verdict
from agentcom.hub.clock import Clock
from agentcom.model import address, limits
from agentcom.model.address import Address
from agentcom.model.ids import Instant
from agentcom.model.message import Message, Why

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Waking:
    """What is remembered of messages between agents."""

    def __init__(self, view: Callable[[], PoolView], clock: Clock) -> None:
        self._view = view
        self._clock = clock
        self._exchanges: OrderedDict[frozenset[Address], Exchange] = OrderedDict()
        self._woken: OrderedDict[Address, tuple[Instant, ...]] = OrderedDict()
        self._spoken_to: OrderedDict[Address, int] = OrderedDict()
        """Agent -> how often a person wrote to it."""

    def verdict(self, message: Message, to: Address, why: Why) -> Verdict:
        """Return whether a message that is being written wakes one of its recipients."""
        if not waking.calls_for(message, to, why):
            return Verdict.WAITS
        exchange = self._next(message, to)
        if exchange is not None and waking.is_loop(exchange):
            return Verdict.LOOP
        if waking.is_often(self._woken.get(to, ()), self._clock.now().instant):
            return Verdict.OFTEN
        return Verdict.WAKES

    def begins_loop(self, message: Message, to: Address) -> bool:
        """Return whether this is the message with which two agents have gone on for too long."""
        before = self._exchanges.get(frozenset((message.sender, to)))
        after = self._next(message, to)
        if after is None or not waking.is_loop(after):
            return False
        return before is None or before.mark != after.mark or not waking.is_loop(before)

    def sent(self, message: Message, to: Address, verdict: Verdict) -> None:
        """Take note of a message that was stored."""
        if address.user_of(message.sender) is not None and address.agent_of(to) is not None:
            _keep(self._spoken_to, to, self._spoken_to.get(to, 0) + 1)
        exchange = self._next(message, to)
        if exchange is not None:
            _keep(self._exchanges, frozenset((message.sender, to)), exchange)
        if verdict is Verdict.WAKES:
            now = self._clock.now().instant
            _keep(self._woken, to, (*waking.lately(self._woken.get(to, ()), now), now))

    def _next(self, message: Message, to: Address) -> Exchange | None:
        """Return the exchange of two agents with this message; None if they are not two."""
        one, other = address.agent_of(message.sender), address.agent_of(to)
        if one is None or other is None or one == other:
            return None
        spoken = tuple(sorted((at, self._spoken_to.get(at, 0)) for at in (message.sender, to)))
        mark = (waking.mark(self._view(), one, other), spoken)
        before = self._exchanges.get(frozenset((message.sender, to)))
        return waking.exchanged(before, message.sender, mark)


def _keep(kept: "OrderedDict[_Key, _Value]", key: _Key, value: _Value) -> None:
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > limits.EXCHANGES_MAX:
        kept.popitem(last=False)
