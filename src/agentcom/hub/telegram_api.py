"""The requests of Telegram's bot interface that the hub makes, and what it reads of the answers."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final, TypeVar

import msgspec

from agentcom.hub.notify_secrets import Secrets
from agentcom.hub.notify_sender import Undelivered
from agentcom.hub.outgoing import Outgoing

API: Final = "https://api.telegram.org"
POLL_S: Final = 25
"""A request for news waits so long at the other end."""
_POLL_TOTAL_S: Final = 40.0
_POLL_BYTES: Final = 1_048_576
_HEADERS: Final = {"content-type": "application/json"}
_DEAD: Final = frozenset({401, 404})
"""The token is none, or is revoked."""
_NOT_THEIRS: Final = frozenset({400, 403})
_TOO_MANY: Final = 429
_Read = TypeVar("_Read")


class Account(msgspec.Struct, frozen=True):
    """Who wrote, or pressed."""

    id: int


class Chat(msgspec.Struct, frozen=True):
    """Where."""

    id: int
    type: str = ""


class Sent(msgspec.Struct, frozen=True):
    """A message, as far as it is read."""

    message_id: int
    chat: Chat
    from_: Account | None = msgspec.field(default=None, name="from")
    text: str = ""
    reply_to_message: "Sent | None" = None


class Press(msgspec.Struct, frozen=True):
    """A button that somebody pressed."""

    id: str
    from_: Account = msgspec.field(name="from")
    data: str = ""
    message: Sent | None = None


class Update(msgspec.Struct, frozen=True):
    """One piece of news."""

    update_id: int
    message: Sent | None = None
    callback_query: Press | None = None


class _Parameters(msgspec.Struct, frozen=True):
    retry_after: int = 0


class _Answer(msgspec.Struct, frozen=True):
    ok: bool
    result: msgspec.Raw = msgspec.Raw(b"null")
    error_code: int = 0
    description: str = ""
    parameters: _Parameters = _Parameters()


class NotTaken(Exception):
    """Telegram refuses this one request: a chat that is gone, a message that cannot be changed."""


class TelegramApi:
    """One bot's requests."""

    def __init__(self, destination: str, secrets: Secrets, outgoing: Outgoing) -> None:
        self._destination = destination
        self._secrets = secrets
        self._outgoing = outgoing

    async def updates(self, offset: int) -> Sequence[Update]:
        """Wait for news, and return it; what came before `offset` is forgotten there."""
        asked = {
            "offset": offset,
            "timeout": POLL_S,
            "allowed_updates": ["message", "callback_query"],
        }
        raw = await self._do("getUpdates", asked, total_s=_POLL_TOTAL_S, answer_bytes=_POLL_BYTES)
        return _decoded(raw, list[Update])

    async def send(self, chat: str, text: str, buttons: Sequence[tuple[str, str]] = ()) -> int:
        """Send a message with buttons (words, data), and return its number."""
        asked: dict[str, Any] = {"chat_id": int(chat), "text": text}
        if buttons:
            rows = [[{"text": words, "callback_data": data}] for words, data in buttons]
            asked["reply_markup"] = {"inline_keyboard": rows}
        raw = await self._do("sendMessage", asked)
        return _decoded(raw, Sent).message_id

    async def edit(self, chat: str, message: str, text: str) -> None:
        """Write a message anew, without buttons."""
        asked = {"chat_id": int(chat), "message_id": int(message), "text": text}
        await self._do("editMessageText", asked)

    async def answer(self, press: str, text: str) -> None:
        """Tell who pressed a button what came of it."""
        await self._do("answerCallbackQuery", {"callback_query_id": press, "text": text})

    async def _do(self, method: str, asked: dict[str, Any], **bounds: Any) -> msgspec.Raw:
        """Make a request, and return its result.

        Raises:
            NotTaken: it is refused, others would not be.
            Undelivered: the bot cannot do anything now, or never.
            Unreachable, AddressRefused: see `Outgoing.post`.
        """
        secret = await asyncio.to_thread(self._secrets.read, self._destination)
        if secret is None:
            raise Undelivered("its secret is not on this computer: add it again", final=True)
        url = f"{secret.url or API}/bot{secret.token}/{method}"
        reply = await self._outgoing.post(url, msgspec.json.encode(asked), _HEADERS, **bounds)
        answer = _decoded(reply.body, _Answer)
        if answer.ok:
            return answer.result
        words = f"Telegram answered {answer.error_code}: {answer.description[:100]}"
        if answer.error_code in _NOT_THEIRS:
            raise NotTaken(words)
        after_s = answer.parameters.retry_after if answer.error_code == _TOO_MANY else 0
        raise Undelivered(words, final=answer.error_code in _DEAD, after_ms=1_000 * after_s)


def _decoded(body: bytes | msgspec.Raw, kind: type[_Read]) -> _Read:
    """Return what an answer says; raises `Undelivered` if it is none that Telegram documents."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Undelivered("Telegram answered, and not as it should") from None
