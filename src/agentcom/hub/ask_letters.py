"""Letters about questions: to whom they are put, and to whom their end matters.

What a turn says of a question is written here afterwards, once under the name of question and
state. What a hub did not come to before it stopped, the next one finds when it starts. The attempt
that asks gets no letter: it hears the answer itself, or the next attempt of its task does.
"""

import asyncio
from collections.abc import Callable
from typing import Final, cast

import structlog

from agentcom.core.view import PoolView
from agentcom.hub import errands
from agentcom.hub.clock import Clock
from agentcom.hub.mail import Mail
from agentcom.hub.writing import Asked, Draft, Writer
from agentcom.model import address, limits
from agentcom.model.address import HUB, Address
from agentcom.model.ask import Ask, AskId, AskState
from agentcom.model.batch import Table
from agentcom.model.errors import MailboxFull
from agentcom.model.ids import WallTime
from agentcom.model.message import Message, MessageId, Sort, Urgency, Why
from agentcom.model.replies import Done
from agentcom.store.base import Query, Store

LOOK_BACK_MS: Final = 3_600_000
"""A hub that starts looks at what ended lately: it may have stopped before it told."""
PRUNE_ROWS: Final = 500

log = structlog.get_logger(__name__)


class AskLetters:
    """Writes what is to be said of questions."""

    def __init__(
        self,
        mail: Mail,
        writer: Writer,
        *,
        store: Store,
        clock: Clock,
        view: Callable[[], PoolView],
    ) -> None:
        self._mail = mail
        self._writer = writer
        self._store = store
        self._clock = clock
        self._view = view
        self._due: dict[AskId, Ask] = {}
        self.also: Callable[[Draft, Ask, Address | None], None] = lambda _draft, _ask, _to: None
        """Adds to the same write what others are told of a question."""
        self._news = asyncio.Event()

    def told(self, ask: Ask) -> None:
        """Note that a question was put, or has ended; the newest word of each counts."""
        if len(self._due) < limits.ASKS_MAX or ask.id in self._due:
            self._due[ask.id] = ask
            self._news.set()

    async def run(self) -> None:
        """Write until cancelled; a supervisor's child."""
        await self._catch_up()
        await errands.run(self._news, self.work)

    async def work(self) -> None:
        """Write what there is to write now."""
        for ask in tuple(self._due.values()):
            await self._write(ask)
            if self._due.get(ask.id) is ask:
                del self._due[ask.id]

    async def prune(self, now: WallTime) -> int:
        """Delete questions that ended long ago; return how many rows went."""
        gone, before = 0, None
        while True:
            query = Query(table=Table.ASK, before=before, limit=PRUNE_ROWS)
            page = await self._store.query(query)
            rows = cast("list[Ask]", page.rows)
            old = [ask for ask in rows if (ask.ended_at or now) + limits.ASKS_KEEP_MS <= now]

            async def forget(draft: Draft, old: list[Ask] = old) -> Done:
                for ask in old:
                    draft.drop(Table.ASK, ask.id, ask)
                return Done()

            await self._writer.once(HUB, Asked(cause="prune"), forget)
            gone, before = gone + len(old), page.next
            if before is None:
                return gone

    async def _catch_up(self) -> None:
        since, before = self._clock.now().wall - LOOK_BACK_MS, None
        while True:
            query = Query(table=Table.ASK, before=before, limit=PRUNE_ROWS)
            page = await self._store.query(query)
            for ask in cast("list[Ask]", page.rows):
                if ask.ended_at is None or ask.ended_at >= since:
                    self.told(ask)
            before = page.next
            if before is None:
                return

    async def _write(self, ask: Ask) -> None:
        async def decide(draft: Draft) -> Done:
            self.also(draft, ask, self._whom(ask))
            message = self._question(ask) if ask.state is AskState.OPEN else _end_of(ask)
            if message is None:
                return Done()
            try:
                await self._mail.put(draft, message, message.to[0], Why.DIRECT)
            except MailboxFull as error:
                log.warning("ask.not_told", ask=ask.id, error=error.message)
                return Done()
            draft.put(Table.MESSAGE, message.id, message, None)
            return Done()

        name = f"ask/{ask.id}/{ask.state.value}"
        await self._writer.once(HUB, Asked(cause="ask", key=name), decide)

    def _whom(self, ask: Ask) -> Address | None:
        task = self._view().tasks.get(ask.task) if ask.task is not None else None
        return ask.to or (address.of_user(task.submitter) if task is not None else None)

    def _question(self, ask: Ask) -> Message | None:
        to = self._whom(ask)
        if to is None:
            return None
        options = "".join(f"\n- {option}" for option in ask.options)
        shown = f"\n\nIt is one of:{options}" if options else ""
        how = f"(Answer with the tool ask_answer, or: agentcom ask answer {ask.id} TEXT)"
        return _message(ask, ask.asker, to, f"{ask.question}{shown}\n\n{how}", Sort.ASK)


def _end_of(ask: Ask) -> Message | None:
    """Return what tells the asker how a question ended, unless an attempt asked."""
    if ask.task is not None or ask.state is AskState.WITHDRAWN:
        return None
    if ask.state is AskState.EXPIRED:
        return _message(ask, HUB, ask.asker, "nobody answered in time", Sort.NOTICE)
    assert ask.answered_by is not None
    return _message(ask, ask.answered_by, ask.asker, ask.answer, Sort.ANSWER)


def _message(ask: Ask, sender: Address, to: Address, body: str, sort: Sort) -> Message:
    """Return a message about a question, which begins a thread of its own name."""
    first = MessageId(ask.id)
    begins = sort is Sort.ASK
    return Message(
        id=first if begins else MessageId(f"{ask.id}.{sort.value}"),
        sender=sender,
        at=ask.at if begins or ask.ended_at is None else ask.ended_at,
        body=body,
        thread=first,
        project=ask.project,
        to=(to,),
        reply_to=None if begins else first,
        sort=sort,
        urgency=Urgency.HIGH,
        expires_at=ask.deadline_at if begins else None,
        task=ask.task,
        fence=ask.fence,
    )
