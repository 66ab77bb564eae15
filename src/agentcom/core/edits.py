"""Changing a task that waits: its specification, its place, its needs."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from agentcom.core import controls, expiry, facts, graphs, intake, moves, placement
from agentcom.core.facts import Fact
from agentcom.core.turn import Turn
from agentcom.core.view import PoolView
from agentcom.model.batch import Table
from agentcom.model.errors import Conflict, IllegalTransition, InvalidInput, NotFound
from agentcom.model.event import EventKind
from agentcom.model.ids import WallTime
from agentcom.model.replies import TaskChanged
from agentcom.model.task import Task, TaskBody, TaskSpec, TaskState, Wait

replace: Final = msgspec.structs.replace

WHILE_HELD: Final = frozenset({"priority", "emergency"})
"""What may change while an attempt is under way: it counts from the next one on."""
_UNSPOKEN: Final = frozenset({"title", "prompt", "labels"})
"""What people wrote: the feed says that it changed, never what it says."""


def wanted(view: PoolView, _fact: Fact, body: facts.Edit) -> Sequence[tuple[Table, str]]:
    """Return the specification, and the row of a task that is no longer live."""
    keys: list[tuple[Table, str]] = [(Table.BODY, body.task)]
    return keys if body.task in view.tasks else [(Table.TASK, body.task), *keys]


def edit(turn: Turn, fact: Fact, body: facts.Edit) -> TaskChanged:
    """Give a task new values.

    Raises:
        NotFound: there is no such task, or not for this submitter.
        Conflict: it changed since the caller read it.
        IllegalTransition: it has begun or ended, and the change cannot matter any more.
        InvalidInput: nothing is to change, or a value breaks its bound.
    """
    task = controls.find(turn, fact, body.task)
    controls.own(fact, task)
    given = body.change.given()
    if not given:
        raise InvalidInput("change", "say what is to change")
    _check_state(task, given)
    if body.version != task.version:
        raise Conflict(
            f"task {task.id} has version {task.version}, not {body.version}: look at it again"
        )
    row = turn.row(Table.BODY, task.id, fact.found)
    if not isinstance(row, TaskBody):
        raise NotFound(f"there is no specification of task {task.id}")
    spec = body.change.applied_to(row.spec)
    intake.check_spec(spec)
    if "not_before" in given and task.expires_at is not None:
        expiry.check(spec, turn.now.wall)
    changed = {name for name in given if getattr(spec, name) != getattr(row.spec, name)}
    if not changed:
        return TaskChanged(task)
    turn.update_body(replace(row, spec=spec, version=row.version + 1), old=row.version)
    event = _event(turn, task, spec, changed)
    if event.needs != task.needs:
        _change_shape(turn, task, event.needs)
    after = turn.move(task, event, EventKind.EDITED, _words(row.spec, spec, changed))
    able = placement.can_run(turn.view, turn.view.shape_of(after))
    return TaskChanged(after, unschedulable=not able and after.approval is None)


def _check_state(task: Task, given: Mapping[str, Any]) -> None:
    if task.state.terminal:
        raise IllegalTransition(task.state.value, "an edit; retry it, or submit a new one")
    late = sorted(given.keys() - WHILE_HELD)
    if task.state.held and late:
        raise IllegalTransition(task.state.value, f"a new {late[0]}: its attempt has begun")
    timed = task.wait not in (None, Wait.DEPENDENCIES, Wait.START_TIME)
    if timed and "not_before" in given:
        raise IllegalTransition(task.state.value, f"a start time: it waits for {task.wait}")


def _event(turn: Turn, task: Task, spec: TaskSpec, changed: set[str]) -> moves.Edited:
    until, wait = task.until, task.wait
    if "not_before" in changed:
        ahead = spec.not_before if spec.not_before and spec.not_before > turn.now.wall else None
        until = WallTime(ahead) if ahead is not None else None
        if wait is not Wait.DEPENDENCIES:
            wait = Wait.START_TIME if until is not None else moves.approval(task)
    # Who puts a task off gives its place up, as if it had been submitted with that start time.
    leaves = task.state is TaskState.QUEUED and wait is not None
    return moves.Edited(
        title=spec.title,
        needs=_needs(turn.view, task, spec) if "needs" in changed else task.needs,
        priority=spec.priority,
        emergency=spec.emergency,
        deadline_ms=spec.deadline_ms,
        failures_max=spec.failures_max,
        wait=wait,
        until=until,
        start_tag=0.0 if leaves else task.start_tag,
        seq=0 if leaves else task.seq,
        lost=task.lost and not leaves and not changed - WHILE_HELD,
    )


def _needs(view: PoolView, task: Task, spec: TaskSpec) -> tuple[str, ...]:
    """Return what an agent must have now; a review is still kept from the author."""
    needs = intake.needs_of(view, spec)
    if task.id in view.books.reviews and task.wait is not Wait.DEPENDENCIES:
        return graphs.vetted(view, replace(task, needs=needs), view.edges[task.id].values())
    return needs


def _change_shape(turn: Turn, task: Task, needs: tuple[str, ...]) -> None:
    """Count the new needs instead of the old; raises `TooManyShapes`."""
    view = turn.view
    view.withdraw(task.id)  # before its shape may be forgotten; the move puts it back
    view.learn_shape(replace(task, needs=needs))
    view.forget_shape(task)


def _words(before: TaskSpec, after: TaskSpec, changed: set[str]) -> str:
    parts = []
    for name in sorted(changed):
        old, new = getattr(before, name), getattr(after, name)
        parts.append(name if name in _UNSPOKEN else f"{name}: {_text(old)} -> {_text(new)}")
    return "; ".join(parts)


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "nothing"
    return "none" if value is None else str(value).lower()
