"""One pool: facts in, a plan out.

`decide` takes each fact to the module that knows it, whole or not at all, and then lets the
matcher fill the agents. The plan is one batch for the store and the effects that may leave once
it is durable. Read next: `core/turn.py` (what follows from a move), then one of the fact modules.
"""

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from agentcom.core import (
    cascades,
    controls,
    deadlines,
    explain,
    facts,
    intake,
    leases,
    limiting,
    reports,
)
from agentcom.core.effects import Answer, Effect, Refuse
from agentcom.core.facts import Fact
from agentcom.core.turn import Turn
from agentcom.core.view import PoolView
from agentcom.model.batch import Batch, Table, request_key
from agentcom.model.errors import AgentComError, InvalidInput, KeyReused
from agentcom.model.identity import RequestRecord
from agentcom.model.ids import IdSource, Now, Rng
from agentcom.model.limits import RECENT_REPLY_BYTES, REQUEST_KEY_CHARS
from agentcom.model.replies import Reply

Keys = Sequence[tuple[Table, str]]
Handler = Callable[[Turn, Fact, Any], Reply | None]
"""What one kind of fact comes to; the table of them ends this file."""

_REQUEST: Final = Table.REQUEST


class Plan(NamedTuple):
    """What a batch of facts comes to."""

    batch: Batch
    effects: Sequence[Effect]
    deferred: Sequence[Fact]
    """Facts about tasks that ended in this batch: they need rows that are only now written."""


def wanted(view: PoolView, fact: Fact) -> Keys:
    """Return stored rows that `decide` needs beside the live view; ask until none is new."""
    wants = _WANTED.get(type(fact.body))
    if wants is None and fact.key is None:
        return ()
    keys = wants(view, fact, fact.body) if wants is not None else ()
    if fact.key is not None:
        name = request_key(fact.actor.user, fact.key)
        if name not in view.requests:
            keys = [*keys, (_REQUEST, name)]
    return [key for key in keys if key not in fact.found] if keys and fact.found else keys


def decide(view: PoolView, batch: Sequence[Fact], *, now: Now, ids: IdSource, rng: Rng) -> Plan:
    """Return what `batch` comes to. The view is changed; `confirm` or `discard` it afterwards."""
    turn = Turn(view, now=now, ids=ids, rng=rng)
    deferred = []
    for fact in batch:
        if turn.over and _reads(fact.body, turn.over) and wanted(view, fact):
            deferred.append(fact)
            continue
        mark = turn.begin(fact)
        try:
            _once(turn, fact)
            if turn.ended:
                cascades.settle(turn)
            if turn.looks or turn.queued or view.lanes.fresh:
                turn.match()
        except AgentComError as error:
            turn.abandon(mark)
            _refuse(turn, fact, error)
    return Plan(turn.batch(), turn.effects, deferred)


def _reads(body: facts.Body, over: Container[str]) -> bool:
    """Return whether a fact may need the rows of a task that ended in this turn."""
    if type(body) not in _WANTED:
        return False
    if isinstance(body, facts.Submit):
        return bool([d for spec in body.specs for d in spec.depends_on if d.task in over])
    if type(body) in (facts.Retry, facts.Adopt):
        return True  # what it depends on may have ended
    return getattr(body, "task", None) in over


def _once(turn: Turn, fact: Fact) -> None:
    """Handle a fact, or give a repeated request the answer that it got the first time."""
    if fact.key is None:
        place = len(turn.effects)
        reply = _HANDLERS[type(fact.body)](turn, fact, fact.body)
        if reply is not None and fact.reply_to is not None:
            turn.effects.insert(place, Answer(fact.reply_to, reply))
        return
    if len(fact.key) > REQUEST_KEY_CHARS or not fact.key.isprintable():
        raise InvalidInput("key", f"at most {REQUEST_KEY_CHARS} characters, none a control")
    name = request_key(fact.actor.user, fact.key)
    known = _known(turn, fact, name)
    if known is None:
        reply = _HANDLERS[type(fact.body)](turn, fact, fact.body)
        assert reply is not None, fact
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


def _known(turn: Turn, fact: Fact, name: str) -> tuple[str, bytes] | None:
    recent = turn.view.requests.get(name)
    if recent is not None:
        return recent
    row = turn.row(_REQUEST, name, fact.found)
    return (row.payload, bytes(row.reply)) if isinstance(row, RequestRecord) else None


def _refuse(turn: Turn, fact: Fact, error: AgentComError) -> None:
    if fact.reply_to is not None:
        turn.effects.append(Refuse(fact.reply_to, error))
    machine = fact.actor.machine
    if machine is not None and isinstance(fact.body, reports.REPORTS):
        turn.effects.append(reports.answer(machine, fact.body, code=error.code))


_HANDLERS: Final[Mapping[type[facts.Body], Handler]] = {
    facts.Submit: intake.submit,
    facts.Accepted: reports.progressed,
    facts.PhaseReached: reports.progressed,
    facts.Checkpointed: reports.progressed,
    facts.CanaryLived: reports.progressed,
    facts.Finished: reports.ended,
    facts.Stopped: reports.ended,
    facts.Declined: reports.ended,
    facts.Landed: reports.ended,
    facts.Heartbeat: leases.renewed,
    facts.MachineConnected: leases.changed,
    facts.MachineDisconnected: leases.changed,
    facts.LeaseChecked: leases.changed,
    facts.DeadlineReached: deadlines.due,
    facts.LandingOverdue: deadlines.due,
    facts.WaitEnded: deadlines.due,
    facts.AccountDue: deadlines.due,
    facts.Recovered: leases.changed,
    facts.TodoDue: leases.changed,
    facts.GateDue: limiting.gate_due,
    facts.LookAgain: limiting.look_again,
    facts.SetLimit: limiting.set_limit,
    facts.DropLimit: limiting.drop_limit,
    facts.Explain: explain.explain,
    facts.Cancel: controls.control,
    facts.Retry: controls.control,
    facts.Adopt: controls.control,
    facts.PauseAgent: controls.control,
    facts.ResumeAccount: controls.control,
    facts.DrainMachine: controls.control,
    facts.RemoveMachine: controls.control,
    facts.Enrol: controls.control,
}
_WANTED: Final[Mapping[type[facts.Body], Callable[[PoolView, Fact, Any], Keys]]] = {
    facts.Submit: intake.wanted,
    facts.Finished: reports.wanted,
    facts.Stopped: reports.wanted,
    facts.Landed: reports.wanted,
    facts.Cancel: controls.wanted,
    facts.Explain: controls.wanted,
    facts.Retry: controls.wanted,
    facts.Adopt: controls.wanted,
}
