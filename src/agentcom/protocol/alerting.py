"""What is asked and answered over HTTP about alerts, destinations and chats."""

from typing import Annotated

import msgspec

from agentcom.model.alert import Alert, AlertRule, RuleName, Severity, Silence
from agentcom.model.alert_rules import Unit
from agentcom.model.ids import NAME_PATTERN, ProjectId
from agentcom.model.limits import REASON_CHARS, SILENCE_MAX_MS
from agentcom.model.notify import Destination, DestinationKind, MailSettings, Topic

Name = Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)]
Text = Annotated[str, msgspec.Meta(max_length=REASON_CHARS)]
Secret = Annotated[str, msgspec.Meta(max_length=2_000)]


class AlertsAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which alerts to show."""

    all: bool = False
    """Those that are pending or over, too."""


class AckAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which alert somebody looks after: RULE or RULE/SUBJECT."""

    alert: Annotated[str, msgspec.Meta(min_length=1, max_length=400)]


class SilenceAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to keep quiet, for how long, and why."""

    rule: RuleName
    subject: Annotated[str, msgspec.Meta(max_length=300)] = ""
    ms: Annotated[int, msgspec.Meta(ge=1, le=SILENCE_MAX_MS)]
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=REASON_CHARS)]


class RuleAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change of a rule; what is not said stays."""

    name: RuleName
    threshold: float | None = None
    for_ms: int | None = None
    cooldown_ms: int | None = None
    severity: Severity | None = None
    to: Annotated[tuple[Name, ...], msgspec.Meta(max_length=50)] | None = None
    enabled: bool | None = None


class DestinationAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A destination to add, with its secrets, which are never shown again."""

    name: Name
    kind: DestinationKind
    url: Secret = ""
    """Of chats and webhooks; of a bot only if it has a server of its own."""
    token: Secret = ""
    """Of a bot."""
    password: Secret = ""
    """Of a mail server."""
    mail: MailSettings | None = None
    topics: Annotated[tuple[Topic, ...], msgspec.Meta(min_length=1, max_length=4)] = (Topic.ALERTS,)
    severity: Severity = Severity.WARNING
    rules: Annotated[tuple[RuleName, ...], msgspec.Meta(max_length=20)] = ()
    projects: Annotated[tuple[ProjectId, ...], msgspec.Meta(max_length=50)] = ()


class AlertShown(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An alert, with what to do about it."""

    alert: Alert
    id: str
    """By what it is named: RULE or RULE/SUBJECT."""
    now: str = ""
    """What is wrong at the newest look."""
    value: float | None = None
    """At the newest look; None: nothing is wrong there."""
    unit: Unit
    todo: str
    link: str
    silenced: bool = False


class AlertList(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Alerts, the worst first, and what is kept quiet."""

    alerts: tuple[AlertShown, ...]
    silences: tuple[Silence, ...] = ()


class RuleShown(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A rule as it is, and what it is."""

    rule: AlertRule
    unit: Unit
    means: str
    todo: str
    link: str
    changed: bool = False
    """Whether it differs from its default."""
    below: bool = False
    """True: it is wrong to be at the threshold or below it."""


class RuleList(msgspec.Struct, frozen=True, kw_only=True):
    """All rules."""

    rules: tuple[RuleShown, ...]


class DestinationShown(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A destination, and what waits for it."""

    destination: Destination
    waiting: int
    people: tuple[str, ...] = ()
    """Whose accounts are linked there."""


class DestinationList(msgspec.Struct, frozen=True, kw_only=True):
    """All destinations, by name."""

    destinations: tuple[DestinationShown, ...]


class DestinationAdded(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A new destination; `key` is shown this once."""

    destination: Destination
    key: str = ""
    """Of a webhook: by which its receiver checks signatures."""


class ChatCode(msgspec.Struct, frozen=True, kw_only=True):
    """A code that links an account; it works once, and for some minutes."""

    code: str
    ms: int
