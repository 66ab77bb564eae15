"""On whose behalf the code that runs now acts, for what it writes into the audit log.

A door says it once for each request; whatever the request writes, at any depth, is then recorded
with it. Outside of requests the hub acts for itself. The engine is no part of a request: there it
stands in the fact (`Fact.actor`, `Fact.origin`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

import msgspec

from agentcom.model.audit import AuditNote, Door, Origin, Outcome
from agentcom.model.identity import Identity, Role
from agentcom.model.ids import WallTime


class Acting(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, from where, and by which request."""

    identity: Identity | None = None
    """None: nobody knows, or it is the hub itself."""
    origin: Origin = Origin(Door.HUB)
    cause: str = ""


HUB: Final = Acting()
_ACTING: Final[ContextVar[Acting]] = ContextVar("acting", default=HUB)


def now() -> Acting:
    """Return on whose behalf this runs."""
    return _ACTING.get()


def enter(acting: Acting) -> None:
    """Act on somebody's behalf for the rest of this task."""
    _ACTING.set(acting)


@contextmanager
def by(acting: Acting) -> Iterator[None]:
    """Act on somebody's behalf for a while."""
    token = _ACTING.set(acting)
    try:
        yield
    finally:
        _ACTING.reset(token)


def note(
    at: WallTime,
    action: str,
    target: str,
    *,
    who: str | None = None,
    detail: dict[str, str] | None = None,
    code: str = "",
) -> AuditNote:
    """Return what the audit log says of an act that is done now; `code` makes it a refusal."""
    acting = _ACTING.get()
    identity, origin = acting.identity, acting.origin
    role: Role | None = None
    credential = ""
    if identity is not None:
        role, credential = identity.role, identity.credential
        who = who or identity.name
    return AuditNote(
        at=at,
        action=action,
        target=target,
        outcome=Outcome.REFUSED if code else Outcome.DONE,
        who=who or "",
        role=role,
        credential=credential,
        address=origin.address,
        door=origin.door,
        cause=acting.cause,
        code=code,
        detail=detail or {},
    )
