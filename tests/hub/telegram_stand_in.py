"""A server that takes the documented requests of Telegram's bot interface, and no others."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from agentcom.testing.listening import listening

TOKEN = "123456:AAtoken"
FIELDS: Mapping[str, tuple[set[str], set[str]]] = {
    "getUpdates": (set(), {"offset", "limit", "timeout", "allowed_updates"}),
    "sendMessage": ({"chat_id", "text"}, {"reply_markup"}),
    "editMessageText": ({"chat_id", "message_id", "text"}, {"reply_markup"}),
    "answerCallbackQuery": ({"callback_query_id"}, {"text", "show_alert"}),
}
"""What each request must have, and what it may have."""


@dataclass
class Message:
    chat: int
    number: int
    text: str
    buttons: list[tuple[str, str]] = field(default_factory=list)
    edits: int = 0


class Telegram:
    """Chats, messages, and news that the bot has not confirmed."""

    def __init__(self) -> None:
        self.messages: dict[int, Message] = {}
        self.toasts: list[tuple[str, str]] = []
        self.updates: list[dict[str, Any]] = []
        self.blocked: set[int] = set()
        self.drop_answers = 0
        """So many requests are done, and their answers are lost."""
        self.port = 0
        self._number = 0
        self._news = asyncio.Condition()
        self.happened = asyncio.Condition()

    # What people do ---------------------------------------------------------------------------

    async def says(
        self, account: int, text: str, *, reply_to: Message | None = None, kind: str = "private"
    ) -> None:
        chat = account if kind == "private" else -account
        self._number += 1
        message: dict[str, Any] = {
            "message_id": self._number,
            "date": 1,
            "from": {"id": account, "is_bot": False, "first_name": "x"},
            "chat": {"id": chat, "type": kind},
            "text": text,
        }
        if reply_to is not None:
            replied = {"message_id": reply_to.number, "date": 1, "chat": {"id": reply_to.chat}}
            message["reply_to_message"] = replied
        await self._bring({"message": message})

    async def presses(self, account: int, message: Message, words: str) -> None:
        data = next(data for text, data in message.buttons if text == words)
        shown = {"message_id": message.number, "date": 1, "text": message.text}
        shown["chat"] = {"id": message.chat, "type": "private"}
        self._number += 1
        who = {"id": account, "is_bot": False, "first_name": "x"}
        press = {"id": f"press{self._number}", "from": who, "data": data, "message": shown}
        await self._bring({"callback_query": {**press, "chat_instance": "1"}})

    async def _bring(self, update: dict[str, Any]) -> None:
        self._number += 1
        async with self._news:
            self.updates.append({"update_id": self._number, **update})
            self._news.notify_all()

    def of(self, chat: int) -> list[Message]:
        return [one for one in self.messages.values() if one.chat == chat]

    async def until(self, holds: Any, seconds: float = 20) -> None:
        """Wait until something holds after a request."""
        async with asyncio.timeout(seconds), self.happened:
            await self.happened.wait_for(holds)

    # What the bot asks ------------------------------------------------------------------------

    async def _do(self, method: str, asked: dict[str, Any]) -> dict[str, Any]:
        must, may = FIELDS[method]
        assert must <= asked.keys() <= must | may, (method, asked)
        if method == "getUpdates":
            return {"ok": True, "result": await self._get_updates(asked)}
        if method == "answerCallbackQuery":
            self.toasts.append((asked["callback_query_id"], asked.get("text", "")))
            return {"ok": True, "result": True}
        assert isinstance(asked["chat_id"], int)
        assert 1 <= len(asked["text"]) <= 4_096
        if asked["chat_id"] in self.blocked:
            words = "Forbidden: bot was blocked by the user"
            return {"ok": False, "error_code": 403, "description": words}
        if method == "sendMessage":
            self._number += 1
            message = Message(asked["chat_id"], self._number, asked["text"])
            keyboard = asked.get("reply_markup", {}).get("inline_keyboard", [])
            for button in (one for row in keyboard for one in row):
                assert len(button["callback_data"].encode()) <= 64
                message.buttons.append((button["text"], button["callback_data"]))
            self.messages[message.number] = message
        else:
            message = self.messages[asked["message_id"]]
            if message.text == asked["text"]:
                words = "Bad Request: message is not modified"
                return {"ok": False, "error_code": 400, "description": words}
            message.text, message.buttons = asked["text"], []
            message.edits += 1
        chat = {"id": message.chat, "type": "private"}
        return {"ok": True, "result": {"message_id": message.number, "date": 1, "chat": chat}}

    async def _get_updates(self, asked: dict[str, Any]) -> list[dict[str, Any]]:
        offset = asked.get("offset", 0)
        self.updates = [one for one in self.updates if one["update_id"] >= offset]
        async with self._news:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(asked.get("timeout", 0), 1)):
                    await self._news.wait_for(lambda: self.updates)
        return list(self.updates)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().partition("content-length:")[2].split("\r\n")[0])
        asked = json.loads(await reader.readexactly(length))
        _, bot, method = head.split(" ")[1].split("/")
        if bot != f"bot{TOKEN}":
            answer = {"ok": False, "error_code": 401, "description": "Unauthorized"}
        else:
            answer = await self._do(method, asked)
        async with self.happened:
            self.happened.notify_all()
        if self.drop_answers and method != "getUpdates":
            self.drop_answers -= 1
            return
        body = json.dumps(answer).encode()
        status = 200 if answer["ok"] else answer["error_code"]
        writer.write(f"HTTP/1.1 {status} x\r\ncontent-length: {len(body)}\r\n\r\n".encode())
        writer.write(body)


@asynccontextmanager
async def telegram() -> AsyncIterator[Telegram]:
    """Run a server on the loopback."""
    made = Telegram()
    async with listening(made.serve) as door:
        made.port = door.port
        yield made
