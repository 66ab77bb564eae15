"""Whom a message wakes: agents, for what is meant for them, and not for ever. Pure.

Two agents that only answer each other keep each other awake, and cost, without getting anywhere.
So after a number of turns in a row their messages wake nobody, until one of them begins or ends an
attempt or a person writes to one of them.
"""

from collections.abc import Hashable, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from agentcom.core import mail
from agentcom.core.view import PoolView
from agentcom.model import address, limits
from agentcom.model.address import Address
from agentcom.model.ids import AgentId, Instant
from agentcom.model.message import Message, Sort, Urgency, Why

_CALLING: Final = frozenset({Why.DIRECT, Why.MENTION, Why.NOTICE})
"""Why a message stands in a mailbox that somebody may be woken for; never for a broadcast."""


class Verdict(StrEnum):
    """Whether an agent is woken for a message, or why not."""

    WAKES = "wakes"
    WAITS = "waits"
    """It is not of the kind that anybody is woken for."""
    LOOP = "loop"
    """Sender and recipient only keep each other busy."""
    OFTEN = "often"
    """The recipient was woken often enough lately."""


class Exchange(NamedTuple):
    """Messages that two agents sent each other while nothing else happened to them."""

    turns: int
    last: Address
    mark: Hashable
    """What is another thing once something happens to one of them."""


def calls_for(message: Message, to: Address, why: Why) -> bool:
    """Return whether a message is of the kind that an agent is woken for."""
    task = address.task_of(to)
    return (
        (address.agent_of(to) is not None or task is not None)
        and to != message.sender
        and (task is None or task != message.task)
        and message.urgency >= Urgency.NORMAL
        and (why in _CALLING or message.sort is Sort.ANSWER)
    )


def mark(view: PoolView, *agents: AgentId) -> Hashable:
    """Return what agents work on: another thing after one of them began or ended an attempt."""
    return frozenset((task.id, task.fence) for one in agents for task in mail.attempts(view, one))


def exchanged(before: Exchange | None, sender: Address, now: Hashable) -> Exchange:
    """Return an exchange after one more message; a turn is all that one says before the other."""
    if before is None or before.mark != now:
        return Exchange(1, sender, now)
    if before.last == sender:
        return before
    return Exchange(before.turns + 1, sender, now)


def is_loop(exchange: Exchange) -> bool:
    """Return whether an exchange has gone on for too long."""
    return exchange.turns >= limits.LOOP_TURNS


def lately(woken: Sequence[Instant], now: Instant) -> tuple[Instant, ...]:
    """Return the wakes that still count."""
    return tuple(at for at in woken if at > now - limits.WAKES_MS)


def is_often(woken: Sequence[Instant], now: Instant) -> bool:
    """Return whether an agent was woken as often as it may be."""
    return len(lately(woken, now)) >= limits.WAKES_MAX
