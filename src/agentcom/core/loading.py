"""How a view is built from what is stored, when a hub starts or doubts its memory."""

import math
from collections.abc import Sequence
from functools import partial

from agentcom.core import (
    budgets,
    deadlines,
    facts,
    fairness,
    graphs,
    leases,
    locking,
    passing,
    watches,
)
from agentcom.core.effects import Continue, Effect
from agentcom.core.view import PoolView
from agentcom.model.ids import DEFAULT_POOL, Now, PoolId, TaskId
from agentcom.model.snapshot import Snapshot
from agentcom.model.task import Phase, Task, TaskState


def load(
    rows: Snapshot, *, incarnation: int, term: int | None, now: Now, pool: PoolId = DEFAULT_POOL
) -> tuple[PoolView, Sequence[Effect]]:
    """Return the view of stored rows, and the timers and cascades that were under way.

    Holders of stored attempts get a grace to come back; nothing of theirs is given away before.
    """
    view = PoolView(pool, incarnation=incarnation, term=term)
    for machine in rows.machines:
        view.machines[machine.id] = machine
    for agent in rows.agents:
        view.learn_agent(agent)
    for account in rows.accounts:
        view.accounts[account.id] = account
    for edge in rows.edges:
        view.edges.setdefault(edge.task, {})[edge.on] = edge
        if not edge.met:
            view.dependants.setdefault(edge.on, {})[edge.task] = None
        if edge.review is not None:
            view.books.reviews[edge.task] = None
    view.books.tallies.update({tally.id: tally for tally in rows.tallies})
    view.gates.rules.update((rule.scope, rule) for rule in rows.limits)
    view.gates.rates.update((rate.scope, rate) for rate in rows.rates)
    budgets.know(view, rows.budgets)
    for hold in rows.holds:
        view.holds.setdefault(hold.task, {})[hold.key] = hold
    view.pauses.update({pause.key: pause for pause in rows.pauses})
    view.asks.update({ask.id: ask for ask in rows.asks})
    _load_tasks(view, rows.tasks)
    budgets.load(view)
    locking.load(view, rows.locks, rows.lock_numbers)
    effects: list[Effect] = [*passing.load(view, now), *deadlines.timers(view, now)]
    effects += locking.timers(view, now)
    effects += budgets.timers(view, now)
    view.fairness.restore(_share(view, task) for task in view.tasks.values() if task.seq)
    effects += [*leases.grace(view, now), *watches.timers(view, now.instant)]
    effects += leases.recover(view, now)
    for todo in rows.todos:
        view.todos[todo.task] = todo
        effects.append(Continue(facts.TodoDue(todo.task, todo.kind)))
    view.confirm()
    return view, effects


def _load_tasks(view: PoolView, tasks: Sequence[Task]) -> None:
    for task in sorted(tasks, key=lambda task: task.seq):
        _load_task(view, task)
        view.journal.clear()  # nothing of it is undone, and a long queue would make it long
    _order_landings(view)


def _load_task(view: PoolView, task: Task) -> None:
    view.tasks[task.id] = task
    if task.lost:
        view.books.lost[task.id] = None
    view.learn_shape(task)
    view.seq = max(view.seq, task.seq)
    if task.group or task.parents:
        graphs.index(view, task, live=True)
    watches.load(view, task)
    if task.unique_key is not None:
        view.unique[task.unique_key] = task.id
    if task.state is TaskState.QUEUED:
        view.enqueue(task)
    if task.state.held:
        assert task.machine is not None
        view.held_by.setdefault(task.machine, {})[task.id] = None
        if task.phase is not Phase.LANDING:
            assert task.agent is not None
            view.slots_used[task.agent] = view.slots_used.get(task.agent, 0) + 1
            used = view.used.setdefault(task.machine, {}) if task.uses else {}
            used.update((name, used.get(name, 0) + much) for name, much in task.uses)
    if task.state.held and task.land_key and task.phase is Phase.LANDING:
        view.landing[task.land_key] = (*view.landing.get(task.land_key, ()), task.id)


def _order_landings(view: PoolView) -> None:
    """Put who waits for a base in order: first who holds it, then by when they came."""

    def place(task: TaskId, key: str) -> tuple[float, int, TaskId]:
        hold = view.holds.get(task, {}).get(f"land:{key}")
        return (hold.amount if hold else math.inf, view.tasks[task].land_seq, task)

    for key, queue in view.landing.items():
        view.landing[key] = tuple(sorted(queue, key=partial(place, key=key)))


def _share(view: PoolView, task: Task) -> fairness.Share:
    tag = None if task.emergency else fairness.order_tag(task.start_tag, task.priority)
    queued = task.state is TaskState.QUEUED
    span = 1.0 / view.gates.weight(task.project, task.submitter)
    return fairness.Share(task.submitter, task.start_tag, span, tag, dispatched=not queued)
