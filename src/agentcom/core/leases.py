"""Sessions and leases: machines that come, stay, fall silent and return.

A lease is renewed by a heartbeat and counted from its receipt on the hub's monotonic clock. What
a machine held is given to others only after its lease and the margin, or when the machine itself
says that it no longer has it. A socket that closes changes nothing but where new work goes.
"""

from collections.abc import Sequence
from typing import Final, assert_never

import msgspec

from agentcom.core import accounts, facts, intake, merging, moves, pauses, reports, watches
from agentcom.core.effects import (
    ClearTimer,
    CloseConnection,
    Continue,
    Effect,
    SetTimer,
    Stop,
)
from agentcom.core.facts import Fact
from agentcom.core.parts import Session
from agentcom.core.reconcile import phase_of, reconcile
from agentcom.core.turn import Turn
from agentcom.core.view import PoolView
from agentcom.model import ids, limits
from agentcom.model.agent import Agent, AgentSpec, Held, Machine
from agentcom.model.batch import Table
from agentcom.model.errors import AgentComError, InvalidInput, NameTaken, NotAllowed, Superseded
from agentcom.model.event import EventKind
from agentcom.model.ids import Instant, MachineId, Now, WallTime
from agentcom.model.limits import LEASE_PARTS
from agentcom.model.pause import machine_scope
from agentcom.model.replies import Refusal, Welcomed
from agentcom.model.requirement import PROMPT
from agentcom.model.task import Task

replace: Final = msgspec.structs.replace

CLOSE_SUPERSEDED: Final = 4409
"""WebSocket close code: a newer connection of the same machine took over."""
CLOSE_LEASE_LOST: Final = 4410
"""WebSocket close code: nothing was heard on this connection for a whole lease."""


