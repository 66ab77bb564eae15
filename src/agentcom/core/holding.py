"""Holds follow the task: what an attempt takes, and gives back on every path alike.

A hold is `(attempt, key, mode, amount)`. Two kinds of keys exist: `slot:<agent>` while an agent
works on the attempt, and `land:<repo>#<branch>` while it brings its work into a base; those who
wait for the second one stand in `view.landing`, in order.
"""

from agentcom.core.effects import GrantLanding, SetTimer
from agentcom.core.facts import LandingOverdue
from agentcom.core.ledger import Ledger
from agentcom.core.view import holds_slot
from agentcom.model.batch import Table, hold_key
from agentcom.model.ids import AgentId, Instant, TaskId
from agentcom.model.limits import LANDING_MS
from agentcom.model.task import Hold, Phase, Task


def goes_on(before: Task, after: Task) -> bool:
    """Return whether the same attempt goes on with the same holds."""
    if not (before.state.held and after.state.held) or before.attempt != after.attempt:
        return False
    return (before.phase is Phase.LANDING) == (after.phase is Phase.LANDING)


def follow(ledger: Ledger, before: Task | None, after: Task) -> None:
    """Give and take holds, so that they are exactly those of the attempt under way."""
    had = before is not None and holds_slot(before)
    has = holds_slot(after)
    if before is not None and had and not has:
        assert before.agent is not None
        _release_slot(ledger, before, before.agent)
    if has and not had:
        assert after.agent is not None
        _take_slot(ledger, after, after.agent)
    landed = before is not None and before.phase is Phase.LANDING and before.state.held
    lands = after.phase is Phase.LANDING and after.state.held
    if before is not None and landed and not lands:
        assert before.land_key is not None
        _leave_landing(ledger, before.id, before.land_key)
    if lands and not landed:
        assert after.land_key is not None
        _join_landing(ledger, after, after.land_key)
    _note_holder(ledger, before, after)


def _take_slot(ledger: Ledger, task: Task, agent: AgentId) -> None:
    view = ledger.view
    take_hold(ledger, Hold(task=task.id, attempt=task.attempt, key=f"slot:{agent}"))
    view.put(view.slots_used, agent, view.slots_used.get(agent, 0) + 1)
    ledger.ready(agent)


def _release_slot(ledger: Ledger, task: Task, agent: AgentId) -> None:
    view = ledger.view
    drop_hold(ledger, task.id, f"slot:{agent}")
    view.put(view.slots_used, agent, view.slots_used[agent] - 1)
    ledger.ready(agent)


def _join_landing(ledger: Ledger, task: Task, key: str) -> None:
    view = ledger.view
    queue = view.landing.get(key, ())
    view.put(view.landing, key, (*queue, task.id))
    if not queue:
        _grant_landing(ledger, task, key)


def _leave_landing(ledger: Ledger, task: TaskId, key: str) -> None:
    view = ledger.view
    queue = view.landing[key]
    rest = tuple(waiting for waiting in queue if waiting != task)
    if queue[0] == task:
        drop_hold(ledger, task, f"land:{key}")
    if not rest:
        view.drop(view.landing, key)
        return
    view.put(view.landing, key, rest)
    if queue[0] == task:
        _grant_landing(ledger, view.tasks[rest[0]], key)


def _grant_landing(ledger: Ledger, task: Task, key: str) -> None:
    assert task.machine is not None
    take_hold(ledger, Hold(task=task.id, attempt=task.attempt, key=f"land:{key}"))
    ledger.effects.append(GrantLanding(task.machine, task.id, task.fence))
    at = Instant(ledger.now.instant + LANDING_MS)
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


def _note_holder(ledger: Ledger, before: Task | None, after: Task) -> None:
    view = ledger.view
    was = before.machine if before is not None and before.state.held else None
    now = after.machine if after.state.held else None
    if was == now:
        return
    if was is not None:
        view.drop(view.held_by[was], after.id)
    if now is not None:
        view.put(view.held_by.setdefault(now, {}), after.id, None)
