"""Destinations as people add, test and remove them; their secrets go into files of their own."""

import asyncio
import secrets as entropy
from collections.abc import Sequence
from email.utils import parseaddr
from typing import Final

from agentcom.core import outgoing as rules
from agentcom.core.outgoing import AddressRefused
from agentcom.hub import notify_formats as formats
from agentcom.hub.chats import Chats
from agentcom.hub.clock import Clock
from agentcom.hub.notifications import Notifications
from agentcom.hub.notify_secrets import Secret, Secrets
from agentcom.hub.outgoing import Outgoing, Unreachable
from agentcom.hub.telegram_api import API
from agentcom.model.errors import Conflict, InvalidInput
from agentcom.model.identity import Identity
from agentcom.model.ids import UserId
from agentcom.model.notify import Destination, DestinationKind, MailSecurity, MailSettings
from agentcom.protocol.alerting import DestinationAsked, DestinationShown

KEY_BYTES: Final = 32
RECIPIENTS_MAX: Final = 20


class Destinations:
    """The destinations of a hub."""

    def __init__(
        self,
        notifications: Notifications,
        secrets: Secrets,
        outgoing: Outgoing,
        chats: Chats,
        clock: Clock,
    ) -> None:
        self._notifications = notifications
        self._secrets = secrets
        self._outgoing = outgoing
        self._chats = chats
        self._clock = clock

    async def add(self, who: Identity, asked: DestinationAsked) -> tuple[Destination, str]:
        """Add a destination; return it, and the key of a webhook, which is shown this once.

        Raises:
            InvalidInput: something is missing, or is not as it should be.
            AddressRefused: the hub does not send there.
            NameTaken, Conflict: see `Notifications.add`.
        """
        key = ""
        if asked.kind is DestinationKind.EMAIL:
            shown, secret = await self._mail(asked), Secret(password=asked.password)
        elif asked.kind is DestinationKind.TELEGRAM:
            if not asked.token:
                raise InvalidInput("token", "that of the bot, by standard input")
            shown = await self._place(asked.url or API)
            secret = Secret(url=asked.url, token=asked.token)
        else:
            if not asked.url:
                raise InvalidInput("url", "the address to send to, by standard input")
            shown = await self._place(asked.url)
            if asked.kind is DestinationKind.WEBHOOK:
                key = formats.new_key(entropy.token_bytes(KEY_BYTES))
            secret = Secret(url=asked.url, keys=(key,) if key else ())
        row = Destination(
            name=asked.name,
            kind=asked.kind,
            shown=shown,
            owner=who.user,
            at=self._clock.now().wall,
            topics=asked.topics,
            severity=asked.severity,
            rules=asked.rules,
            projects=asked.projects,
            mail=asked.mail,
        )
        self._notifications.check_new(row.name)
        await asyncio.to_thread(self._secrets.write, row.name, secret)
        row = await self._notifications.add(row)
        self._chats.changed.set()
        return row, key

    async def remove(self, name: str) -> None:
        """Remove a destination and its secret."""
        await self._notifications.remove(name)
        await asyncio.to_thread(self._secrets.remove, name)
        self._chats.changed.set()

    async def resume(self, name: str) -> Destination:
        """Let a parked destination go on."""
        row = await self._notifications.resume(name)
        await self._notifications.audit(name, "resume")
        self._chats.changed.set()
        return row

    async def test(self, name: str) -> None:
        """Send a destination a test."""
        await self._notifications.test(name)
        self._chats.changed.set()

    async def rotate(self, name: str) -> str:
        """Return a new key for a webhook; the one before signs, too, until the next rotation.

        Raises:
            NotFound: there is no such destination.
            Conflict: it is no webhook, or its secret is not here.
        """
        row = self._notifications.find(name)
        secret = await asyncio.to_thread(self._secrets.read, name)
        if row.kind is not DestinationKind.WEBHOOK or secret is None:
            raise Conflict("only a webhook of this hub has a key: add it again")
        key = formats.new_key(entropy.token_bytes(KEY_BYTES))
        after = Secret(url=secret.url, keys=(key, *secret.keys[:1]))
        await asyncio.to_thread(self._secrets.write, name, after)
        await self._notifications.audit(name, "rotate")
        return key

    async def listed(self) -> Sequence[DestinationShown]:
        """Return all destinations, and what waits for each."""
        found = []
        for row, waiting in self._notifications.listed():
            people: tuple[str, ...] = ()
            if row.kind is DestinationKind.TELEGRAM:
                links = await self._chats.links.of(row.name, None)
                people = tuple(dict.fromkeys(link.person for link in links))
            found.append(DestinationShown(destination=row, waiting=waiting, people=people))
        return found

    def code(self, who: Identity, name: str) -> str:
        """Return a code by which a person links their account in a chat.

        Raises:
            NotFound: there is no such destination.
            Conflict: it is no chat.
        """
        if self._notifications.find(name).kind is not DestinationKind.TELEGRAM:
            raise Conflict(f"{name} is no chat: nobody can answer there")
        return self._chats.links.code(name, who)

    async def unlink(self, name: str, person: UserId) -> int:
        """Forget a person's accounts in a chat; return how many there were."""
        self._notifications.find(name)
        return await self._chats.links.unlink(name, person)

    async def _place(self, url: str) -> str:
        """Return what may be shown of an address that the hub may send to."""
        target = rules.parse(url)
        await self._reach(target.host, target.port, secure=target.scheme == "https")
        return target.shown

    async def _mail(self, asked: DestinationAsked) -> str:
        mail = asked.mail
        if mail is None:
            raise InvalidInput("mail", "server, sender and recipients")
        _check_mail(mail)
        secure = mail.security is not MailSecurity.NONE
        await self._reach(rules.check_host(mail.host.lower()), mail.port, secure=secure)
        return f"{', '.join(mail.to)} by {mail.host}:{mail.port}"

    async def _reach(self, host: str, port: int, *, secure: bool) -> None:
        """Say at once that the hub does not send somewhere; a name may be found later."""
        try:
            await self._outgoing.checked(host, port, secure=secure)
        except AddressRefused:
            raise
        except Unreachable:
            return


def _check_mail(mail: MailSettings) -> None:
    if not 1 <= mail.port <= rules.PORT_MAX:
        raise InvalidInput("mail.port", "from 1 to 65535")
    if not 1 <= len(mail.to) <= RECIPIENTS_MAX:
        raise InvalidInput("mail.to", f"1 to {RECIPIENTS_MAX} recipients")
    for text in (mail.sender, *mail.to):
        if parseaddr(text)[1] != text or "@" not in text or not text.isprintable():
            raise InvalidInput("mail", f"{text[:100]!r} is no plain address: NAME@HOST")
    if mail.user and mail.security is MailSecurity.NONE:
        raise InvalidInput("mail.security", "a password does not travel in clear: starttls or tls")
