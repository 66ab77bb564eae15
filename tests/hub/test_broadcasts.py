from pathlib import Path

import pytest

from agentcom.hub.speaking import Speaker
from agentcom.model import limits
from agentcom.model.errors import InvalidInput, MailboxFull, NotFound
from agentcom.protocol import calls, told
from tests.hub.mail_house import ADA, ANN, BOB, House, furnish


@pytest.fixture
async def house(tmp_path: Path) -> House:
    return await furnish(tmp_path)


async def broadcast(house: House, who: Speaker, *needs: str) -> told.Sent:
    call = calls.MessageBroadcast(body="main is closed", needs=needs)
    return await house.do(who, call, told.Sent)


async def test_all_agents_that_fit_get_it_and_nobody_is_woken(house: House) -> None:
    house.employ("eve", labels={"team": "api"})

    sent = await broadcast(house, ANN)
    assert [(one.address, one.wakes) for one in sent.to] == [
        ("agent:ada", False),
        ("agent:bob", False),
        ("agent:eve", False),
    ]
    assert (await broadcast(house, ANN, "team=api")).count == 1
    assert await house.bodies(ADA) == ["main is closed"]
    assert await house.bodies(ANN) == []
    (letter,) = (await house.inbox(BOB)).letters
    assert (letter.why, letter.message.to) == ("broadcast", ())
    assert await house.mail.may_see(BOB, letter.message)


async def test_an_agent_does_not_get_its_own(house: House) -> None:
    assert [one.address for one in (await broadcast(house, ADA)).to] == ["agent:bob"]


async def test_a_broadcast_to_nobody_is_refused(house: House) -> None:
    with pytest.raises(NotFound, match="no other agent"):
        await broadcast(house, ANN, "gpu")
    with pytest.raises(InvalidInput):
        await broadcast(house, ANN, "g p u")


async def test_whose_mailbox_is_full_is_told_and_left_out(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAILBOX_MAX", 1)
    await house.send(ANN, "ada")

    sent = await broadcast(house, ANN)
    assert (sent.count, [one.address for one in sent.to]) == (1, ["agent:bob"])
    assert "agent:ada" in sent.warning
    with pytest.raises(MailboxFull, match="all 2"):
        await broadcast(house, ANN)
    assert await house.bodies(ADA) == ["hello"]


async def test_a_broadcast_has_a_bound(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BROADCAST_MAX", 1)

    with pytest.raises(InvalidInput, match="narrow"):
        await broadcast(house, ANN)
    assert await house.bodies(ADA) == []


async def test_a_broadcast_to_many_reads_little(house: House) -> None:
    house.employ(*(f"a{number:03d}" for number in range(300)))
    before = house.store.reads

    sent = await broadcast(house, ANN)
    assert (sent.count, len(sent.to)) == (302, 100)
    assert house.store.reads - before < 5
