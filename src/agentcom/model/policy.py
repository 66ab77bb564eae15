"""Who may do what: the one table that every door asks, and the only place that grants anything.

A role reaches an action not at all, for what its user owns, or for everything in its project.
What stands in no row is refused. A token can be confined to scopes, which take from its role and
never add; what all projects share is reached from the hub's own project only. Foreign things
answer `NotFound`, so that nobody learns by asking what exists.
"""

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Final

from agentcom.model.errors import Foreign, NotAllowed
from agentcom.model.identity import Identity, Role, Scope
from agentcom.model.ids import DEFAULT_PROJECT, ProjectId, UserId, check_name


class Action(StrEnum):
    """Every operation of every door."""

    TASK_SUBMIT = "task:submit"
    TASK_READ = "task:read"
    TASK_CANCEL = "task:cancel"
    TASK_RETRY = "task:retry"
    TASK_ADOPT = "task:adopt"
    TASK_APPROVE = "task:approve"
    AGENT_READ = "agent:read"
    AGENT_PAUSE = "agent:pause"
    LIMIT_READ = "limit:read"
    LIMIT_SET = "limit:set"
    MACHINE_READ = "machine:read"
    MACHINE_INVITE = "machine:invite"
    MACHINE_DRAIN = "machine:drain"
    MACHINE_REMOVE = "machine:remove"
    MACHINE_SESSION = "machine:session"
    """Open a machine's session and report on its own attempts."""
    SCHEDULE_READ = "schedule:read"
    SCHEDULE_CREATE = "schedule:create"
    SCHEDULE_CHANGE = "schedule:change"
    """Pause, resume, run or remove one."""
    USER_READ = "user:read"
    USER_INVITE = "user:invite"
    USER_REMOVE = "user:remove"
    CREDENTIAL_READ = "token:read"
    CREDENTIAL_CREATE = "token:create"
    CREDENTIAL_ROTATE = "token:rotate"
    CREDENTIAL_ROTATE_SELF = "token:rotate:self"
    """Replace the very token that asks."""
    CREDENTIAL_REVOKE = "token:revoke"
    EVENTS_READ = "events:read"
    HUB_READ = "hub:read"
    HUB_MANAGE = "hub:manage"
    METRICS_READ = "metrics:read"
    COST_READ = "cost:read"
    BUDGET_SET = "budget:set"
    TASK_EDIT = "task:edit"
    TASK_PAUSE = "task:pause"
    PROJECT_PAUSE = "project:pause"
    POOL_PAUSE = "pool:pause"
    """Also everything: what others than one project wait for."""
    MESSAGE_SEND = "message:send"
    MESSAGE_READ = "message:read"
    """One's own mailbox, and what one sent; never another's."""
    CHANNEL_READ = "channel:read"
    CHANNEL_POST = "channel:post"
    CHANNEL_CREATE = "channel:create"
    CHANNEL_MANAGE = "channel:manage"
    """What its owner may; of others' channels with reach ANY."""
    NOTE_READ = "note:read"
    NOTE_WRITE = "note:write"
    LOCK_READ = "lock:read"
    LOCK_ACQUIRE = "lock:acquire"
    LOCK_BREAK = "lock:break"
    ASK_PUT = "ask:put"
    ASK_READ = "ask:read"
    ASK_ANSWER = "ask:answer"
    """Questions to oneself, and of one's own tasks; with reach ANY all of the project."""
    AUDIT_READ = "audit:read"

    ALERT_READ = "alert:read"
    ALERT_STEER = "alert:steer"
    """Acknowledge and silence alerts, and change their rules."""
    NOTIFY_READ = "notify:read"
    NOTIFY_MANAGE = "notify:manage"
    """Add, change and remove destinations."""
    CHAT_LINK = "chat:link"
    """Link one's own account in a chat."""

    __hash__ = str.__hash__  # Enum's own is Python code, and every request looks its action up


class Reach(IntEnum):
    """How far a role's right to an action goes."""

    NONE = 0
    OWN = 1
    ANY = 2


