"""The merge queue: who lands next on a base branch, and with whom.

Those who wait for a base stand in `view.landing`, in the order in which they came (`land_seq`). The
first holds `land:<repo>#<branch>` and its machine does the work. Behind it those who queue ride
along: they share the hold, their commits are verified with its own and land right behind it. What
becomes of a rider is in the report of that landing, so until then neither its own machine's silence
nor a wish to stop it ends it.
"""

from collections.abc import Sequence
from itertools import takewhile
from typing import Final

from agentcom.core.effects import GrantLanding
from agentcom.core.view import PoolView
from agentcom.model.ids import TaskId
from agentcom.model.limits import LAND_BATCH_MAX
from agentcom.model.result import Rider
from agentcom.model.task import LandPolicy, Task

LAND: Final = "land:"


def batch(view: PoolView, queue: Sequence[TaskId]) -> Sequence[Task]:
    """Return the tasks that land together now: the first, and those that may ride with it."""
    first, *others = (view.tasks[task] for task in queue[:LAND_BATCH_MAX])
    if first.land is not LandPolicy.QUEUE:
        return (first,)
    return (first, *takewhile(_may_ride, others))


def grant(view: PoolView, first: Task, *, without: TaskId | None = None) -> GrantLanding:
    """Return the order to land `first` and those who ride with it, but for those to be stopped."""
    assert first.machine is not None
    assert first.land_key is not None
    riding = (view.tasks[task] for task in view.landing[first.land_key][1:LAND_BATCH_MAX])
    riders = (
        task
        for task in riding
        if rides(view, task) and task.stop_reason is None and task.id != without
    )
    return GrantLanding(
        first.machine,
        first.id,
        first.fence,
        tuple(map(_rider, riders)) if first.land is LandPolicy.QUEUE else None,
    )


def rides(view: PoolView, task: Task) -> bool:
    """Return whether the landing of another task decides what becomes of this one."""
    key = task.land_key or ""
    queue = view.landing.get(key, ())
    return task.id in queue[1:LAND_BATCH_MAX] and f"{LAND}{key}" in view.holds.get(task.id, {})


def words(view: PoolView, task: Task) -> str:
    """Return where a task stands among those that wait for its base."""
    ahead = view.landing[task.land_key or ""].index(task.id)
    if not ahead:
        return "its base is its own"
    together = "; it is verified and landed with them" if rides(view, task) else ""
    return f"{ahead} landings before it{together}"


def next_seq(view: PoolView, key: str) -> int:
    """Return the place of who joins the queue of a base now."""
    queue = view.landing.get(key, ())
    return view.tasks[queue[-1]].land_seq + 1 if queue else 1


def _may_ride(task: Task) -> bool:
    """Return whether a task may land by another's machine: its checks must be the base's."""
    return task.land is LandPolicy.QUEUE and not task.must_verify and task.stop_reason is None


def _rider(task: Task) -> Rider:
    assert task.commit is not None
    return Rider(
        task=task.id,
        fence=task.fence,
        commit=task.commit,
        base_commit=task.base_commit,
        title=task.title,
        seq=task.land_seq,
    )
