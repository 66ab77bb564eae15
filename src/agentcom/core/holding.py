"""Holds follow the task: what an attempt takes, and gives back on every path alike.

A hold is `(attempt, key, mode, amount)`. The slot of its agent is the hold that every attempt
has, until it lands: the task's own row tells it (state, agent, phase), so it is counted here and
not stored a second time. So it is with limits and claims of files (`core/passing.py`).
`land:<repo>#<branch>` is a row: an attempt holds it while it brings its work into a base, and those
who ride along share it (`core/merging.py`); who waits for it stands in `view.landing`, in order.
"""

from collections.abc import Sequence
from typing import Final

from agentcom.core import budgets, locking, merging, passing
from agentcom.core.due_facts import LandingOverdue
from agentcom.core.effects import ClearTimer, Continue, SetTimer
from agentcom.core.facts import LeaseChecked
from agentcom.core.ledger import Ledger
from agentcom.model.batch import Table, hold_key
from agentcom.model.hold import Hold, HoldMode
from agentcom.model.ids import Instant, MachineId, TaskId
from agentcom.model.limits import LAND_BATCH_MAX, LANDING_BATCH_MS, LANDING_MS
from agentcom.model.task import Phase, Task

PACE_SHARE: Final = 0.2
"""How much the newest attempt says of how long the next one takes."""
PACES_MAX: Final = 1_000
_LANDING: Final = Phase.LANDING


def goes_on(before: Task, after: Task) -> bool:
    """Return whether the same attempt goes on with the same holds."""
    if not (before.state.held and after.state.held) or before.attempt != after.attempt:
        return False
    if before.phase is _LANDING and before.stop_reason is not after.stop_reason:
        return False
    return (before.phase is _LANDING) == (after.phase is _LANDING)


def follow(ledger: Ledger, before: Task | None, after: Task) -> None:
    """Give and take holds, so that they are exactly those of the attempt under way."""
    was = before if before is not None and before.state.held else None
    now = after if after.state.held else None
    landed = was is not None and was.phase is _LANDING
    lands = now is not None and now.phase is _LANDING
    if was is not None and not landed and (now is None or lands):
        _count_slot(ledger, was, -1)
    if now is not None and not lands and (was is None or landed):
        _count_slot(ledger, now, 1)
    if was is not None and landed and not lands:
        _leave_landing(ledger, was)
    elif landed and was is not None and was.stop_reason is not after.stop_reason:
        _recall(ledger, after)
    if now is not None and lands and not landed:
        _join_landing(ledger, now)
    if was is None or now is None or was.attempt != now.attempt:
        _change_attempts(ledger, was, now)
    if was is not None and now is None:
        _note_pace(ledger, was)
    left = None if was is None else was.machine
    holder = None if now is None else now.machine
    if left != holder:
        _note_holder(ledger, after.id, left, holder)


def _change_attempts(ledger: Ledger, was: Task | None, now: Task | None) -> None:
    """Give back what one attempt had at its gates, and its locks; take what the next one needs."""
    gates = ledger.view.gates
    if was is not None and (gates.taken or was.files or gates.touched):
        passing.end(ledger, was)
    if was is not None and gates.locks.rows:
        locking.end(ledger, was)
    if now is not None and gates.locks.ended:
        locking.back(ledger, now)
    if now is not None and (gates.rules or now.files):
        passing.begin(ledger, now)


def _note_pace(ledger: Ledger, was: Task) -> None:
    """Learn how long such work takes; a hint for people, so nothing undoes it."""
    pace = ledger.view.pace
    if was.deadline_at is None:
        return
    took_ms = max(0, ledger.now.wall - was.deadline_at + was.deadline_ms)
    known = pace.get(was.needs)
    if known is None and len(pace) >= PACES_MAX:
        pace.clear()
    pace[was.needs] = took_ms if known is None else known + PACE_SHARE * (took_ms - known)


def _count_slot(ledger: Ledger, task: Task, change: int) -> None:
    view, agent = ledger.view, task.agent
    assert agent is not None
    view.put(view.slots_used, agent, view.slots_used.get(agent, 0) + change)
    ledger.looks[agent] = None
    if task.uses:
        _count_uses(ledger, task, change)
    if view.purse.budgets:
        budgets.reserve(ledger, task, change)


