"""Single messages and threads, for whoever may see them; senders see how far each has come."""

from collections.abc import Mapping
from typing import Final, cast

import msgspec

from agentcom.hub.mail import Mail, Sees, told_of
from agentcom.hub.mailboxes import Mailboxes
from agentcom.hub.speaking import Speaker
from agentcom.hub.talk import Answer, Handler
from agentcom.hub.writing import Asked
from agentcom.model import limits
from agentcom.model.batch import Table
from agentcom.model.message import Delivery, Message, MessageId, mail_log
from agentcom.protocol import calls, told
from agentcom.protocol.calls import Call
from agentcom.store.base import Query, Store

RECIPIENTS_SHOWN: Final = 100
_ENCODER: Final = msgspec.json.Encoder()


class MailReading:
    """Answers what is asked about messages that are known by their ids."""

    def __init__(self, mail: Mail, boxes: Mailboxes, store: Store, sees: Sees) -> None:
        self._mail = mail
        self._boxes = boxes
        self._store = store
        self._sees = sees

    def handlers(self) -> Mapping[type[Call], Handler]:
        """Return what is answered here."""
        return {calls.MessageShow: self.show, calls.ThreadRead: self.thread}

    async def show(self, who: Speaker, call: calls.MessageShow, _asked: Asked) -> Answer:
        """Return a message; a recipient has seen it by that."""
        message = await self._mail.find(who, call.message)
        if message.sender == who.address:
            places = await self._boxes.places(message.id, RECIPIENTS_SHOWN)
            return told.MessageShown(message=message, to=tuple(map(told_of, places)))
        log = mail_log(who.project, who.address)
        for entry in await self._boxes.find(log, [message.id]):
            await self._boxes.reach(log, [entry.seq], Delivery.SEEN)
        return told.MessageShown(message=message)

    async def thread(self, who: Speaker, call: calls.ThreadRead, _asked: Asked) -> Answer:
        """Return the messages of a thread, oldest first, as far as the caller may see them."""
        wanted = await self._mail.find(who, call.message)
        query = Query(
            table=Table.MESSAGE,
            where={"thread": [wanted.thread]},
            after=call.after or "",
            limit=call.limit,
        )
        page = await self._store.query(query)
        found: list[Message] = []
        size = 0
        last = page.next
        for message in cast("list[Message]", page.rows):
            if not await self._sees(who, message):
                continue
            size += len(_ENCODER.encode(message))
            if found and size > limits.INBOX_BYTES:
                last = found[-1].id
                break
            found.append(message)
        return told.Thread(messages=tuple(found), next=None if last is None else MessageId(last))
