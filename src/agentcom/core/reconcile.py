"""What a machine must be told, from what the hub knows and what the machine says it holds.

Pure comparison: it finds pushes, stops and grants that were lost on the way, attempts that the
machine has begun or no longer has, and attempts that it may take up again. Calling it twice changes
nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from agentcom.model.agent import Held, HeldStage
from agentcom.model.ids import Fence, MachineId, TaskId, WallTime
from agentcom.model.task import Phase, Task, TaskState

_LANDS: Final = frozenset({HeldStage.FINISHED, HeldStage.READY})


class Orders(NamedTuple):
    """The difference between the hub's rows and a machine's report."""

    push: Sequence[Task]
    """Assigned, but the machine does not know it."""
    begun: Sequence[Task]
    """Assigned by our rows, but the machine has it: its word of that was lost."""
    stop: Sequence[tuple[TaskId, Fence, Task | None]]
    """Held, but to be stopped (the task), or stale (None)."""
    land: Sequence[Task]
    """Waiting for a grant that was given."""
    gone: Sequence[Task]
    """Running by our rows, but the machine does not have it any more."""
    resume: Sequence[tuple[Task, Held]]
    """Queued again, but its newest holder has come back."""
    beyond: Sequence[Held]
    """A fence of this incarnation that was never issued: the store is older than the fleet."""


def reconcile(
    machine: MachineId,
    *,
    tasks: Mapping[TaskId, Task],
    rows: Sequence[Task],
    granted: frozenset[TaskId],
    report: Sequence[Held],
    pushed_before: WallTime,
    now: WallTime,
    incarnation: int,
) -> Orders:
    """Compare a machine's rows with its report.

    Args:
        machine: whose report it is.
        tasks: every live task.
        rows: the tasks whose attempts this machine holds.
        granted: the tasks that hold their base for landing.
        report: everything the machine has.
        pushed_before: assignments that are younger may still be on their way.
        now: the hub's wall clock.
        incarnation: the hub's; what an earlier one issued after its backup is only stale.
    """
    held = {(item.task, item.fence): item for item in report}
    orders = Orders([], [], [], [], [], [], [])
    for task in rows:
        item = held.pop((task.id, task.fence), None)
        if item is None:
            # Written later than now: the clock was set back, and tells nothing.
            recent = pushed_before < task.changed_at <= now
            _missing(orders, task, recent=recent, ours=task.incarnation >= incarnation)
        elif task.stop_reason is not None:
            _append(orders.stop, (task.id, task.fence, task))
        elif task.state is TaskState.ASSIGNED:
            _append(orders.begun, task)
        elif task.id in granted and item.stage in _LANDS:
            _append(orders.land, task)
    for item in held.values():
        row = tasks.get(item.task)
        if row is not None and item.fence > row.fence and item.fence.incarnation >= incarnation:
            _append(orders.beyond, item)
        else:
            _unknown(orders, machine, row, item)
    return orders


def _missing(orders: Orders, task: Task, *, recent: bool, ours: bool) -> None:
    if task.state is TaskState.ASSIGNED and task.stop_reason is not None:
        _append(orders.stop, (task.id, task.fence, task))
    elif task.state is TaskState.ASSIGNED and ours:
        if not recent:
            _append(orders.push, task)
    else:
        # An older hub's push is not repeated: after its backup the machine may have done the work.
        _append(orders.gone, task)


def _unknown(orders: Orders, machine: MachineId, task: Task | None, item: Held) -> None:
    if task is not None and task.fence == item.fence and task.machine == machine:
        if task.state is TaskState.QUEUED and task.lost:
            _append(orders.resume, (task, item))
        elif item.stage is not HeldStage.FINISHED:
            _append(orders.stop, (item.task, item.fence, None))
    elif item.stage is not HeldStage.FINISHED:
        # A finished one reports its result by itself, and is told then.
        _append(orders.stop, (item.task, item.fence, None))


def phase_of(item: Held) -> Phase:
    """Return the phase in which a returning attempt is."""
    return item.phase or (Phase.VERIFYING if item.stage in _LANDS else Phase.WORKING)


def _append(items: Sequence[object], item: object) -> None:
    assert isinstance(items, list)
    items.append(item)
