"""Alerts: what is watched (`AlertRule`), is wrong (`Alert`), and is kept quiet (`Silence`).

The rules that there are, with their defaults and words: `model/alert_rules.py`. How an alert moves:
`core/alerts.py`.
"""

from enum import StrEnum

import msgspec

from agentcom.model.ids import ProjectId, WallTime


class Severity(StrEnum):
    """How much an alert matters."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """A number that grows with it."""
        return list(Severity).index(self)


class AlertState(StrEnum):
    """Where an alert stands."""

    OK = "ok"
    """Nothing is wrong, and nothing was: such an alert has no row."""
    PENDING = "pending"
    """Something is over its threshold, but not for long enough."""
    FIRING = "firing"
    RESOLVED = "resolved"


class RuleName(StrEnum):
    """Everything that is watched."""

    QUEUE_GROWING = "queue_growing"
    TASK_WAITING = "task_waiting"
    TASK_HELD = "task_held"
    TASK_SILENT = "task_silent"
    FAILURE_RATE = "failure_rate"
    UNSCHEDULABLE = "unschedulable"
    BUDGET_NEAR = "budget_near"
    QUOTA_OUT = "quota_out"
    DISK_LOW = "disk_low"
    BACKUP_STALE = "backup_stale"
    BACKUP_FAILED = "backup_failed"
    CLOCK_STEP = "clock_step"
    MACHINE_FLAPPING = "machine_flapping"
    HUB_OVERLOADED = "hub_overloaded"
    AGENT_QUARANTINED = "agent_quarantined"
    ASK_UNANSWERED = "ask_unanswered"

    __hash__ = str.__hash__


class AlertRule(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """When a rule fires, and who hears of it; stored only if it differs from the default."""

    name: RuleName
    threshold: float
    """In the rule's unit; reached counts as over."""
    for_ms: int
    """It fires when it was over the threshold for so long, at each look."""
    cooldown_ms: int
    """After it has told somebody, it tells nobody again for so long."""
    severity: Severity
    to: tuple[str, ...] = ()
    """Destinations; empty: those that take alerts of its severity, rule and project."""
    enabled: bool = True
    version: int = 1


class Alert(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Something that is wrong, or was."""

    rule: RuleName
    subject: str = ""
    """Which machine, agent, budget or need, where a rule watches many."""
    state: AlertState
    severity: Severity
    value: float
    """In the rule's unit, as it was when the alert began or fired."""
    threshold: float
    said: str
    """What is wrong, in words."""
    since: WallTime
    """Since when it is over its threshold, or was when it fired the last time."""
    pending_since: WallTime | None = None
    """Since when it is over again, while it is pending; what it says is then of the time before."""
    project: ProjectId | None = None
    """None: it is about the whole hub."""
    fired_at: WallTime | None = None
    resolved_at: WallTime | None = None
    told_at: WallTime | None = None
    """When somebody was told the last time that it fires."""
    told: bool = False
    """Whether somebody was told of this firing."""
    acked_by: str | None = None
    acked_at: WallTime | None = None
    version: int = 1

    @property
    def key(self) -> str:
        """The key of its row."""
        return alert_key(self.rule, self.subject)


class Silence(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Alerts that nobody is told of for a while; they are shown all the same."""

    id: str
    rule: RuleName
    subject: str = ""
    """Empty: all subjects of the rule."""
    until: WallTime
    reason: str
    by: str
    at: WallTime
    version: int = 1

    def covers(self, rule: RuleName, subject: str, now: WallTime) -> bool:
        """Return whether an alert is kept quiet now."""
        return self.rule is rule and self.subject in ("", subject) and now < self.until


def alert_key(rule: RuleName, subject: str) -> str:
    """Return the key of an alert's row, which is also how people name it."""
    return f"{rule.value}/{subject}" if subject else rule.value
