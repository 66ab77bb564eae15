"""What people ask of tasks, agents and machines."""

from collections.abc import Sequence
from typing import Final, assert_never

import msgspec

from agentcom.core import (
    accounts,
    facts,
    graphs,
    intake,
    loops,
    moves,
    quarantine,
    reviews,
    subtasks,
)
from agentcom.core.effects import CloseConnection
from agentcom.core.facts import Fact
from agentcom.core.turn import Turn
from agentcom.core.view import PoolView
from agentcom.model.agent import Machine
from agentcom.model.batch import Table, result_key
from agentcom.model.errors import IllegalTransition, NameTaken, NotAllowed, NotFound
from agentcom.model.event import EventKind
from agentcom.model.identity import Role
from agentcom.model.ids import MachineId, TaskId, WallTime
from agentcom.model.pause import machine_scope
from agentcom.model.replies import Done, Reply, TaskChanged
from agentcom.model.result import KeptResult, ResultStatus
from agentcom.model.task import (
    StopReason,
    Task,
    TaskBody,
    TaskState,
    Wait,
)

replace: Final = msgspec.structs.replace

_RETRIED: Final = (Wait.RETRY, Wait.QUOTA, Wait.APPROVAL, Wait.REVIEW)
CLOSE_REVOKED: Final = 4401
"""WebSocket close code: this identity is no longer known."""

Control = (
    facts.Cancel
    | facts.Retry
    | facts.Adopt
    | facts.PauseAgent
    | facts.ResumeAccount
    | facts.DrainMachine
    | facts.RemoveMachine
    | facts.Enrol
)


Named = facts.Cancel | facts.Explain | facts.Retry | facts.Adopt | facts.Decide
"""What is about one task, which may be over."""


def wanted(view: PoolView, fact: Fact, body: Named) -> Sequence[tuple[Table, str]]:
    """Return the rows of a task that is no longer live, and of what it depended on."""
    keys: list[tuple[Table, str]] = []
    if body.task not in view.tasks:
        keys.append((Table.TASK, body.task))
        task = fact.found.get((Table.TASK, body.task))
        keys += graphs.tally_of(view, task) if isinstance(task, Task) else ()
    if isinstance(body, facts.Explain):
        edges = view.edges.get(body.task, {}).values()
        keys += [(Table.TASK, e.on) for e in edges if not e.met and e.on not in view.tasks]
    judged = _judged(view, fact, body)
    if isinstance(body, facts.Retry | facts.Adopt) or judged is not None:
        keys.append((Table.BODY, body.task))
        spec = fact.found.get((Table.BODY, body.task))
        if isinstance(spec, TaskBody):
            needs = [TaskId(dependency.task) for dependency in spec.spec.depends_on]
            keys += [(Table.TASK, on) for on in needs if on not in view.tasks]
    taken = body if isinstance(body, facts.Adopt) else judged
    if taken is not None:
        keys.append((Table.RESULT, result_key(taken.task, taken.fence, taken.machine)))
    return keys


def _judged(view: PoolView, fact: Fact, body: Named) -> facts.Adopt | None:
    """Return which result a person's word on a task is about, if it is about one."""
    row = view.tasks.get(body.task) or fact.found.get((Table.TASK, body.task))
    if not isinstance(body, facts.Decide) or not isinstance(row, Task):
        return None
    return newest_result(row)


def newest_result(task: Task) -> facts.Adopt | None:
    """Return what takes the result for which a task waits for a person, if it does."""
    waits = task.wait is Wait.APPROVAL and task.approval is None and task.attempt
    if not waits or task.machine is None:
        return None
    return facts.Adopt(task.id, task.fence, task.machine)


def control(turn: Turn, fact: Fact, body: Control) -> Reply:
    """Do what a person asked; raises what the act raises."""
    match body:
        case facts.Cancel():
            return TaskChanged(cancel(turn, fact, body))
        case facts.Retry():
            return TaskChanged(retry(turn, fact, body.task))
        case facts.Adopt():
            return TaskChanged(adopt(turn, fact, body))
        case facts.PauseAgent():
            return _pause(turn, body)
        case facts.ResumeAccount():
            return accounts.resume(turn, body)
        case facts.DrainMachine():
            return _drain(turn, body)
        case facts.RemoveMachine():
            return _remove(turn, body.machine)
        case facts.Enrol():
            return _enrol(turn, fact, body)
        case _:
            assert_never(body)


