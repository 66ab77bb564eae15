import asyncio
from pathlib import Path

import pytest

from agentcom.hub.writing import Asked, Draft
from agentcom.model import limits
from agentcom.model.address import Address
from agentcom.model.ask import Ask, AskId
from agentcom.model.errors import CursorAhead, InvalidInput, MailboxFull, NotFound
from agentcom.model.ids import ProjectId
from agentcom.model.message import Attachment, Delivery, Sort, Urgency, Why
from agentcom.protocol import calls, told
from agentcom.store.base import Page, Query
from agentcom.testing.waiting import PATIENCE_S
from tests.hub.mail_house import ADA, ANN, BOB, CAT, ONCE, House, agent, furnish, person


@pytest.fixture
async def house(tmp_path: Path) -> House:
    return await furnish(tmp_path)


# Sending --------------------------------------------------------------------------------------


async def test_a_message_reaches_agents_and_people_by_name(house: House) -> None:
    sent = await house.send(ANN, "ada,user:cat", "the parser is yours", subject="work")

    assert [(one.address, one.state, one.wakes) for one in sent.to] == [
        ("agent:ada", Delivery.QUEUED, True),
        ("user:cat", Delivery.QUEUED, False),
    ]
    assert sent.count == 2
    (letter,) = (await house.inbox(ADA)).letters
    assert letter.message.id == sent.message == letter.message.thread
    assert (letter.message.sender, letter.message.subject) == ("user:ann", "work")
    assert (letter.seq, letter.why, letter.wakes) == (1, Why.DIRECT, True)
    assert await house.bodies(CAT) == ["the parser is yours"]
    assert await house.bodies(BOB) == []


async def test_an_agents_message_says_on_which_task_it_works(house: House) -> None:
    await house.send(ADA, "ann")

    (letter,) = (await house.inbox(ANN)).letters
    assert (letter.message.sender, letter.message.task) == ("agent:ada", "task-ada")


async def test_who_is_named_twice_gets_it_once(house: House) -> None:
    sent = await house.send(ANN, "ada,ada,agent:ada")

    assert sent.count == 1
    assert await house.bodies(ADA) == ["hello"]


async def test_a_bare_name_of_two_is_asked_about(house: House) -> None:
    house.employ("cat")

    with pytest.raises(InvalidInput, match="agent:cat or user:cat"):
        await house.send(ANN, "cat")
    await house.send(ANN, "user:cat")
    assert await house.bodies(CAT) == ["hello"]


@pytest.mark.parametrize("name", ["nobody", "user:ada", "agent:cat", "eve"])
async def test_who_is_not_there_cannot_be_written_to(house: House, name: str) -> None:
    await house.admit("eve", project="other")

    with pytest.raises(NotFound, match=name):
        await house.send(ANN, f"ada,{name}")
    assert await house.bodies(ADA) == []


@pytest.mark.parametrize("name", ["hub", "bot:ada", "channel:x", "Ada Lovelace", "agent:"])
async def test_what_is_no_name_is_refused(house: House, name: str) -> None:
    with pytest.raises((InvalidInput, NotFound)):
        await house.send(ANN, name)


async def test_nobody_writes_to_oneself(house: House) -> None:
    with pytest.raises(InvalidInput, match="yourself"):
        await house.send(ANN, "ada,ann")
    with pytest.raises(InvalidInput, match="yourself"):
        await house.send(ADA, "agent:ada")


async def test_an_agent_is_written_to_from_a_project_that_it_works_for(house: House) -> None:
    eve = person("eve", "other")
    with pytest.raises(NotFound):
        await house.send(eve, "ada")
    house.assign("ada", "t", "other")

    await house.send(eve, "ada")
    assert await house.bodies(ADA) == []  # it is in the mailbox of the other project


async def test_an_answer_stands_in_the_thread(house: House) -> None:
    first = await house.send(ANN, "ada")
    second = await house.send(ADA, "ann", reply_to=first.message)
    third = await house.send(ANN, "ada", reply_to=second.message)

    assert {second.thread, third.thread} == {first.message}


@pytest.mark.parametrize("message", ["none", "x" * 64])
async def test_an_answer_to_what_one_may_not_see_is_refused(house: House, message: str) -> None:
    secret = await house.send(ANN, "ada")

    for name in (message, secret.message):
        with pytest.raises(NotFound, match="not for you"):
            await house.send(BOB, "cat", reply_to=name)
    assert await house.bodies(CAT) == []


async def test_an_attachment_must_be_there(house: House) -> None:
    with pytest.raises(NotFound, match="send it first"):
        await house.send(ANN, "ada", attachments=(Attachment("0" * 64),))
    assert await house.bodies(ADA) == []


async def test_a_repeat_under_one_key_sends_once(house: House) -> None:
    asked = Asked(cause="t", key="k", payload="p")

    first = await house.send(ANN, "ada", asked=asked)
    house.view.agents.clear()  # a repeat is the same even when nobody is there any more
    again = await house.send(ANN, "ada", asked=asked)

    assert first == again
    assert await house.bodies(ADA) == ["hello"]


