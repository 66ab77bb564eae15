"""Work that earlier batches left over: each kind goes on here, in bounded steps."""

from collections.abc import Mapping
from typing import Any, Final

from agentcom.core import bulk, cascades, facts, inheriting, pausing, subtasks
from agentcom.core.facts import Fact
from agentcom.core.turn import Turn
from agentcom.model.batch import Table
from agentcom.model.limits import CASCADE_BATCH
from agentcom.model.todo import TodoKind

_STEPS: Final = {TodoKind.CANCEL_BELOW: subtasks.go_on, TodoKind.INHERIT: inheriting.go_on}


def due(turn: Turn, fact: Fact, body: facts.TodoDue) -> None:
    """Do one more step of what is left to do, and forget it after the last one."""
    view = turn.view
    todo = view.todos.get(body.task)
    if todo is None:
        return
    if todo.kind is TodoKind.STOP_PAUSED:
        pausing.go_on(turn, todo)
        return
    if todo.kind is TodoKind.BULK:
        bulk.go_on(turn, fact, todo)
        return
    step = _STEPS.get(todo.kind, cascades.go_on)
    if step(turn, todo, budget=CASCADE_BATCH):
        turn.again(body)
        return
    view.drop(view.todos, todo.task)
    turn.write(Table.TODO, todo.task, None, old=todo.version)


HANDLERS: Final[Mapping[type[facts.Body], Any]] = {
    facts.TodoDue: due,
    facts.PassOn: inheriting.pass_on,
    facts.GiveMachine: inheriting.give_machine,
}
"""What kinds of facts come to."""