def find(turn: Turn, fact: Fact, task_id: TaskId) -> Task:
    """Return a live or stored task of the asker's project; raises `NotFound`."""
    row = turn.view.tasks.get(task_id) or turn.row(Table.TASK, task_id, fact.found)
    if not isinstance(row, Task) or row.project != fact.actor.project:
        raise NotFound(f"there is no task {task_id}")
    return row


def kept(found: facts.Found, key: str) -> KeptResult | None:
    """Return a stored result that was fetched for a fact."""
    row = found.get((Table.RESULT, key))
    return row if isinstance(row, KeptResult) else None


def own(fact: Fact, task: Task) -> None:
    """Refuse a submitter what belongs to another; raises `NotFound`."""
    if fact.actor.role is Role.SUBMITTER and task.submitter != fact.actor.user:
        raise NotFound(f"there is no task {task.id}")


def cancel(turn: Turn, fact: Fact, body: facts.Cancel) -> Task:
    """End a task, or have its attempt stopped; return it as it is then."""
    task = find(turn, fact, body.task)
    own(fact, task)
    if task.state is TaskState.CANCELLED:
        return task
    if task.state.terminal:
        raise IllegalTransition(task.state.value, "a cancel")
    return subtasks.stop(turn, task, body.reason)


def retry(turn: Turn, fact: Fact, task_id: TaskId) -> Task:
    """Reopen a task; return it as it is then."""
    task = find(turn, fact, task_id)
    own(fact, task)
    waits = task.approval is None and task.wait in _RETRIED
    if task.state is TaskState.WAITING and waits:
        if loops.is_suspected(task):
            loops.begin_again(turn.view, loops.lineage_of(task))
            ahead = _start_ahead(turn, fact, task)
            if ahead is not None and _dependencies_met(turn, fact, task):
                return turn.move(task, moves.Released(ahead), EventKind.REOPENED)
        return _reopen(turn, fact, task, moves.Reopened())
    if task.state not in (TaskState.FAILED, TaskState.CANCELLED):
        raise IllegalTransition(task.state.value, "a retry")
    return _reopen(turn, fact, task, moves.Reopened())


def _start_ahead(turn: Turn, fact: Fact, task: Task) -> WallTime | None:
    """Return the start time that a task was given, if that is still to come."""
    body = fact.found.get((Table.BODY, task.id))
    start = body.spec.not_before if isinstance(body, TaskBody) else None
    return start if start is not None and start > turn.now.wall else None


def adopt(turn: Turn, fact: Fact, body: facts.Adopt) -> Task:
    """Take a kept result as the task's: complete it, or send its commit to land."""
    task = find(turn, fact, body.task)
    if task.state is TaskState.COMPLETED or task.state.held:
        raise IllegalTransition(task.state.value, "an adoption")
    found = kept(fact.found, result_key(body.task, body.fence, body.machine))
    if found is None:
        raise NotFound(f"there is no kept result of attempt {body.fence.attempt}")
    result = found.result
    if result.commit is None and result.status is not ResultStatus.DONE:
        raise NotFound("that result has no commit to adopt")
    applied = replace(found, applied=True, version=found.version + 1)
    key = result_key(found.task, found.fence, found.machine)
    turn.write(Table.RESULT, key, applied, old=found.version)
    task = replace(task, author=found.agent, author_machine=found.machine)
    # What a person had to look at they have looked at.
    if replace(result, status=ResultStatus.DONE, needs_person=()).lands:
        landing = moves.Reopened(
            result.commit,
            result.branch,
            result.base_commit,
            result.land_key,
            land=result.land,
            verified=result.verified,
        )
        return _reopen(turn, fact, task, landing)
    done = moves.Completed(result.commit, result.branch, result.verified)
    return turn.move(task, done, EventKind.ADOPTED)


