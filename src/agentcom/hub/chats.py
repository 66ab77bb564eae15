"""People in chats: the questions that they are shown, and their answers.

Whoever writes to a bot is a stranger until a person of this hub has linked that account with a
code. What they press or write is then done as that person, with what their role allows now.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec
import structlog

from agentcom.core import facts
from agentcom.core.facts import Fact
from agentcom.core.outgoing import AddressRefused
from agentcom.hub import notify_formats as formats
from agentcom.hub import speaking
from agentcom.hub.chat_cards import ChatCards
from agentcom.hub.chat_links import ChatLinks
from agentcom.hub.clock import Clock
from agentcom.hub.notifications import Notifications
from agentcom.hub.notify_secrets import Secrets
from agentcom.hub.notify_sender import Undelivered
from agentcom.hub.outgoing import Outgoing, Unreachable
from agentcom.hub.talk import Talk
from agentcom.hub.telegram_api import NotTaken, Press, Sent, TelegramApi, Update
from agentcom.hub.writing import Writer
from agentcom.model import limits
from agentcom.model.ask import Ask, AskState
from agentcom.model.batch import Table
from agentcom.model.errors import AgentComError, Conflict
from agentcom.model.identity import Identity
from agentcom.model.ids import TaskId
from agentcom.model.notify import ChatLink, Destination, DestinationKind, Notice
from agentcom.model.numerals import whole
from agentcom.model.replies import Reply
from agentcom.model.task import Task, Wait
from agentcom.protocol import calls
from agentcom.store.base import Store
from agentcom.telemetry import events

AGAIN_S: Final = 5.0
AGAIN_MAX_S: Final = 300.0
_TOAST_CHARS: Final = 190
_TEXT_CHARS: Final = 3_900
_STRANGER: Final = "this account is not linked: run `agentcom notify link NAME`, and send the code"

log = structlog.get_logger(__name__)


class Chats:
    """The bots of a hub."""

    def __init__(
        self,
        store: Store,
        writer: Writer,
        clock: Clock,
        *,
        notifications: Notifications,
        secrets: Secrets,
        outgoing: Outgoing,
        talk: Talk,
        ask: Callable[[Fact], Awaitable[Reply | msgspec.Raw]],
    ) -> None:
        self._store = store
        self._notifications = notifications
        self._secrets = secrets
        self._outgoing = outgoing
        self._talk = talk
        self._ask = ask
        self.links = ChatLinks(store, writer, clock)
        self._cards = ChatCards(store, writer, clock)
        self._listening: dict[str, asyncio.Task[None]] = {}
        self.changed = asyncio.Event()
        """Set when bots were added or removed."""

    # Sending: a courier ---------------------------------------------------------------------------

    async def deliver(self, destination: Destination, notices: Sequence[Notice]) -> None:
        """Show people what they are asked, or told; see `Courier`."""
        api = self._api(destination.name)
        first = notices[0]
        if first.ended:
            await self._close_cards(api, destination.name, first)
            return
        for link in await self.links.of(destination.name, first.person):
            if first.person is not None:
                await self._show(api, link, first)
                continue
            text = f"{formats.title(notices)}\n{formats.plain(notices)}"[:_TEXT_CHARS]
            try:
                await api.send(link.chat, text)
            except NotTaken as error:  # this person has left; the others are told
                log.warning(events.CHAT_REFUSED, destination=link.destination, reason=str(error))

    async def _show(self, api: TelegramApi, link: ChatLink, notice: Notice) -> None:
        """Show a person a question with its buttons, once."""
        cards = await self._cards.about(link.destination, notice.about)
        if any(card.chat == link.chat for card in cards):
            return  # shown by a delivery that failed for another person
        text = f"{notice.title}\n\n{notice.text}"[:_TEXT_CHARS]
        buttons = [
            (option[:64], f"{notice.about}/{number}")
            for number, option in enumerate(notice.options)
        ]
        try:
            number = await api.send(link.chat, text, buttons)
        except NotTaken as error:
            log.warning(events.CHAT_REFUSED, destination=link.destination, reason=str(error))
            return
        await self._cards.keep(
            link.destination, link.chat, str(number), about=notice.about, text=text
        )

    async def _close_cards(self, api: TelegramApi, destination: str, notice: Notice) -> None:
        for card in await self._cards.about(destination, notice.about):
            try:
                await api.edit(card.chat, card.message, f"{card.text}\n\n{notice.text}"[:4_000])
            except NotTaken as error:  # it was deleted, or says so already
                log.info(events.CHAT_REFUSED, destination=destination, reason=str(error))
            await self._cards.drop(card)

    # Listening ------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Listen to every bot until cancelled; a supervisor's child."""
        try:
            while True:
                wanted = {
                    row.name
                    for row in self._notifications.of_kind(DestinationKind.TELEGRAM)
                    if not row.parked
                }
                for name in [one for one in self._listening if one not in wanted]:
                    self._listening.pop(name).cancel()
                for name in wanted:
                    task = self._listening.get(name)
                    if task is not None and task.done():
                        task.result()  # a defect: the supervisor starts this service again
                    if task is None or task.done():
                        self._listening[name] = task = asyncio.create_task(self._listen(name))
                        task.add_done_callback(lambda _: self.changed.set())
                self.changed.clear()
                await self.changed.wait()
        finally:
            for task in self._listening.values():
                task.cancel()
            await asyncio.gather(*self._listening.values(), return_exceptions=True)
            self._listening.clear()

    async def _listen(self, name: str) -> None:
        """Take a bot's news; what was not taken before the hub died comes again."""
        api, offset, pause_s = self._api(name), 0, AGAIN_S
        while True:
            try:
                for update in await api.updates(offset):
                    await self.take(name, update)
                    offset = max(offset, update.update_id + 1)
                pause_s = AGAIN_S
            except (NotTaken, Undelivered, Unreachable, AddressRefused, AgentComError) as error:
                log.warning(events.CHAT_WAITS, destination=name, reason=str(error))
                if isinstance(error, Undelivered) and error.final:
                    await self._notifications.park(name, error.reason)
                    return  # until a person lets it go on
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, AGAIN_MAX_S)

    async def take(self, name: str, update: Update) -> None:
        """Do what somebody wrote or pressed; a repeat does nothing more."""
        api = self._api(name)
        try:
            if update.callback_query is not None:
                await self._pressed(api, name, update.callback_query)
            elif update.message is not None and update.message.from_ is not None:
                said = await self._written(name, update.message)
                if said:
                    await api.send(str(update.message.chat.id), said)
        except NotTaken as error:  # too late to tell them; what they did counts
            log.info(events.CHAT_REFUSED, destination=name, reason=str(error))

    async def _pressed(self, api: TelegramApi, name: str, press: Press) -> None:
        who = await self.links.person(name, press.from_.id)
        if who is None:
            log.warning(events.CHAT_REFUSED, destination=name, reason="a stranger's press")
            await api.answer(press.id, _STRANGER)
            return
        about, _, option = press.data.rpartition("/")
        said = await self._act(who, about, option, key=f"{name}/{press.id}")
        if press.message is not None and await self._is_over(about):
            await self._close_message(api, name, press.message, said)
        await api.answer(press.id, said[:_TOAST_CHARS])

    async def _is_over(self, about: str) -> bool:
        kind, _, thing = about.partition("/")
        if kind == "task":
            (row,) = await self._store.get([(Table.TASK, thing)])
            return not isinstance(row, Task) or row.wait is not Wait.APPROVAL
        (row,) = await self._store.get([(Table.ASK, thing)])
        return not isinstance(row, Ask) or row.state is not AskState.OPEN

    async def _close_message(self, api: TelegramApi, name: str, message: Sent, said: str) -> None:
        """Take the buttons from a message that was pressed, though no row may tell of it."""
        chat, number = str(message.chat.id), str(message.message_id)
        card = await self._cards.find(name, chat, number)
        text = message.text if card is None else card.text
        await api.edit(chat, number, f"{text}\n\n{said}"[:_TEXT_CHARS])
        if card is not None:
            await self._cards.drop(card)

    async def _written(self, name: str, message: Sent) -> str:
        """Return what to say to a message; empty: nothing."""
        assert message.from_ is not None
        account, chat = str(message.from_.id), str(message.chat.id)
        word, _, rest = message.text.strip().partition(" ")
        if word in ("/link", "/start") and rest:
            if message.chat.type != "private":
                return "send the code in a private chat"
            return await self.links.redeem(name, rest.strip(), account=account, chat=chat)
        who = await self.links.person(name, message.from_.id)
        if who is None:
            return _STRANGER if message.chat.type == "private" else ""
        if word == "/unlink":
            await self.links.unlink(name, who.user)
            return "this account is linked no more"
        if message.reply_to_message is None:
            return "reply to a question to answer it, or press one of its buttons"
        replied = str(message.reply_to_message.message_id)
        card = await self._cards.find(name, chat, replied)
        if card is None:
            return "this is no open question"
        key = f"{name}/{chat}/{message.message_id}"
        return await self._act(who, card.about, None, text=message.text, key=key)

    async def _act(
        self, who: Identity, about: str, option: str | None, *, key: str, text: str = ""
    ) -> str:
        """Answer a question or decide a task as a person; return what came of it."""
        kind, _, thing = about.partition("/")
        try:
            if kind == "task":
                return await self._decide(who, thing, option)
            (ask,) = await self._store.get([(Table.ASK, thing)])
            if not isinstance(ask, Ask):
                return "there is no such question any more"
            answer = text if option is None else _option(ask, option)
            call = calls.AskAnswer(ask=thing, answer=answer)
            speaker = speaking.person(who)
            await self._talk.do(speaker, call, cause="chat", key=key[: limits.REQUEST_KEY_CHARS])
        except AgentComError as error:
            return error.message
        return f"answered: {answer}"

    async def _decide(self, who: Identity, task: str, option: str | None) -> str:
        if option is None:
            return "press one of the buttons"
        approved = option == "0"
        body = facts.Decide(TaskId(task), approved)
        await self._ask(Fact(body=body, actor=who, cause="chat"))
        return "approved" if approved else "rejected"

    def _api(self, name: str) -> TelegramApi:
        return TelegramApi(name, self._secrets, self._outgoing)


def _option(ask: Ask, number: str) -> str:
    """Return the answer that a button stands for."""
    place = whole(number, len(ask.options) - 1)
    if place is None:
        raise Conflict("this button stands for no answer any more")
    return ask.options[place]
