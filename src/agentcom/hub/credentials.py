"""The rows of tokens: minted, listed, rotated, revoked; and the first admin.

Every write is one batch by row version, so that of two that meet exactly one wins. Doors ask
`model/policy.py` first; here is only what must hold whoever asks.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import structlog

from agentcom.hub import acting, tokens
from agentcom.hub.auth import IDLE_TTL_MS, Authenticator, idle_ms_of, is_over
from agentcom.hub.clock import Clock
from agentcom.hub.rows import write
from agentcom.model.audit import AuditNote
from agentcom.model.batch import Change, Insert, Table, Update
from agentcom.model.errors import Conflict, InvalidInput, NotFound, Unavailable
from agentcom.model.identity import Credential, CredentialKind, Role, Scope, User
from agentcom.model.ids import (
    DEFAULT_PROJECT,
    IdSource,
    MachineId,
    ProjectId,
    UserId,
    WallTime,
)
from agentcom.model.policy import Action
from agentcom.store.base import Query, Store
from agentcom.telemetry import events

ROTATION_GRACE_MS: Final = 86_400_000  # both tokens work while the new one is put in its place
WRITE_TRIES: Final = 64  # of a write that met another; each loss is another's progress
NOTE_CHARS: Final = 200
_PAGE: Final = 100

replace: Final = msgspec.structs.replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a new token will stand for."""

    owner: UserId
    role: Role
    kind: CredentialKind
    machine: MachineId | None = None
    project: ProjectId = DEFAULT_PROJECT
    ttl_ms: int | None = None
    """None: 90 days, and each use begins them anew; 0: no end."""
    note: str = ""
    uses: int | None = None
    grants: Role | None = None
    scopes: tuple[Scope, ...] = ()
    service: bool = False


