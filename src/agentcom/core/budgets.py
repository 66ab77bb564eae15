"""Budgets that hold: work is given out only as long as something is left to spend.

An attempt that needs a model reserves an estimate of one turn in each of its scopes while it
works; what it reports is settled, and the estimate stands for its next turn. A scope of which
nothing is left, reservations counted, gives no attempt: its tasks wait at the gate. A running
attempt ends after its turn when a scope of it, or its own budget, is used up. So what is spent
beyond a limit is at most one turn of each attempt that was running when it was reached.

What is reserved is read from the attempts under way, as slots are, and not stored a second time.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from agentcom.core import facts
from agentcom.core.effects import ClearTimer, Effect, SetTimer
from agentcom.core.facts import BudgetsRenewed, Fact
from agentcom.core.gates import Budgeted
from agentcom.core.ledger import Ledger
from agentcom.core.purse import named
from agentcom.core.view import PoolView
from agentcom.model import budget as amounts
from agentcom.model import limits
from agentcom.model.agent import Agent
from agentcom.model.batch import Table, budget_key
from agentcom.model.budget import Period, ScopeBudget
from agentcom.model.errors import InvalidInput, NotFound
from agentcom.model.ids import AgentId, Instant, Now, ProjectId, UserId
from agentcom.model.replies import Done
from agentcom.model.requirement import PROMPT
from agentcom.model.task import Phase, Task
from agentcom.model.usage import DAY_MS, Usage, day_of

RENEWAL: Final = "budgets"
_KINDS: Final = ("project", "agent", "submitter")
_NAME_CHARS: Final = 63
_TABLE: Final = Table.BUDGET


def why_shut(view: PoolView, agent: Agent) -> str:
    """Return, in words, why an agent's own budget gives nothing."""
    keys = view.purse.keys(agent.project, (f"agent:{agent.id}",))
    return next(filter(None, (view.purse.lacks(key) for key in keys)), "")


def why_stop(view: PoolView, task: Task) -> str | None:
    """Return why a running attempt shall end after its turn; None if it may go on."""
    own = task.spent and amounts.task_used_up(task.budget, task.spent)
    if own:
        return f"its budget is used up: {own}"
    for key in spent_by(view, task):
        budget = view.purse.budgets[key]
        spent = amounts.used_up(budget.limits, budget.spent)
        if spent is not None:
            return f"the budget of {named(budget)} is used up: {spent}"
    return None


# What attempts take and give back ---------------------------------------------------------------


def reserve(ledger: Ledger, task: Task, change: int) -> None:
    """Set an estimate of one turn aside for an attempt that begins to work, or give it back."""
    view = ledger.view
    for key in spent_by(view, task):
        _look_after(view, key)
        view.put(view.purse.reserved, key, view.purse.reserved.get(key, 0) + change)
        view.lanes.look(Budgeted(key))
    if task.agent is not None:
        _note_agents(ledger, [task.agent])


def settle(ledger: Ledger, usage: Usage) -> None:
    """Take a turn from every budget that it is spent from."""
    view = ledger.view
    if not view.purse.budgets:
        return
    names = (f"project:{usage.project}", f"submitter:{usage.submitter}", f"agent:{usage.agent}")
    spent, today = amounts.of_turn(usage), day_of(ledger.now.wall)
    for key in view.purse.keys(usage.project, names):
        budget = _of_today(view.purse.budgets[key], today)
        after = amounts.plus(budget.spent, spent)
        _write(ledger, key, msgspec.structs.replace(budget, spent=after))
    _note_agents(ledger, [usage.agent])


def _look_after(view: PoolView, key: str) -> None:
    """Let the undoing of what comes next end with another look at what stands behind."""
    view.undo(view.lanes.look, Budgeted(key))


def spent_by(view: PoolView, task: Task) -> tuple[str, ...]:
    """Return the keys of the budgets that an attempt under way spends from."""
    if not view.purse.budgets or task.landing_only or PROMPT not in task.needs:
        return ()
    return (*view.purse.scopes(task), *view.purse.keys(task.project, (f"agent:{task.agent}",)))


def _note_agents(ledger: Ledger, agents: Sequence[AgentId]) -> None:
    """Let agents whose budget gives nothing take no work, and others again."""
    view = ledger.view
    for agent_id in agents:
        agent = view.agents.get(agent_id)
        if agent is None:
            continue
        keys = view.purse.keys(agent.project, (f"agent:{agent_id}",))
        shut = any(view.purse.lacks(key) is not None for key in keys)
        if shut == (agent_id in view.purse.shut):
            continue
        if shut:
            view.put(view.purse.shut, agent_id, None)
        else:
            view.drop(view.purse.shut, agent_id)
        ledger.looks[agent_id] = None


# What people and the calendar change ------------------------------------------------------------