async def test_of_many_that_send_at_once_each_gets_a_place(house: House) -> None:
    await asyncio.gather(*(house.send(who, "ada", f"{i}") for i in range(20) for who in (ANN, BOB)))

    letters = (await house.inbox(ADA, limit=100)).letters
    assert [letter.seq for letter in letters] == list(range(1, 41))
    own = [int(one.message.body) for one in letters if one.message.sender == "user:ann"]
    assert own == list(range(20))


async def test_a_full_mailbox_refuses_for_all_recipients(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAILBOX_MAX", 2)
    await house.send(ANN, "ada")
    await house.send(ANN, "ada")

    with pytest.raises(MailboxFull) as full:
        await house.send(ANN, "bob,ada")
    assert (full.value.code, full.value.status) == ("mailbox_full", 429)
    assert await house.bodies(BOB) == []
    assert len(await house.entries(ADA)) == 2

    await house.inbox(ADA, after=1)
    await house.send(ANN, "bob,ada")
    assert len(await house.entries(ADA)) == 3


# Reading --------------------------------------------------------------------------------------


async def test_letters_come_again_until_they_are_acknowledged(house: House) -> None:
    for text in "abc":
        await house.send(ANN, "ada", text)

    assert await house.bodies(ADA) == ["a", "b", "c"]
    assert await house.bodies(ADA) == ["a", "b", "c"]
    assert await house.bodies(ADA, after=2) == ["c"]
    assert await house.bodies(ADA) == ["c"]
    assert [entry.state for entry in await house.entries(ADA)] == ["acked", "acked", "seen"]


async def test_pages_follow_each_other(house: House) -> None:
    for number in range(7):
        await house.send(ANN, "ada", str(number))

    page = await house.inbox(ADA, limit=3)
    found = [letter.message.body for letter in page.letters]
    for _ in range(3):
        page = await house.inbox(ADA, limit=3, after=page.cursor)
        found += [letter.message.body for letter in page.letters]
    assert found == list("0123456")
    assert not page.more
    assert (await house.inbox(ADA)).open == 0


async def test_what_must_be_acknowledged_by_name_stays(house: House) -> None:
    freeze = await house.send(ANN, "ada", "freeze", ack_required=True)
    await house.send(ANN, "ada", "b")

    assert await house.bodies(ADA, after=2) == []
    assert await house.bodies(ADA) == ["freeze"]
    assert (await house.ack(ADA, freeze.message)) == told.Acked(acked=1, open=0)
    assert await house.bodies(ADA) == []


async def test_reading_all_shows_what_was_and_acknowledges_nothing(house: House) -> None:
    for text in "abc":
        await house.send(ANN, "ada", text)
    await house.inbox(ADA, after=1)

    assert await house.bodies(ADA, all=True) == ["a", "b", "c"]
    assert await house.bodies(ADA, all=True, after=1) == ["b", "c"]
    assert (await house.inbox(ADA)).open == 2


async def test_a_cursor_beyond_the_end_acknowledges_nothing(house: House) -> None:
    await house.send(ANN, "ada")

    for asked in ({"after": 2}, {"after": 2, "all": True}, {"after": 1 << 52}):
        with pytest.raises(CursorAhead) as ahead:
            await house.inbox(ADA, **asked)
        assert ahead.value.code == "cursor_ahead"
    assert await house.bodies(ADA) == ["hello"]


async def test_a_reader_waits_for_what_comes(house: House) -> None:
    reading = asyncio.create_task(house.inbox(ADA, wait_ms=20_000))
    await asyncio.sleep(0)
    await house.send(ANN, "bob")
    assert not reading.done()
    await house.send(ANN, "ada", "now")

    async with asyncio.timeout(PATIENCE_S):
        (letter,) = (await reading).letters
    assert letter.message.body == "now"
    assert await house.bodies(BOB) == ["hello"]


async def test_a_reader_does_not_wait_for_ever(house: House) -> None:
    assert (await house.inbox(ADA, wait_ms=1)).letters == ()


async def test_a_page_fits_into_a_frame(house: House) -> None:
    for _ in range(5):
        await house.send(ANN, "ada", "x" * limits.MESSAGE_BYTES)

    first = await house.inbox(ADA, limit=100)
    rest = await house.inbox(ADA, limit=100, after=first.cursor)
    assert (len(first.letters), first.more, len(rest.letters)) == (2, True, 2)


async def test_a_long_stretch_of_closed_letters_is_passed_in_steps(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "INBOX_STEPS", 2)
    first = await house.send(ANN, "ada", "stays", ack_required=True)
    for number in range(12):
        await house.send(ANN, "ada", str(number))
    await house.ack(ADA, *[entry.message for entry in (await house.entries(ADA))[1:12]])

    seen: list[str] = []
    page = await house.inbox(ADA, limit=2)
    for _ in range(6):
        seen += [letter.message.body for letter in page.letters]
        if not page.more:
            break
        page = await house.inbox(ADA, limit=2, after=page.cursor)
    assert seen == ["stays", "11"]
    await house.ack(ADA, first.message)


async def test_a_page_costs_the_same_however_much_lies_before_and_behind(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    query = house.store.query

    async def counted(asked: Query) -> Page:
        page = await query(asked)
        rows.append(len(page.rows))
        return page

    costs = []
    for size in (60, 600):
        name = f"x{size}"
        house.employ(name)
        await house.send(ANN, name, ack_required=True)
        for _ in range(size):
            await house.send(ANN, name)
        await house.inbox(agent(name), after=size // 2)
        reads = house.store.reads
        with monkeypatch.context() as patch:
            patch.setattr(house.store, "query", counted)
            rows.clear()
            await house.inbox(agent(name), after=size // 2 + 10, limit=10)
        costs.append((sum(rows), house.store.reads - reads))
    assert costs[0] == costs[1]
    assert costs[0][0] < 50


async def test_a_message_that_is_late_is_not_shown(house: House) -> None:
    await house.send(ANN, "ada", "soon", expires_in_ms=1_000)
    await house.send(ANN, "ada", "later")
    house.clock.advance(1_000)

    assert await house.bodies(ADA) == ["later"]
    assert (await house.inbox(ADA)).letters[0].message.expires_at is not None


async def test_what_was_late_is_not_acknowledged_by_reading_on(house: House) -> None:
    await house.send(ANN, "ada", "soon", expires_in_ms=1_000)
    await house.send(ANN, "ada", "later")
    house.clock.advance(1_000)
    page = await house.inbox(ADA)

    await house.inbox(ADA, after=page.cursor)
    assert [entry.state for entry in await house.entries(ADA)] == ["expired", "acked"]


# Acknowledging --------------------------------------------------------------------------------


async def test_others_messages_cannot_be_acknowledged(house: House) -> None:
    own = await house.send(ANN, "ada", "own")
    others = await house.send(ANN, "bob", "others")

    for wanted in ((own.message, others.message), ("none",)):
        with pytest.raises(NotFound, match="nothing was"):
            await house.ack(ADA, *wanted)
    with pytest.raises(NotFound):
        await house.ack(ANN, own.message)
    assert [e.state for e in [*await house.entries(ADA), *await house.entries(BOB)]] == [
        "queued",
        "queued",
    ]


async def test_an_acknowledgement_counts_again_when_it_is_repeated(house: House) -> None:
    sent = await house.send(ANN, "ada")

    for _ in range(2):
        assert await house.ack(ADA, sent.message, sent.message) == told.Acked(acked=1, open=0)


# For other services, and who one is -----------------------------------------------------------


async def test_a_mention_is_mail_and_can_be_seen_then(house: House) -> None:
    message = await house.put(ADA.address, "look", Why.MENTION)

    assert await house.mail.may_see(ADA, message)
    assert not await house.mail.may_see(BOB, message)
    assert not await house.mail.may_see(person("cat", "other"), message)
    (letter,) = (await house.inbox(ADA)).letters
    assert (letter.why, letter.wakes) == (Why.MENTION, True)


async def test_the_hub_gives_notice(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def tell(draft: Draft) -> told.Told:
        await house.mail.notice(draft, ProjectId("default"), ANN.address, "it is over")
        return told.Told()

    await house.writer.once("hub", ONCE, tell)
    (letter,) = (await house.inbox(ANN)).letters
    assert (letter.message.sender, letter.message.sort) == ("hub", Sort.NOTICE)
    assert await house.mail.may_see(ANN, letter.message)

    monkeypatch.setattr(limits, "MAILBOX_MAX", 1)
    await house.writer.once("hub", ONCE, tell)
    assert len(await house.entries(ANN)) == 1


async def test_low_urgency_wakes_nobody(house: House) -> None:
    sent = await house.send(ANN, "ada", urgency=Urgency.LOW)

    assert not sent.to[0].wakes


async def test_one_is_told_who_one_is(house: House) -> None:
    await house.send(ANN, "ada")

    me = await house.do(ADA, calls.Whoami(), told.Me)
    assert (me.address, me.role, me.task, me.attempt, me.unread) == (
        "agent:ada", "agent", "task-ada", 1, 1,
    )  # fmt: skip
    assert (await house.do(ANN, calls.Whoami(), told.Me)).address == "user:ann"


async def test_one_is_told_how_many_questions_wait_for_one(house: House) -> None:
    for number, to in enumerate(("user:ann", "agent:ada", "agent:ada")):
        ask = Ask(
            id=AskId(f"a{number}"), asker=CAT.address, question="?", at=house.clock.now().wall,
            to=Address(to),
        )  # fmt: skip
        house.view.asks[ask.id] = ask

    asks = [(await house.do(who, calls.Whoami(), told.Me)).asks for who in (ANN, ADA, BOB)]
    assert asks == [1, 2, 0]
