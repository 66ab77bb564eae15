"""Routes of users and tokens: invite, redeem, list, make, rotate, revoke, remove."""

from typing import Final

import msgspec

from agentcom.hub.credentials import Grant
from agentcom.hub.enrolment import CODE_TTL_MS
from agentcom.hub.leaving import Machines
from agentcom.hub.limits_guard import Traffic
from agentcom.hub.queries_people import token_shown
from agentcom.model import limits, policy
from agentcom.model.errors import InvalidInput, NotFound
from agentcom.model.identity import Credential, CredentialKind, Identity, Role, User
from agentcom.model.ids import AgentId, UserId
from agentcom.model.policy import Action, Reach
from agentcom.protocol.asked import (
    CodeRedeemed,
    RotationAsked,
    ServiceAsked,
    TokenAsked,
    UserInvited,
)
from agentcom.protocol.leaving import Leaves
from agentcom.protocol.shown import (
    Admitted,
    Invitation,
    UserList,
)
from agentcom.protocol.shown_tokens import NewToken, TokenList, TokenShown
from agentcom.transport.http_call import PREFIX, Call, Endpoint, Gate
from agentcom.transport.http_fleet import PageAsked, invitation

SELF: Final = "self"
_USERS: Final = f"{PREFIX}/users"
_TOKENS: Final = f"{PREFIX}/tokens"


class RemovalAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who shall have what a person leaves behind, and what becomes of their machines."""

    to: UserId | None = None
    """By default who removes them."""
    machines: Machines = Machines.REMOVE


class TokensAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which tokens to list."""

    owner: UserId | None = None
    cursor: str | None = None
    limit: int = limits.PAGE_MAX


async def _users(call: Call) -> UserList:
    asked = call.asked(PageAsked)
    return await call.hall.people.users(call.who, cursor=asked.cursor, limit=asked.limit)


async def _invite(call: Call) -> Invitation:
    asked = call.given(UserInvited)
    ttl_ms = asked.ttl_ms or CODE_TTL_MS
    code = await call.hall.enrolment.invite_user(
        call.who, asked.name, asked.role, ttl_ms=ttl_ms, project=asked.project
    )
    return invitation(call, code, ttl_ms)


async def _add_service(call: Call) -> NewToken:
    asked = call.given(ServiceAsked)
    grant = Grant(
        owner=asked.name,
        role=asked.role,
        kind=CredentialKind.USER,
        project=policy.project_for(call.who, asked.project),
        ttl_ms=asked.ttl_ms,
        note=asked.note,
        scopes=asked.scopes,
        service=True,
    )
    credential, text = await call.hall.enrolment.add_service(call.who, grant)
    return NewToken(text, token_shown(credential))


async def _preview(call: Call) -> Leaves:
    return await call.hall.leaving.preview(call.who, call.named())


async def _remove(call: Call) -> Leaves:
    asked = call.asked(RemovalAsked)
    return await call.hall.leaving.remove(
        call.who,
        call.named(),
        to=asked.to,
        machines=asked.machines,
        ask=lambda body: call.ask(body, keyed=False),
    )


async def _redeem(call: Call) -> Admitted:
    asked = call.given(CodeRedeemed)
    joined = await call.hall.enrolment.redeem(asked.code, asked.name, address=call.peer)
    return Admitted(
        token=joined.token,
        name=joined.name,
        role=joined.identity.role,
        user=joined.identity.user,
        machine=joined.identity.machine,
    )


async def _tokens(call: Call) -> TokenList:
    asked = call.asked(TokensAsked)
    who = call.who
    own = policy.reach(who, Action.CREDENTIAL_READ) is Reach.OWN
    owner = asked.owner or (who.user if own else None)
    if own:
        policy.authorize(who, Action.CREDENTIAL_READ, owner=owner)
    return await call.hall.people.tokens(who, owner=owner, cursor=asked.cursor, limit=asked.limit)


async def _create(call: Call) -> NewToken:
    asked = call.given(TokenAsked)
    who = call.who
    if asked.agent is not None:
        return await _create_external(call, asked, asked.agent)
    owner = await _owner(call, asked.owner)
    highest = who.role if owner is None else owner.role
    role = asked.role or highest
    policy.check_grant(who, role)
    if owner is not None:
        policy.check_grant(_as(who, owner.role), role)
    grant = Grant(
        owner=who.user if owner is None else owner.id,
        role=role,
        kind=CredentialKind.USER,
        project=who.project,
        ttl_ms=asked.ttl_ms,
        note=asked.note,
        scopes=asked.scopes,
        service=owner is not None and owner.service,
    )
    credential, text = await call.hall.credentials.mint(grant)
    return NewToken(text, token_shown(credential))


async def _create_external(call: Call, asked: TokenAsked, agent: AgentId) -> NewToken:
    if asked.owner is not None or asked.role is not None or asked.scopes:
        raise InvalidInput("agent", "an agent's token has no other owner, and its own role")
    credential, text = await call.hall.externals.invite(
        call.who, agent, ttl_ms=asked.ttl_ms, note=asked.note
    )
    return NewToken(text, token_shown(credential))


