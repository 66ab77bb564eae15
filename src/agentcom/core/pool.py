"""One pool: facts in, a plan out.

`decide` takes each fact to the module that knows it, whole or not at all, and then lets the
matcher fill the agents. The plan is one batch for the store and the effects that may leave once
it is durable. Read next: `core/turn.py` (what follows from a move), then one of the fact modules.
"""

from collections.abc import Container, Sequence
from typing import NamedTuple, assert_never

import msgspec

from agentcom.core import cascades, controls, explain, facts, fairness, intake, leases, reports
from agentcom.core.effects import Acknowledge, Answer, Continue, Effect, Refuse
from agentcom.core.facts import Fact
from agentcom.core.turn import Turn
from agentcom.core.view import PoolView
from agentcom.model.batch import Batch, Table, request_key
from agentcom.model.errors import AgentComError, InvalidInput, KeyReused
from agentcom.model.identity import RequestRecord
from agentcom.model.ids import DEFAULT_POOL, IdSource, Now, PoolId, Rng, WallTime
from agentcom.model.limits import REQUEST_KEY_CHARS, REQUEST_KEY_KEEP_MS
from agentcom.model.replies import Reply
from agentcom.model.snapshot import Snapshot
from agentcom.model.task import Task, TaskState

Keys = Sequence[tuple[Table, str]]


class Plan(NamedTuple):
    """What a batch of facts comes to."""

    batch: Batch
    effects: Sequence[Effect]
    deferred: Sequence[Fact]
    """Facts about tasks that ended in this batch: they need rows that are only now written."""


def load(
    rows: Snapshot, *, incarnation: int, term: int | None, now: Now, pool: PoolId = DEFAULT_POOL
) -> tuple[PoolView, Sequence[Effect]]:
    """Return the view of stored rows, and the timers and cascades that were under way.

    Holders of stored attempts get a grace to come back; nothing of theirs is given away before.
    """
    view = PoolView(pool, incarnation=incarnation, term=term)
    for machine in rows.machines:
        view.machines[machine.id] = machine
    for agent in rows.agents:
        view.learn_agent(agent)
    for edge in rows.edges:
        view.edges.setdefault(edge.task, {})[edge.on] = edge
        if not edge.met:
            view.dependants.setdefault(edge.on, {})[edge.task] = None
    for hold in rows.holds:
        view.holds.setdefault(hold.task, {})[hold.key] = hold
    effects: list[Effect] = []
    for task in sorted(rows.tasks, key=lambda task: task.seq):
        _load_task(view, task)
        effects += leases.timers_of(task, now)
    view.fairness.restore(_share(task) for task in view.tasks.values() if task.seq)
    effects += leases.grace(view, now)
    for todo in rows.todos:
        view.todos[todo.task] = todo
        effects.append(Continue(facts.TodoDue(todo.task, todo.kind)))
    view.confirm()
    return view, effects


def wanted(view: PoolView, fact: Fact) -> Keys:
    """Return stored rows that `decide` needs beside the live view; ask until none is new."""
    keys = _wanted_by_body(view, fact)
    if fact.key is not None:
        name = request_key(fact.actor.user, fact.key)
        if name not in view.requests:
            keys = [*keys, (Table.REQUEST, name)]
    return [key for key in keys if key not in fact.found]


def decide(view: PoolView, batch: Sequence[Fact], *, now: Now, ids: IdSource, rng: Rng) -> Plan:
    """Return what `batch` comes to. The view is changed; `confirm` or `discard` it afterwards."""
    turn = Turn(view, now=now, ids=ids, rng=rng)
    deferred = []
    for fact in batch:
        if turn.over and _about(fact.body, turn.over) and wanted(view, fact):
            deferred.append(fact)
            continue
        mark = turn.begin(fact)
        try:
            _once(turn, fact)
            cascades.settle(turn)
            turn.match()
        except AgentComError as error:
            turn.abandon(mark)
            _refuse(turn, fact, error)
    return Plan(turn.batch(), turn.effects, deferred)


def _about(body: facts.Body, over: Container[str]) -> bool:
    """Return whether a fact names a task that ended in this turn."""
    if isinstance(body, facts.Submit):
        return any(d.task in over for spec in body.specs for d in spec.depends_on)
    if isinstance(body, facts.Retry | facts.Adopt):
        return True  # what it depends on may have ended
    return getattr(body, "task", None) in over


