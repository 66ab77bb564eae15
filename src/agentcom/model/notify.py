"""Notifications: where to (`Destination`), what (`Notice`), and people in chats.

What is secret of a destination is in none of these: see `hub/notify_secrets.py`.
"""

from enum import StrEnum

import msgspec

from agentcom.model.alert import RuleName, Severity
from agentcom.model.ids import ProjectId, UserId, WallTime


class DestinationKind(StrEnum):
    """How a destination is reached."""

    EMAIL = "email"
    SLACK = "slack"
    DISCORD = "discord"
    TEAMS = "teams"
    WEBHOOK = "webhook"
    TELEGRAM = "telegram"


class Topic(StrEnum):
    """What somebody can be told of."""

    ALERTS = "alerts"
    ASKS = "asks"
    """Questions that a person has to answer."""
    APPROVALS = "approvals"
    """Tasks that wait for a person's yes."""
    TASKS = "tasks"
    """Tasks that have ended."""

    __hash__ = str.__hash__


class MailSecurity(StrEnum):
    """How a connection to a mail server is made safe."""

    STARTTLS = "starttls"
    TLS = "tls"
    NONE = "none"
    """In clear: only to addresses that the operator allowed."""


class MailSettings(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """How mail is sent to a destination."""

    host: str
    port: int
    sender: str
    to: tuple[str, ...]
    security: MailSecurity = MailSecurity.STARTTLS
    user: str = ""
    """Who logs in there; empty: nobody. The password is a secret."""


class Destination(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Somebody, or something, that is told."""

    name: str
    kind: DestinationKind
    shown: str
    """Where it is, without what is secret."""
    owner: UserId
    at: WallTime
    topics: tuple[Topic, ...] = (Topic.ALERTS,)
    severity: Severity = Severity.WARNING
    """Alerts below it are not for this one."""
    rules: tuple[RuleName, ...] = ()
    """Alerts of these only; empty: of all."""
    projects: tuple[ProjectId, ...] = ()
    """Empty: of all, and of the hub."""
    mail: MailSettings | None = None
    parked: str = ""
    """Why nothing is sent to it any more, until somebody lets it go on."""
    parked_at: WallTime | None = None
    failures: int = 0
    """Of the newest notice, in a row."""
    failed_at: WallTime | None = None
    problem: str = ""
    """What went wrong the last time."""
    next_at: WallTime | None = None
    """When it is tried again."""
    sent: int = 0
    sent_at: WallTime | None = None
    lost: int = 0
    """Notices that were dropped, since there were too many while it could not be reached."""
    version: int = 1

    def takes(
        self, topic: Topic, *, project: ProjectId | None, severity: Severity, rule: RuleName | None
    ) -> bool:
        """Return whether something is for this destination."""
        if topic not in self.topics:
            return False
        if self.projects and project not in self.projects:
            return False
        if topic is not Topic.ALERTS:
            return True
        return severity.rank >= self.severity.rank and (not self.rules or rule in self.rules)


class Notice(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """One thing to tell one destination. Its row goes when the destination has it."""

    id: str
    destination: str
    seq: int = 0
    """Its place among what waits there: ids follow the clock, which may be set back."""
    topic: Topic
    event: str
    """What happened, as in `alert.fired`."""
    at: WallTime
    title: str
    text: str
    about: str = ""
    """The alert, question or task."""
    severity: Severity = Severity.INFO
    project: ProjectId | None = None
    link: str = ""
    person: UserId | None = None
    """Whom it asks for something; in a chat only they get it, with buttons."""
    options: tuple[str, ...] = ()
    """Answers that they can give by a button."""
    ended: bool = False
    """True: what was asked is over, and what is shown of it is brought up to date."""
    version: int = 1

    @property
    def key(self) -> str:
        """The key of its row: in the order in which they are sent."""
        return f"{self.destination}/{str(self.seq).zfill(16)}"


class ChatLink(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A person's account in a chat, which they proved by a code."""

    destination: str
    account: str
    """The number of the account there."""
    chat: str
    """Where they are written to."""
    person: UserId
    project: ProjectId
    at: WallTime
    version: int = 1

    @property
    def key(self) -> str:
        """The key of its row."""
        return f"{self.destination}/{self.account}"


class ChatCard(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A message in a chat that shows a question, or something to approve."""

    destination: str
    chat: str
    message: str
    about: str
    """The question (`ask/ID`) or the task (`task/ID`)."""
    text: str
    at: WallTime
    version: int = 1

    @property
    def key(self) -> str:
        """The key of its row."""
        return f"{self.destination}/{self.chat}/{self.message}"