_READ: Final = {
    Action.TASK_READ: Reach.ANY,
    Action.AGENT_READ: Reach.ANY,
    Action.LIMIT_READ: Reach.ANY,
    Action.MACHINE_READ: Reach.ANY,
    Action.SCHEDULE_READ: Reach.ANY,
    Action.EVENTS_READ: Reach.ANY,
    Action.HUB_READ: Reach.ANY,
    Action.METRICS_READ: Reach.ANY,
    Action.COST_READ: Reach.ANY,
    Action.MESSAGE_READ: Reach.OWN,
    Action.CHANNEL_READ: Reach.ANY,
    Action.NOTE_READ: Reach.ANY,
    Action.LOCK_READ: Reach.ANY,
    Action.ASK_READ: Reach.OWN,
    Action.ALERT_READ: Reach.ANY,
}
_TALK: Final = {
    Action.MESSAGE_SEND: Reach.ANY,
    Action.CHANNEL_POST: Reach.ANY,
    Action.CHANNEL_CREATE: Reach.ANY,
    Action.CHANNEL_MANAGE: Reach.OWN,
    Action.NOTE_WRITE: Reach.ANY,
    Action.LOCK_ACQUIRE: Reach.ANY,
    Action.ASK_PUT: Reach.ANY,
    Action.ASK_ANSWER: Reach.OWN,
}
_OWN_TOKENS: Final = {
    Action.CREDENTIAL_READ: Reach.OWN,
    Action.CREDENTIAL_CREATE: Reach.OWN,
    Action.CREDENTIAL_ROTATE: Reach.OWN,
    Action.CREDENTIAL_ROTATE_SELF: Reach.ANY,
    Action.CREDENTIAL_REVOKE: Reach.OWN,
}
_SUBMIT: Final = {
    Action.TASK_SUBMIT: Reach.ANY,
    Action.TASK_CANCEL: Reach.OWN,
    Action.TASK_RETRY: Reach.OWN,
    Action.TASK_APPROVE: Reach.OWN,
    Action.COST_READ: Reach.OWN,
    Action.TASK_EDIT: Reach.OWN,
    Action.TASK_PAUSE: Reach.OWN,
    Action.SCHEDULE_CREATE: Reach.ANY,
    Action.SCHEDULE_CHANGE: Reach.OWN,
    Action.CHAT_LINK: Reach.OWN,
    **_TALK,
}
_OPERATE: Final = {
    Action.TASK_CANCEL: Reach.ANY,
    Action.TASK_RETRY: Reach.ANY,
    Action.TASK_ADOPT: Reach.ANY,
    Action.TASK_APPROVE: Reach.ANY,
    Action.TASK_EDIT: Reach.ANY,
    Action.TASK_PAUSE: Reach.ANY,
    Action.PROJECT_PAUSE: Reach.ANY,
    Action.SCHEDULE_CHANGE: Reach.ANY,
    Action.AGENT_PAUSE: Reach.ANY,
    Action.LIMIT_SET: Reach.ANY,
    Action.MACHINE_INVITE: Reach.ANY,
    Action.MACHINE_DRAIN: Reach.ANY,
    Action.MACHINE_REMOVE: Reach.ANY,
    Action.USER_READ: Reach.ANY,
    Action.COST_READ: Reach.ANY,
    Action.BUDGET_SET: Reach.ANY,
    Action.CHANNEL_MANAGE: Reach.ANY,
    Action.LOCK_BREAK: Reach.ANY,
    Action.ASK_READ: Reach.ANY,
    Action.ASK_ANSWER: Reach.ANY,
    Action.ALERT_STEER: Reach.ANY,
    Action.NOTIFY_READ: Reach.ANY,
}
_ADMINISTER: Final = {
    Action.USER_INVITE: Reach.ANY,
    Action.USER_REMOVE: Reach.ANY,
    Action.CREDENTIAL_READ: Reach.ANY,
    Action.CREDENTIAL_CREATE: Reach.ANY,
    Action.CREDENTIAL_ROTATE: Reach.ANY,
    Action.CREDENTIAL_REVOKE: Reach.ANY,
    Action.HUB_MANAGE: Reach.ANY,
    Action.NOTIFY_MANAGE: Reach.ANY,
    Action.POOL_PAUSE: Reach.ANY,
    Action.AUDIT_READ: Reach.ANY,
}
TABLE: Final[Mapping[Role, Mapping[Action, Reach]]] = MappingProxyType(
    {
        Role.VIEWER: MappingProxyType(_READ | _OWN_TOKENS),
        Role.SUBMITTER: MappingProxyType(_READ | _OWN_TOKENS | _SUBMIT),
        Role.OPERATOR: MappingProxyType(_READ | _OWN_TOKENS | _SUBMIT | _OPERATE),
        Role.ADMIN: MappingProxyType(_READ | _OWN_TOKENS | _SUBMIT | _OPERATE | _ADMINISTER),
        Role.AGENT: MappingProxyType(
            {
                Action.MACHINE_SESSION: Reach.ANY,
                Action.CREDENTIAL_ROTATE_SELF: Reach.ANY,
                Action.AGENT_READ: Reach.ANY,
                Action.TASK_READ: Reach.ANY,
                Action.MESSAGE_READ: Reach.OWN,
                Action.CHANNEL_READ: Reach.ANY,
                Action.NOTE_READ: Reach.ANY,
                Action.LOCK_READ: Reach.ANY,
                Action.ASK_READ: Reach.OWN,
                **_TALK,
            }
        ),
    }
)

