"""Who waits for whom: all that stands behind limits, budgets, files, locks and dependencies.

Looks at all that waits: for people, not for deciding. A task that only waits for a free agent is
not in it; `core/explain.py` says that of one task.
"""

from collections.abc import Hashable, Iterator, Sequence
from heapq import nsmallest

from agentcom.core import budgets
from agentcom.core.gates import Budgeted, Claims, Files, scopes
from agentcom.core.lanes import Member
from agentcom.core.pauses import Paused
from agentcom.core.purse import named
from agentcom.core.view import PoolView
from agentcom.model.ids import ProjectId, TaskId, WallTime
from agentcom.model.limits import WAITS_MAX, WAITS_ON_MAX
from agentcom.model.lock import Lock
from agentcom.model.replies import Waiting, Waits, WaitsFor
from agentcom.model.task import Task, Wait

Shut = tuple[WaitsFor, str, Sequence[TaskId], WallTime | None]


def picture(view: PoolView, project: ProjectId) -> Waits:
    """Return what the tasks of a project wait for; tasks of others are counted, not named."""
    gates = _ShutGates(view)
    behind, total = [], 0
    for member in view.lanes.hidden_members():
        shut = gates.of(member.lane[1])
        if shut and view.tasks[member.task].project == project:
            behind.append(member)
            total += len(shut)
    found = [
        _waiting(view, view.tasks[member.task], *shut)
        for member in nsmallest(WAITS_MAX, behind, key=_rank)
        for shut in gates.of(member.lane[1])
    ]
    for task, on in _dependent(view, project):
        total += 1
        if len(found) < WAITS_MAX:
            found.append(_waiting(view, task, WaitsFor.DEPENDENCY, "", on, None))
    del found[WAITS_MAX:]
    return Waits(waits=tuple(found), left_out=total - len(found))


class _ShutGates:
    """What is shut, and who keeps it so; each gate is looked at once."""

    def __init__(self, view: PoolView) -> None:
        self._view = view
        self._lanes: dict[tuple[Hashable, ...], Sequence[Shut]] = {}
        self._running: dict[str, list[TaskId]] | None = None

    def of(self, gates: tuple[Hashable, ...]) -> Sequence[Shut]:
        """Return those of a lane's gates that are shut."""
        known = self._lanes.get(gates)
        if known is None:
            known = self._lanes[gates] = [shut for gate in gates for shut in self._look(gate)]
        return known

    def _look(self, gate: Hashable) -> Iterator[Shut]:
        if isinstance(gate, Claims | Paused):
            return  # a pause is nothing that another task keeps shut
        blocker = self._view.gates.blocker(gate)
        if blocker is None:
            return
        _, until = blocker
        if isinstance(gate, Files):
            holders = self._view.gates.holders(gate)
            if holders:
                yield WaitsFor.FILES, ", ".join(gate.globs), holders, None
            yield from map(_lock, self._view.gates.locks.against(gate.repo, gate))
            return
        if isinstance(gate, Budgeted):
            budget = self._view.purse.budgets[gate.key]
            yield WaitsFor.BUDGET, named(budget), self._spenders(gate.key), until
            return
        assert isinstance(gate, str), gate
        yield WaitsFor.LIMIT, gate, () if until else self._in_scope(gate), until

    def _spenders(self, key: str) -> Sequence[TaskId]:
        """Return whose reservations keep a budget shut; nobody's, if it is used up."""
        view = self._view
        if not view.purse.reserved.get(key):
            return ()
        held = [task for machine in view.held_by for task in view.held_tasks(machine)]
        return [task.id for task in held if key in budgets.spent_by(view, task)]

    def _in_scope(self, scope: str) -> Sequence[TaskId]:
        if self._running is None:
            self._running = {}
            for machine in self._view.held_by:
                for task in self._view.held_tasks(machine):
                    for name in scopes(task):
                        self._running.setdefault(name, []).append(task.id)
        return self._running.get(scope, ())


def _lock(lock: Lock) -> Shut:
    return WaitsFor.LOCK, lock.id, [lock.task] if lock.task is not None else [], lock.expires_at


def _dependent(view: PoolView, project: ProjectId) -> Iterator[tuple[Task, Sequence[TaskId]]]:
    for task_id, edges in view.edges.items():
        task = view.tasks.get(task_id)
        if task is not None and task.wait is Wait.DEPENDENCIES and task.project == project:
            yield task, [on for on, edge in edges.items() if not edge.met]


def _waiting(
    view: PoolView,
    task: Task,
    by: WaitsFor,
    what: str,
    on: Sequence[TaskId],
    until: WallTime | None,
) -> Waiting:
    mine = [one for one in on if one in view.tasks and view.tasks[one].project == task.project]
    shown = tuple(mine[:WAITS_ON_MAX])
    more = len(on) - len(shown)
    return Waiting(
        task=task.id, title=task.title, by=by, what=what, on=shown, more=more, until=until
    )


def _rank(member: Member) -> tuple[int, float, int]:
    return member[:3]
