from pathlib import Path
from typing import Any

import pytest

from agentcom.hub import mail_expiry as module
from agentcom.hub.writing import Writer
from agentcom.model import limits
from agentcom.model.batch import Table
from agentcom.model.message import Sort
from tests.hub.mail_house import ADA, ANN, BOB, CAT, House, furnish

DAY = 86_400_000


@pytest.fixture
async def house(tmp_path: Path) -> House:
    return await furnish(tmp_path)


async def pass_days(house: House, days: float) -> None:
    house.clock.advance(int(days * DAY))
    await house.expiry.work()


async def states(house: House) -> str:
    return " ".join([e.state for who in (ADA, BOB) for e in await house.entries(who)])


async def test_what_nobody_took_expires(house: House) -> None:
    short = await house.send(ANN, "ada,bob", expires_in_ms=DAY)
    await house.send(ANN, "ada", "long")
    await house.ack(BOB, short.message)

    await pass_days(house, 0.9)
    assert await states(house) == "queued queued acked"
    await pass_days(house, 0.1)
    assert await states(house) == "expired queued acked"
    assert await house.bodies(ADA) == ["long"]
    assert (await house.inbox(ADA)).open == 1
    assert await house.bodies(ANN) == []  # nobody had to acknowledge it
    await pass_days(house, 89)
    assert await house.bodies(ADA) == []


async def test_a_sender_is_told_once_who_did_not_acknowledge(house: House) -> None:
    sent = await house.send(ANN, "ada,bob,cat", ack_required=True, expires_in_ms=DAY)
    await house.ack(BOB, sent.message)
    await house.inbox(ADA)

    for _ in range(3):
        await pass_days(house, 1)
    (notice,) = (await house.inbox(ANN)).letters
    assert notice.message.sort is Sort.NOTICE
    assert "agent:ada, user:cat did not" in notice.message.body


async def test_an_expired_message_cannot_be_acknowledged_any_more(house: House) -> None:
    sent = await house.send(ANN, "ada", expires_in_ms=DAY)
    await pass_days(house, 1)

    assert (await house.ack(ADA, sent.message)).acked == 0
    assert await states(house) == "expired"


async def test_history_goes_when_all_have_taken_it(house: House) -> None:
    sent = await house.send(ANN, "ada,bob")
    await house.ack(ADA, sent.message)
    await pass_days(house, 10)
    await house.ack(BOB, sent.message)

    await pass_days(house, 20)
    assert await states(house) == "acked"  # of bob, who took it later
    await pass_days(house, 10)
    assert [await house.rows(table) for table in (Table.ENTRY, Table.MESSAGE)] == [0, 0]
    await house.send(ANN, "ada", "next")
    (letter,) = (await house.inbox(ADA)).letters
    assert letter.seq == 2  # sequences go on


async def test_what_is_open_is_kept_and_what_expired_goes_later(house: House) -> None:
    await house.send(ANN, "ada")
    for days, rows in ((60, 1), (29, 1), (1, 1), (29, 1), (1, 0)):
        await pass_days(house, days)
        assert await house.rows(Table.MESSAGE) == rows


async def test_a_post_that_mentioned_stays_with_its_channel(house: House) -> None:
    message = await house.put(ADA.address)
    await house.ack(ADA, message.id)
    await pass_days(house, 31)

    assert await house.entries(ADA) == []
    assert [await house.rows(table) for table in (Table.ENTRY, Table.MESSAGE)] == [0, 1]


async def test_places_of_a_message_that_is_gone_go_too(house: House) -> None:
    message = await house.put(ADA.address)
    del house.store._rows[Table.MESSAGE][message.id]
    await pass_days(house, 31)

    assert await house.rows(Table.ENTRY) == 0
    assert (await house.inbox(ADA)).open == 0


async def test_it_goes_in_bounded_steps(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PLACES_STEP", 2)
    monkeypatch.setattr(module, "DUE_STEP", 2)
    house.employ("c1", "c2", "c3")
    for _ in range(5):
        await house.send(ANN, "ada,bob,c1,c2,c3,cat", ack_required=True, expires_in_ms=DAY)

    await pass_days(house, 1)
    assert await states(house) == " ".join(["expired"] * 10)
    assert len((await house.inbox(ANN)).letters) == 5
    await pass_days(house, 31)
    assert await house.rows(Table.MESSAGE) == 5  # the notices


async def test_a_look_that_was_lost_is_made_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.send(ANN, "ada,bob", ack_required=True, expires_in_ms=DAY)
    whole = Writer.once
    written = 0

    async def once(self: Writer, *asked: Any) -> Any:
        nonlocal written
        written += 1
        if written == 2:
            raise RuntimeError("the hub ends here")
        return await whole(self, *asked)

    with monkeypatch.context() as patch:
        patch.setattr(Writer, "once", once)
        with pytest.raises(RuntimeError):
            await pass_days(house, 1)
    await pass_days(house, 0)

    (notice,) = (await house.inbox(ANN)).letters
    assert "agent:ada, agent:bob" in notice.message.body


async def test_a_look_costs_what_is_due(house: House) -> None:
    for _ in range(50):
        await house.send(ANN, "ada")
    await house.send(CAT, "ada", expires_in_ms=DAY)
    before = house.store.writes

    await pass_days(house, 2)
    assert house.store.writes - before == 2
    assert limits.MESSAGE_KEEP_MS > 2 * DAY
