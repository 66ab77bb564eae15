"""What is told of an alert."""

from typing import Final

from agentcom.core.alerts import Tell
from agentcom.hub.notifications import News
from agentcom.model.alert import Alert, AlertRule
from agentcom.model.alert_rules import RULES
from agentcom.model.ids import utc
from agentcom.model.notify import Topic

_EVENTS: Final = {Tell.FIRED: "alert.fired", Tell.RESOLVED: "alert.resolved"}


def news_of(alert: Alert, tell: Tell, rule: AlertRule) -> News:
    """Return what those who take the alert are told."""
    definition = RULES[alert.rule]
    if tell is Tell.FIRED:
        title = f"{alert.severity.value}: {alert.said}"
        text = f"{alert.said}.\nSince: {utc(alert.since)}\nDo: {definition.todo}"
    else:
        assert alert.resolved_at is not None
        title = f"over: {alert.key}"
        text = f"It is over since {utc(alert.resolved_at)}. What was wrong: {alert.said}."
    return News(
        topic=Topic.ALERTS,
        event=_EVENTS[tell],
        title=title,
        text=text,
        about=alert.key,
        severity=alert.severity,
        project=alert.project,
        rule=alert.rule,
        to=rule.to,
        link=definition.link,
    )