SHARED: Final = frozenset(
    {
        Action.LIMIT_READ,
        Action.LIMIT_SET,
        Action.HUB_READ,
        Action.HUB_MANAGE,
        Action.METRICS_READ,
        Action.POOL_PAUSE,
        Action.ALERT_STEER,
        Action.NOTIFY_READ,
        Action.NOTIFY_MANAGE,
        Action.AUDIT_READ,
    }
)
"""What is of no project but of the hub: only for tokens of the project that every hub has."""
GRANTING: Final = frozenset(
    {
        Action.USER_INVITE,
        Action.USER_REMOVE,
        Action.MACHINE_INVITE,
        Action.CREDENTIAL_CREATE,
        Action.CREDENTIAL_ROTATE,
        Action.CHAT_LINK,
    }
)
"""What lets others in, or keeps them in: never for a program's account, whatever its role."""
SCOPES: Final[Mapping[Scope, frozenset[Action]]] = MappingProxyType(
    {
        # Who reads mail or a channel moves what counts as read.
        Scope.READ: frozenset(_READ) - {Action.MESSAGE_READ, Action.CHANNEL_READ}
        | {Action.USER_READ, Action.CREDENTIAL_READ},
        Scope.SUBMIT: frozenset({Action.TASK_SUBMIT}),
        Scope.TALK: frozenset(_TALK)
        | {
            Action.MESSAGE_READ,
            Action.CHANNEL_READ,
            Action.NOTE_READ,
            Action.LOCK_READ,
            Action.ASK_READ,
            Action.AGENT_READ,
        },
        Scope.METRICS: frozenset({Action.METRICS_READ, Action.HUB_READ}),
    }
)
_ALWAYS: Final = Action.CREDENTIAL_ROTATE_SELF
"""So that a confined token can be replaced by the program that has it."""