class Credentials:
    """Keeps the rows of tokens."""

    def __init__(self, auth: Authenticator, store: Store, clock: Clock, ids: IdSource) -> None:
        self._auth = auth
        self._store = store
        self._clock = clock
        self._ids = ids
        self._log = structlog.get_logger()

    def draft(self, grant: Grant) -> tuple[Credential, str]:
        """Return a new credential and its text, not stored yet.

        Raises:
            InvalidInput: kind and role do not go together, or a field is over its bound.
        """
        _check(grant)
        ttl_ms = IDLE_TTL_MS if grant.ttl_ms is None else grant.ttl_ms
        wall = self._clock.now().wall
        minted = tokens.mint(grant.kind)
        credential = Credential(
            id=minted.id,
            kind=grant.kind,
            digest=minted.digest,
            role=grant.role,
            owner=grant.owner,
            created_at=wall,
            expires_at=WallTime(wall + ttl_ms) if ttl_ms else None,
            machine=grant.machine,
            project=grant.project,
            note=grant.note,
            uses_left=grant.uses,
            grants=grant.grants,
            scopes=tuple(sorted(set(grant.scopes))),
            service=grant.service,
            idle_ms=IDLE_TTL_MS if grant.ttl_ms is None else 0,
        )
        return credential, minted.text

    async def mint(self, grant: Grant) -> tuple[Credential, str]:
        """Store a new credential; return it and its text, which nobody can see again."""
        for _ in range(WRITE_TRIES):
            credential, text = self.draft(grant)
            made = self.note(_minted(grant), credential)
            if await self.write(insert(credential), audits=[made]):
                self._say(events.CREDENTIAL_MINTED, credential)
                return credential, text
        raise busy()

    async def rotate(
        self, credential_id: str, *, grace_ms: int = ROTATION_GRACE_MS
    ) -> tuple[Credential, str]:
        """Store a successor with the same rights; the old token ends after `grace_ms`.

        Raises:
            NotFound: there is no such token, it has ended, or it is an enrolment code.
        """
        for _ in range(WRITE_TRIES):
            old = await self.get(credential_id)
            wall = self._clock.now().wall
            if is_over(old, wall) or old.kind is CredentialKind.ENROLMENT:
                raise NotFound(f"there is no live token {credential_id}")
            new, text = self.draft(_same_again(old))
            ends = WallTime(min(wall + grace_ms, old.expires_at or wall + grace_ms))
            after = replace(old, expires_at=ends, replaced_by=new.id)
            rotated = self.note(Action.CREDENTIAL_ROTATE, old, successor=new.id)
            if await self.write(update(old, after), insert(new), audits=[rotated]):
                self._auth.changed(replace(after, version=old.version + 1))
                self._say(events.CREDENTIAL_ROTATED, old, successor=new.id)
                return new, text
        raise busy()

    async def revoke(self, credential_id: str) -> Credential:
        """End a credential at once, here and on every connection that it opened.

        Raises:
            NotFound: there is no such credential.
        """
        for _ in range(WRITE_TRIES):
            old = await self.get(credential_id)
            if old.revoked_at is not None:
                return old
            after = replace(old, revoked_at=self._clock.now().wall)
            revoked = self.note(Action.CREDENTIAL_REVOKE, old)
            if await self.write(update(old, after), audits=[revoked]):
                self._auth.end(old.id)
                self._say(events.CREDENTIAL_REVOKED, old)
                return after
        raise busy()

    async def revoke_machine(self, machine: MachineId) -> int:
        """End every token of a machine that was removed; returns how many."""
        rows = await self.list(kinds=(CredentialKind.MACHINE, CredentialKind.AGENT))
        return await self._revoke_all([row for row in rows if row.machine == machine])

    async def revoke_user(self, user: UserId) -> int:
        """End a person's own tokens and codes; their machines' tokens stay. Returns how many."""
        kinds = (CredentialKind.USER, CredentialKind.ENROLMENT)
        return await self._revoke_all(await self.list(owner=user, kinds=kinds))

    async def remove_user(self, user: UserId) -> int:
        """Mark a user as removed and end all by which they come in, at once; return how many.

        May come twice. Tasks, machines and the rest are the caller's part.

        Raises:
            NotFound: there is no such user.
        """
        for _ in range(WRITE_TRIES):
            (row,) = await self._store.get([(Table.USER, user)])
            if not isinstance(row, User):
                raise NotFound(f"there is no user {user}")
            live = [one for one in await self.of_user(user) if one.revoked_at is None]
            if row.removed and not live:
                return 0
            wall = self._clock.now().wall
            gone = acting.note(wall, Action.USER_REMOVE, f"user:{user}", detail=_ended(live))
            after = replace(row, removed=True, version=row.version + 1)
            changes = [Update(Table.USER, user, after, row.version)]
            changes += [update(one, replace(one, revoked_at=wall)) for one in live]
            notes = [gone, *(self.note(Action.CREDENTIAL_REVOKE, one) for one in live)]
            if await self.write(*changes, audits=notes):
                for one in live:
                    self._auth.end(one.id)
                self._log.info(events.USER_REMOVED, user=user)
                return len(live)
        raise busy()

    async def of_user(self, user: UserId) -> Sequence[Credential]:
        """Return a person's own tokens, the codes they made, and those that would let them in."""
        rows = await self.list(kinds=(CredentialKind.USER, CredentialKind.ENROLMENT))
        return [row for row in rows if row.owner == user or _lets_in(row, user)]

    async def give_machine(self, machine: MachineId, owner: UserId) -> None:
        """Let a machine's tokens belong to somebody else; its connection comes anew by itself."""
        for old in await self.list(kinds=(CredentialKind.MACHINE, CredentialKind.AGENT)):
            if old.machine == machine and old.owner != owner and old.revoked_at is None:
                after = replace(old, owner=owner)
                if not await self.write(update(old, after)):
                    raise busy()
                self._auth.changed(replace(after, version=old.version + 1))
                self._auth.cut([old.id])

    async def get(self, credential_id: str) -> Credential:
        """Return one row; raises `NotFound`."""
        (row,) = await self._store.get([(Table.CREDENTIAL, credential_id)])
        if not isinstance(row, Credential):
            raise NotFound(f"there is no token {credential_id}")
        return row

    async def ensure_admin(self, name: UserId) -> str | None:
        """Create the first admin and return their token; None if there is an admin already.

        Raises:
            Conflict: the name belongs to another user.
        """
        if await self._has_admin():
            return None
        user = User(id=name, role=Role.ADMIN, created_at=self._clock.now().wall)
        kind = CredentialKind.USER
        credential, text = self.draft(Grant(owner=name, role=Role.ADMIN, kind=kind, note="first"))
        first = self.note(Action.USER_INVITE, credential, first="yes")
        new = (Insert(Table.USER, name, user), insert(credential))
        if not await self.write(*new, audits=[first]):
            if await self._has_admin():  # another hub was first
                return None
            raise Conflict(f"user {name} exists and is no admin; give the first admin a new name")
        self._log.info(events.USER_CREATED, user=name, role=Role.ADMIN.value)
        return text

    async def recover_admin(self, name: UserId | None) -> tuple[UserId, str]:
        """Store a new token of an admin (None: the first of them); return whose, and the token.

        Raises:
            NotFound: there is no such admin.
        """
        admins = [user for user in await self._admins() if name in (None, user.id)]
        if not admins:
            raise NotFound("there is no such admin")
        owner = min(admins, key=lambda user: user.created_at)
        _, text = await self.mint(
            Grant(
                owner=owner.id,
                role=Role.ADMIN,
                kind=CredentialKind.USER,
                project=owner.project,
                note="recovered",
            )
        )
        return owner.id, text

    async def write(self, *changes: Change, audits: Sequence[AuditNote] = ()) -> bool:
        """Commit rows that are no pool's; False: one was not as expected."""
        return await write(self._store, self._ids, *changes, audits=audits)

    def note(self, action: Action, credential: Credential, **more: str) -> AuditNote:
        """Return what the audit log says of an act on a credential."""
        told = {"kind": credential.kind.value, "owner": str(credential.owner)}
        granted = credential.grants or credential.role
        told |= {"role": granted.value, "machine": credential.machine or ""}
        if credential.kind is CredentialKind.ENROLMENT:
            told["name"] = credential.note
        detail = {name: text for name, text in {**told, **more}.items() if text}
        wall = self._clock.now().wall
        return acting.note(wall, action, f"token:{credential.id}", detail=detail)

    async def list(
        self, *, owner: UserId | None = None, kinds: Collection[CredentialKind] | None = None
    ) -> Sequence[Credential]:
        """Return the rows, ended ones too, of an owner and of some kinds (None: of all)."""
        where: dict[str, Sequence[str]] = {}
        if owner is not None:
            where["owner"] = [owner]
        if kinds is not None:
            where["kind"] = [kind.value for kind in kinds]
        rows = await self._all(Query(table=Table.CREDENTIAL, where=where, limit=_PAGE))
        return [row for row in rows if isinstance(row, Credential)]

    async def _revoke_all(self, rows: Sequence[Credential]) -> int:
        live = [row for row in rows if row.revoked_at is None]
        for row in live:
            await self.revoke(row.id)
        return len(live)

    async def _has_admin(self) -> bool:
        return bool(await self._admins())

    async def _admins(self) -> Sequence[User]:
        where: dict[str, Sequence[str]] = {"role": [Role.ADMIN.value]}
        rows = await self._all(Query(table=Table.USER, where=where, limit=_PAGE))
        return [row for row in rows if isinstance(row, User) and row.is_hub_admin]

    async def _all(self, query: Query) -> Sequence[object]:
        found: list[object] = []
        while True:
            page = await self._store.query(query)
            found += page.rows
            if page.next is None:
                return found
            query = replace(query, before=page.next)

    def _say(self, event: str, credential: Credential, **more: str) -> None:
        self._log.info(
            event,
            credential=credential.id,
            kind=credential.kind.value,
            owner=credential.owner,
            role=credential.role.value,
            **more,
        )


