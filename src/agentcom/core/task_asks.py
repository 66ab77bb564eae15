"""What its agents' questions make of one task: a part of `core/tasks.py`.

While a question is open no further attempt begins. One that ended is told to the next attempt;
the attempt that asked is not done before it has heard.
"""

from collections.abc import Mapping
from typing import Final, assert_never

import msgspec

from agentcom.core.moves import AskEnded, AskHeard, AskPut, Event, Question
from agentcom.model.ids import WallTime
from agentcom.model.limits import ASKS_TOLD
from agentcom.model.task import Task, TaskState, Wait

replace: Final = msgspec.structs.replace

_W, _Q, _A, _R = TaskState.WAITING, TaskState.QUEUED, TaskState.ASSIGNED, TaskState.RUNNING

TRANSITIONS: Final[Mapping[type[Event], Mapping[TaskState, tuple[TaskState, ...]]]] = {
    AskPut: {_A: (_A,), _R: (_R,)},
    AskEnded: {_W: (_W, _Q), _Q: (_Q,), _A: (_A,), _R: (_R,)},
    AskHeard: {_A: (_A,), _R: (_R,)},
}


def happen(task: Task, event: Question, now: WallTime) -> Task:
    """Return the task after something happened to a question of its agent."""
    task = replace(task, version=task.version + 1, changed_at=now)
    match event:
        case AskPut(ask=ask):
            return replace(task, asks=(*task.asks, ask))
        case AskEnded(ask=ask, told=told):
            task = replace(task, asks=tuple(one for one in task.asks if one != ask))
            if told:
                task = replace(task, answered=(*task.answered, ask)[-ASKS_TOLD:])
            if told and task.state.held:
                return replace(task, unheard=(*task.unheard, ask))
            goes_on = task.wait is Wait.ANSWER and not task.asks
            return replace(task, state=_Q, wait=None) if goes_on else task
        case AskHeard(ask=ask):
            return replace(task, unheard=tuple(one for one in task.unheard if one != ask))
        case _:
            assert_never(event)


def keeps(task: Task) -> bool:
    """Return whether a task cannot go on before someone answers."""
    return bool(task.asks) and not task.landing_only


def after(task: Task) -> Task:
    """Return a task whose attempt, or which itself, has ended as its questions want it."""
    if task.unheard:  # who comes back would end without the answer: another attempt is told
        task = replace(task, unheard=(), lost=False)
    if task.asks and task.state.terminal:
        return replace(task, asks=())
    if keeps(task) and task.state is _Q:
        return replace(task, state=_W, wait=Wait.ANSWER, lost=False)
    return task