def renewed(turn: Turn, fact: Fact, body: facts.Heartbeat) -> None:
    """Renew a lease, and put right what got lost between the hub and the machine."""
    view = turn.view
    machine_id = fact.actor.machine
    session = view.sessions.get(machine_id) if machine_id is not None else None
    if machine_id is None or session is None or session.number != body.session:
        raise Superseded("this session is over; connect again")
    came_back, before = session.suspect, Instant(session.suspect_at - session.ttl_ms // 2)
    if came_back:
        view.undo(setattr, session, "suspect", True)
    session.renew(turn.now.instant)
    if came_back:
        turn.effects.append(_timer(machine_id, session.suspect_at))
        _refresh(turn, machine_id)
    _apply(turn, machine_id, body.held, heartbeat_ms=session.ttl_ms // LEASE_PARTS)
    if machine_id in view.books.under_review:
        told = watches.again(view, machine_id, before=before, now=turn.now.instant)
        turn.effects += told


def changed(
    turn: Turn,
    fact: Fact,
    body: facts.MachineConnected | facts.MachineDisconnected | facts.LeaseChecked | facts.Recovered,
) -> Welcomed | None:
    """Take up a session that begins or breaks, or a time that has come."""
    match body:
        case facts.MachineConnected():
            return _connected(turn, fact, body)
        case facts.MachineDisconnected():
            _disconnected(turn, body)
        case facts.LeaseChecked():
            _check(turn, body.machine)
        case facts.Recovered():
            _recovered(turn)
        case _:
            assert_never(body)
    return None


def forgive(view: PoolView, late_ms: int) -> None:
    """Lengthen every lease by a time in which this hub itself was not running (sleep, stall)."""
    for session in view.sessions.values():
        session.suspect_at = Instant(session.suspect_at + late_ms)
        session.expires_at = Instant(session.expires_at + late_ms)


def inherit(view: PoolView, old: PoolView) -> Sequence[Effect]:
    """Keep the sessions of a view that was thrown away: the machines never noticed."""
    effects: list[Effect] = []
    for machine, session in old.sessions.items():
        if machine not in view.machines:
            continue
        view.sessions[machine] = session
        effects.append(_timer(machine, session.suspect_at))
        for agent in view.agents_of.get(machine, ()):
            view.refresh(agent)
    view.confirm()
    view.loops = old.loops
    view.recovers_at = old.recovers_at  # the wait is not begun anew with each view
    if view.recovers_at is None:
        effects.append(ClearTimer("recovery"))
    else:
        effects.append(SetTimer("recovery", view.recovers_at, facts.Recovered()))
    # What the lost memory had not yet given out waits beside agents that are free.
    return [*effects, Continue(facts.Recovered())]


def grace(view: PoolView, now: Now) -> Sequence[Effect]:
    """Give every holder of a stored attempt time to come back after a start of the hub."""
    grace_ms = _grace_ms(view)
    effects: list[Effect] = []
    for machine_id, held in view.held_by.items():
        machine = view.machines.get(machine_id)
        ttl_ms = machine.ttl_ms if machine is not None else limits.LEASE_TTL_MS
        number = machine.session if machine is not None else 0
        session = Session(number, ttl_ms, ttl_ms // LEASE_PARTS, None)
        session.suspect = True
        session.suspect_at = session.expires_at = Instant(now.instant + grace_ms)
        view.sessions[machine_id] = session
        if held:
            effects.append(_timer(machine_id, session.expires_at))
    return effects


def recover(view: PoolView, now: Now) -> Sequence[Effect]:
    """Give nothing out, after a restore, while a lease may run that the store never knew of.

    A restore raises the incarnation to its own time in Unix seconds, so it was one if something
    here is older than that, and it is recent if that time is.
    """
    raised_at = view.incarnation * 1_000
    left_ms = _grace_ms(view) - max(0, now.wall - raised_at)
    written = [machine.created_at for machine in view.machines.values()]
    written += [task.changed_at for task in view.tasks.values()]
    if left_ms <= 0 or min(written, default=raised_at) >= raised_at:
        return ()
    view.recovers_at = Instant(now.instant + left_ms)
    return (SetTimer("recovery", view.recovers_at, facts.Recovered()),)


def _grace_ms(view: PoolView) -> int:
    longest = max((m.ttl_ms for m in view.machines.values()), default=0)
    lease_ms = longest + longest // LEASE_PARTS
    if longest and longest < limits.LEASE_TTL_MS:
        # A fleet with shorter leases than the default wants to be quick here too.
        return max(limits.RESTART_GRACE_SHORT_MS, lease_ms)
    return max(limits.RESTART_GRACE_MS, lease_ms)


# Connecting ---------------------------------------------------------------------------------------


def _connected(turn: Turn, fact: Fact, body: facts.MachineConnected) -> Welcomed:
    view = turn.view
    machine = _admitted(view, fact, body)
    old = view.sessions.get(machine.id)
    if old is not None and old.connection not in (None, body.connection):
        assert old.connection is not None
        reason = "a newer connection of this machine took over"
        turn.effects.append(CloseConnection(old.connection, CLOSE_SUPERSEDED, reason))
    ttl_ms = body.ttl_ms or limits.LEASE_TTL_MS
    ttl_ms = min(max(ttl_ms, limits.LEASE_TTL_MIN_MS), limits.LEASE_TTL_MAX_MS)
    session = Session(machine.session + 1, ttl_ms, ttl_ms // LEASE_PARTS, body.connection)
    session.renew(turn.now.instant)
    view.put(view.sessions, machine.id, session)
    after = replace(
        machine,
        session=session.number,
        ttl_ms=ttl_ms,
        last_seen=turn.now.wall,
        resources=body.resources,
        version=machine.version + 1,
    )
    turn.write(Table.MACHINE, machine.id, after, old=machine.version)
    view.put(view.machines, machine.id, after)
    if after.resources != machine.resources:
        for agent in list(view.agents_of.get(machine.id, ())):
            view.learn_agent(view.agents[agent])
    refused = _learn_agents(turn, after, body.agents)
    turn.effects.append(_timer(machine.id, session.suspect_at))
    # A new connection: whatever was sent on the old one and is not held got lost.
    _apply(turn, machine.id, body.held, heartbeat_ms=0)
    turn.effects += watches.of_machine(view, machine.id)
    _refresh(turn, machine.id)
    return Welcomed(
        session=session.number,
        ttl_ms=ttl_ms,
        heartbeat_ms=ttl_ms // LEASE_PARTS,
        margin_ms=session.margin_ms,
        refused=tuple(refused),
    )


def _admitted(view: PoolView, fact: Fact, body: facts.MachineConnected) -> Machine:
    """Return the machine that connects, if it may."""
    machine_id = fact.actor.machine
    machine = view.machines.get(machine_id) if machine_id is not None else None
    if machine is None or machine.removed:
        raise NotAllowed("this machine is not part of the fleet; join again")
    stop = view.pauses.get(machine_scope(machine.id))
    if stop is not None:
        raise NotAllowed(f"{stop.words}; {pauses.lift(stop)}")
    if len(body.agents) > limits.AGENTS_PER_MACHINE or len(body.held) > limits.HELD_MAX:
        raise InvalidInput("agents", f"at most {limits.AGENTS_PER_MACHINE} on one machine")
    intake.check_amounts("resources", body.resources)
    return machine


def _learn_agents(turn: Turn, machine: Machine, specs: Sequence[AgentSpec]) -> Sequence[Refusal]:
    view = turn.view
    refused = []
    named = set()
    for spec in specs:
        try:
            _learn_agent(turn, machine, spec)
            named.add(spec.name)
        except AgentComError as error:
            refused.append(Refusal(str(spec.name)[:64], error.code, error.message))
    for agent_id in list(view.agents_of.get(machine.id, ())):
        if agent_id not in named:
            _write_agent(turn, replace(view.agents[agent_id], absent=True))
    return refused


def _learn_agent(turn: Turn, machine: Machine, spec: AgentSpec) -> None:
    view = turn.view
    ids.check_name(spec.name)
    if not 1 <= spec.slots <= limits.SLOTS_MAX:
        raise InvalidInput("slots", f"from 1 to {limits.SLOTS_MAX}")
    accounts.check_name(spec.account)
    known = view.agents.get(spec.name)
    if known is not None and known.machine != machine.id:
        owner = view.machines.get(known.machine)
        if owner is not None and not owner.removed:
            raise NameTaken(f"an agent on {owner.name} is called {spec.name}; use another name")
    _write_agent(
        turn,
        Agent(
            id=spec.name,
            machine=machine.id,
            runtime=spec.runtime,
            capabilities=_capabilities(spec),
            labels=spec.labels,
            slots=spec.slots,
            cli_version=spec.version,
            accepts=spec.accepts,
            paused=known.paused if known is not None else False,
            version=known.version if known is not None else 1,
            account=spec.account,
            failed=known.failed if known is not None else (),
            quarantined=known.quarantined if known is not None else None,
            quarantined_at=known.quarantined_at if known is not None else None,
            tried_at=known.tried_at if known is not None else None,
            on_trial=known.on_trial if known is not None else False,
            strikes=known.strikes if known is not None else 0,
            problem=spec.problem[: limits.REASON_CHARS],
        ),
    )


def _capabilities(spec: AgentSpec) -> tuple[str, ...]:
    prompt = (PROMPT,) if spec.prompts else ()
    return tuple(dict.fromkeys((*spec.capabilities, *prompt)))


def _write_agent(turn: Turn, agent: Agent) -> None:
    view = turn.view
    known = view.agents.get(agent.id)
    if known == agent:
        return
    if known is not None:
        agent = replace(agent, version=known.version + 1)
        if known.machine != agent.machine:
            view.drop(view.agents_of[known.machine], agent.id)
    view.learn_agent(agent)
    turn.write(Table.AGENT, agent.id, agent, old=known.version if known is not None else None)


def _disconnected(turn: Turn, body: facts.MachineDisconnected) -> None:
    session = turn.view.sessions.get(body.machine)
    if session is None or session.connection != body.connection:
        return
    _unplug(turn.view, session)
    _refresh(turn, body.machine)


def _unplug(view: PoolView, session: Session) -> None:
    view.undo(setattr, session, "connection", session.connection)
    session.connection = None


def _refresh(turn: Turn, machine: MachineId) -> None:
    for agent in turn.view.agents_of.get(machine, ()):
        turn.view.refresh(agent)
        turn.ready(agent)


def _apply(turn: Turn, machine: MachineId, report: Sequence[Held], *, heartbeat_ms: int) -> None:
    """Carry out what `reconcile` finds."""
    view = turn.view
    if not report and not view.held_by.get(machine):
        return
    rows = view.held_tasks(machine)
    granted = view.first_landings()
    orders = reconcile(
        machine,
        tasks=view.tasks,
        rows=rows,
        granted=granted,
        report=report,
        pushed_before=WallTime(turn.now.wall - heartbeat_ms),
        now=turn.now.wall,
        incarnation=view.incarnation,
    )
    if orders.beyond:
        view.put(view.beyond, machine, None)
    for task in orders.push:
        turn.push(task)
    for task in orders.begun:
        reports.accepted(turn, task)
    for task_id, fence, stopping in orders.stop:
        reason = stopping.stop_reason if stopping is not None else None
        turn.effects.append(Stop(machine, task_id, fence, reason))
    turn.effects += [merging.grant(view, task) for task in orders.land]
    for task in orders.gone:
        if merging.rides(view, task):
            continue
        # At a restored store a machine first offers what it has kept; then comes its heartbeat.
        if heartbeat_ms or task.incarnation == view.incarnation:
            _return(turn, task, "its machine no longer has it")
    for task, item in orders.resume:
        reports.resume(turn, task, phase_of(item))


# Times that have come -----------------------------------------------------------------------------


def _check(turn: Turn, machine: MachineId) -> None:
    """Look at a lease: still good, suspect, or lost."""
    view = turn.view
    session = view.sessions.get(machine)
    if session is None:
        _lose(turn, machine)
        return
    now = turn.now.instant
    if now < session.suspect_at:
        turn.effects.append(_timer(machine, session.suspect_at))
        return
    if not session.suspect:
        view.undo(setattr, session, "suspect", False)
        session.suspect = True
        _refresh(turn, machine)
    if now < session.expires_at:
        turn.effects.append(_timer(machine, session.expires_at))
        return
    _lose(turn, machine)
    turn.effects += watches.away(view, machine, now)
    if session.connection is not None:
        reason = "nothing was heard for a whole lease"
        turn.effects.append(CloseConnection(session.connection, CLOSE_LEASE_LOST, reason))
        _unplug(view, session)


def _lose(turn: Turn, machine: MachineId) -> None:
    for task in turn.view.held_tasks(machine):
        if not merging.rides(turn.view, task):
            _return(turn, task, "its machine fell silent")


def _return(turn: Turn, task: Task, why: str) -> None:
    machine = turn.view.machines.get(task.machine) if task.machine is not None else None
    name = machine.name if machine is not None else task.machine or ""
    turn.move(task, moves.LeaseLost(name), EventKind.RETURNED, why)


def _recovered(turn: Turn) -> None:
    """Look at every agent, and end the wait after a restore if its time has come."""
    view = turn.view
    if view.recovers_at is not None and turn.now.instant >= view.recovers_at:
        view.undo(setattr, view, "recovers_at", view.recovers_at)
        view.recovers_at = None
    for agent in view.agents:
        view.refresh(agent)
        turn.ready(agent)


def _timer(machine: MachineId, at: Instant) -> SetTimer:
    return SetTimer(f"lease/{machine}", at, facts.LeaseChecked(machine))
