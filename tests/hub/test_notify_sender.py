"""The outbox: in order, again after a failure, one digest out of a storm, and parked in the end."""

import asyncio
from collections.abc import Sequence

import pytest

from agentcom.hub.notifications import News, Notifications
from agentcom.hub.notify_sender import (
    PARK_AFTER,
    RATE,
    RETRY_BASE_MS,
    RETRY_MAX_MS,
    Sender,
    Undelivered,
)
from agentcom.hub.writing import Asked, Draft, Writer
from agentcom.model import limits
from agentcom.model.ids import UserId, WallTime
from agentcom.model.notify import Destination, DestinationKind, Notice, Topic
from agentcom.model.replies import Done
from agentcom.store.base import Store
from agentcom.store.memory import MemoryStore
from agentcom.testing.waiting import until
from tests.hub.doubles import EPOCH_MS, CountingIds, FixedRng, ManualClock


class Courier:
    """Notes what it brings; fails as it is told."""

    def __init__(self) -> None:
        self.brought: list[list[str]] = []
        self.tries = 0
        self.fails: list[Undelivered] = []
        self.dies_after: int | None = None

    async def deliver(self, _destination: Destination, notices: Sequence[Notice]) -> None:
        self.tries += 1
        if self.fails:
            raise self.fails.pop(0)
        self.brought.append([notice.title for notice in notices])
        if self.dies_after is not None and len(self.brought) >= self.dies_after:
            raise asyncio.CancelledError


class House:
    def __init__(self, store: Store, clock: ManualClock) -> None:
        self.store, self.clock = store, clock
        self.writer = Writer(store, clock, IDS)
        self.notifications = Notifications(store, self.writer, clock, IDS)
        self.courier = Courier()
        self.slept: list[float] = []
        self.sender = Sender(
            self.notifications, self.courier, clock=clock, rng=FixedRng(1.0), sleep=self.sleep
        )

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock.advance(int(seconds * 1_000))

    async def put(self, *titles: str, person: str | None = None) -> None:
        async def decide(draft: Draft) -> Done:
            for title in titles:
                news = News(
                    topic=Topic.TASKS,
                    event="t",
                    title=title,
                    text="",
                    about=title,
                    person=None if person is None else UserId(person),
                )
                self.notifications.put(draft, news)
            return Done()

        await self.writer.once("t", Asked(cause="t"), decide)

    @property
    def row(self) -> Destination:
        return self.notifications.find("team")

    @property
    def waiting(self) -> int:
        return self.notifications.waiting("team")


IDS = CountingIds()


@pytest.fixture
async def house() -> House:
    house = House(MemoryStore(), ManualClock())
    await house.notifications.add(
        Destination(
            name="team",
            kind=DestinationKind.SLACK,
            shown="x",
            owner=UserId("ann"),
            at=WallTime(EPOCH_MS),
            topics=(Topic.TASKS,),
        )
    )
    return house


async def test_notices_come_in_order_and_go(house: House) -> None:
    await house.put("a", "b", "c")
    await house.sender.drain("team")

    assert house.courier.brought == [["a"], ["b"], ["c"]]
    assert (house.waiting, house.row.sent) == (0, 3)
    assert not await house.notifications.next_of("team", 10)


async def test_a_failure_keeps_the_order_and_is_tried_again_later_each_time(house: House) -> None:
    house.courier.fails = [Undelivered("away") for _ in range(4)]
    await house.put("a", "b")
    await house.sender.drain("team")

    assert house.courier.brought == [["a"], ["b"]]
    base = RETRY_BASE_MS / 1_000
    assert house.slept[:4] == [base, 2 * base, 4 * base, 8 * base]
    assert (house.row.failures, house.row.problem) == (0, "")


async def test_who_says_when_is_asked_again_then(house: House) -> None:
    house.courier.fails = [Undelivered("busy", after_ms=60_000)]
    await house.put("a")
    await house.sender.drain("team")

    assert house.slept[0] == 60


async def test_a_destination_that_fails_for_long_is_parked_and_shown(house: House) -> None:
    house.courier.fails = [Undelivered("away") for _ in range(PARK_AFTER)]
    await house.put("a")
    await house.sender.drain("team")

    assert house.courier.tries == PARK_AFTER
    assert (house.row.parked, house.row.parked_at) == ("away", house.clock.wall)
    assert max(house.slept) == RETRY_MAX_MS / 1_000
    assert house.waiting == 1
    assert not house.notifications.names()


async def test_what_cannot_get_better_is_parked_at_once_and_goes_on_when_told(
    house: House,
) -> None:
    house.courier.fails = [Undelivered("gone", final=True)]
    await house.put("a")
    await house.sender.drain("team")
    assert house.row.parked == "gone"
    await house.put("b")
    await house.sender.drain("team")
    assert house.courier.tries == 1

    await house.notifications.resume("team")
    await house.sender.drain("team")

    assert house.courier.brought == [["a"], ["b"]]


async def test_a_storm_of_a_thousand_is_a_handful_of_deliveries(house: House) -> None:
    for _ in range(20):
        await house.put(*(f"alert {number}" for number in range(50)))
    began = house.clock.instant
    await house.sender.drain("team")

    assert house.courier.brought[0][0] == "alert 0"
    assert len(house.courier.brought) == 1
    assert sum(map(len, house.courier.brought)) == 1_000
    assert house.clock.instant - began < 60_000


async def test_deliveries_to_one_destination_are_bounded_in_time(house: House) -> None:
    for number in range(20):
        await house.put(f"n{number}")
        await house.sender.drain("team")

    allowed = RATE.burst + RATE.units * (house.clock.instant - 1_000) // RATE.per_ms
    assert len(house.courier.brought) == 20 <= allowed + 1


async def test_what_asks_a_person_stands_alone(house: House) -> None:
    await house.put("a", "b", "c", "d", "e")
    await house.put("which?", person="ann")
    await house.put("f")
    await house.sender.drain("team")

    assert house.courier.brought == [["a", "b", "c", "d", "e"], ["which?"], ["f"]]


async def test_more_than_there_is_room_for_is_counted_as_lost(house: House) -> None:
    for _ in range(21):
        await house.put(*(f"{number}" for number in range(50)))

    ((row, waiting),) = house.notifications.listed()
    assert (waiting, row.lost) == (limits.NOTICES_MAX, 50)
    await house.sender.drain("team")
    assert house.row.lost == 50


async def test_a_hub_that_dies_after_it_sent_sends_again_and_loses_nothing(house: House) -> None:
    await house.put("a", "b", "c")
    house.courier.dies_after = 2
    with pytest.raises(asyncio.CancelledError):
        await house.sender.drain("team")

    again = House(house.store, house.clock)
    await again.notifications.load()
    assert again.waiting == 2
    await again.sender.drain("team")

    assert house.courier.brought == [["a"], ["b"]]
    assert again.courier.brought == [["b"], ["c"]]


async def test_the_service_sends_what_comes_and_goes_on_after_a_resume(house: House) -> None:
    running = asyncio.create_task(house.sender.run())
    try:
        house.courier.fails = [Undelivered("gone", final=True)]
        await house.put("a")
        await until(lambda: bool(house.row.parked))
        await house.notifications.resume("team")
        await until(lambda: house.courier.brought == [["a"]])
        await house.put("b")
        await until(lambda: house.waiting == 0)
        await house.notifications.remove("team")
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    assert house.courier.brought == [["a"], ["b"]]
