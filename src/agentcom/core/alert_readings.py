"""What is wrong now, read from figures that a hub keeps anyway.

No look goes over all tasks: it sees the head of each shape's queue, the attempts under way, and
rows of agents, machines, accounts, budgets and open questions. Each figure is made here from what
is counted, so that none can be negative, and a share is of what it is a share of.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from agentcom.core.alerts import Reading
from agentcom.core.purse import named
from agentcom.core.view import PoolView
from agentcom.model import budget as amounts
from agentcom.model.alert import AlertRule, RuleName
from agentcom.model.alert_rules import RULES
from agentcom.model.budget import Period, ScopeBudget
from agentcom.model.ids import MachineId, Now, TaskId, WallTime, utc
from agentcom.model.usage import day_of

WINDOW_MS: Final = 600_000
"""What is counted over time is counted over so long."""
GROWTH_MS: Final = 300_000
"""A queue is compared with what it was so long ago."""
ENDED_MIN: Final = 10
"""A share of fewer tasks says nothing."""
SUBJECTS_MAX: Final = 50
"""Alerts of one rule; what is beyond them is named in the last one."""
_SECOND_MS: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Backups:
    """How the copies of the hub's data are."""

    newest_at: WallTime
    """Of the newest copy; without one, when this hub began to run."""
    failed: int
    """Failures in a row by the clock."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a hub knows beside its view; None: not known, or not yet."""

    depth_before: int | None = None
    """How many tasks were queued `GROWTH_MS` ago."""
    completed: int = 0
    failed: int = 0
    """Tasks that ended within `WINDOW_MS`, or since the start."""
    window_full: bool = False
    """Whether the hub runs for as long as the windows are."""
    quiet_since: Mapping[TaskId, WallTime] = field(default_factory=dict)
    """Since when attempts under way have told nothing new, as far as this hub saw."""
    sessions_before: Mapping[MachineId, int] = field(default_factory=dict)
    """Numbers of machines' sessions at the beginning of the window."""
    disk_free: int | None = None
    disk_size: int | None = None
    backups: Backups | None = None
    step_ms: int = 0
    """By how much the wall clock was set within the window, the largest step."""
    late_ms: int = 0
    """How late this look is."""
    backlog: int = 0


Rules = Mapping[RuleName, AlertRule]
_Reader = Callable[[PoolView, Figures, AlertRule, Now], Iterator[Reading]]


def look(view: PoolView, figures: Figures, rules: Rules, now: Now) -> list[Reading]:
    """Return all that is over the threshold of a rule that is on."""
    found: list[Reading] = []
    for name, read in _READERS.items():
        rule = rules[name]
        if rule.enabled:
            breached = RULES[name].breached
            readings = read(view, figures, rule, now)
            found += _bounded([one for one in readings if breached(rule, one.value)])
    return found


def is_known(name: RuleName, rule: AlertRule, figures: Figures, uptime_ms: int) -> bool:
    """Return whether it means something that a rule finds nothing wrong.

    A hub that has just started has seen too little to say that an alert is over.
    """
    if name in (RuleName.QUEUE_GROWING, RuleName.FAILURE_RATE):
        return figures.window_full
    if name in (RuleName.MACHINE_FLAPPING, RuleName.CLOCK_STEP):
        return figures.window_full
    if name in (RuleName.TASK_SILENT, RuleName.TASK_WAITING, RuleName.UNSCHEDULABLE):
        return uptime_ms >= rule.threshold
    if name in (RuleName.BACKUP_STALE, RuleName.BACKUP_FAILED):
        return figures.backups is not None
    return name is not RuleName.DISK_LOW or bool(figures.disk_size)


def duration(ms: float) -> str:
    """Return a time as people say it."""
    seconds = max(0, int(ms)) // _SECOND_MS
    for size, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {name}"
    return f"{seconds} s"


def share(part: int, whole: int) -> float:
    """Return a part in percent of the whole, which it cannot be more than."""
    assert 0 <= part <= whole, f"{part} of {whole} is no share"
    return 100.0 * part / whole if whole else 0.0


def _bounded(readings: list[Reading]) -> list[Reading]:
    """Return some of many readings of one rule; the last one says how many there are."""
    if len(readings) <= SUBJECTS_MAX:
        return readings
    readings.sort(key=lambda one: -one.value)
    rest = readings[SUBJECTS_MAX - 1 :]
    more = rest[0]._replace(subject="more", said=f"{len(rest)} more, such as: {rest[0].said}")
    return [*readings[: SUBJECTS_MAX - 1], more]


def _age(at: int, now: Now) -> int:
    """Return how old something is; what seems to come from the future is new."""
    return max(0, now.wall - at)


