"""Brings notices to each kind of destination."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from agentcom.hub import notify_formats as formats
from agentcom.hub import notify_mail
from agentcom.hub.clock import Clock
from agentcom.hub.notify_mail import MailRefused
from agentcom.hub.notify_secrets import Secret, Secrets
from agentcom.hub.notify_sender import Courier, Undelivered
from agentcom.hub.outgoing import Outgoing, Reply
from agentcom.model.notify import Destination, DestinationKind, Notice
from agentcom.model.numerals import whole

JSON: Final = {"content-type": "application/json"}
EVENT: Final = {"content-type": "application/cloudevents+json; charset=utf-8"}
_GONE: Final = frozenset({401, 403, 404, 410})
"""The address is no longer one, or its secret is wrong: a person has to look."""
_BODIES: Final[Mapping[DestinationKind, Callable[[Sequence[Notice]], dict[str, Any]]]] = {
    DestinationKind.SLACK: formats.slack,
    DestinationKind.DISCORD: formats.discord,
    DestinationKind.TEAMS: formats.teams,
}
_RETRY_AFTER_MAX_S: Final = 3_600


class Couriers:
    """Knows how each kind of destination is reached."""

    def __init__(
        self, secrets: Secrets, outgoing: Outgoing, clock: Clock, *, telegram: Courier
    ) -> None:
        self._secrets = secrets
        self._outgoing = outgoing
        self._clock = clock
        self._telegram = telegram

    async def deliver(self, destination: Destination, notices: Sequence[Notice]) -> None:
        if destination.kind is DestinationKind.TELEGRAM:
            await self._telegram.deliver(destination, notices)
            return
        secret = await asyncio.to_thread(self._secrets.read, destination.name)
        if secret is None:
            raise Undelivered("its secret is not on this computer: add it again", final=True)
        if destination.mail is not None:
            await self._mail(destination, notices, secret)
            return
        if destination.kind is DestinationKind.WEBHOOK:
            event = formats.cloud_event(notices, formats.source_of(destination))
            body, name = formats.encoded(event), formats.id_of(notices)
            signature = formats.signed(body, secret.keys, name=name, at=self._clock.now().wall)
            reply = await self._outgoing.post(secret.url, body, {**EVENT, **signature})
        else:
            body = formats.encoded(_BODIES[destination.kind](notices))
            reply = await self._outgoing.post(secret.url, body, JSON)
        check(reply)

    async def _mail(
        self, destination: Destination, notices: Sequence[Notice], secret: Secret
    ) -> None:
        assert destination.mail is not None
        message = formats.mail(notices, destination.mail)
        try:
            await notify_mail.send(message, destination.mail, secret.password, self._outgoing)
        except MailRefused as error:
            raise Undelivered(str(error), final=True) from error


def check(reply: Reply) -> None:
    """Return if an answer says that the notices are taken; raises `Undelivered`."""
    if 200 <= reply.status < 300:  # noqa: PLR2004 - a class of HTTP
        return
    if 300 <= reply.status < 400:  # noqa: PLR2004 - likewise
        raise Undelivered(f"it answered {reply.status}, and redirects are not followed")
    seconds = whole(reply.retry_after) or 0
    raise Undelivered(
        f"it answered {reply.status}",
        final=reply.status in _GONE,
        after_ms=1_000 * min(seconds, _RETRY_AFTER_MAX_S),
    )
