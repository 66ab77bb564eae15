"""Answers: a request that is repeated under its key gets the first one's; a refusal says why."""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from agentcom.core import auditing, reports
from agentcom.core.effects import Answer, Refuse
from agentcom.core.facts import Fact
from agentcom.core.turn import Turn
from agentcom.model.batch import Table, request_key
from agentcom.model.errors import AgentComError, InvalidInput, KeyReused
from agentcom.model.identity import RequestRecord
from agentcom.model.limits import RECENT_REPLY_BYTES, REQUEST_KEY_CHARS
from agentcom.model.replies import Reply

_REQUEST: Final = Table.REQUEST


def once(turn: Turn, fact: Fact, handle: Callable[[Turn, Fact, Any], Reply | None]) -> None:
    """Handle a fact, or give a repeated request the answer that it got the first time."""
    if fact.key is None:
        place = len(turn.effects)
        reply = handle(turn, fact, fact.body)
        if fact.origin is not None:
            auditing.note(turn, fact)
        if reply is not None and fact.reply_to is not None:
            turn.effects.insert(place, Answer(fact.reply_to, reply))
        return
    if len(fact.key) > REQUEST_KEY_CHARS or not fact.key.isprintable():
        raise InvalidInput("key", f"at most {REQUEST_KEY_CHARS} characters, none a control")
    name = request_key(fact.actor.user, fact.key)
    known = _known(turn, fact, name)
    if known is None:
        reply = handle(turn, fact, fact.body)
        assert reply is not None, fact
        if fact.origin is not None:
            auditing.note(turn, fact)
        raw = msgspec.json.encode(reply)
        payload = fact.payload or ""
        row = RequestRecord(name, payload, msgspec.Raw(raw), turn.keys_until)
        turn.write(_REQUEST, name, row, None)
        if len(raw) <= RECENT_REPLY_BYTES:  # a longer one is read again where it is stored
            turn.view.put(turn.view.requests, name, (payload, raw))
    elif known[0] != (fact.payload or ""):
        raise KeyReused("this request key came with another request before; use a new one")
    else:
        raw = known[1]
    if fact.reply_to is not None:
        turn.effects.append(Answer(fact.reply_to, msgspec.Raw(raw)))


def refuse(turn: Turn, fact: Fact, error: AgentComError) -> None:
    """Tell whoever waits for it why nothing was done."""
    if fact.reply_to is not None:
        turn.effects.append(Refuse(fact.reply_to, error))
    machine = fact.actor.machine
    if machine is not None and isinstance(fact.body, reports.REPORTS):
        turn.effects.append(reports.answer(machine, fact.body, code=error.code))


def _known(turn: Turn, fact: Fact, name: str) -> tuple[str, bytes] | None:
    recent = turn.view.requests.get(name)
    if recent is not None:
        return recent
    row = turn.row(_REQUEST, name, fact.found)
    return (row.payload, bytes(row.reply)) if isinstance(row, RequestRecord) else None
