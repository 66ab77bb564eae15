"""Sub-tasks: what an agent may ask for on behalf of its task, and their end with its cancel.

A sub-task belongs to the person who submitted the first task of its family: project, fair share
and right to cancel are theirs. What an agent asks for is narrowed to what its own task may do.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

import msgspec

from agentcom.core import cascades, facts, graphs, moves
from agentcom.core.effects import Stop
from agentcom.core.facts import Fact
from agentcom.core.reports import holds
from agentcom.core.turn import Turn
from agentcom.core.view import PoolView
from agentcom.model import limits
from agentcom.model.batch import Table, children_key, family_key
from agentcom.model.errors import InvalidInput, NotAllowed, Stale
from agentcom.model.event import EventKind
from agentcom.model.identity import Identity, Role
from agentcom.model.ids import TaskId, UserId
from agentcom.model.replies import Done
from agentcom.model.result import MERGES
from agentcom.model.task import LandPolicy, Phase, StopReason, Task, TaskBody, TaskSpec
from agentcom.model.todo import Todo, TodoKind

replace: Final = msgspec.structs.replace

AT_MOST: Final[Mapping[str, Any]] = {
    name: field.default
    for field in msgspec.structs.fields(TaskSpec)
    for name in [field.name]
    if name in ("priority", "deadline_ms", "failures_max")
}
"""Fields of which a sub-task has at most its parent's, with the value that stands for "as it".

A budget is one more name here.
"""
_AS_THE_PARENT: Final = ("repo", "base", "verify", "group")
"""Fields that a sub-task has as its parent; it may leave them out."""


def wanted(view: PoolView, body: facts.Submit) -> Sequence[tuple[Table, str]]:
    """Return the rows that decide how much an agent may still ask for, and of what kind."""
    parent = view.tasks.get(body.parent) if body.parent is not None else None
    if parent is None:
        return ()
    return [
        (Table.BODY, parent.id),
        (Table.TALLY, children_key(parent.id)),
        (Table.TALLY, family_key(_root(parent))),
    ]


def admitted(turn: Turn, fact: Fact, body: facts.Submit) -> tuple[Fact, facts.Submit]:
    """Return what an agent asks for as its person's own request, narrowed and counted.

    Raises:
        NotAllowed: no machine asks.
        Stale: the machine does not hold the newest attempt of the task, or was asked to end it.
        InvalidInput: the family would be too deep or too large, or asks for what the task may not.
    """
    machine = fact.actor.machine
    if machine is None or body.parent is None or body.fence is None:
        raise NotAllowed("only the machine that holds a task's attempt can ask for its sub-tasks")
    parent = turn.view.tasks.get(body.parent)
    if parent is None or not holds(parent, machine, body.fence):
        raise Stale("this attempt is not the task's newest: nothing more can be asked for it")
    if parent.stop_reason is not None or parent.phase is Phase.LANDING:
        raise Stale("this attempt is about to end: nothing more can be asked for it")
    if len(parent.parents) >= limits.SUBTASK_DEPTH:
        rule = f"sub-tasks are at most {limits.SUBTASK_DEPTH} deep; do this one in the task itself"
        raise InvalidInput("parent", rule)
    _charge(turn, fact, parent, len(body.specs))
    stored = fact.found.get((Table.BODY, parent.id))
    assert isinstance(stored, TaskBody), parent
    specs = tuple([narrowed(spec, parent, stored) for spec in body.specs])
    actor = Identity(
        role=Role.SUBMITTER,
        user=parent.submitter,
        credential=fact.actor.credential,
        project=parent.project,
        machine=machine,
    )
    return replace(fact, actor=actor, cause=parent.cause), replace(body, specs=specs)


def narrowed(spec: TaskSpec, parent: Task, body: TaskBody) -> TaskSpec:
    """Return what a sub-task may be: all as its parent, and nowhere more.

    Raises:
        InvalidInput: it asks for what its parent is not, and leaving that out would change it.
    """
    above = body.spec
    if spec.command and not above.command:
        raise InvalidInput("command", "the agent of a prompt can ask for prompts only")
    for name in _AS_THE_PARENT:
        asked = getattr(spec, name)
        if asked and asked != getattr(above, name):
            raise InvalidInput(name, "a sub-task has its parent's; leave it out")
    same = {name: getattr(above, name) for name in _AS_THE_PARENT}
    if spec.approval is not None:
        del same["verify"]
    least = {
        name: _least(getattr(spec, name), getattr(above, name), default=default)
        for name, default in AT_MOST.items()
    }
    needs = spec.needs if spec.approval is not None else (*spec.needs, *above.needs)
    return replace(
        spec,
        **same,
        **least,
        needs=tuple(dict.fromkeys(needs)),
        land=_land(spec.land, above.land),
        emergency=False,
        repeats=spec.repeats and above.repeats,
        parent=parent.id,
    )


# The end of a family, or of a group ---------------------------------------------------------------


def stop(turn: Turn, task: Task, reason: str) -> Task:
    """End a live task: at once, or when its machine has confirmed; what came of it ends too."""
    if task.id in turn.view.books.below:
        said = f"{task.id}, which asked for it, was cancelled"
        _begin(turn, Todo(kind=TodoKind.CANCEL_BELOW, task=TaskId(children_key(task.id)),
                          reason=said))  # fmt: skip
    return _stop_one(turn, task, reason)


def cancel_group(turn: Turn, fact: Fact, body: facts.CancelGroup) -> Done:
    """End the live tasks of a group, the newest first; a submitter's own only."""
    key = graphs.group_of(fact, body.name)
    mine = fact.actor.user if fact.actor.role is Role.SUBMITTER else None
    name = key if mine is None else f"{key}@{mine}"
    reason = (body.reason or f"group {body.name} was cancelled")[: limits.REASON_CHARS]
    todo = Todo(kind=TodoKind.CANCEL_BELOW, task=TaskId(name), reason=reason, submitter=mine)
    count = _count(turn.view, todo)
    _begin(turn, todo)
    return Done(f"{count} tasks")