def _reopen(turn: Turn, fact: Fact, task: Task, event: moves.Reopened) -> Task:
    view = turn.view
    if task.unique_key is not None and task.id not in view.tasks:
        if task.unique_key in view.unique:
            raise NotAllowed(f"task {view.unique[task.unique_key]} has its unique key now")
        view.put(view.unique, task.unique_key, task.id)
    if event.commit is None:
        if not _dependencies_met(turn, fact, task):
            event = moves.Reopened(blocked=True)
        elif task.id in view.books.reviews and task.id not in view.tasks:
            needs = graphs.vetted(view, task, view.edges[task.id].values())
            task = replace(task, needs=needs)
    return turn.move(task, event, EventKind.REOPENED)


def _dependencies_met(turn: Turn, fact: Fact, task: Task) -> bool:
    """Take up the edges of a reopened task again; return whether nothing is left to wait for."""
    view = turn.view
    body = fact.found.get((Table.BODY, task.id))
    if isinstance(body, TaskBody) and task.id not in view.edges and body.spec.depends_on:
        intake.learn_edges(turn, fact, task.id, body.spec)
    return all(edge.met for edge in view.edges.get(task.id, {}).values())


def _pause(turn: Turn, body: facts.PauseAgent) -> Done:
    view = turn.view
    agent = view.agents.get(body.agent)
    if agent is None:
        raise NotFound(f"there is no agent {body.agent}")
    after = replace(agent, paused=body.paused, version=agent.version + 1)
    if not body.paused:  # whoever resumes it has looked at it
        after = quarantine.lifted(after)
    turn.write(Table.AGENT, agent.id, after, old=agent.version)
    view.put(view.agents, agent.id, after)
    view.refresh(agent.id)
    turn.ready(agent.id)
    return Done("paused" if body.paused else "resumed")


def _drain(turn: Turn, body: facts.DrainMachine) -> Done:
    machine = machine_of(turn, body.machine)
    change(turn, replace(machine, draining=body.draining, version=machine.version + 1), machine)
    return Done("draining" if body.draining else "resumed")


def _remove(turn: Turn, machine_id: MachineId) -> Done:
    """Take a machine out: it gets nothing new, and what it holds is revoked."""
    view = turn.view
    machine = machine_of(turn, machine_id)
    change(turn, replace(machine, removed=True, version=machine.version + 1), machine)
    for task in view.held_tasks(machine_id):
        event = moves.StopAsked(StopReason.REVOKED)
        turn.move(task, event, EventKind.STOP_ASKED, "its machine was removed")
    reviews.release(turn, machine_id)
    stop = view.pauses.get(machine_scope(machine_id))
    if stop is not None:
        turn.write(Table.PAUSE, stop.key, None, old=stop.version)
        view.drop(view.pauses, stop.key)
    if machine_id in view.beyond:  # a person says that it was wrong, or has no say any more
        view.drop(view.beyond, machine_id)
        for agent in view.agents:
            view.refresh(agent)
            turn.ready(agent)
    session = view.sessions.get(machine_id)
    if session is not None and session.connection is not None:
        reason = "this machine was removed"
        turn.effects.append(CloseConnection(session.connection, CLOSE_REVOKED, reason))
    return Done("removed")


def _enrol(turn: Turn, fact: Fact, body: facts.Enrol) -> Done:
    if any(m.name == body.name and not m.removed for m in turn.view.machines.values()):
        raise NameTaken(f"a machine is called {body.name} already; choose another name")
    machine = Machine(
        id=body.machine,
        name=body.name,
        owner=body.owner,
        created_at=turn.now.wall,
        project=fact.actor.project,
    )
    turn.write(Table.MACHINE, machine.id, machine, old=None)
    turn.view.put(turn.view.machines, machine.id, machine)
    return Done(body.name)


def change(turn: Turn, after: Machine, before: Machine) -> None:
    """Write a machine's row, and look again at its agents."""
    view = turn.view
    turn.write(Table.MACHINE, after.id, after, old=before.version)
    view.put(view.machines, after.id, after)
    for agent in view.agents_of.get(after.id, ()):
        view.refresh(agent)
        turn.ready(agent)


def machine_of(turn: Turn, machine_id: MachineId) -> Machine:
    """Return a machine of the fleet; raises `NotFound`."""
    machine = turn.view.machines.get(machine_id)
    if machine is None or machine.removed:
        raise NotFound(f"there is no machine {machine_id}")
    return machine