async def _rotate(call: Call) -> NewToken:
    credential_id = await _handled(call, Action.CREDENTIAL_ROTATE)
    grace_ms = call.given(RotationAsked).grace_ms
    credential, text = await call.hall.credentials.rotate(credential_id, grace_ms=grace_ms)
    return NewToken(text, token_shown(credential))


async def _revoke(call: Call) -> TokenShown:
    credential_id = await _handled(call, Action.CREDENTIAL_REVOKE)
    return token_shown(await call.hall.credentials.revoke(credential_id))


async def _owner(call: Call, name: UserId | None) -> User | None:
    """Return whom a token is for; None: the caller."""
    if name in (None, call.who.user):
        return None
    policy.authorize(call.who, Action.CREDENTIAL_CREATE, owner=name)
    return await call.hall.people.user(call.who, str(name))


async def _handled(call: Call, action: Action) -> str:
    """Return the id of a token that the caller may replace or end.

    A token never gives more than it has: one of a narrower role cannot replace its owner's
    wider one, nor one of a machine unless it may let machines in.
    """
    who, name = call.who, call.named()
    if name in (SELF, who.credential):
        return who.credential
    try:
        credential = await call.hall.credentials.get(name)
    except NotFound:
        raise NotFound(policy.MISSING) from None  # the same words as for another's
    policy.authorize(who, action, owner=credential.owner, project=credential.project)
    if action is Action.CREDENTIAL_ROTATE:
        _check_role(who, credential)
    return credential.id


def _check_role(who: Identity, credential: Credential) -> None:
    if credential.role is Role.AGENT:
        policy.authorize(who, Action.MACHINE_INVITE)
    else:
        policy.check_grant(who, credential.role)


def _as(who: Identity, role: Role) -> Identity:
    return msgspec.structs.replace(who, role=role)


ENDPOINTS: Final = (
    Endpoint(
        method="GET",
        path=_USERS,
        access=Action.USER_READ,
        handler=_users,
        summary="List people",
        query=PageAsked,
        reply=UserList,
    ),
    Endpoint(
        method="POST",
        path=_USERS,
        access=Action.USER_INVITE,
        handler=_invite,
        summary="Make a code by which one person comes in",
        body=UserInvited,
        reply=Invitation,
        status=201,
        traffic=Traffic.ADMIN,
    ),
    Endpoint(
        method="POST",
        path=f"{PREFIX}/service-accounts",
        access=Action.USER_INVITE,
        handler=_add_service,
        summary="Make an account for a program, and its first token",
        body=ServiceAsked,
        reply=NewToken,
        status=201,
        traffic=Traffic.ADMIN,
    ),
    Endpoint(
        method="GET",
        path=f"{_USERS}/{{id}}/removal",
        access=Action.USER_REMOVE,
        handler=_preview,
        summary="Show what the removal of a person would end, and what would pass on",
        reply=Leaves,
    ),
    Endpoint(
        method="DELETE",
        path=f"{_USERS}/{{id}}",
        access=Action.USER_REMOVE,
        handler=_remove,
        summary="Remove a person: end their access, and pass on what they leave behind",
        query=RemovalAsked,
        reply=Leaves,
        traffic=Traffic.ADMIN,
    ),
    Endpoint(
        method="POST",
        path=f"{PREFIX}/enrol",
        access=Gate.OPEN,
        handler=_redeem,
        summary="Redeem a code for a token",
        body=CodeRedeemed,
        reply=Admitted,
        status=201,
    ),
    Endpoint(
        method="GET",
        path=_TOKENS,
        access=Action.CREDENTIAL_READ,
        handler=_tokens,
        summary="List tokens, never their secrets",
        query=TokensAsked,
        reply=TokenList,
    ),
    Endpoint(
        method="POST",
        path=_TOKENS,
        access=Action.CREDENTIAL_CREATE,
        handler=_create,
        summary="Make a token",
        body=TokenAsked,
        body_optional=True,
        reply=NewToken,
        status=201,
        traffic=Traffic.ADMIN,
    ),
    Endpoint(
        method="POST",
        path=f"{_TOKENS}/{{id}}/rotate",
        access=Action.CREDENTIAL_ROTATE_SELF,
        handler=_rotate,
        summary="Replace a token (`self`: the one that asks)",
        body=RotationAsked,
        body_optional=True,
        reply=NewToken,
        status=201,
        traffic=Traffic.ADMIN,
    ),
    Endpoint(
        method="DELETE",
        path=f"{_TOKENS}/{{id}}",
        access=Action.CREDENTIAL_REVOKE,
        handler=_revoke,
        summary="End a token at once, with the connections it opened",
        reply=TokenShown,
        traffic=Traffic.ADMIN,
    ),
)
