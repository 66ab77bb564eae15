"""Tokens as people see them: never what could prove them, but for the one that was just made."""

import msgspec

from agentcom.model.identity import CredentialKind, Role, Scope
from agentcom.model.ids import MachineId, UserId, WallTime


class TokenShown(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A credential without what could prove it."""

    id: str
    kind: CredentialKind
    role: Role
    owner: UserId
    created_at: WallTime
    expires_at: WallTime | None = None
    machine: MachineId | None = None
    note: str = ""
    uses_left: int | None = None
    grants: Role | None = None
    last_used: WallTime | None = None
    revoked_at: WallTime | None = None
    replaced_by: str | None = None
    """The token that took its place; both work until `expires_at`."""
    scopes: tuple[Scope, ...] = ()
    """What of its role it is confined to; none: all of it."""
    service: bool = False
    """Whether its owner is a program."""
    idle_ms: int = 0
    """Set: each use moves `expires_at` on to so much later."""


class TokenList(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens; `next` is the cursor of the page after."""

    tokens: tuple[TokenShown, ...]
    next: str | None = None


class NewToken(msgspec.Struct, frozen=True):
    """A token that was just made. `token` is shown this once."""

    token: str
    credential: TokenShown
