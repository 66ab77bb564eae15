"""Limits as people set them, and the time of rates: facts about gates (`core/passing.py`)."""

from agentcom.core import facts, passing
from agentcom.core.facts import Fact
from agentcom.core.turn import Turn
from agentcom.model import limit, limits
from agentcom.model.errors import InvalidInput, NotFound
from agentcom.model.replies import Done


def set_limit(turn: Turn, _fact: Fact, body: facts.SetLimit) -> Done:
    """Set the rule of a scope; what runs goes on.

    Raises:
        InvalidInput: the scope or a number makes no sense, or there are too many rules.
    """
    limit.check(body.limit)
    rules = turn.view.gates.rules
    if body.limit.scope not in rules and len(rules) >= limits.RULES_MAX:
        raise InvalidInput("limit", f"at most {limits.RULES_MAX} rules; use {limit.EVERY}")
    return Done(passing.set_rule(turn, body.limit).scope)


def drop_limit(turn: Turn, _fact: Fact, body: facts.DropLimit) -> Done:
    """Take the rule of a scope away; raises `NotFound` if there is none."""
    rule = turn.view.gates.rules.get(body.scope)
    if rule is None:
        raise NotFound(f"there is no limit on {body.scope}")
    passing.drop_rule(turn, rule)
    return Done(body.scope)


def gate_due(turn: Turn, _fact: Fact, body: facts.GateDue) -> None:
    """Open the gate of a rate whose time has come, or wait on after a clock step."""
    passing.refresh(turn, body.scope)


def look_again(turn: Turn, _fact: Fact, body: facts.LookAgain) -> None:
    """Go on looking for work for an agent, or for tasks that may start."""
    if body.agent is None:
        turn.view.lanes.go_on()
    else:
        turn.ready(body.agent)
