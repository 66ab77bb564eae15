"""Cascades: what the end of one task means for those that depend on it, in bounded steps."""

from collections.abc import Sequence
from typing import Final

import msgspec

from agentcom.core import moves
from agentcom.core.facts import TodoDue
from agentcom.core.turn import Turn
from agentcom.model.batch import Table, edge_key
from agentcom.model.event import EventKind
from agentcom.model.failure import FailureClass
from agentcom.model.ids import TaskId
from agentcom.model.limits import CASCADE_INLINE
from agentcom.model.task import Condition, Edge, Task, TaskState, Wait
from agentcom.model.todo import Todo, TodoKind

replace: Final = msgspec.structs.replace


def settle(turn: Turn) -> None:
    """Release the dependants of what ended in this fact; leave the rest as a todo."""
    budget = CASCADE_INLINE
    while turn.ended:
        task_id, task = next(iter(turn.ended.items()))
        succeeded = task.state is TaskState.COMPLETED
        budget = release(turn, task_id, succeeded=succeeded, commit=task.commit, budget=budget)
        del turn.ended[task_id]
        if turn.view.dependants.get(task_id):
            _defer(
                turn,
                Todo(
                    kind=TodoKind.RELEASE_DEPENDANTS,
                    task=task_id,
                    succeeded=succeeded,
                    commit=task.commit,
                ),
            )


def release(turn: Turn, task: TaskId, *, succeeded: bool, commit: str | None, budget: int) -> int:
    """Tell up to `budget` dependants of `task` that it ended; return what is left of it."""
    view = turn.view
    waiting: Sequence[TaskId] = list(view.dependants.get(task, ()))[:budget]
    for dependant in waiting:
        view.drop(view.dependants[task], dependant)
        _settle_edge(turn, view.tasks[dependant], task, succeeded=succeeded, commit=commit)
    if not view.dependants.get(task):
        view.drop(view.dependants, task)
    return budget - len(waiting)


def _settle_edge(
    turn: Turn, task: Task, on: TaskId, *, succeeded: bool, commit: str | None
) -> None:
    view = turn.view
    edge = view.edges[task.id][on]
    met: Edge = replace(edge, met=True, commit=commit, version=edge.version + 1)
    turn.write(Table.EDGE, edge_key(task.id, on), met, old=edge.version)
    edges = {**view.edges[task.id], on: met}
    view.put(view.edges, task.id, edges)
    if not succeeded and edge.condition is Condition.SUCCESS:
        reason = f"it depends on {on}, which did not succeed"
        failed = moves.Failed(FailureClass.DEPENDENCY, reason, turn.now.wall)
        turn.move(task, failed, EventKind.FAILED)
    elif all(other.met for other in edges.values()) and task.wait is Wait.DEPENDENCIES:
        ahead = task.until if task.until is not None and task.until > turn.now.wall else None
        turn.move(task, moves.Released(ahead), EventKind.UNBLOCKED)


def _defer(turn: Turn, todo: Todo) -> None:
    view = turn.view
    pending = view.todos.get(todo.task)
    if pending is None:
        todo = turn.insert(Table.TODO, todo.task, todo)
    else:
        todo = replace(todo, version=pending.version + 1)
        turn.write(Table.TODO, todo.task, todo, old=pending.version)
    view.put(view.todos, todo.task, todo)
    turn.again(TodoDue(todo.task, todo.kind))
