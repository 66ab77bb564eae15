from pathlib import Path

import pytest

from agentcom.hub.speaking import Speaker
from agentcom.model import limits
from agentcom.model.errors import NotFound
from agentcom.model.message import Delivery, Why
from agentcom.protocol import calls, told
from tests.hub.mail_house import ADA, ANN, BOB, CAT, House, furnish, person


@pytest.fixture
async def house(tmp_path: Path) -> House:
    return await furnish(tmp_path)


async def show(house: House, who: Speaker, message: str) -> told.MessageShown:
    return await house.do(who, calls.MessageShow(message=message), told.MessageShown)


async def thread(house: House, who: Speaker, message: str, limit: int = 50) -> list[str]:
    found: list[str] = []
    after = None
    for _ in range(20):
        call = calls.ThreadRead(message=message, after=after, limit=limit)
        page = await house.do(who, call, told.Thread)
        found += [one.body for one in page.messages]
        after = page.next
        if after is None:
            break
    return found


async def test_a_sender_sees_how_far_a_message_has_come(house: House) -> None:
    sent = await house.send(ANN, "ada,bob,cat")
    await house.inbox(ADA)
    await house.ack(BOB, sent.message)

    states = {one.address: one.state for one in (await show(house, ANN, sent.message)).to}
    assert states == {
        "agent:ada": Delivery.SEEN,
        "agent:bob": Delivery.ACKED,
        "user:cat": Delivery.QUEUED,
    }
    assert (await show(house, CAT, sent.message)).to == ()  # it is not theirs
    assert (await show(house, ANN, sent.message)).to[2].state is Delivery.SEEN


async def test_what_one_may_not_see_is_not_there(house: House) -> None:
    sent = await house.send(ANN, "ada")

    for who in (BOB, CAT, person("ada"), person("ann", "other")):
        for call in (calls.MessageShow(message=sent.message), calls.ThreadRead(message="x")):
            with pytest.raises(NotFound):
                await house.do(who, call, told.Told)


async def test_a_thread_is_read_in_order_and_page_by_page(house: House) -> None:
    first = await house.send(ANN, "ada", "1")
    second = await house.send(ADA, "ann", "2", reply_to=first.message)
    await house.send(ANN, "ada", "other thread")
    await house.send(ANN, "ada", "3", reply_to=second.message)

    for limit in (1, 2, 50):
        assert await thread(house, ADA, second.message, limit) == ["1", "2", "3"]


async def test_of_a_thread_one_reads_what_one_may_see(house: House) -> None:
    first = await house.send(ANN, "ada,bob", "all")
    await house.send(ANN, "ada", "for ada", reply_to=first.message)
    last = await house.send(BOB, "ann", "for ann", reply_to=first.message)

    for limit in (1, 50):
        assert await thread(house, BOB, first.message, limit) == ["all", "for ann"]
        assert await thread(house, ADA, first.message, limit) == ["all", "for ada"]
        assert await thread(house, ANN, last.message, limit) == ["all", "for ada", "for ann"]


async def test_a_page_of_a_thread_fits_into_a_frame(house: House) -> None:
    first = await house.send(ANN, "ada", "x" * limits.MESSAGE_BYTES)
    for _ in range(3):
        await house.send(ANN, "ada", "x" * limits.MESSAGE_BYTES, reply_to=first.message)

    call = calls.ThreadRead(message=first.message, limit=100)
    assert len((await house.do(ANN, call, told.Thread)).messages) == 2
    assert len(await thread(house, ANN, first.message)) == 4


async def test_search_finds_ones_own_mail_only(house: House) -> None:
    await house.send(ANN, "ada", "the parser is broken")
    await house.put(BOB.address, "parser and printer", Why.MENTION)

    async def found(who: Speaker) -> list[str]:
        hits = await house.do(who, calls.Search(text="parser"), told.Hits)
        return [hit.excerpt for hit in hits.hits]

    assert await found(ADA) == await found(ANN) == ["the parser is broken"]
    assert await found(BOB) == ["parser and printer"]
    assert await found(person("eve")) == []
