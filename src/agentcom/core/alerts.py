"""How an alert moves: ok, pending, firing, resolved; and when somebody is told.

What is wrong now is a `Reading`; where it comes from: `core/alert_readings.py`. A silence, an
acknowledgement and the cool-down keep quiet, they change no state: whoever looks sees it fire.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from agentcom.model.alert import Alert, AlertRule, AlertState, RuleName
from agentcom.model.errors import Conflict
from agentcom.model.ids import ProjectId, WallTime

replace: Final = msgspec.structs.replace


class Seen(StrEnum):
    """What a look finds."""

    OVER = "over"
    """Over its threshold, but not for as long as the rule says."""
    LONG = "long"
    """Over its threshold for long enough."""
    FINE = "fine"


_OK, _PENDING = AlertState.OK, AlertState.PENDING
_FIRING, _RESOLVED = AlertState.FIRING, AlertState.RESOLVED

TRANSITIONS: Final[Mapping[tuple[AlertState, Seen], AlertState]] = MappingProxyType(
    {
        (_OK, Seen.OVER): _PENDING,
        (_OK, Seen.LONG): _FIRING,
        (_OK, Seen.FINE): _OK,
        (_PENDING, Seen.OVER): _PENDING,
        (_PENDING, Seen.LONG): _FIRING,
        (_PENDING, Seen.FINE): _OK,
        (_FIRING, Seen.OVER): _FIRING,  # the rule's `for` was made longer meanwhile
        (_FIRING, Seen.LONG): _FIRING,
        (_FIRING, Seen.FINE): _RESOLVED,
        (_RESOLVED, Seen.OVER): _PENDING,
        (_RESOLVED, Seen.LONG): _FIRING,
        (_RESOLVED, Seen.FINE): _RESOLVED,
    }
)


class Reading(NamedTuple):
    """Something over its threshold."""

    rule: RuleName
    value: float
    said: str
    subject: str = ""
    project: ProjectId | None = None


class Tell(StrEnum):
    """What those who want to know are told."""

    FIRED = "fired"
    RESOLVED = "resolved"


class Step(NamedTuple):
    """An alert after a look (None: there is none), and what is told of it."""

    alert: Alert | None
    tell: Tell | None = None


def step(
    alert: Alert | None,
    rule: AlertRule,
    reading: Reading | None,
    now: WallTime,
    *,
    quiet: bool = False,
) -> Step:
    """Return an alert after a look at its rule; `quiet`: somebody silenced it.

    `reading` is None if nothing is wrong, or the rule is off.
    """
    state = _OK if alert is None else alert.state
    after = TRANSITIONS[state, _seen(alert, rule, reading, now)]
    if after is _OK:
        return Step(None if alert is None else _settled(alert))
    if after is _PENDING:
        assert reading is not None
        return Step(_pending(alert, rule, reading, now))
    if after is _RESOLVED:
        assert alert is not None
        return _resolved(alert, now)
    if state is not _FIRING:
        assert reading is not None
        alert = _made(alert, rule, reading, now, _FIRING)
    assert alert is not None
    if quiet or alert.told or alert.acked_by is not None or _is_cooling(alert, rule, now):
        return Step(alert)
    return Step(replace(alert, told=True, told_at=now), Tell.FIRED)


def _resolved(alert: Alert, now: WallTime) -> Step:
    if alert.state is _RESOLVED:
        return Step(alert)
    after = replace(alert, state=_RESOLVED, resolved_at=now)
    return Step(after, Tell.RESOLVED if alert.told else None)


def acknowledged(alert: Alert, by: str, now: WallTime) -> Alert:
    """Return an alert that somebody looks after.

    Raises:
        Conflict: it does not fire.
    """
    if alert.state is not _FIRING:
        raise Conflict(f"this alert is {alert.state.value}: only one that fires is acknowledged")
    return alert if alert.acked_by is not None else replace(alert, acked_by=by, acked_at=now)


def _seen(alert: Alert | None, rule: AlertRule, reading: Reading | None, now: WallTime) -> Seen:
    if reading is None:
        return Seen.FINE
    return Seen.LONG if now - _since(alert, now) >= rule.for_ms else Seen.OVER


def _since(alert: Alert | None, now: WallTime) -> WallTime:
    """Return since when something is over its threshold; a clock set back moves that, too."""
    if alert is None or alert.state is _RESOLVED:
        return now
    return min(now, alert.pending_since or alert.since)


def _pending(alert: Alert | None, rule: AlertRule, reading: Reading, now: WallTime) -> Alert:
    if alert is not None and alert.fired_at is not None:
        since = _since(alert, now)
        return replace(alert, state=_PENDING, pending_since=since)
    if alert is not None and alert.since <= now:
        return alert
    return _made(None, rule, reading, now, _PENDING)


def _made(
    alert: Alert | None, rule: AlertRule, reading: Reading, now: WallTime, state: AlertState
) -> Alert:
    return Alert(
        rule=rule.name,
        subject=reading.subject,
        state=state,
        severity=rule.severity,
        value=reading.value,
        threshold=rule.threshold,
        said=reading.said,
        since=_since(alert, now),
        project=reading.project,
        pending_since=now if state is _PENDING else None,
        fired_at=None if state is _PENDING else now,
        told_at=None if alert is None else alert.told_at,
        version=1 if alert is None else alert.version,
    )


def _settled(alert: Alert) -> Alert | None:
    """Return what is left of an alert that is over before it fired: the firing before, if any."""
    if alert.fired_at is None:
        return None
    return replace(alert, state=_RESOLVED, pending_since=None)


def _is_cooling(alert: Alert, rule: AlertRule, now: WallTime) -> bool:
    # A clock that was set back must not keep it quiet for ever.
    return alert.told_at is not None and 0 <= now - alert.told_at < rule.cooldown_ms
