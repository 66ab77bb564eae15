"""Whose account in a chat is whose: proved by a code that a person asked for and sent there."""

import hmac
import secrets as entropy
from collections.abc import Sequence
from typing import Final, NamedTuple, cast

import msgspec
import structlog

from agentcom.hub import acting, tokens
from agentcom.hub.acting import Acting
from agentcom.hub.clock import Clock
from agentcom.hub.writing import Asked, Draft, Writer
from agentcom.model.address import HUB
from agentcom.model.batch import Table
from agentcom.model.errors import Conflict
from agentcom.model.identity import Identity, User
from agentcom.model.ids import Instant, UserId, encode_base32
from agentcom.model.notify import ChatLink
from agentcom.model.policy import Action
from agentcom.model.replies import Done
from agentcom.store.base import Query, Store
from agentcom.telemetry import events

CODE_MS: Final = 600_000
CODE_CHARS: Final = 10
"""Fifty bits, for ten minutes, and a few guesses of each account."""
CODES_MAX: Final = 1_000
GUESSES_MAX: Final = 5
"""Wrong codes of one account; then it is not listened to until the hub starts again."""
STRANGERS_MAX: Final = 10_000
LINKS_MAX: Final = 500
"""Accounts of one chat."""

log = structlog.get_logger(__name__)


class _Code(NamedTuple):
    digest: str
    destination: str
    identity: Identity
    until: Instant


class ChatLinks:
    """The accounts of people in chats. Codes are in memory: a hub that starts knows none."""

    def __init__(self, store: Store, writer: Writer, clock: Clock) -> None:
        self._store = store
        self._writer = writer
        self._clock = clock
        self._codes: list[_Code] = []
        self._guesses: dict[str, int] = {}

    def code(self, name: str, identity: Identity) -> str:
        """Return a code by which a person links their account, once and soon.

        Raises:
            Conflict: too many codes are open.
        """
        now = self._clock.now().instant
        mine = (name, identity.user)
        self._codes = [
            one
            for one in self._codes
            if one.until > now and (one.destination, one.identity.user) != mine
        ]
        if len(self._codes) >= CODES_MAX:
            raise Conflict("too many codes are open; try again in some minutes")
        text = encode_base32(entropy.randbits(5 * CODE_CHARS), length=CODE_CHARS)
        until = Instant(now + CODE_MS)
        self._codes.append(_Code(tokens.digest(text), name, identity, until))
        return text

    async def redeem(self, name: str, code: str, *, account: str, chat: str) -> str:
        """Link an account by a code; return what to say to whoever sent it."""
        if self._guesses.get(account, 0) >= GUESSES_MAX:
            return ""
        now, digest = self._clock.now().instant, tokens.digest(code.lower())
        found = [
            one
            for one in self._codes
            if one.destination == name
            and one.until > now
            and hmac.compare_digest(one.digest, digest)
        ]
        if not found:
            if len(self._guesses) < STRANGERS_MAX:
                self._guesses[account] = self._guesses.get(account, 0) + 1
            log.warning(events.CHAT_REFUSED, destination=name, reason="a wrong code")
            return "this code is wrong, or too old: run `agentcom notify link NAME` again"
        self._codes.remove(found[0])
        who = found[0].identity
        link = ChatLink(
            destination=name,
            account=account,
            chat=chat,
            person=who.user,
            project=who.project,
            at=self._clock.now().wall,
        )

        async def decide(draft: Draft) -> Done:
            old = await self._writer.get(draft, Table.CHAT_LINK, link.key)
            version = 1 if old is None else old.version + 1
            row = msgspec.structs.replace(link, version=version)
            draft.put(Table.CHAT_LINK, link.key, row, old)
            target, at = f"chat:{link.key}", link.at
            with acting.by(Acting(identity=who, cause="chat")):
                draft.audits.append(acting.note(at, Action.CHAT_LINK, target))
            return Done()

        await self._writer.once(HUB, Asked(cause="chat"), decide)
        log.info(events.CHAT_LINKED, destination=name, user=who.user)
        return f"this account is {who.user} now: questions to you come here, and count as yours"

    async def unlink(self, name: str, person: UserId) -> int:
        """Forget a person's accounts in a chat; return how many there were."""
        found = await self.of(name, person)

        async def decide(draft: Draft) -> Done:
            for link in found:
                draft.drop(Table.CHAT_LINK, link.key, link)
            return Done()

        await self._writer.once(HUB, Asked(cause="chat"), decide)
        return len(found)

    async def person(self, name: str, account: int) -> Identity | None:
        """Return who is behind an account, as they are now; None: a stranger, or removed."""
        (link,) = await self._store.get([(Table.CHAT_LINK, f"{name}/{account}")])
        if not isinstance(link, ChatLink):
            return None
        (user,) = await self._store.get([(Table.USER, link.person)])
        if not isinstance(user, User) or user.removed:
            return None
        return Identity(
            role=user.role,
            user=user.id,
            credential=f"chat/{name}",
            project=link.project,
            service=user.service,
        )

    async def of(self, name: str, person: UserId | None) -> Sequence[ChatLink]:
        """Return the accounts of people who are still there."""
        prefix = f"{name}/"
        query = Query(table=Table.CHAT_LINK, prefix=prefix, after=prefix, limit=LINKS_MAX)
        found = cast("list[ChatLink]", (await self._store.query(query)).rows)
        found = [link for link in found if person in (None, link.person)]
        users = await self._store.get([(Table.USER, link.person) for link in found])
        return [
            link
            for link, user in zip(found, users, strict=True)
            if isinstance(user, User) and not user.removed
        ]
