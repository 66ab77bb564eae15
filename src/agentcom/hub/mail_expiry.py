"""What becomes of mail by time: what nobody took expires, and what is over goes after a while.

Each message that stands in a mailbox has a place in the list of what is due, which sorts by time;
so a look costs what is due, however much mail there is. A look that was lost is made again.
"""

import asyncio
from typing import Final, cast

import msgspec
import structlog

from agentcom.core import mail
from agentcom.hub.clock import Clock
from agentcom.hub.mail import Mail
from agentcom.hub.mailboxes import Mailboxes
from agentcom.hub.writing import Asked, Draft, Writer
from agentcom.model.address import Address
from agentcom.model.batch import Table
from agentcom.model.errors import AgentComError
from agentcom.model.ids import WallTime
from agentcom.model.message import DUE, Delivery, Entry, Message, due_log, entry_key, owner_of
from agentcom.model.replies import Done
from agentcom.store.base import Query, Store

LOOK_MS: Final = 30_000
DUE_STEP: Final = 100  # messages of one look at the list
PLACES_STEP: Final = 200  # mailboxes of one message that are written together
NAMED: Final = 10  # recipients that a notice names
_DUE: Final = Asked(cause="due")
_NEVER: Final = WallTime(1 << 62)

log = structlog.get_logger(__name__)


class _Rest(msgspec.Struct, frozen=True):
    """What is left of a message in some mailboxes."""

    next_at: WallTime
    """When something of it is due next."""
    expired: tuple[Address, ...]
    """Who did not take it in time."""
    after: str
    """The last mailbox that was looked at."""


class MailExpiry:
    """Looks at what is due."""

    def __init__(
        self, mail: Mail, boxes: Mailboxes, store: Store, writer: Writer, clock: Clock
    ) -> None:
        self._mail = mail
        self._boxes = boxes
        self._store = store
        self._writer = writer
        self._clock = clock

    async def run(self) -> None:
        """Look again and again until cancelled; a supervisor's child."""
        while True:
            await asyncio.sleep(LOOK_MS / 1_000)
            try:
                await self.work()
            except AgentComError as error:
                log.warning("mail.waits", error=error.message)

    async def work(self) -> None:
        """Do what is due now."""
        now = self._clock.now().wall
        after, before = DUE, due_log(WallTime(now + 1))
        while True:
            query = Query(table=Table.ENTRY, prefix=DUE, after=after, before=before, limit=DUE_STEP)
            page = await self._store.query(query)
            for due in cast("list[Entry]", page.rows):
                await self._do(due, now)
            if page.next is None:
                return
            after = page.next

    async def _do(self, due: Entry, now: WallTime) -> None:
        """Expire and delete the places of a message, some at a time, and then the message."""
        (row,) = await self._store.get([(Table.MESSAGE, due.message)])
        message = row if isinstance(row, Message) else None
        expired: list[Address] = []
        next_at, after = _NEVER, ""
        while True:
            rest = await self._step(due.message, message, after, now)
            next_at = min(next_at, rest.next_at)
            expired += rest.expired
            after = rest.after
            if not after:
                break

        async def decide(draft: Draft) -> Done:
            draft.drop(Table.ENTRY, entry_key(due.log, due.seq), due)
            if message is not None:
                await self._go_on(draft, message, max(next_at, WallTime(now + 1)))
                if message.ack_required and expired and _is_first(due, message):
                    await self._tell(draft, message, expired)
            return Done()

        await self._writer.once("hub", _DUE, decide)

    async def _step(self, name: str, message: Message | None, after: str, now: WallTime) -> _Rest:
        async def decide(draft: Draft) -> _Rest:
            places = await self._boxes.places(name, PLACES_STEP, after)
            dates, expired = [_NEVER], []
            for place in places:
                moved = await self._move(draft, place, message, now)
                if moved is not None and message is not None:
                    dates.append(mail.due_at(moved, message))
                    expired += [owner_of(moved.log)] * (moved.state is Delivery.EXPIRED)
            full = len(places) == PLACES_STEP
            last = entry_key(places[-1].log, places[-1].seq) if full else ""
            return _Rest(min(dates), tuple(expired), last)

        return cast("_Rest", await self._writer.once("hub", _DUE, decide))

    async def _move(
        self, draft: Draft, place: Entry, message: Message | None, now: WallTime
    ) -> Entry | None:
        """Expire a place, or delete it; return it as it is afterwards."""
        if message is None or mail.is_late(place.state, message, now):
            await self._boxes.move(draft, place.log, [place], Delivery.EXPIRED)
            place = mail.moved(place, Delivery.EXPIRED, now)
        elif place.state.over and mail.due_at(place, message) <= now:
            message = None
        if message is not None:
            return place
        draft.drop(Table.ENTRY, entry_key(place.log, place.seq), place)
        return None

    async def _go_on(self, draft: Draft, message: Message, next_at: WallTime) -> None:
        if next_at < _NEVER:
            await self._boxes.enlist(draft, message, next_at)
        elif not message.channel:  # what was posted goes with its channel
            draft.drop(Table.MESSAGE, message.id, message)

    async def _tell(self, draft: Draft, message: Message, expired: list[Address]) -> None:
        names = ", ".join(expired[:NAMED])
        more = f" and {len(expired) - NAMED} more" if len(expired) > NAMED else ""
        text = f"nobody acknowledged your message {message.id} in time: {names}{more} did not"
        await self._mail.notice(draft, message.project, message.sender, text, task=message.task)


def _is_first(due: Entry, message: Message) -> bool:
    """Return whether a message expires with this look, and not with one before."""
    return due.log < due_log(WallTime(mail.ends(message) + 1))
