"""What somebody leaves behind who is removed: live tasks and open questions pass to an heir.

A task passes whatever it does: one that runs goes on, and counts for the heir from then on. What it
spent before stays where it was counted. The specification keeps who asked for it first.
"""

from collections.abc import Sequence
from itertools import islice
from typing import Final

import msgspec

from agentcom.core import budgets, cascades, controls, facts, passing
from agentcom.core.effects import TellAsk
from agentcom.core.facts import Fact
from agentcom.core.turn import Turn
from agentcom.model import address
from agentcom.model.batch import Table
from agentcom.model.event import EventKind
from agentcom.model.ids import TaskId, UserId
from agentcom.model.limits import CASCADE_BATCH
from agentcom.model.replies import Done
from agentcom.model.task import Phase, Task, TaskState
from agentcom.model.todo import Todo, TodoKind

replace: Final = msgspec.structs.replace


def pass_on(turn: Turn, _fact: Fact, body: facts.PassOn) -> Done:
    """Give everything of one person to another; may come twice."""
    _questions(turn, body.user, body.to)
    key = TaskId(f"pass-on:{body.user}")
    todo = Todo(kind=TodoKind.INHERIT, task=key, submitter=body.user, heir=body.to)
    if go_on(turn, todo, budget=CASCADE_BATCH):
        cascades.defer(turn, todo)
    return Done("passed on")


def go_on(turn: Turn, todo: Todo, *, budget: int) -> bool:
    """Give more tasks to the heir; return whether there are still more."""
    assert todo.heir is not None
    tasks: Sequence[Task] = list(turn.view.tasks.values())
    left = (task for task in tasks if task.submitter == todo.submitter)
    for task in islice(left, budget):
        _give(turn, task, todo.heir)
    return next(left, None) is not None


def give_machine(turn: Turn, _fact: Fact, body: facts.GiveMachine) -> Done:
    """Let a machine belong to somebody else; raises `NotFound`."""
    machine = controls.machine_of(turn, body.machine)
    if machine.owner != body.owner:
        after = replace(machine, owner=body.owner, version=machine.version + 1)
        controls.change(turn, after, machine)
    return Done("given")


def _give(turn: Turn, task: Task, heir: UserId) -> None:
    view = turn.view
    after = replace(task, submitter=heir, version=task.version + 1, changed_at=turn.now.wall)
    if task.state is TaskState.QUEUED:
        view.withdraw(task.id)  # before its shape may be forgotten; `place` puts it back
    view.learn_shape(after)
    view.forget_shape(task)
    works = task.state.held and task.phase is not Phase.LANDING
    if works and view.purse.budgets:
        budgets.reserve(turn, task, -1)
        budgets.reserve(turn, after, 1)
    if task.state.held:
        _count(turn, task, after)
    turn.place(task, after, EventKind.EDITED, f"submitter: {task.submitter} -> {heir}")


def _count(turn: Turn, before: Task, after: Task) -> None:
    """Move the place of an attempt from one person's limit to the other's."""
    gates = turn.view.gates
    old, new = f"submitter:{before.submitter}", f"submitter:{after.submitter}"
    if gates.taken.get(old):
        passing.count(turn.view, old, -1)
    if gates.is_bounded(new):
        passing.count(turn.view, new, 1)


def _questions(turn: Turn, user: UserId, heir: UserId) -> None:
    """Let the heir answer, or get the answer; a question to oneself is one for the operators."""
    old, new = address.of_user(user), address.of_user(heir)
    for ask in [one for one in turn.view.asks.values() if old in (one.to, one.asker)]:
        asker = new if ask.asker == old else ask.asker
        to = new if ask.to == old else ask.to
        to = None if to == asker else to
        after = replace(ask, asker=asker, to=to, version=ask.version + 1)
        turn.write(Table.ASK, ask.id, after, ask.version)
        turn.view.put(turn.view.asks, ask.id, after)
        turn.effects.append(TellAsk(after))
