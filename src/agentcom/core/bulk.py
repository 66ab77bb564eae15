"""One act on many tasks: taken at once, worked off in bounded steps, however often a hub restarts.

The door chooses the tasks. Here each is looked at once more when its turn comes: one that moved on
meanwhile is skipped, and so is one that refuses the act; neither stops the others.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from agentcom.core import controls, facts
from agentcom.core.facts import Fact
from agentcom.core.turn import Turn
from agentcom.core.view import PoolView
from agentcom.model.batch import Table
from agentcom.model.bulk import Bulk, BulkAct
from agentcom.model.errors import AgentComError, IllegalTransition, InvalidInput
from agentcom.model.ids import TaskId
from agentcom.model.limits import (
    BULK_REFUSALS,
    BULK_TASKS_MAX,
    BULKS_KEPT,
    CASCADE_BATCH,
    REASON_CHARS,
)
from agentcom.model.replies import BulkShown, Refusal
from agentcom.model.todo import Todo, TodoKind

replace: Final = msgspec.structs.replace


def wanted(view: PoolView, fact: Fact, body: facts.TodoDue) -> Sequence[tuple[Table, str]]:
    """Return the rows of the tasks whose turn it is."""
    todo = view.todos.get(body.task)
    if todo is None or todo.bulk is None:
        return ()
    keys: list[tuple[Table, str]] = []
    for task in todo.bulk.left[:CASCADE_BATCH]:
        one = facts.Cancel(task) if todo.bulk.act is BulkAct.CANCEL else facts.Retry(task)
        keys += controls.wanted(view, fact, one)
    return keys


def take(turn: Turn, fact: Fact, body: facts.ActOnMany) -> BulkShown:
    """Note what is to be done to many tasks; it begins with the next turn.

    Raises:
        InvalidInput: there are too many, or the reason is too long.
    """
    if len(body.tasks) > BULK_TASKS_MAX:
        raise InvalidInput("tasks", f"at most {BULK_TASKS_MAX} at once; narrow the choice")
    if len(body.reason) > REASON_CHARS or not body.reason.isprintable():
        raise InvalidInput("reason", f"at most {REASON_CHARS} characters, none a control")
    name = TaskId(turn.ids.new())
    bulk = Bulk(body.act, fact.actor, body.tasks, body.states, body.reason)
    if body.tasks:
        todo = Todo(kind=TodoKind.BULK, task=name, bulk=bulk)
        turn.write(Table.TODO, name, todo, old=None)
        turn.view.put(turn.view.todos, name, todo)
        turn.again(facts.TodoDue(name, todo.kind))
    return _tell(turn, name, bulk, ())


def go_on(turn: Turn, fact: Fact, todo: Todo) -> None:
    """Do what was asked to the next tasks of an act."""
    bulk, view = todo.bulk, turn.view
    assert bulk is not None
    turn.actor = bulk.actor.user
    one = msgspec.structs.replace(fact, actor=bulk.actor)
    now = bulk.left[:CASCADE_BATCH]
    refused = []
    for task_id in now:
        mark = turn.mark()
        try:
            _act(turn, one, bulk, task_id)
        except AgentComError as error:
            turn.take_back(mark)
            refused.append(Refusal(task_id, error.code, error.message))
    bulk = replace(
        bulk,
        left=bulk.left[len(now) :],
        done=bulk.done + len(now) - len(refused),
        skipped=bulk.skipped + len(refused),
    )
    _tell(turn, todo.task, bulk, refused)
    if not bulk.left:
        view.drop(view.todos, todo.task)
        turn.write(Table.TODO, todo.task, None, old=todo.version)
        return
    after = replace(todo, bulk=bulk, version=todo.version + 1)
    view.put(view.todos, todo.task, after)
    turn.write(Table.TODO, todo.task, after, old=todo.version)
    turn.again(facts.TodoDue(todo.task, todo.kind))


def _act(turn: Turn, fact: Fact, bulk: Bulk, task_id: TaskId) -> None:
    task = controls.find(turn, fact, task_id)
    if bulk.states and task.state not in bulk.states:
        raise IllegalTransition(task.state.value, f"this {bulk.act.value}: it moved on meanwhile")
    if bulk.act is BulkAct.CANCEL:
        controls.cancel(turn, fact, facts.Cancel(task_id, bulk.reason))
    else:
        controls.retry(turn, fact, task_id)


def _tell(turn: Turn, name: TaskId, bulk: Bulk, refused: Sequence[Refusal]) -> BulkShown:
    """Keep the counts for those who ask how far it is."""
    view = turn.view
    known = view.bulks.get(name)
    before = known.refused if known is not None else ()
    shown = BulkShown(
        id=name,
        act=bulk.act,
        tasks=len(bulk.left) + bulk.done + bulk.skipped,
        left=len(bulk.left),
        done=bulk.done,
        skipped=bulk.skipped,
        refused=(*before, *refused)[:BULK_REFUSALS],
        project=bulk.actor.project,
    )
    view.put(view.bulks, name, shown)
    if len(view.bulks) > BULKS_KEPT:
        view.drop(view.bulks, next(iter(view.bulks)))
    return shown
