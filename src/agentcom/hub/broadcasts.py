"""Broadcasts: one message to every agent that fits, without those whose mailbox is full."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from agentcom.core import mail
from agentcom.core.view import PoolView
from agentcom.hub.mail import Mail, told_of
from agentcom.hub.mailboxes import Mailboxes
from agentcom.hub.speaking import Speaker
from agentcom.hub.talk import Answer, Handler
from agentcom.hub.writing import Asked, Draft, Writer
from agentcom.model import address, limits
from agentcom.model.address import Address
from agentcom.model.errors import InvalidInput, MailboxFull, NotFound
from agentcom.model.message import Entry, Why
from agentcom.protocol import calls, told
from agentcom.protocol.calls import Call

SHOWN: Final = 100  # recipients that the answer lists
AT_ONCE: Final = 100  # mailboxes that are written to in one turn of the loop: some milliseconds
NAMED: Final = 5  # full mailboxes that it names


class Broadcasts:
    """Messages to many."""

    def __init__(
        self, mail: Mail, boxes: Mailboxes, writer: Writer, view: Callable[[], PoolView]
    ) -> None:
        self._mail = mail
        self._boxes = boxes
        self._writer = writer
        self._view = view

    def handlers(self) -> Mapping[type[Call], Handler]:
        """Return what is answered here."""
        return {calls.MessageBroadcast: self.send}

    async def send(self, who: Speaker, call: calls.MessageBroadcast, asked: Asked) -> Answer:
        """Store a message in the mailbox of every agent that fits and has room.

        Raises:
            NotFound: none fits.
            InvalidInput: too many fit.
            MailboxFull: none of them has room.
        """
        mail.check_content(call.body, call.subject, call.attachments)

        async def decide(draft: Draft) -> told.Sent:
            to = self._fitting(who, call)
            message = await self._mail.write(draft, who, call, asked)
            await self._boxes.look_at(draft, who.project, to)
            entries: list[Entry] = []
            full: list[Address] = []
            for at, one in enumerate(to):
                if not at % AT_ONCE:
                    await asyncio.sleep(0)  # others get their turn
                try:
                    entries.append(await self._mail.put(draft, message, one, Why.BROADCAST))
                except MailboxFull:
                    full.append(one)
            if not entries:
                raise MailboxFull(f"the mailboxes of all {len(full)} agents that fit are full")
            return told.Sent(
                message=message.id,
                thread=message.thread,
                to=tuple(map(told_of, entries[:SHOWN])),
                count=len(entries),
                warning=_left_out(full),
            )

        return await self._writer.once(who.address, asked, decide)

    def _fitting(self, who: Speaker, call: calls.MessageBroadcast) -> list[Address]:
        found = map(address.of_agent, mail.fitting(self._view(), who.project, call.needs))
        to = [one for one in found if one != who.address]
        if not to:
            raise NotFound("no other agent of the project fits; see who is there")
        if len(to) > limits.BROADCAST_MAX:
            raise InvalidInput("needs", f"more than {limits.BROADCAST_MAX} agents fit: narrow it")
        return to


def _left_out(full: list[Address]) -> str:
    if not full:
        return ""
    names = ", ".join(full[:NAMED]) + (", ..." if len(full) > NAMED else "")
    return f"{len(full)} did not get it, since their mailboxes are full: {names}"