def _queue_growing(
    view: PoolView, figures: Figures, rule: AlertRule, _now: Now
) -> Iterator[Reading]:
    depth, before = view.depth(), figures.depth_before
    if before is not None and depth > before:
        words = f"{depth} tasks are queued, {depth - before} more than {duration(GROWTH_MS)} ago"
        yield Reading(rule.name, depth - before, words)


def _online(view: PoolView) -> int:
    """Return the classes that have a connected agent: bit n stands for class n."""
    bits = 0
    for agent in view.agents.values():
        session = view.sessions.get(agent.machine)
        if session is not None and session.connection is not None and not agent.absent:
            bits |= 1 << view.class_of[agent.id]
    return bits


def _waiting(view: PoolView, now: Now, fits: Callable[[int], bool]) -> Iterator[tuple[TaskId, int]]:
    """Yield heads of queues, and how long each waits, where the classes that can run it fit."""
    for *_, task_id, shape in view.matcher.heads():
        task = view.tasks.get(task_id)
        if task is not None and fits(view.shapes.compatible_classes(shape)):
            yield task_id, _age(task.changed_at, now)


def _task_waiting(
    view: PoolView, _figures: Figures, rule: AlertRule, now: Now
) -> Iterator[Reading]:
    idle = view.matcher.idle_bits
    found = dict(_waiting(view, now, lambda classes: bool(classes & idle)))
    found = {task: waited for task, waited in found.items() if waited >= rule.threshold}
    if found:
        first = max(found, key=found.__getitem__)
        words = f"task {first} waits for {duration(found[first])}, though an agent for it is idle"
        yield Reading(rule.name, found[first], _and_more(words, len(found)))


def _unschedulable(
    view: PoolView, _figures: Figures, rule: AlertRule, now: Now
) -> Iterator[Reading]:
    online = _online(view)
    for task_id, waited in _waiting(view, now, lambda classes: not classes & online):
        task = view.tasks[task_id]
        needs = ", ".join(task.needs) or "nothing special"
        words = f"for {duration(waited)} no connected agent can run task {task_id}: needs {needs}"
        yield Reading(rule.name, waited, words, subject=needs[:200])


def _task_held(view: PoolView, _figures: Figures, rule: AlertRule, now: Now) -> Iterator[Reading]:
    """Only limits: what is paused is so on purpose, and budgets have an alert of their own."""
    first: dict[str, tuple[int, TaskId]] = {}
    for task, gate in view.lanes.shut():
        if isinstance(gate, str):
            held = (_age(view.tasks[task].changed_at, now), task)
            first[gate] = max(held, first.get(gate, held))
    for scope, (waited, task) in first.items():
        blocker = view.gates.blocker(scope)
        if blocker is not None:
            words = f"task {task} waits for {duration(waited)}: {blocker[0]}"
            yield Reading(rule.name, waited, words, subject=scope[:200])


def _task_silent(view: PoolView, figures: Figures, rule: AlertRule, now: Now) -> Iterator[Reading]:
    found = {task: _age(at, now) for task, at in figures.quiet_since.items() if task in view.tasks}
    found = {task: age for task, age in found.items() if age >= rule.threshold}
    if found:
        first = max(found, key=found.__getitem__)
        agent = view.tasks[first].agent
        words = f"task {first} on {agent} has told nothing new for {duration(found[first])}"
        yield Reading(rule.name, found[first], _and_more(words, len(found)))


def _and_more(words: str, count: int) -> str:
    return words if count == 1 else f"{words}; and {count - 1} more"


def _failure_rate(
    _view: PoolView, figures: Figures, rule: AlertRule, _now: Now
) -> Iterator[Reading]:
    ended = figures.completed + figures.failed
    if ended >= ENDED_MIN:
        words = f"{figures.failed} of {ended} tasks failed within {duration(WINDOW_MS)}"
        yield Reading(rule.name, share(figures.failed, ended), words)


def _budget_near(view: PoolView, _figures: Figures, rule: AlertRule, now: Now) -> Iterator[Reading]:
    for budget in view.purse.budgets.values():
        percent, words = _spent(budget, now)
        yield Reading(
            rule.name,
            percent,
            f"the budget of {named(budget)} is {percent:.0f} % spent: {words}",
            subject=f"{budget.project}/{budget.scope}/{budget.period.value}",
            project=budget.project,
        )


