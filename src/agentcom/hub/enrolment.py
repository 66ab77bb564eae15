"""How machines and people come in: one-time codes, made by someone who may, redeemed once.

A use of a code is taken in the same batch that stores the new token, by row version: of many
parallel attempts exactly as many win as there are uses.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
import structlog

from agentcom.core import facts
from agentcom.hub import acting
from agentcom.hub.auth import Authenticator
from agentcom.hub.clock import Clock
from agentcom.hub.credentials import (
    WRITE_TRIES,
    Credentials,
    Grant,
    busy,
    insert,
    replace,
    update,
)
from agentcom.model import policy
from agentcom.model.audit import ENROLLED, AuditNote
from agentcom.model.batch import Change, Delete, Insert, Table, Update
from agentcom.model.errors import (
    AgentComError,
    InvalidInput,
    NameTaken,
    Timeout,
    Unavailable,
)
from agentcom.model.identity import Credential, CredentialKind, Identity, Role, User
from agentcom.model.ids import IdSource, MachineId, ProjectId, UserId, check_name
from agentcom.model.policy import Action
from agentcom.store.base import Store
from agentcom.telemetry import events

CODE_TTL_MS: Final = 900_000  # time to walk to another computer
CODE_TTL_MAX_MS: Final = 30 * 86_400_000
CODE_USES_MAX: Final = 1_000  # one code for an image that many machines are made from
FIRST_ADMIN: Final = UserId("owner")
_NOT_IN_NAMES: Final = re.compile(r"[^a-z0-9]+")

SubmitFact = Callable[[facts.Body, Identity], Awaitable[object]]
"""Brings a fact to the pool and waits for its verdict; raises the refusal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """Who came in, and the token that proves it from now on."""

    token: str
    identity: Identity
    name: str


