"""Questions and approvals in a chat: linked by a code, answered by a button, once, by who may."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from agentcom.hub import notify_sender
from agentcom.hub.config import OutgoingSettings
from agentcom.model.identity import Role
from agentcom.store.base import Store
from agentcom.store.memory import MemoryStore
from agentcom.testing.hub import ADMIN, RunningHub, running_hub
from agentcom.testing.hub_process import HubProcess
from agentcom.testing.waiting import until
from tests.hub.telegram_stand_in import TOKEN, Message, Telegram, telegram

ANN, EVE = 71, 666
"""Accounts: of the admin, and of a stranger."""
ALLOW = OutgoingSettings(allow=("127.0.0.1",))


@dataclass
class House:
    hub: RunningHub
    phone: Telegram
    bob: httpx.AsyncClient
    """A colleague who asks."""

    async def call(self, name: str, who: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
        response = await who.post(f"/api/v1/calls/{name}", json=fields)
        found: dict[str, Any] = response.raise_for_status().json()
        return found

    async def asks(self, question: str, *options: str) -> str:
        """Let Bob ask the admin."""
        asked = await self.call("ask_put", self.bob, question=question, to=f"user:{ADMIN}",
                                options=list(options))  # fmt: skip
        return str(asked["ask"]["id"])

    async def ask(self, ask: str) -> dict[str, Any]:
        found: dict[str, Any] = (await self.call("ask_show", self.bob, ask=ask))["ask"]
        return {"state": "open", **found}

    async def card(self, text: str, chat: int = ANN) -> Message:
        """Return the message of a chat that has some text, once it is there."""

        def found() -> list[Message]:
            return [one for one in self.phone.of(chat) if text in one.text]

        await self.phone.until(found)
        return found()[-1]

    async def link(self, account: int = ANN) -> None:
        made = await self.hub.http.post("/api/v1/destinations/phone/link")
        await self.phone.says(account, f"/link {made.json()['code']}")
        await self.card("now:", account)


def bot(phone: Telegram) -> dict[str, Any]:
    return {
        "name": "phone",
        "kind": "telegram",
        "token": TOKEN,
        "url": f"http://127.0.0.1:{phone.port}",
        "topics": ["asks", "approvals"],
    }


@asynccontextmanager
async def house_on(
    phone: Telegram, store: Store, home: Path, *, token: str | None = None, bob: str = ""
) -> AsyncIterator[House]:
    async with running_hub(store, token=token, home=home, outgoing=ALLOW) as hub:
        bob = bob or (await hub.user("bob", Role.SUBMITTER)).token
        async with hub.client(bob) as client:
            yield House(hub, phone, client)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with telegram() as phone, house_on(phone, MemoryStore(), tmp_path) as house:
        made = await house.hub.http.post("/api/v1/destinations", json=bot(phone))
        assert made.status_code == 201, made.text
        assert TOKEN not in made.text
        yield house


async def test_a_press_answers_once_as_the_person_and_the_message_says_so(house: House) -> None:
    await house.link()
    ask = await house.asks("which database?", "sqlite", "postgres")
    card = await house.card("which database?")
    assert [words for words, _ in card.buttons] == ["sqlite", "postgres"]

    await house.phone.presses(ANN, card, "postgres")
    await house.phone.until(lambda: card.edits)

    answered = await house.ask(ask)
    assert (answered["state"], answered["answer"]) == ("answered", "postgres")
    assert answered["answered_by"] == f"user:{ADMIN}"
    assert "postgres" in card.text
    assert not card.buttons


async def test_a_press_of_a_button_that_nobody_was_shown_ends_nothing(house: House) -> None:
    await house.link()
    ask = await house.asks("which?", "a", "b")
    card = await house.card("which?")
    data = card.buttons[0][1].rpartition("/")[0]

    for forged in ("\u00b2", "9" * 20, "-1", "", "2"):
        card.buttons.append((f"forged {forged}", f"{data}/{forged}"))
        await house.phone.presses(ANN, card, f"forged {forged}")
    await house.phone.presses(ANN, card, "b")
    await house.phone.until(lambda: len(house.phone.toasts) == 6)

    assert [words for _, words in house.phone.toasts[:5]] == [
        "this button stands for no answer any more"
    ] * 5
    assert (await house.ask(ask))["answer"] == "b"


async def test_a_second_press_changes_nothing_and_says_that_it_is_over(house: House) -> None:
    await house.link()
    ask = await house.asks("which?", "a", "b")
    card = await house.card("which?")
    old = Message(card.chat, card.number, card.text, list(card.buttons))
    await house.phone.presses(ANN, old, "a")
    await house.phone.presses(ANN, old, "b")
    await house.phone.until(lambda: len(house.phone.toasts) == 2)

    assert (await house.ask(ask))["answer"] == "a"
    assert house.phone.toasts[0][1] == "answered: a"
    assert "answered: b" not in house.phone.toasts[1][1]


async def test_a_strangers_press_and_words_are_refused(house: House) -> None:
    await house.link()
    ask = await house.asks("which?", "a", "b")
    card = await house.card("which?")
    await house.phone.presses(EVE, card, "a")
    await house.phone.until(lambda: house.phone.toasts)
    await house.phone.says(EVE, "a", reply_to=card)
    await house.card("not linked", EVE)

    assert "not linked" in house.phone.toasts[0][1]
    assert (await house.ask(ask))["state"] == "open"


async def test_what_was_answered_elsewhere_is_brought_up_to_date(house: House) -> None:
    await house.link()
    ask = await house.asks("which?", "a", "b")
    card = await house.card("which?")
    await house.call("ask_answer", house.hub.http, ask=ask, answer="b")
    await house.phone.until(lambda: card.edits)

    assert f"answered by user:{ADMIN}: b" in card.text
    assert not card.buttons


async def test_a_question_without_choices_is_answered_by_a_reply(house: House) -> None:
    await house.link()
    ask = await house.asks("how shall it be called?")
    card = await house.card("how shall it be called?")
    await house.phone.says(ANN, "Edna", reply_to=card)
    await house.phone.until(lambda: card.edits)

    assert (await house.ask(ask))["answer"] == "Edna"


async def test_an_approval_is_given_by_a_button(house: House) -> None:
    await house.link()
    for number, (word, state) in enumerate((("approve", "completed"), ("reject", "failed"))):
        spec = {"title": f"deploy {number}", "approval": "person"}
        made = await house.hub.http.post("/api/v1/tasks", json=spec)
        task = made.raise_for_status().json()["tasks"][0]
        card = await house.card(f"deploy {number}")
        await house.phone.presses(ANN, card, word)
        await house.phone.until(lambda card=card: card.edits)

        shown = (await house.hub.http.get(f"/api/v1/tasks/{task}")).json()["task"]
        assert shown["state"] == state
        assert not card.buttons


async def test_an_approval_that_was_given_elsewhere_is_brought_up_to_date(house: House) -> None:
    await house.link()
    spec = {"title": "deploy", "approval": "person"}
    made = await house.hub.http.post("/api/v1/tasks", json=spec)
    task = made.raise_for_status().json()["tasks"][0]
    card = await house.card("deploy")
    (await house.hub.http.post(f"/api/v1/tasks/{task}/approve", json={})).raise_for_status()
    await house.phone.until(lambda: card.edits)

    assert "approved" in card.text


async def test_a_code_works_once_in_a_private_chat_and_guesses_are_few(house: House) -> None:
    made = await house.hub.http.post("/api/v1/destinations/phone/link")
    code = made.json()["code"]
    await house.phone.says(EVE, f"/link {code}", kind="group")
    await house.card("private chat", -EVE)
    await house.phone.says(ANN, f"/link {code}")
    await house.card("now:", ANN)
    await house.phone.says(EVE, f"/link {code}")
    await house.card("wrong", EVE)
    for _ in range(9):
        await house.phone.says(EVE, "/link aaaaaaaaaa")
    await house.phone.says(ANN, "hello")
    await house.card("reply to a question", ANN)

    assert len(house.phone.of(EVE)) == 5
    shown = (await house.hub.http.get("/api/v1/destinations")).json()["destinations"][0]
    assert shown["people"] == [ADMIN]
    audit = (await house.hub.http.get("/api/v1/audit?action=chat:link")).text
    assert audit.count(f"chat:phone/{ANN}") == 1


async def test_who_was_removed_or_unlinked_is_a_stranger(house: House) -> None:
    await house.link()
    ask = await house.asks("which?", "a", "b")
    card = await house.card("which?")
    await house.hub.http.post("/api/v1/destinations/phone/unlink")
    await house.phone.presses(ANN, card, "a")
    await house.phone.until(lambda: house.phone.toasts)

    assert "not linked" in house.phone.toasts[0][1]
    assert (await house.ask(ask))["state"] == "open"


async def test_only_who_is_asked_is_shown_a_question(house: House) -> None:
    await house.link()
    made = await house.bob.post("/api/v1/destinations/phone/link")
    await house.phone.says(72, f"/link {made.json()['code']}")
    await house.card("now:", 72)
    await house.asks("which?", "a")
    await house.card("which?", ANN)

    assert len(house.phone.of(72)) == 1


async def test_who_blocked_the_bot_keeps_nobody_from_the_rest(house: House) -> None:
    await house.link()
    house.phone.blocked.add(ANN)
    await house.asks("one?", "a")
    await house.hub.http.post("/api/v1/destinations/phone/test")

    async def is_empty() -> bool:
        shown = (await house.hub.http.get("/api/v1/destinations")).json()["destinations"][0]
        return bool(shown["waiting"] == 0 and shown["destination"]["sent"] == 2)

    await until(is_empty)


async def test_an_answer_that_is_lost_on_the_way_shows_no_question_twice_for_long(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify_sender, "RETRY_BASE_MS", 50)
    await house.link()
    house.phone.drop_answers = 1
    ask = await house.asks("which?", "a", "b")
    await house.phone.until(
        lambda: len([one for one in house.phone.of(ANN) if "which?" in one.text]) == 2
    )
    first, second = (one for one in house.phone.of(ANN) if "which?" in one.text)
    await house.phone.presses(ANN, first, "a")
    await house.phone.until(lambda: first.edits and second.edits)

    assert (await house.ask(ask))["answer"] == "a"


async def test_a_wrong_token_parks_the_bot_and_is_never_shown(tmp_path: Path) -> None:
    async with telegram() as phone, house_on(phone, MemoryStore(), tmp_path) as house:
        await house.hub.http.post("/api/v1/destinations", json={**bot(phone), "token": "9:WRONG"})

        async def is_parked() -> bool:
            response = await house.hub.http.get("/api/v1/destinations")
            assert "WRONG" not in response.text
            return "401" in response.json()["destinations"][0]["destination"].get("parked", "")

        await until(is_parked)


def started(hub: HubProcess, phone: Telegram) -> str:
    """Let a hub be allowed to reach the stand-in, add the bot, and return a colleague's token."""
    hub.kill()
    (hub.home / "hub.toml").write_text('[outgoing]\nallow = ["127.0.0.1"]\n')
    hub.restart()
    hub.post("/destinations", bot(phone))
    return hub.user("bob")