def insert(credential: Credential) -> Insert:
    """Return the change that stores a new credential."""
    return Insert(Table.CREDENTIAL, credential.id, credential)


def update(old: Credential, new: Credential) -> Update:
    """Return the change that puts `new` in the place of `old`, with the next version."""
    row = replace(new, version=old.version + 1)
    return Update(Table.CREDENTIAL, old.id, row, old.version)


def busy() -> Unavailable:
    """Return what to say when a write lost again and again."""
    return Unavailable("others change the same token all the time; ask again")


def _ended(rows: Sequence[Credential]) -> dict[str, str]:
    tokens = sum(row.kind is CredentialKind.USER for row in rows)
    return {"tokens": str(tokens), "codes": str(len(rows) - tokens)}


def _lets_in(row: Credential, user: UserId) -> bool:
    """Return whether a code would make somebody that person."""
    if row.kind is not CredentialKind.ENROLMENT or row.grants is Role.AGENT:
        return False
    return row.note == user


def _minted(grant: Grant) -> Action:
    if grant.kind is not CredentialKind.ENROLMENT:
        return Action.CREDENTIAL_CREATE
    return Action.MACHINE_INVITE if grant.grants is Role.AGENT else Action.USER_INVITE


def _same_again(old: Credential) -> Grant:
    lasted = 0 if old.expires_at is None else old.expires_at - old.created_at
    return Grant(
        owner=old.owner,
        role=old.role,
        kind=old.kind,
        machine=old.machine,
        project=old.project,
        ttl_ms=None if idle_ms_of(old) else lasted,  # such an end moved on with its use
        note=old.note,
        scopes=old.scopes,
        service=old.service,
    )


def _check(grant: Grant) -> None:
    is_person = grant.kind in (CredentialKind.USER, CredentialKind.ENROLMENT)
    if is_person == (grant.role is Role.AGENT):
        raise InvalidInput("role", f"a token of kind {grant.kind} cannot have role {grant.role}")
    has_machine = grant.kind in (CredentialKind.MACHINE, CredentialKind.AGENT)
    if has_machine != (grant.machine is not None):
        raise InvalidInput("machine", "exactly the tokens of machines and agents name one")
    if grant.ttl_ms is not None and grant.ttl_ms < 0:
        raise InvalidInput("ttl_ms", "a token lasts longer than nothing")
    if grant.kind is not CredentialKind.USER and (grant.scopes or grant.service):
        raise InvalidInput("scopes", "only the tokens of people and programs have some")
    if len(grant.note) > NOTE_CHARS:
        raise InvalidInput("note", f"at most {NOTE_CHARS} characters")