def _count_uses(ledger: Ledger, task: Task, change: int) -> None:
    """Take or give back what an attempt uses of its machine, beside the slot."""
    view, machine = ledger.view, task.machine
    assert machine is not None
    used = view.used.setdefault(machine, {})
    for name, much in task.uses:
        view.put(used, name, used.get(name, 0) + change * much)
    if change < 0:
        for agent in view.agents_of.get(machine, ()):
            ledger.looks[agent] = None


def _join_landing(ledger: Ledger, task: Task) -> None:
    view, key = ledger.view, task.land_key
    assert key is not None
    queue = view.landing.get(key, ())
    view.put(view.landing, key, (*queue, task.id))
    if not queue:
        _grant_landing(ledger, task, key)


def _leave_landing(ledger: Ledger, task: Task) -> None:
    view, key = ledger.view, task.land_key
    assert key is not None
    queue = view.landing[key]
    rest = tuple(waiting for waiting in queue if waiting != task.id)
    if f"land:{key}" in view.holds.get(task.id, {}):
        drop_hold(ledger, task.id, f"land:{key}")
    if queue[0] == task.id:
        _unseat(ledger, rest, key)
        ledger.effects.append(ClearTimer(f"land/{task.id}"))
    if not rest:
        view.drop(view.landing, key)
        return
    view.put(view.landing, key, rest)
    if queue[0] == task.id:
        _grant_landing(ledger, view.tasks[rest[0]], key)


def _unseat(ledger: Ledger, queue: Sequence[TaskId], key: str) -> None:
    """Let those who rode with a landing that is over stand for themselves again."""
    for task_id in queue[: LAND_BATCH_MAX - 1]:
        if f"land:{key}" not in ledger.view.holds.get(task_id, {}):
            return
        drop_hold(ledger, task_id, f"land:{key}")
        machine = ledger.view.tasks[task_id].machine
        assert machine is not None
        ledger.effects.append(Continue(LeaseChecked(machine)))  # it may be lost by now


def _recall(ledger: Ledger, task: Task) -> None:
    """Tell the machine that lands for a task that this one is to stop."""
    view, key = ledger.view, task.land_key
    assert key is not None
    if merging.rides(view, task):
        first = view.tasks[view.landing[key][0]]
        ledger.effects.append(merging.grant(view, first, without=task.id))


def _grant_landing(ledger: Ledger, task: Task, key: str) -> None:
    view = ledger.view
    together = merging.batch(view, view.landing[key])
    for place, one in enumerate(together, 1):
        mode = HoldMode.SHARED if len(together) > 1 else HoldMode.EXCLUSIVE
        hold = Hold(task=one.id, attempt=one.attempt, key=f"land:{key}", mode=mode, amount=place)
        take_hold(ledger, hold)
    ledger.effects.append(merging.grant(view, task))
    at = Instant(ledger.now.instant + (LANDING_MS if len(together) == 1 else LANDING_BATCH_MS))
    ledger.effects.append(SetTimer(f"land/{task.id}", at, LandingOverdue(task.id, task.fence)))


def take_hold(ledger: Ledger, hold: Hold) -> None:
    """Give an attempt what it takes."""
    view = ledger.view
    hold = ledger.insert(Table.HOLD, hold_key(hold.task, hold.key), hold)
    mine = view.holds.get(hold.task, {})
    view.put(view.holds, hold.task, {**mine, hold.key: hold})


def drop_hold(ledger: Ledger, task: TaskId, key: str) -> None:
    """Take back what an attempt held."""
    view = ledger.view
    mine = view.holds[task]
    ledger.write(Table.HOLD, hold_key(task, key), None, old=mine[key].version)
    rest = {name: hold for name, hold in mine.items() if name != key}
    if rest:
        view.put(view.holds, task, rest)
    else:
        view.drop(view.holds, task)


def _note_holder(
    ledger: Ledger, task: TaskId, was: MachineId | None, now: MachineId | None
) -> None:
    view = ledger.view
    if was is not None:
        view.drop(view.held_by[was], task)
    if now is not None:
        view.put(view.held_by.setdefault(now, {}), task, None)
