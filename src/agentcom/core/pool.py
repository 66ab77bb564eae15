"""One pool: facts in, a plan out.

`decide` takes each fact to the module that knows it, whole or not at all, and then lets the
matcher fill the agents. The plan is one batch for the store and the effects that may leave once
it is durable. Read next: `core/turn.py` (what follows from a move), then one of the fact modules.
"""

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, Final, NamedTuple, get_args

from agentcom.core import (
    asking,
    budgets,
    bulk,
    cascades,
    controls,
    deadlines,
    due_facts,
    edits,
    explain,
    facts,
    intake,
    land_orders,
    leases,
    limiting,
    lock_facts,
    locking,
    pausing,
    reports,
    requests,
    todos,
)
from agentcom.core.approvals import judged
from agentcom.core.ask_facts import AnswerAsk, WithdrawAsk
from agentcom.core.effects import Effect
from agentcom.core.facts import Fact
from agentcom.core.spending import wanted_turns
from agentcom.core.subtasks import cancel_group
from agentcom.core.turn import Turn
from agentcom.core.view import PoolView
from agentcom.model.batch import Batch, Table, request_key
from agentcom.model.errors import AgentComError
from agentcom.model.ids import IdSource, Now, Rng
from agentcom.model.replies import Reply

Handler = Callable[[Turn, Fact, Any], Reply | None]
"""What one kind of fact comes to; the table of them ends this file."""
Keys = Sequence[tuple[Table, str]]

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
            requests.once(turn, fact, _HANDLERS[type(fact.body)])
            if turn.ended:
                cascades.settle(turn)
            if turn.looks or turn.queued or view.lanes.fresh or view.lanes.vacant:
                turn.match()
        except AgentComError as error:
            turn.abandon(mark)
            requests.refuse(turn, fact, error)
    return Plan(turn.batch(), turn.effects, deferred)


def _reads(body: facts.Body, over: Container[str]) -> bool:
    """Return whether a fact may need the rows of a task that ended in this turn."""
    if type(body) not in _WANTED:
        return False
    if isinstance(body, facts.Submit):
        specs = body.specs
        depends = [d for spec in specs for d in spec.depends_on if d.task in over]
        return bool(depends or [spec for spec in specs if spec.reviews in over])
    if type(body) in (facts.Retry, facts.Adopt, facts.TodoDue):
        return True  # what it depends on may have ended, or one of many tasks
    return getattr(body, "task", None) in over


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
    facts.Used: reports.used,
    facts.SetBudget: budgets.control,
    facts.BudgetsRenewed: budgets.renewed,
    facts.Heartbeat: leases.renewed,
    facts.MachineConnected: leases.changed,
    facts.MachineDisconnected: leases.changed,
    facts.LeaseChecked: leases.changed,
    **dict.fromkeys(get_args(due_facts.Due), deadlines.due),
    facts.Recovered: leases.changed,
    **todos.HANDLERS,
    facts.GateDue: limiting.gate_due,
    facts.LookAgain: limiting.look_again,
    facts.SetLimit: limiting.set_limit,
    facts.DropLimit: limiting.drop_limit,
    facts.Explain: explain.explain,
    facts.Cancel: controls.control,
    facts.Retry: controls.control,
    facts.Adopt: controls.control,
    facts.Decide: judged,
    facts.CancelGroup: cancel_group,
    facts.PauseAgent: controls.control,
    facts.ResumeAccount: controls.control,
    facts.DrainMachine: controls.control,
    facts.RemoveMachine: controls.control,
    facts.Enrol: controls.control,
    facts.Pause: pausing.pause,
    facts.Edit: edits.edit,
    facts.ActOnMany: bulk.take,
    lock_facts.AcquireLock: locking.acquire,
    lock_facts.ReleaseLock: locking.release,
    lock_facts.ShowLock: locking.show,
    lock_facts.LocksDue: locking.due,
    **asking.HANDLERS,
    **land_orders.HANDLERS,
}
_WANTED: Final[Mapping[type[facts.Body], Callable[[PoolView, Fact, Any], Keys]]] = {
    facts.Submit: intake.wanted,
    facts.Finished: reports.wanted,
    facts.Stopped: reports.wanted,
    facts.Landed: reports.wanted,
    facts.Used: wanted_turns,
    facts.Cancel: controls.wanted,
    facts.Explain: controls.wanted,
    facts.Retry: controls.wanted,
    facts.Adopt: controls.wanted,
    facts.Decide: controls.wanted,
    facts.Pause: pausing.wanted,
    facts.Edit: edits.wanted,
    facts.TodoDue: bulk.wanted,
    **dict.fromkeys((AnswerAsk, WithdrawAsk), asking.wanted),
    **land_orders.WANTED,
}
