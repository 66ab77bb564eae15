"""Cascades: what the end of one task means for those that depend on it, in bounded steps."""

from collections.abc import Iterator
from itertools import islice
from typing import Final, assert_never

import msgspec

from agentcom.core import graphs, moves
from agentcom.core.facts import TodoDue
from agentcom.core.graphs import End
from agentcom.core.shapes import TooManyShapes
from agentcom.core.turn import Turn
from agentcom.model.batch import Table, edge_key
from agentcom.model.event import EventKind
from agentcom.model.failure import FailureClass
from agentcom.model.graph import Condition, Edge, OnFailure
from agentcom.model.ids import TaskId
from agentcom.model.limits import CASCADE_INLINE
from agentcom.model.task import Task, Wait
from agentcom.model.todo import Todo, TodoKind

replace: Final = msgspec.structs.replace


def settle(turn: Turn) -> None:
    """Tell the dependants of what ended in this fact; leave the rest as a todo."""
    budget = CASCADE_INLINE
    while turn.ended:
        task_id, task = next(iter(turn.ended.items()))
        end = graphs.end_of(task)
        budget = release(turn, end, budget=budget)
        del turn.ended[task_id]
        if next(untold(turn, end), None) is not None:
            todo = Todo(
                kind=TodoKind.RELEASE_DEPENDANTS,
                task=task_id,
                succeeded=end.succeeded,
                commit=end.commit,
                author=end.author,
                author_machine=end.author_machine,
            )
            defer(turn, todo)


def go_on(turn: Turn, todo: Todo, *, budget: int) -> bool:
    """Tell more dependants of a task; return whether some are left."""
    if todo.task in turn.view.tasks:
        return False  # it was reopened, and its next end tells them
    end = End(todo.task, todo.succeeded, todo.commit, todo.author, todo.author_machine)
    release(turn, end, budget=budget)
    return next(untold(turn, end), None) is not None


def release(turn: Turn, end: End, *, budget: int) -> int:
    """Tell up to `budget` dependants of a task that it ended; return what is left of it."""
    view = turn.view
    waiting = list(islice(untold(turn, end), budget))
    for dependant in waiting:
        view.drop(view.dependants[end.task], dependant)
        _settle_edge(turn, view.tasks[dependant], end)
    if not view.dependants.get(end.task):
        view.drop(view.dependants, end.task)
    return budget - len(waiting)


def untold(turn: Turn, end: End) -> Iterator[TaskId]:
    """Yield the dependants that do not know of an end, but those that wait for a retry."""
    view = turn.view
    waiting = view.dependants.get(end.task, ())
    if end.succeeded:
        return iter(waiting)
    return (
        task
        for task in waiting
        if not graphs.waits_for_retry(view.edges[task][end.task], succeeded=False)
    )


def defer(turn: Turn, todo: Todo) -> None:
    """Leave work for the next turn, in place of what was left under the same name."""
    view = turn.view
    pending = view.todos.get(todo.task)
    if pending is None:
        todo = turn.insert(Table.TODO, todo.task, todo)
    else:
        todo = replace(todo, version=pending.version + 1)
        turn.write(Table.TODO, todo.task, todo, old=pending.version)
    view.put(view.todos, todo.task, todo)
    turn.again(TodoDue(todo.task, todo.kind))


def _settle_edge(turn: Turn, task: Task, end: End) -> None:
    view = turn.view
    edge = view.edges[task.id][end.task]
    met = replace(graphs.met(edge, end), version=edge.version + 1)
    turn.write(Table.EDGE, edge_key(task.id, end.task), met, old=edge.version)
    edges = {**view.edges[task.id], end.task: met}
    if not end.succeeded and edge.condition is Condition.SUCCESS:
        view.put(view.edges, task.id, edges)
        _give_up(turn, task, edge)
        return
    if edge.children:
        for more in graphs.children_of(view, met, edges):
            edges[more.on] = graphs.learn_edge(turn, more)
    view.put(view.edges, task.id, edges)
    if all(other.met for other in edges.values()) and task.wait is Wait.DEPENDENCIES:
        _let_go(turn, task)


def _give_up(turn: Turn, task: Task, edge: Edge) -> None:
    """End a task that waited for a success which did not come."""
    reason = f"it depends on {edge.on}, which did not succeed"
    match edge.on_failure:
        case OnFailure.SKIP:
            said = f"skipped: {reason}"
            turn.move(task, moves.Cancelled(said), EventKind.CANCELLED, said)
        case OnFailure.FAIL:
            failed = moves.Failed(FailureClass.DEPENDENCY, reason, turn.now.wall)
            turn.move(task, failed, EventKind.FAILED)
        case OnFailure.WAIT:
            raise AssertionError(edge)
        case _:
            assert_never(edge.on_failure)


def _let_go(turn: Turn, task: Task) -> None:
    """Release a task that has nothing left to wait for; a review learns who may not have it."""
    view = turn.view
    ahead = task.until if task.until is not None and task.until > turn.now.wall else None
    needs = None
    if task.id in view.books.reviews:
        needs = graphs.vetted(view, task, view.edges[task.id].values())
        try:
            view.learn_shape(replace(task, needs=needs))
        except TooManyShapes:
            needs = None  # the author is kept away all the same
        else:
            view.forget_shape(task)
    turn.move(task, moves.Released(ahead, needs), EventKind.UNBLOCKED)
