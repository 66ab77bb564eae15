"""Who asks: users, roles, credentials, and the requests they have made."""

from enum import StrEnum

import msgspec

from agentcom.model.ids import DEFAULT_PROJECT, MachineId, ProjectId, UserId, WallTime


class Role(StrEnum):
    """What an identity may do; the table is in `model/policy.py`."""

    ADMIN = "admin"
    OPERATOR = "operator"
    SUBMITTER = "submitter"
    AGENT = "agent"
    VIEWER = "viewer"

    __hash__ = str.__hash__  # Enum's own is Python code, and every request looks its role up


class Scope(StrEnum):
    """What a token is confined to, below its role; the table is in `model/policy.py`."""

    READ = "read"
    """Look at everything that the role may look at, and change nothing."""
    SUBMIT = "submit"
    """Submit tasks, and no more: not even see what became of them."""
    TALK = "talk"
    """Mail, channels, notes, locks and questions."""
    METRICS = "metrics"
    """Measurements and the hub's state, for a program that collects them."""

    __hash__ = str.__hash__


class CredentialKind(StrEnum):
    """The type that a token names in its text, so that one kind never passes for another."""

    USER = "usr"
    MACHINE = "mch"
    AGENT = "agt"
    ENROLMENT = "enr"


class User(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A person, or a program that acts for one."""

    id: UserId
    role: Role
    created_at: WallTime
    project: ProjectId = DEFAULT_PROJECT
    removed: bool = False
    service: bool = False
    """A program's account: it has tokens that others make, and lets nobody in."""
    version: int = 1

    @property
    def is_hub_admin(self) -> bool:
        """Whether it can let others in to the hub itself: no program, no other project's admin."""
        ours = self.project == DEFAULT_PROJECT and not self.service
        return self.role is Role.ADMIN and ours and not self.removed


class Credential(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A token as the hub keeps it: never the secret, only its SHA-256."""

    id: str
    kind: CredentialKind
    digest: str
    role: Role
    owner: UserId
    created_at: WallTime
    expires_at: WallTime | None = None
    machine: MachineId | None = None
    project: ProjectId = DEFAULT_PROJECT
    note: str = ""
    uses_left: int | None = None
    """For enrolment codes: how many machines or people may still redeem it."""
    grants: Role | None = None
    """For enrolment codes: the role of what it makes; `agent` makes a machine."""
    last_used: WallTime | None = None
    revoked_at: WallTime | None = None
    replaced_by: str | None = None
    """The credential that took its place by rotation; it ends at `expires_at`, used or not."""
    scopes: tuple[Scope, ...] = ()
    """None: all of its role."""
    service: bool = False
    """Its owner is a program."""
    idle_ms: int = 0
    """Set: each use moves its end on to so much later; it ends when it was silent so long."""
    version: int = 1


class Identity(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """Who is behind a connection or a request; never read from a payload."""

    role: Role
    user: UserId
    credential: str
    project: ProjectId = DEFAULT_PROJECT
    machine: MachineId | None = None
    scopes: tuple[Scope, ...] = ()
    """What of its role a token is confined to; none: all of it."""
    service: bool = False

    @property
    def name(self) -> str:
        """The actor that events and audit name."""
        return self.machine or self.user


class RequestRecord(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A mutation that was accepted under a key, and its answer, for a repeat to get the same."""

    key: str
    payload: str
    """SHA-256 of the request."""
    reply: msgspec.Raw
    expires_at: WallTime
    version: int = 1