class Enrolment:
    """Makes enrolment codes, and turns them into tokens."""

    def __init__(
        self,
        auth: Authenticator,
        credentials: Credentials,
        store: Store,
        clock: Clock,
        ids: IdSource,
        submit_fact: SubmitFact,
    ) -> None:
        self._auth = auth
        self._credentials = credentials
        self._store = store
        self._clock = clock
        self._ids = ids
        self._submit_fact = submit_fact
        self._log = structlog.get_logger()

    async def invite_machine(
        self, actor: Identity, *, ttl_ms: int = CODE_TTL_MS, uses: int = 1, name: str | None = None
    ) -> str:
        """Return a code by which up to `uses` machines may join.

        Raises:
            NotAllowed: the actor may not invite machines.
            InvalidInput: a bound is broken, or a name is given for several machines.
        """
        policy.authorize(actor, Action.MACHINE_INVITE)
        if name is not None:
            check_name(name)
            if uses != 1:
                raise InvalidInput("name", "a name is for one machine: use a code of one use")
        return await self._invite(actor, Role.AGENT, ttl_ms=ttl_ms, uses=uses, name=name or "")

    async def invite_user(
        self,
        actor: Identity,
        name: str,
        role: Role,
        *,
        ttl_ms: int = CODE_TTL_MS,
        project: ProjectId | None = None,
    ) -> str:
        """Return a code by which one person becomes user `name` with `role`.

        Who is that user with that role already gets one more token by it: the way back for
        somebody whose token was lost or revoked.

        Raises:
            NotAllowed: the actor may not invite people, or not with that role.
            NameTaken: a user of that name has another role, or was removed.
        """
        policy.authorize(actor, Action.USER_INVITE)
        policy.check_grant(actor, role)
        home = policy.project_for(actor, project)
        await self._known(UserId(check_name(name)), role, home)
        guest = msgspec.structs.replace(actor, project=home)
        return await self._invite(guest, role, ttl_ms=ttl_ms, uses=1, name=name)

    async def add_service(self, actor: Identity, grant: Grant) -> tuple[Credential, str]:
        """Make a program's account and its first token, both or none; return the token.

        There is no code for it: nobody can log in as a program.

        Raises:
            NotAllowed: the actor may not let anyone in, or not with that role.
            NameTaken: there is, or was, a user of that name.
        """
        policy.authorize(actor, Action.USER_INVITE)
        policy.check_grant(actor, grant.role)
        check_name(grant.owner)
        credential, text = self._credentials.draft(grant)
        user = User(
            id=grant.owner,
            role=grant.role,
            created_at=self._clock.now().wall,
            project=grant.project,
            service=True,
        )
        if not await self._credentials.write(Insert(Table.USER, user.id, user), insert(credential)):
            raise NameTaken(f"there is, or was, a user {grant.owner}; choose another name")
        self._log.info(events.USER_CREATED, user=user.id, role=user.role.value)
        return credential, text

    async def redeem(self, code: str, name: str = "", *, address: str = "") -> Joined:
        """Take one use of a code and let its machine or person in, as one.

        `name` is the machine's, unless its code gives one; people get the name of their code.

        Raises:
            NotAuthenticated: it is no code, or used up, revoked or expired.
            NameTaken: the name is someone else's; the code can be used again.
        """
        for _ in range(WRITE_TRIES):
            row = await self._auth.enrolment(code, address=address)
            assert row.uses_left
            is_machine = row.grants is Role.AGENT
            chosen = check_name(row.note or name)
            new, text = self._credentials.draft(self._grant(row, chosen))
            known = None
            if not is_machine:
                known = await self._known(new.owner, new.role, new.project)
            taken = replace(row, uses_left=row.uses_left - 1)
            changes = (update(row, taken), *self._newcomer(new, known))
            if not await self._credentials.write(*changes, audits=[self._joined(row, new, chosen)]):
                continue
            identity = Identity(
                role=new.role,
                user=new.owner,
                credential=new.id,
                project=new.project,
                machine=new.machine,
            )
            if new.machine is not None:
                await self._enrol(row, new, identity, chosen)
            self._log.info(events.CODE_REDEEMED, code=row.id, credential=new.id, name=chosen)
            return Joined(token=text, identity=identity, name=chosen)
        raise busy()

    async def _invite(
        self, actor: Identity, grants: Role, *, ttl_ms: int, uses: int, name: str
    ) -> str:
        if not 1 <= uses <= CODE_USES_MAX:
            raise InvalidInput("uses", f"from 1 to {CODE_USES_MAX}")
        if not 1 <= ttl_ms <= CODE_TTL_MAX_MS:
            raise InvalidInput("ttl_ms", f"from 1 to {CODE_TTL_MAX_MS}")
        _, text = await self._credentials.mint(
            Grant(
                owner=actor.user,
                role=Role.VIEWER,  # never used: a code is no bearer token
                kind=CredentialKind.ENROLMENT,
                project=actor.project,
                ttl_ms=ttl_ms,
                note=name,
                uses=uses,
                grants=grants,
            )
        )
        return text

    def _grant(self, code: Credential, name: str) -> Grant:
        assert code.grants is not None
        if code.grants is Role.AGENT:
            return Grant(
                owner=code.owner,
                role=Role.AGENT,
                kind=CredentialKind.MACHINE,
                machine=MachineId(self._ids.new()),
                project=code.project,
                note=name,
            )
        kind = CredentialKind.USER
        return Grant(owner=UserId(name), role=code.grants, kind=kind, project=code.project)

    def _newcomer(self, new: Credential, known: User | None) -> Sequence[Change]:
        if new.machine is not None:
            return [insert(new)]
        if known is not None:  # its version moves on, so that a removal meanwhile is noticed
            again = replace(known, version=known.version + 1)
            return [Update(Table.USER, known.id, again, known.version), insert(new)]
        user = User(
            id=new.owner,
            role=new.role,
            created_at=self._clock.now().wall,
            project=new.project,
        )
        return [Insert(Table.USER, user.id, user), insert(new)]

    def _joined(self, code: Credential, new: Credential, name: str) -> AuditNote:
        told = {"code": code.id, "token": new.id, "role": new.role.value, "machine": new.machine}
        detail = {key: str(value) for key, value in told.items() if value}
        who = new.machine or new.owner
        return acting.note(self._clock.now().wall, ENROLLED, f"name:{name}", who=who, detail=detail)

    async def _enrol(
        self, code: Credential, new: Credential, identity: Identity, name: str
    ) -> None:
        assert new.machine is not None
        try:
            await self._submit_fact(facts.Enrol(new.machine, name, new.owner), identity)
        except (Timeout, Unavailable):
            raise  # the machine may be in: the use stays taken
        except AgentComError:
            await self._give_back(code.id, new)
            raise

    async def _give_back(self, code_id: str, new: Credential) -> None:
        """Undo the taking of a use: the machine was refused, so its token was never told."""
        self._auth.forget(new.id)
        undo = Delete(Table.CREDENTIAL, new.id, new.version)
        for _ in range(WRITE_TRIES):
            row = await self._credentials.get(code_id)
            back = replace(row, uses_left=(row.uses_left or 0) + 1)
            if await self._credentials.write(update(row, back), undo):
                return
        raise busy()

    async def _known(self, name: UserId, role: Role, project: ProjectId) -> User | None:
        """Return the user of that name and role; None if the name is free."""
        (row,) = await self._store.get([(Table.USER, name)])
        if not isinstance(row, User):
            return None
        if row.service or row.project != project:
            raise NameTaken(f"the name {name} is taken; choose another one")
        if row.removed:
            raise NameTaken(f"there was a user {name}, who was removed; choose another name")
        if row.role is not role:
            raise NameTaken(
                f"there is a user {name}, whose role is {row.role}; choose another name, or give"
                " that role for one more token of theirs"
            )
        return row


def first_admin(os_user: str) -> UserId:
    """Return the name of the first admin, made from a name of the operating system."""
    text = _NOT_IN_NAMES.sub("-", os_user.lower()).strip("-")[:63].strip("-")
    try:
        return UserId(check_name(text))
    except InvalidInput:
        return FIRST_ADMIN
