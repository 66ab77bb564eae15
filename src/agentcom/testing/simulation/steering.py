"""What an operator does to work that waits: pauses, edits, acts on many tasks."""

import random
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from agentcom.core import facts
from agentcom.model.bulk import BulkAct
from agentcom.model.edit import TaskEdit
from agentcom.model.ids import DEFAULT_POOL, DEFAULT_PROJECT
from agentcom.model.pause import ALL
from agentcom.model.task import Task, TaskState
from agentcom.testing.simulation.books import Books
from agentcom.testing.simulation.kernel import SECOND

SCOPES: Final = (ALL, f"pool:{DEFAULT_POOL}", f"project:{DEFAULT_PROJECT}")
_LAST: Final = 200
_FEW: Final = 3


class Desk(Protocol):
    """How an operator reaches the hub."""

    def once(self, body: facts.Body) -> None:
        """Ask, whatever comes of it."""
        ...

    def insist(self, body: facts.Body, then: Callable[[], object] = ...) -> None:
        """Ask until it is done."""
        ...

    def later(self, delay_us: int, body: facts.Body) -> None:
        """Insist on something after a time."""
        ...


def steer(rng: random.Random, books: Books, desk: Desk) -> None:
    """Do one thing to tasks that have not ended, or to many at once."""
    chance = rng.random()
    live = list(books.live.values())
    if chance < 0.4:
        _pause(rng, live, desk)
    elif chance < 0.5:  # after a restore, pauses are there that nobody remembers
        lift_all(books, desk)
    elif chance < 0.8 and live:
        task = rng.choice(live)
        desk.once(facts.Edit(task.id, task.version, _change(rng, task)))
    else:
        _many(rng, list(books.tasks.values())[-_LAST:], desk)


def lift_all(books: Books, desk: Desk) -> None:
    """Resume everything that is paused."""
    for scope in SCOPES:
        desk.insist(facts.Pause(scope, paused=False))
    for task in books.live.values():
        if task.paused is not None:
            desk.once(facts.Pause(f"task:{task.id}", paused=False))


def _pause(rng: random.Random, live: Sequence[Task], desk: Desk) -> None:
    scope = rng.choice(SCOPES)
    if live and rng.random() < 0.5:
        scope = f"task:{rng.choice(live).id}"
    desk.once(facts.Pause(scope, paused=True, stop=rng.random() < 0.5))
    desk.later(int(rng.random() * 60 * SECOND), facts.Pause(scope, paused=False))


def _change(rng: random.Random, task: Task) -> TaskEdit:
    if task.state.held or rng.random() < 0.7:
        return TaskEdit(priority=rng.randint(-10, 10))
    return TaskEdit(priority=rng.randint(-3, 3), emergency=rng.random() < 0.2, title="edited")


def _many(rng: random.Random, tasks: Sequence[Task], desk: Desk) -> None:
    over = (TaskState.FAILED, TaskState.CANCELLED)
    again = tuple(task.id for task in tasks if task.state in over)
    queued = [task.id for task in tasks if task.state is TaskState.QUEUED]
    if again and rng.random() < 0.7:
        desk.once(facts.ActOnMany(BulkAct.RETRY, again, over))
    elif queued:
        few = tuple(rng.sample(queued, min(len(queued), _FEW)))
        desk.once(facts.ActOnMany(BulkAct.CANCEL, few, (TaskState.QUEUED,)))
