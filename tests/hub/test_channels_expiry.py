"""Posts that are older than a hub keeps them."""

from pathlib import Path

import pytest

from agentcom.hub import channels_expiry
from agentcom.hub.channels_expiry import PostExpiry
from agentcom.model.batch import Table
from agentcom.model.ids import WallTime
from agentcom.model.usage import DAY_MS
from agentcom.protocol import calls
from tests.hub.channel_house import ANN, BOB, EVE, House, build


@pytest.fixture
async def house(tmp_path: Path) -> House:
    return await build(tmp_path, timed=True)


async def expire(house: House, *, days: float = 30) -> int:
    expiry = PostExpiry(house.store, house.writer, keep_ms=round(days * DAY_MS))
    return await expiry.work(WallTime(house.clock.wall))


async def test_old_posts_go_and_young_ones_and_pins_stay(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels_expiry, "PRUNE_ROWS", 2)
    for name in ("dev", "ops"):
        await house.create(name)
        await house.post(name, *"abcde")
    await house.do(ANN, calls.ChannelChange(channel="dev", pin=2))
    house.clock.wall += 31 * DAY_MS
    await house.post("dev", "f")
    await house.post("project", "g")

    assert await expire(house, days=0) == 0
    assert await expire(house) == 9
    assert await expire(house) == 0

    assert await house.texts("dev", after=0) == ["b", "f"]
    assert [await house.texts("ops"), await house.texts("project")] == [[], ["g"]]
    assert await house.rows(Table.MESSAGE) == 3
    assert (await house.post("ops", "h", who=EVE)).seq == 6  # no number is given twice


async def test_an_old_post_stays_in_the_mailbox_where_nobody_has_read_it(house: House) -> None:
    await house.create("dev")
    await house.post("dev", "@bob look")
    house.clock.wall += 31 * DAY_MS

    assert await expire(house) == 1

    inbox = await house.do(BOB, calls.InboxRead())
    assert [letter.message.body for letter in inbox.letters] == ["@bob look"]
    assert await house.texts("dev") == []
