"""Messages in chats that show a question: kept, so that they can be brought up to date."""

from collections.abc import Sequence
from typing import Final, cast

from agentcom.hub.clock import Clock
from agentcom.hub.writing import Asked, Draft, Writer
from agentcom.model.address import HUB
from agentcom.model.batch import Table
from agentcom.model.notify import ChatCard
from agentcom.model.replies import Done
from agentcom.store.base import Query, Store

CARDS_MAX: Final = 500
"""Messages about one question: one for each account that may answer."""


class ChatCards:
    """The cards of all chats."""

    def __init__(self, store: Store, writer: Writer, clock: Clock) -> None:
        self._store = store
        self._writer = writer
        self._clock = clock

    async def about(self, destination: str, about: str) -> Sequence[ChatCard]:
        """Return the messages about a question or a task."""
        query = Query(
            table=Table.CHAT_CARD,
            where={"about": (about,)},
            prefix=f"{destination}/",
            after=f"{destination}/",
            limit=CARDS_MAX,
        )
        return cast("list[ChatCard]", (await self._store.query(query)).rows)

    async def find(self, destination: str, chat: str, message: str) -> ChatCard | None:
        """Return what a message shows; None: nothing that is open."""
        key = f"{destination}/{chat}/{message}"
        (row,) = await self._store.get([(Table.CHAT_CARD, key)])
        return row if isinstance(row, ChatCard) else None

    async def keep(
        self, destination: str, chat: str, message: str, *, about: str, text: str
    ) -> None:
        """Note that a message shows something."""
        card = ChatCard(
            destination=destination,
            chat=chat,
            message=message,
            about=about,
            text=text,
            at=self._clock.now().wall,
        )

        async def decide(draft: Draft) -> Done:
            if await self._writer.get(draft, Table.CHAT_CARD, card.key) is None:
                draft.put(Table.CHAT_CARD, card.key, card, None)
            return Done()

        await self._writer.once(HUB, Asked(cause="chat"), decide)

    async def drop(self, card: ChatCard) -> None:
        """Forget a message: what it shows is over."""

        async def decide(draft: Draft) -> Done:
            if await self._writer.get(draft, Table.CHAT_CARD, card.key) is not None:
                draft.drop(Table.CHAT_CARD, card.key, card)
            return Done()

        await self._writer.once(HUB, Asked(cause="chat"), decide)
