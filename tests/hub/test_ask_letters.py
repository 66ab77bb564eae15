"""Letters about questions, written once whatever happens to the hub."""

from typing import Any

import pytest

from agentcom.hub import ask_letters as module
from agentcom.hub.speaking import Speaker
from agentcom.model import limits
from agentcom.model.batch import Table
from agentcom.protocol import calls
from agentcom.store.base import Query
from tests.hub.service_house import ANN, BOB, MINUTE_MS, OLGA
from tests.hub.test_asks import House, house

__all__ = ["house"]


async def letters(house: House, who: Speaker) -> list[Any]:
    await house.services.conversation.ask_letters.work()
    return list((await house.do(who, calls.InboxRead())).letters)


async def test_who_is_asked_gets_a_letter_that_says_how_to_answer(house: House) -> None:
    coder = await house.agent()
    ask = await house.put(coder, question="which?", options=("red", "blue"))

    (letter,) = await letters(house, ANN)

    message = letter.message
    assert (message.sender, message.sort, message.task) == ("agent:coder", "ask", coder.task)
    assert message.body.startswith("which?\n\nIt is one of:\n- red\n- blue\n")
    assert f"agentcom ask answer {ask.id} " in message.body
    await house.answer(ANN, ask, "red")
    assert await letters(house, coder) == []  # it hears the answer by its call, or in its prompt


async def test_an_agent_that_is_asked_is_woken_and_a_person_gets_the_answer(house: House) -> None:
    coder = await house.agent()
    ask = await house.put(BOB, to="coder")

    (letter,) = await letters(house, coder)
    assert letter.wakes
    await house.answer(coder, ask, "a")

    (answer,) = await letters(house, BOB)
    message = answer.message
    assert (message.sender, message.sort, message.body) == ("agent:coder", "answer", "a")
    assert (message.thread, message.reply_to) == (letter.message.id, letter.message.id)


async def test_a_hub_that_starts_again_tells_what_was_not_told_and_nothing_twice(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PRUNE_ROWS", 1)
    known = await house.put(BOB, to="olga", question="known")
    assert len(await letters(house, OLGA)) == 1
    await house.put(BOB, to="olga", question="lost")
    answered = await house.put(BOB, to="user:ann", question="answered")
    await house.answer(ANN, answered)
    asks = house.services.conversation.ask_letters
    asks._due.clear()

    await asks._catch_up()
    shown = [letter.message.body.partition("\n")[0] for letter in await letters(house, OLGA)]

    assert shown == ["known", "lost"]
    assert [one.message.body for one in await letters(house, BOB)] == ["that"]
    assert known.to == "user:olga"


async def test_nobody_answered_is_told_and_a_question_taken_back_is_not(house: House) -> None:
    await house.put(BOB, to="olga", deadline_ms=MINUTE_MS)
    back = await house.put(BOB, to="olga")
    await house.do(BOB, calls.AskWithdraw(ask=back.id))
    house.pass_time(MINUTE_MS)
    await house.services.engine.drained()

    (told,) = await letters(house, BOB)

    assert (told.message.sender, told.message.body) == ("hub", "nobody answered in time")


async def test_questions_that_ended_long_ago_are_deleted(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PRUNE_ROWS", 2)
    asks = [await house.put(BOB, to="olga", deadline_ms=366 * 86_400_000) for _ in range(5)]
    for ask in asks[1:]:
        await house.answer(OLGA, ask)
    conversation = house.services.conversation
    now = house.clock.now().wall

    assert await conversation.ask_letters.prune(now) == 0
    house.clock.advance(limits.ASKS_KEEP_MS)
    gone = await conversation.ask_letters.prune(house.clock.now().wall)

    left = await house.services.store.query(Query(table=Table.ASK))
    assert (gone, [row.id for row in left.rows]) == (4, [asks[0].id])  # type: ignore[union-attr]  # asks


async def test_a_full_mailbox_keeps_nobody_from_asking(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAILBOX_MAX", 0)
    ask = await house.put(BOB, to="olga")

    assert await letters(house, OLGA) == []
    assert (await house.answer(OLGA, ask)).answer == "that"
