"""What attempts take at their gates and give back, and rules that change.

A limit's hold is told by the task's own row: it begins with the attempt and ends with it, on every
path alike, since `core/holding.py` calls `begin` and `end`. Only what a rate has given out is a
row of its own.
"""

from collections.abc import Hashable, Iterator, Sequence
from typing import Final

import msgspec

from agentcom.core.effects import ClearTimer, SetTimer
from agentcom.core.facts import GateDue
from agentcom.core.gates import Claims, Files, files_of, scopes
from agentcom.core.ledger import Ledger
from agentcom.core.view import PoolView
from agentcom.model import limit
from agentcom.model.batch import Table
from agentcom.model.ids import Instant, Now, WallTime
from agentcom.model.limit import Limit, Usage
from agentcom.model.task import Task

RATES_KEPT: Final = 1_000
"""Scopes whose rate is remembered, before those that are earned again are forgotten."""


def begin(ledger: Ledger, task: Task) -> None:
    """Take a place at every gate of an attempt that begins."""
    view = ledger.view
    for gate in view.gates.gates_of(task):
        if isinstance(gate, Files):
            _look_after(view, Claims(gate.repo))
            view.put(view.gates.files_held.setdefault(gate.repo, {}), task.id, gate)
            view.lanes.look(Claims(gate.repo))
        elif isinstance(gate, str):
            count(view, gate, 1)
            rule = view.gates.rule_of(gate)
            if rule is not None and rule.rate is not None:
                _spend(ledger, gate, rule)


def end(ledger: Ledger, task: Task) -> None:
    """Give back what an attempt took."""
    view = ledger.view
    if view.gates.touched:
        view.drop(view.gates.touched, task.id)
    for scope in scopes(task):
        if view.gates.taken.get(scope):
            count(view, scope, -1)
    if task.files:
        repo = files_of(task).repo
        _look_after(view, Claims(repo))
        view.drop(view.gates.files_held.get(repo, {}), task.id)
        view.lanes.look(Claims(repo))


def count(view: PoolView, scope: str, change: int) -> None:
    """Take or give back places in a scope with a bound."""
    _look_after(view, scope)
    view.put(view.gates.taken, scope, view.gates.taken.get(scope, 0) + change)
    view.lanes.look(scope)


def _look_after(view: PoolView, gate: Hashable) -> None:
    """Let the undoing of what comes next end with another look at what stands behind."""
    view.undo(view.lanes.look, gate)


# Rates -------------------------------------------------------------------------------------------


def _spend(ledger: Ledger, scope: str, rule: Limit) -> None:
    """Note a start, and shut the gate if there is none left (GCRA, ITU-T I.371)."""
    gates, now = ledger.view.gates, ledger.now.wall
    assert rule.rate is not None
    known = gates.rates.get(scope)
    earned = now if known is None else min(max(now, known.earned_at), now + rule.per_ms)
    _write_rate(ledger, scope, WallTime(earned + round(rule.per_ms / rule.rate)))
    if len(gates.rates) > RATES_KEPT:
        _forget_earned(ledger)
    refresh(ledger, scope)


def _write_rate(ledger: Ledger, scope: str, earned_at: WallTime) -> None:
    view = ledger.view
    known = view.gates.rates.get(scope)
    version = 1 if known is None else known.version + 1
    usage = Usage(scope=scope, earned_at=earned_at, version=version)
    if known is None:
        usage = ledger.insert(Table.RATE, scope, usage)
    else:
        ledger.write(Table.RATE, scope, usage, known.version)
    view.put(view.gates.rates, scope, usage)


def _forget_earned(ledger: Ledger) -> None:
    view = ledger.view
    for usage in list(view.gates.rates.values()):
        if usage.earned_at <= ledger.now.wall:
            ledger.write(Table.RATE, usage.scope, None, usage.version)
            view.drop(view.gates.rates, usage.scope)