def control(ledger: Ledger, fact: Fact, body: facts.SetBudget) -> Done:
    """Set, change or remove the budget of a scope; what is spent of it stays.

    Raises:
        InvalidInput: the scope or an amount is none, or there are too many budgets.
        NotFound: there is no such budget to remove, or it is another project's.
    """
    view = ledger.view
    project = fact.actor.project
    _check_scope(body.scope, project)
    key = budget_key(project, body.scope, body.period.value)
    old = view.purse.budgets.get(key)
    if body.limits is None:
        if old is None:
            raise NotFound(f"there is no budget of {body.scope} by {body.period.value}")
        _look_after(view, key)
        ledger.write(_TABLE, key, None, old=old.version)
        view.drop(view.purse.budgets, key)
        view.drop(view.purse.reserved, key)
        view.lanes.look(Budgeted(key))
    else:
        amounts.check(body.limits)
        _set(ledger, key, old, body, project)
    kind, _, name = body.scope.partition(":")
    _note_agents(ledger, [AgentId(name)] if kind == "agent" else ())
    for agent in view.matcher.idle():  # tasks that move to other gates are looked at anew
        ledger.ready(agent)
    return Done("removed" if body.limits is None else "set")


def _set(
    ledger: Ledger,
    key: str,
    old: ScopeBudget | None,
    body: facts.SetBudget,
    project: ProjectId,
) -> None:
    view, today = ledger.view, day_of(ledger.now.wall)
    assert body.limits is not None
    if old is not None:
        _write(ledger, key, msgspec.structs.replace(_of_today(old, today), limits=body.limits))
        return
    if len(view.purse.budgets) >= limits.BUDGETS_MAX:
        raise InvalidInput("scope", f"at most {limits.BUDGETS_MAX} budgets")
    day = today if body.period is Period.DAY else 0
    row = ScopeBudget(
        project=project, scope=body.scope, period=body.period, limits=body.limits, day=day
    )
    _look_after(view, key)
    view.put(view.purse.budgets, key, ledger.insert(_TABLE, key, row))
    running = sum(key in spent_by(view, task) for task in _working(view))
    if running:
        view.put(view.purse.reserved, key, running)
    view.lanes.look(Budgeted(key))
    ledger.effects += timers(view, ledger.now)


def _check_scope(scope: str, project: ProjectId) -> None:
    kind, _, name = scope.partition(":")
    named_well = 1 <= len(name) <= _NAME_CHARS and name.isprintable() and "/" not in name
    if kind not in _KINDS or not named_well:
        raise InvalidInput("scope", "project:NAME, agent:NAME or submitter:NAME")
    if kind == "project" and name != project:
        raise NotFound("there is no such project, or not for this token")


def renewed(ledger: Ledger, _fact: Fact, _body: BudgetsRenewed) -> None:
    """Begin the day anew for every budget by the day, if one has begun."""
    view, today = ledger.view, day_of(ledger.now.wall)
    for key, budget in list(view.purse.budgets.items()):
        fresh = _of_today(budget, today)
        if fresh is not budget:
            _write(ledger, key, fresh)
    _note_agents(ledger, list(view.purse.shut))
    ledger.effects += timers(view, ledger.now)


def timers(view: PoolView, now: Now) -> Sequence[Effect]:
    """Return the timer of the next UTC day, if a budget waits for it."""
    if not any(budget.period is Period.DAY for budget in view.purse.budgets.values()):
        return [ClearTimer(RENEWAL)] if view.purse.budgets else []
    left_ms = DAY_MS - now.wall % DAY_MS
    return [SetTimer(RENEWAL, Instant(now.instant + left_ms), BudgetsRenewed())]


def know(view: PoolView, rows: Sequence[ScopeBudget]) -> None:
    """Take stored budgets into a view; `load` follows when its agents and tasks are there."""
    for row in rows:
        view.purse.budgets[budget_key(row.project, row.scope, row.period.value)] = row


def load(view: PoolView) -> None:
    """Count what the attempts under way reserve, and shut the agents whose budget is used up."""
    for task in _working(view):
        for key in spent_by(view, task):
            view.purse.reserved[key] = view.purse.reserved.get(key, 0) + 1
    for agent in view.agents.values():
        keys = view.purse.keys(agent.project, (f"agent:{agent.id}",))
        if any(view.purse.lacks(key) is not None for key in keys):
            view.purse.shut[agent.id] = None


def readable(budget: ScopeBudget, submitter: UserId) -> bool:
    """Return whether a budget concerns someone who sees what is their own."""
    kind, _, name = budget.scope.partition(":")
    return kind == "project" or (kind == "submitter" and name == submitter)


def _of_today(budget: ScopeBudget, today: int) -> ScopeBudget:
    """Return a budget with what is spent of it today; a day that is over by the clock stays."""
    if budget.period is not Period.DAY or budget.day >= today:
        return budget
    return msgspec.structs.replace(budget, spent=amounts.NOTHING, day=today)


def _write(ledger: Ledger, key: str, budget: ScopeBudget) -> None:
    view = ledger.view
    old = view.purse.budgets[key]
    after = msgspec.structs.replace(budget, version=old.version + 1)
    ledger.write(_TABLE, key, after, old=old.version)
    _look_after(view, key)
    view.put(view.purse.budgets, key, after)
    view.lanes.look(Budgeted(key))


def _working(view: PoolView) -> list[Task]:
    """Return the tasks whose attempts have reserved something."""
    held = [task for machine in view.held_by for task in view.held_tasks(machine)]
    return [task for task in held if task.phase is not Phase.LANDING]
