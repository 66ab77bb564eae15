"""Pausing and resuming: a gate that shuts and opens, and what is asked to stop.

A paused task keeps its state, its place in the order and its agent's session; it is only not
offered to anybody. The queue is not touched: a task that comes to its head moves behind the gate
then. Who runs goes on, unless the pause says otherwise.
"""

from collections.abc import Sequence
from itertools import islice
from typing import Final

import msgspec

from agentcom.core import controls, facts, moves, parting, reviews
from agentcom.core.effects import Stop
from agentcom.core.facts import Fact, TodoDue
from agentcom.core.pauses import Paused
from agentcom.core.turn import Turn
from agentcom.core.view import PoolView
from agentcom.model.batch import Table
from agentcom.model.errors import IllegalTransition, InvalidInput, NotFound
from agentcom.model.event import EventKind
from agentcom.model.ids import AgentId, MachineId, ProjectId, TaskId, UserId
from agentcom.model.limits import CASCADE_BATCH, REASON_CHARS
from agentcom.model.pause import Pause, split_scope
from agentcom.model.replies import Done
from agentcom.model.task import Phase, StopReason, Task
from agentcom.model.todo import Todo, TodoKind

replace: Final = msgspec.structs.replace


def wanted(view: PoolView, _fact: Fact, body: facts.Pause) -> Sequence[tuple[Table, str]]:
    """Return the row of a task that is no longer live."""
    kind, _, name = body.scope.partition(":")
    return [(Table.TASK, name)] if kind == "task" and TaskId(name) not in view.tasks else ()


def pause(turn: Turn, fact: Fact, body: facts.Pause) -> Done:
    """Close a scope for new attempts, or open it again; either may come twice.

    Raises:
        InvalidInput: it is no scope, or the reason is too long.
        NotFound: there is no such task, pool, agent or machine.
        IllegalTransition: the task has ended.
    """
    kind, name = split_scope(body.scope)
    if len(body.reason) > REASON_CHARS or not body.reason.isprintable():
        raise InvalidInput("reason", f"at most {REASON_CHARS} characters, none a control")
    made = Pause(body.scope, fact.actor.user, turn.now.wall, body.reason)
    workers = _workers(turn.view, kind, name)
    if kind == "machine":
        made = replace(made, name=turn.view.machines[MachineId(name)].name)
    if kind == "task":
        _pause_task(turn, fact, TaskId(name), made if body.paused else None)
    elif kind == "pool" and name != turn.view.pool:
        raise NotFound(f"there is no pool {name}")
    elif body.paused:
        owned = kind in ("agent", "machine", "user")
        _close(turn, replace(made, project=fact.actor.project if owned else None))
    else:
        _open(turn, body.scope)
    for agent in workers:
        turn.view.refresh(agent)
        turn.ready(agent)
    if body.paused and body.stop:
        _stop(turn, body.scope)
    if kind == "machine" and body.paused:
        # After the orders to stop. Its token is refused from now on.
        reviews.release(turn, MachineId(name))
        parting.begin(turn, MachineId(name))
    return Done("paused" if body.paused else "resumed")


def _workers(view: PoolView, kind: str, name: str) -> Sequence[AgentId]:
    """Return the agents that a scope is about, if it is about agents; raises `NotFound`."""
    if kind == "agent":
        if AgentId(name) not in view.agents:
            raise NotFound(f"there is no agent {name}")
        return [AgentId(name)]
    if kind != "machine":
        return ()
    machine = view.machines.get(MachineId(name))
    if machine is None or machine.removed:
        raise NotFound(f"there is no machine {name}")
    return list(view.agents_of.get(machine.id, ()))


def _pause_task(turn: Turn, fact: Fact, task_id: TaskId, made: Pause | None) -> None:
    task = controls.find(turn, fact, task_id)
    controls.own(fact, task)
    if task.state.terminal:
        raise IllegalTransition(task.state.value, "a pause")
    if (made is None) != (task.paused is None):
        kind = EventKind.PAUSED if made is not None else EventKind.UNPAUSED
        turn.move(task, moves.PauseSet(made), kind, made.reason if made is not None else "")