MISSING: Final = "there is no such thing, or not for this token"
"""What is said of foreign things and of those that are not there: nobody learns which."""
AUDITED: Final = frozenset(
    {
        Action.TASK_CANCEL,
        Action.TASK_ADOPT,
        Action.TASK_APPROVE,
        Action.TASK_PAUSE,
        Action.AGENT_PAUSE,
        Action.LIMIT_SET,
        Action.BUDGET_SET,
        Action.MACHINE_INVITE,
        Action.MACHINE_DRAIN,
        Action.MACHINE_REMOVE,
        Action.SCHEDULE_CREATE,
        Action.SCHEDULE_CHANGE,
        Action.USER_INVITE,
        Action.USER_REMOVE,
        Action.CREDENTIAL_CREATE,
        Action.CREDENTIAL_ROTATE,
        Action.CREDENTIAL_REVOKE,
        Action.HUB_MANAGE,
        Action.PROJECT_PAUSE,
        Action.POOL_PAUSE,
        Action.LOCK_BREAK,
        Action.ALERT_STEER,
        Action.NOTIFY_MANAGE,
        Action.CHAT_LINK,
        Action.AUDIT_READ,
    }
)
"""What the audit log records when it is done: changes of access, of machines, of what may run and
what it may cost, a person's word on work, and who takes the log itself out. Not: work that is
submitted or talked about, what is read, what agents report."""

_NONE: Final = Reach.NONE
_OWN: Final = Reach.OWN
_RANK: Final = (Role.VIEWER, Role.SUBMITTER, Role.OPERATOR, Role.ADMIN)


def reach(identity: Identity, action: Action) -> Reach:
    """Return how far someone's right to an action goes."""
    special = identity.scopes or identity.service or identity.project != DEFAULT_PROJECT
    if special and _is_barred(identity, action):
        return _NONE
    return TABLE[identity.role].get(action, _NONE)


def authorize(
    identity: Identity,
    action: Action,
    *,
    owner: UserId | None = None,
    project: ProjectId | None = None,
) -> None:
    """Return if `identity` may do `action` to what `owner` has in `project`.

    Where a right ends at one's own things, an unknown owner is a stranger. A door that cannot
    know the owner, since the core looks it up and checks it, passes `owner=identity.user`.

    Raises:
        NotAllowed: the role never may.
        Foreign: it may, but not with this thing.
    """
    allowed = reach(identity, action)
    if allowed is _NONE:
        raise NotAllowed(_why_not(identity, action))
    foreign = project is not None and project != identity.project
    if foreign or (allowed is _OWN and owner != identity.user):
        raise Foreign(MISSING)


def _is_barred(identity: Identity, action: Action) -> bool:
    """Return whether something beside the role keeps someone from an action."""
    confined = bool(identity.scopes) and action is not _ALWAYS
    if confined and not any(action in SCOPES[scope] for scope in identity.scopes):
        return True
    if identity.service and action in GRANTING:
        return True
    return identity.project != DEFAULT_PROJECT and action in SHARED


def _why_not(identity: Identity, action: Action) -> str:
    if TABLE[identity.role].get(action, _NONE) is _NONE:
        return f"role {identity.role} does not include {action}; ask an admin"
    if identity.service and action in GRANTING:
        return f"a program's account does not include {action}; a person has to do it"
    if identity.project != DEFAULT_PROJECT and action in SHARED:
        return f"{action} is about what all projects share; ask an admin of the hub"
    return f"this token's scopes do not include {action}; use another, or ask an admin"


def project_for(identity: Identity, project: ProjectId | None) -> ProjectId:
    """Return the project into which someone lets another in; None: their own.

    Raises:
        NotAllowed: it is another one, and they are not of the hub's own.
        InvalidInput: it can be no project's name.
    """
    if project in (None, identity.project):
        return identity.project
    if identity.project != DEFAULT_PROJECT:
        raise NotAllowed("this token is for another project; ask an admin of the hub")
    return ProjectId(check_name(project))


def check_grant(identity: Identity, role: Role) -> None:
    """Return if `identity` may hand out `role`: nobody gives more than they have.

    Raises:
        NotAllowed: the role is above the giver's, or is no person's role.
    """
    if identity.role not in _RANK or role not in _RANK:
        raise NotAllowed(f"role {identity.role} cannot grant {role}")
    if _RANK.index(role) > _RANK.index(identity.role):
        raise NotAllowed(f"role {identity.role} cannot grant {role}: it is more than its own")