async def test_kill_9_of_the_hub_loses_no_question_and_counts_no_press_twice() -> None:
    async with telegram() as phone:
        with HubProcess() as hub:
            bob = await asyncio.to_thread(started, hub, phone)
            code = (await asyncio.to_thread(hub.post, "/destinations/phone/link", {}))["code"]
            await phone.says(ANN, f"/link {code}")
            await phone.until(lambda: phone.of(ANN))

            headers = {"Authorization": f"Bearer {bob}"}
            body = {"question": "which?", "to": "user:bench", "options": ["a", "b"]}
            async with httpx.AsyncClient(headers=headers, trust_env=False) as client:
                put = await client.post(f"{hub.url}/api/v1/calls/ask_put", json=body)
                await asyncio.to_thread(hub.kill)  # whatever of the message is done by now
                await asyncio.to_thread(hub.restart)
                await phone.until(lambda: any("which?" in one.text for one in phone.of(ANN)))
                card = next(one for one in phone.of(ANN) if "which?" in one.text)

                await asyncio.to_thread(hub.kill)
                await phone.presses(ANN, card, "b")  # while nobody listens
                await asyncio.to_thread(hub.restart)
                await phone.until(lambda: phone.toasts and not card.buttons)
                ask = put.raise_for_status().json()["ask"]["id"]
                shown = await client.post(f"{hub.url}/api/v1/calls/ask_show", json={"ask": ask})

    assert shown.json()["ask"]["answer"] == "b"
    assert shown.json()["ask"]["answered_by"] == "user:bench"