def go_on(turn: Turn, todo: Todo, *, budget: int) -> bool:
    """End more of what a todo is about; return whether some are left."""
    view = turn.view
    for task_id in list(islice(_left(view, todo), budget)):
        task = view.tasks.get(task_id)
        if task is not None:
            _stop_one(turn, task, todo.reason)
    return next(_left(view, todo), None) is not None


def _begin(turn: Turn, todo: Todo) -> None:
    if go_on(turn, todo, budget=limits.CASCADE_INLINE):
        cascades.defer(turn, todo)


def _count(view: PoolView, todo: Todo) -> int:
    """Return how many a todo is about; all of a large group are not looked at one by one."""
    if todo.submitter is not None:
        return sum(1 for _ in _left(view, todo))
    held = [task for machine in view.held_by for task in view.held_tasks(machine)]
    asked = [task for task in held if task.stop_reason is StopReason.CANCELLED]
    members = view.books.members.get(todo.task, {})
    return len(members) - sum(task.id in members for task in asked)


def _left(view: PoolView, todo: Todo) -> Iterator[TaskId]:
    """Yield whom a todo is about and who was not asked to end yet, the newest first.

    So a dependant is cancelled as such, and not failed by the end of what it depends on.
    """
    name, _, _ = todo.task.partition("@")
    kind, _, of = name.partition("/")
    found = view.books.below.get(of, {}) if kind == "children" else view.books.members.get(name, {})
    return (
        task_id
        for task_id in reversed(found)
        if _is_wanted(view.tasks[task_id], todo.submitter)
    )  # fmt: skip


def _is_wanted(task: Task, submitter: UserId | None) -> bool:
    mine = submitter is None or task.submitter == submitter
    return mine and task.stop_reason is not StopReason.CANCELLED


def _stop_one(turn: Turn, task: Task, reason: str) -> Task:
    said = reason or None
    if not task.state.held:
        return turn.move(task, moves.Cancelled(said), EventKind.CANCELLED, reason)
    asked = moves.StopAsked(StopReason.CANCELLED, said)
    after = turn.move(task, asked, EventKind.STOP_ASKED, reason)
    assert after.machine is not None
    turn.effects.append(Stop(after.machine, after.id, after.fence, after.stop_reason))
    return after


# Bounds -------------------------------------------------------------------------------------------


def _charge(turn: Turn, fact: Fact, parent: Task, more: int) -> None:
    mine = graphs.made(turn, children_key(parent.id), more, found=fact.found)
    if mine > limits.SUBTASKS_PER_TASK:
        rule = f"a task has at most {limits.SUBTASKS_PER_TASK} sub-tasks, in all its attempts"
        raise InvalidInput("tasks", rule)
    every = graphs.made(turn, family_key(_root(parent)), more, found=fact.found)
    if every > limits.SUBTASKS_PER_ROOT:
        rule = f"at most {limits.SUBTASKS_PER_ROOT} sub-tasks come of one task, all levels counted"
        raise InvalidInput("tasks", rule)


def _root(task: Task) -> TaskId:
    return task.parents[0] if task.parents else task.id


def _least(asked: Any, above: Any, *, default: Any) -> Any:
    return above if asked == default else min(asked, above)


def _land(asked: LandPolicy | None, above: LandPolicy | None) -> LandPolicy | None:
    """Return what happens to a sub-task's work: merged only where its parent's may be."""
    if above in MERGES or asked is LandPolicy.BRANCH:
        return asked or above
    return above