def _once(turn: Turn, fact: Fact) -> None:
    """Handle a fact, or give a repeated request the answer that it got the first time."""
    if fact.key is None:
        place = len(turn.effects)
        reply = _handle(turn, fact)
        if reply is not None and fact.reply_to is not None:
            turn.effects.insert(place, Answer(fact.reply_to, reply))
        return
    if len(fact.key) > REQUEST_KEY_CHARS or not fact.key.isprintable():
        raise InvalidInput("key", f"at most {REQUEST_KEY_CHARS} characters, none a control")
    name = request_key(fact.actor.user, fact.key)
    known = _known(turn, fact, name)
    if known is None:
        reply = _handle(turn, fact)
        assert reply is not None, fact
        raw = msgspec.json.encode(reply)
        until = WallTime(turn.now.wall + REQUEST_KEY_KEEP_MS)
        payload = fact.payload or ""
        record = RequestRecord(key=name, payload=payload, reply=msgspec.Raw(raw), expires_at=until)
        turn.write(Table.REQUEST, name, record, old=None)
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
    row = fact.found.get((Table.REQUEST, name))
    return (row.payload, bytes(row.reply)) if isinstance(row, RequestRecord) else None


def _refuse(turn: Turn, fact: Fact, error: AgentComError) -> None:
    if fact.reply_to is not None:
        turn.effects.append(Refuse(fact.reply_to, error))
    body, machine = fact.body, fact.actor.machine
    if isinstance(body, facts.Finished | facts.Stopped | facts.Landed) and machine is not None:
        turn.effects.append(
            Acknowledge(machine, body.task, body.fence, applied=False, code=error.code)
        )


def _handle(turn: Turn, fact: Fact) -> Reply | None:  # one line per fact
    body = fact.body
    match body:
        case facts.Submit():
            return intake.submit(turn, fact, body)
        case facts.Accepted() | facts.PhaseReached() | facts.Checkpointed():
            reports.progressed(turn, fact, body)
            return None
        case facts.Finished() | facts.Stopped() | facts.Declined() | facts.Landed():
            reports.ended(turn, fact, body)
            return None
        case facts.Heartbeat():
            leases.renewed(turn, fact, body)
            return None
        case (
            facts.MachineConnected()
            | facts.MachineDisconnected()
            | facts.LeaseChecked()
            | facts.DeadlineReached()
            | facts.WaitEnded()
            | facts.TodoDue()
        ):
            return leases.changed(turn, fact, body)
        case facts.Explain():
            return explain.explain(turn, fact, body)
        case (
            facts.Cancel()
            | facts.Retry()
            | facts.Adopt()
            | facts.PauseAgent()
            | facts.DrainMachine()
            | facts.RemoveMachine()
            | facts.Enrol()
        ):
            return controls.control(turn, fact, body)
        case _:
            assert_never(body)


def _wanted_by_body(view: PoolView, fact: Fact) -> Keys:
    body = fact.body
    match body:
        case facts.Submit():
            return intake.wanted(view, body)
        case facts.Finished() | facts.Stopped() | facts.Landed():
            return reports.wanted(view, fact, body)
        case facts.Cancel() | facts.Explain() | facts.Retry() | facts.Adopt():
            return controls.wanted(view, fact, body)
        case _:
            return ()


def _load_task(view: PoolView, task: Task) -> None:
    view.tasks[task.id] = task
    view.learn_shape(task)
    view.seq = max(view.seq, task.seq)
    if task.unique_key is not None:
        view.unique[task.unique_key] = task.id
    if task.state is TaskState.QUEUED:
        view.enqueue(task)
    if task.state.held:
        assert task.machine is not None
        view.held_by.setdefault(task.machine, {})[task.id] = None
    for key in view.holds.get(task.id, {}):
        kind, _, name = key.partition(":")
        if kind == "slot":
            assert task.agent is not None
            view.slots_used[task.agent] = view.slots_used.get(task.agent, 0) + 1
        elif kind == "land":
            view.landing[name] = (task.id, *view.landing.get(name, ()))
    landing = task.state.held and task.land_key and f"land:{task.land_key}"
    if landing and task.phase == "landing" and landing not in view.holds.get(task.id, {}):
        queue = view.landing.get(task.land_key or "", ())
        view.landing[task.land_key or ""] = (*queue, task.id)


def _share(task: Task) -> fairness.Share:
    tag = None if task.emergency else fairness.order_tag(task.start_tag, task.priority)
    queued = task.state is TaskState.QUEUED
    return fairness.Share(task.submitter, task.start_tag, 1.0, tag, dispatched=not queued)