def _spent(budget: ScopeBudget, now: Now) -> tuple[float, str]:
    """Return how much of the amount that is nearest to its limit is spent, and in words."""
    if budget.period is Period.DAY and budget.day != day_of(now.wall):
        return 0.0, "nothing today"
    found = []
    for name in amounts.AMOUNTS:
        limit, used = getattr(budget.limits, name), getattr(budget.spent, name)
        if limit is not None:
            found.append((100.0 * used / limit, amounts.words(name, used, limit)))
    return max(found, default=(0.0, ""))


def _quota_out(view: PoolView, _figures: Figures, rule: AlertRule, _now: Now) -> Iterator[Reading]:
    for account in view.accounts.values():
        until = account.parked_until
        when = "it is being tried again" if until is None else f"until {utc(until)}"
        words = f"account {account.id} has no quota left; {when}"
        yield Reading(rule.name, 1, words, subject=account.id)


def _disk_low(_view: PoolView, figures: Figures, rule: AlertRule, _now: Now) -> Iterator[Reading]:
    free, size = figures.disk_free, figures.disk_size
    if free is not None and size:
        percent = share(min(free, size), size)
        words = f"{percent:.1f} % of the disk with the hub's data is free: {free >> 20:,} MiB"
        yield Reading(rule.name, percent, words)


def _backup_stale(
    _view: PoolView, figures: Figures, rule: AlertRule, now: Now
) -> Iterator[Reading]:
    if figures.backups is not None:
        age = _age(figures.backups.newest_at, now)
        yield Reading(rule.name, age, f"no copy of the hub's data for {duration(age)}")


def _backup_failed(
    _view: PoolView, figures: Figures, rule: AlertRule, _now: Now
) -> Iterator[Reading]:
    backups = figures.backups
    if backups is not None and backups.failed:
        yield Reading(rule.name, backups.failed, f"the newest copy failed: {backups.reason}")


def _clock_step(_view: PoolView, figures: Figures, rule: AlertRule, _now: Now) -> Iterator[Reading]:
    if figures.step_ms:
        words = f"the wall clock was set by {figures.step_ms / _SECOND_MS:+.1f} s"
        yield Reading(rule.name, abs(figures.step_ms), words)


def _machine_flapping(
    view: PoolView, figures: Figures, rule: AlertRule, _now: Now
) -> Iterator[Reading]:
    for machine in view.machines.values():
        before = figures.sessions_before.get(machine.id)
        if before is not None and machine.session > before and not machine.removed:
            times = machine.session - before
            words = f"machine {machine.name} began {times} sessions within {duration(WINDOW_MS)}"
            yield Reading(rule.name, times, words, subject=machine.name)


def _hub_overloaded(
    _view: PoolView, figures: Figures, rule: AlertRule, _now: Now
) -> Iterator[Reading]:
    words = f"the hub is {duration(figures.late_ms)} late, and {figures.backlog} facts wait"
    yield Reading(rule.name, max(0, figures.late_ms), words)


def _agent_quarantined(
    view: PoolView, _figures: Figures, rule: AlertRule, _now: Now
) -> Iterator[Reading]:
    for agent in view.agents.values():
        if agent.quarantined is not None:
            words = f"agent {agent.id} gets no work: {agent.quarantined}"
            yield Reading(rule.name, 1, words, subject=agent.id, project=agent.project)


def _ask_unanswered(
    view: PoolView, _figures: Figures, rule: AlertRule, now: Now
) -> Iterator[Reading]:
    old = [ask for ask in view.asks.values() if _age(ask.at, now) >= rule.threshold]
    if old:
        first = min(old, key=lambda ask: ask.at)
        age = _age(first.at, now)
        words = f"question {first.id} of {first.asker} is open for {duration(age)}"
        yield Reading(rule.name, age, _and_more(words, len(old)))


_READERS: Final[Mapping[RuleName, _Reader]] = {
    RuleName.QUEUE_GROWING: _queue_growing,
    RuleName.TASK_WAITING: _task_waiting,
    RuleName.TASK_HELD: _task_held,
    RuleName.TASK_SILENT: _task_silent,
    RuleName.FAILURE_RATE: _failure_rate,
    RuleName.UNSCHEDULABLE: _unschedulable,
    RuleName.BUDGET_NEAR: _budget_near,
    RuleName.QUOTA_OUT: _quota_out,
    RuleName.DISK_LOW: _disk_low,
    RuleName.BACKUP_STALE: _backup_stale,
    RuleName.BACKUP_FAILED: _backup_failed,
    RuleName.CLOCK_STEP: _clock_step,
    RuleName.MACHINE_FLAPPING: _machine_flapping,
    RuleName.HUB_OVERLOADED: _hub_overloaded,
    RuleName.AGENT_QUARANTINED: _agent_quarantined,
    RuleName.ASK_UNANSWERED: _ask_unanswered,
}