def _close(turn: Turn, made: Pause) -> None:
    view = turn.view
    old = view.pauses.get(made.key)
    if old is None:
        made = turn.insert(Table.PAUSE, made.key, made)
    else:
        made = replace(made, version=old.version + 1)
        turn.write(Table.PAUSE, made.key, made, old=old.version)
    gate = Paused(made.key)
    view.undo(view.lanes.look, gate)
    view.put(view.pauses, made.key, made)
    view.lanes.look(gate)


def _open(turn: Turn, scope: str) -> None:
    view = turn.view
    old = view.pauses.get(scope)
    if old is None:
        return
    turn.write(Table.PAUSE, scope, None, old=old.version)
    gate = Paused(scope)
    view.undo(view.lanes.look, gate)
    view.drop(view.pauses, scope)
    view.lanes.look(gate)
    for agent in view.matcher.idle():
        turn.ready(agent)


def _within(view: PoolView, scope: str) -> Sequence[Task]:
    """Return the tasks in a scope that somebody works on, or may yet come back with."""
    kind, _, name = scope.partition(":")
    if kind == "task":
        found = view.tasks.get(TaskId(name))
        return [found] if found is not None else []
    held = [task for machine in view.held_by for task in view.held_tasks(machine)]
    every = [*held, *[view.tasks[task] for task in view.books.lost]]
    if kind == "project":
        return [task for task in every if task.project == ProjectId(name)]
    if kind == "user":
        return [task for task in every if task.submitter == UserId(name)]
    if kind == "agent":
        return [task for task in every if task.agent == AgentId(name)]
    if kind == "machine":
        return [task for task in every if task.machine == MachineId(name)]
    return every


def _stop(turn: Turn, scope: str) -> None:
    """Ask what runs in a scope to stop; what is left over after a while is a todo."""
    if not _stop_some(turn, scope):
        return
    view = turn.view
    key = TaskId(scope)
    if key not in view.todos:
        todo = turn.insert(Table.TODO, scope, Todo(kind=TodoKind.STOP_PAUSED, task=key))
        view.put(view.todos, key, todo)
        turn.again(TodoDue(key, TodoKind.STOP_PAUSED))


def _stop_some(turn: Turn, scope: str) -> bool:
    """Ask a bounded number of attempts to stop; return whether there are more."""
    view = turn.view
    machine = scope.startswith("machine:")
    running = (task for task in _within(view, scope) if _stops(task, landing=machine))
    for task in islice(running, CASCADE_BATCH):
        if task.lost:  # who fell silent is not there to be asked, and does not come back
            turn.move(task, moves.PauseSet(task.paused, returns=False), EventKind.STOP_ASKED)
            continue
        asked = moves.StopAsked(StopReason.REVOKED if machine else StopReason.PAUSED)
        after = turn.move(task, asked, EventKind.STOP_ASKED, "stopped" if machine else "paused")
        assert after.machine is not None
        turn.effects.append(Stop(after.machine, after.id, after.fence, after.stop_reason))
    return next(running, None) is not None


def _stops(task: Task, *, landing: bool) -> bool:
    """Return whether a pause ends an attempt.

    What has only to land is as good as done, unless (`landing`) it is its machine that is stopped.
    """
    running = task.state.held and task.stop_reason is None
    return (running and (landing or task.phase is not Phase.LANDING)) or task.lost


def go_on(turn: Turn, todo: Todo) -> None:
    """Ask more of a paused scope to stop; a scope that was resumed meanwhile is left alone."""
    if todo.task in turn.view.pauses and _stop_some(turn, todo.task):
        turn.again(TodoDue(todo.task, todo.kind))
        return
    turn.view.drop(turn.view.todos, todo.task)
    turn.write(Table.TODO, todo.task, None, old=todo.version)