def refresh(ledger: Ledger, scope: str) -> None:
    """Shut or open the gate of a rate as the time has it, with a timer for the opening."""
    view, now = ledger.view, ledger.now.wall
    rule, usage = view.gates.rule_of(scope), view.gates.rates.get(scope)
    if rule is not None and usage is not None and usage.earned_at > now + 2 * rule.per_ms:
        _write_rate(ledger, scope, WallTime(now + rule.per_ms))  # the clock was set back
    at = view.gates.opens_at(scope)
    was = scope in view.gates.spent
    shut = at is not None and at > now
    if shut:
        assert at is not None
        ledger.effects.append(_timer(scope, at, ledger.now))
    elif was:
        ledger.effects.append(ClearTimer(f"gate/{scope}"))
    if shut == was:
        return
    _look_after(view, scope)
    if shut:
        view.put(view.gates.spent, scope, None)
    else:
        view.drop(view.gates.spent, scope)
    view.lanes.look(scope)


def _timer(scope: str, at: WallTime, now: Now) -> SetTimer:
    instant = Instant(now.instant + max(1, at - now.wall))
    return SetTimer(f"gate/{scope}", instant, GateDue(scope))


# Rules -------------------------------------------------------------------------------------------


def set_rule(ledger: Ledger, rule: Limit) -> Limit:
    """Put a rule in the place of the one that its scope had, and return it."""
    view = ledger.view
    known = view.gates.rules.get(rule.scope)
    touched = _touched(ledger, rule.scope)
    if known is None:
        rule = ledger.insert(Table.RULE, rule.scope, rule)
    else:
        rule = msgspec.structs.replace(rule, version=known.version + 1)
        ledger.write(Table.RULE, rule.scope, rule, known.version)
    view.put(view.gates.rules, rule.scope, rule)
    _recount(ledger, rule.scope, touched)
    return rule


def drop_rule(ledger: Ledger, rule: Limit) -> None:
    """Take a rule away."""
    view = ledger.view
    touched = _touched(ledger, rule.scope)
    ledger.write(Table.RULE, rule.scope, None, rule.version)
    view.drop(view.gates.rules, rule.scope)
    _recount(ledger, rule.scope, touched)


def _touched(ledger: Ledger, changed: str) -> Sequence[Hashable]:
    """Return the gates that a rule is about, and let an undoing end with a look at them."""
    view = ledger.view
    touched = [gate for gate in view.lanes.gates() if _is_about(gate, changed)]
    for gate in touched:
        _look_after(view, gate)
    return touched


def _recount(ledger: Ledger, changed: str, touched: Sequence[Hashable]) -> None:
    view = ledger.view
    counts = count_taken(view)
    for scope in [s for s in {**view.gates.taken, **counts} if _is_about(s, changed)]:
        if scope in counts:
            view.put(view.gates.taken, scope, counts[scope])
        else:
            view.drop(view.gates.taken, scope)
    for scope in [s for s in view.gates.rates if _is_about(s, changed)]:
        refresh(ledger, scope)
    for gate in touched:
        view.lanes.look(gate)
    for agent in view.matcher.idle():
        ledger.ready(agent)


def _is_about(gate: Hashable, changed: str) -> bool:
    if not isinstance(gate, str):
        return False
    return gate == changed or limit.scope_rule(gate) == changed


def count_taken(view: PoolView) -> dict[str, int]:
    """Return how many attempts are under way in each scope that has a bound."""
    counts: dict[str, int] = {}
    for task in _held(view):
        for scope in scopes(task):
            if view.gates.is_bounded(scope):
                counts[scope] = counts.get(scope, 0) + 1
    return counts


def _held(view: PoolView) -> Iterator[Task]:
    return (task for machine in view.held_by for task in view.held_tasks(machine))


def load(view: PoolView, now: Now) -> Iterator[SetTimer]:
    """Count what the attempts under way hold, and yield the timers of rates; for a new view."""
    gates = view.gates
    gates.taken.update(count_taken(view))
    for task in _held(view):
        if task.files:
            files = files_of(task)
            gates.files_held.setdefault(files.repo, {})[task.id] = files
    for scope in gates.rates:
        at = gates.opens_at(scope)
        if at is not None and at > now.wall:
            gates.spent[scope] = None
            yield _timer(scope, at, now)
    for gate in view.lanes.gates():
        view.lanes.look(gate)
    view.lanes.fresh.clear()
