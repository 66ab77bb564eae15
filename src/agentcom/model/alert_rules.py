"""The rules of alerts: defaults, units, bounds, and the words that go with each.

A rule without a row in the store is as it stands here.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple

from agentcom.model.alert import AlertRule, RuleName, Severity
from agentcom.model.errors import InvalidInput

GUIDE: Final = "guides/alerts.md"
"""The page of the documentation that has a section for each rule."""
MINUTE_MS: Final = 60_000
HOUR_MS: Final = 3_600_000
FOR_MAX_MS: Final = 24 * HOUR_MS  # what may last for longer is watched by a threshold
COOLDOWN_MAX_MS: Final = 7 * 24 * HOUR_MS


class Unit(StrEnum):
    """What a threshold and a value count."""

    COUNT = "count"
    PERCENT = "percent"
    MS = "ms"


class Definition(NamedTuple):
    """What a rule is, whoever changes its numbers."""

    default: AlertRule
    unit: Unit
    lowest: float
    highest: float
    """Bounds of the threshold."""
    means: str
    todo: str
    """What to do about it, in one line."""
    below: bool = False
    """True: it is wrong to be at the threshold or below."""

    @property
    def link(self) -> str:
        """Where the documentation says more."""
        return f"{GUIDE}#{self.default.name.value.replace('_', '-')}"

    def breached(self, rule: AlertRule, value: float) -> bool:
        """Return whether a value is wrong."""
        return value <= rule.threshold if self.below else value >= rule.threshold


def check(rule: AlertRule) -> AlertRule:
    """Return a rule whose numbers are possible; raises `InvalidInput`."""
    definition = RULES[rule.name]
    lowest, highest = definition.lowest, definition.highest
    if not lowest <= rule.threshold <= highest:
        raise InvalidInput("threshold", f"from {lowest:g} to {highest:g} ({definition.unit})")
    if not 0 <= rule.for_ms <= FOR_MAX_MS:
        raise InvalidInput("for_ms", f"from 0 to {FOR_MAX_MS}")
    if not 0 <= rule.cooldown_ms <= COOLDOWN_MAX_MS:
        raise InvalidInput("cooldown_ms", f"from 0 to {COOLDOWN_MAX_MS}")
    return rule


def _rule(
    name: RuleName,
    unit: Unit,
    threshold: float,
    severity: Severity,
    bounds: tuple[float, float],
    *,
    means: str,
    todo: str,
    for_ms: int = 0,
    cooldown_ms: int = 30 * MINUTE_MS,
    below: bool = False,
) -> Definition:
    rule = AlertRule(
        name=name,
        threshold=threshold,
        for_ms=for_ms,
        cooldown_ms=cooldown_ms,
        severity=severity,
    )
    return Definition(rule, unit, *bounds, means, todo, below)


_INFO: Final = Severity.INFO
_WARNING: Final = Severity.WARNING
_CRITICAL: Final = Severity.CRITICAL
_TIMES: Final = (MINUTE_MS, 30 * 24 * HOUR_MS)
_MANY: Final = (1.0, 1_000_000.0)
_ONE: Final = (1.0, 1.0)
_SHARE: Final = (1.0, 100.0)

_ALL: Final = (
    _rule(
        RuleName.QUEUE_GROWING,
        Unit.COUNT,
        100,
        _WARNING,
        _MANY,
        for_ms=5 * MINUTE_MS,
        means="so many more tasks are queued than five minutes before",
        todo="add agents, or see what keeps them: agentcom agent ls, agentcom task why ID",
    ),
    _rule(
        RuleName.TASK_WAITING,
        Unit.MS,
        15 * MINUTE_MS,
        _WARNING,
        _TIMES,
        means="a task is the next of its kind for so long, though an agent for it is idle",
        todo="agentcom task why ID says what keeps it from each agent",
    ),
    _rule(
        RuleName.TASK_HELD,
        Unit.MS,
        HOUR_MS,
        _INFO,
        _TIMES,
        cooldown_ms=6 * HOUR_MS,
        means="a limit that is full keeps the next task behind it queued for so long",
        todo="raise it (agentcom limit set), or see what holds it: agentcom limit ls",
    ),
    _rule(
        RuleName.TASK_SILENT,
        Unit.MS,
        30 * MINUTE_MS,
        _WARNING,
        _TIMES,
        means="an attempt has told nothing new for so long",
        todo="agentcom task logs ID; then task tell, or task cancel and retry",
    ),
    _rule(
        RuleName.FAILURE_RATE,
        Unit.PERCENT,
        50,
        _CRITICAL,
        _SHARE,
        for_ms=MINUTE_MS,
        means="such a share of the tasks that ended within ten minutes failed (ten or more ended)",
        todo="agentcom task ls --state failed; look for one cause: a model, a base, a login",
    ),
    _rule(
        RuleName.UNSCHEDULABLE,
        Unit.MS,
        5 * MINUTE_MS,
        _WARNING,
        _TIMES,
        means="no connected agent can run a queued task for so long",
        todo="add an agent that has what the task needs, or submit it with other needs",
    ),
    _rule(
        RuleName.BUDGET_NEAR,
        Unit.PERCENT,
        80,
        _WARNING,
        _SHARE,
        cooldown_ms=6 * HOUR_MS,
        means="such a share of a budget is spent",
        todo="raise it (agentcom budget set), or let its tasks wait until it is renewed",
    ),
    _rule(
        RuleName.QUOTA_OUT,
        Unit.COUNT,
        1,
        _WARNING,
        _ONE,
        cooldown_ms=HOUR_MS,
        means="an account has no quota left at its provider",
        todo="wait for the reset that agentcom account ls names, or add another account",
    ),
    _rule(
        RuleName.DISK_LOW,
        Unit.PERCENT,
        10,
        _CRITICAL,
        _SHARE,
        for_ms=MINUTE_MS,
        below=True,
        means="only such a share of the disk that has the hub's data is free",
        todo="free some space: a full disk refuses new tasks",
    ),
    _rule(
        RuleName.BACKUP_STALE,
        Unit.MS,
        48 * HOUR_MS,
        _CRITICAL,
        (MINUTE_MS, 366 * 24 * HOUR_MS),
        cooldown_ms=24 * HOUR_MS,
        means="the newest copy of the hub's data is so old",
        todo="agentcom backup now; then see why none was made: the hub's log has it",
    ),
    _rule(
        RuleName.BACKUP_FAILED,
        Unit.COUNT,
        1,
        _CRITICAL,
        _MANY,
        cooldown_ms=12 * HOUR_MS,
        means="so many copies or drills by the clock failed in a row",
        todo="do what the reason says, then: agentcom backup now",
    ),
    _rule(
        RuleName.CLOCK_STEP,
        Unit.MS,
        5_000,
        _WARNING,
        (1_000, 366 * 24 * HOUR_MS),
        means="the hub's wall clock was set by so much within the last ten minutes",
        todo="let a time service keep it (chrony, systemd-timesyncd); leases do not depend on it",
    ),
    _rule(
        RuleName.MACHINE_FLAPPING,
        Unit.COUNT,
        5,
        _WARNING,
        _MANY,
        means="a machine began so many sessions within ten minutes",
        todo="see its network and its log; two sidecars with one identity do this, too",
    ),
    _rule(
        RuleName.HUB_OVERLOADED,
        Unit.MS,
        1_000,
        _CRITICAL,
        (100, HOUR_MS),
        for_ms=30_000,
        means="the hub does what is due so late, at each look",
        todo="give it more processor, or less to do: agentcom status shows what waits",
    ),
    _rule(
        RuleName.AGENT_QUARANTINED,
        Unit.COUNT,
        1,
        _WARNING,
        _ONE,
        means="an agent gets no work, since it failed again and again",
        todo="agentcom agent doctor NAME; then agentcom agent resume NAME",
    ),
    _rule(
        RuleName.ASK_UNANSWERED,
        Unit.MS,
        30 * MINUTE_MS,
        _INFO,
        _TIMES,
        cooldown_ms=4 * HOUR_MS,
        means="a question is open for so long",
        todo="agentcom ask ls, then agentcom ask answer ID TEXT",
    ),
)

RULES: Final[Mapping[RuleName, Definition]] = MappingProxyType(
    {one.default.name: one for one in _ALL}
)
