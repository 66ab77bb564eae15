"""Followers of a mailbox or channel get every letter once and in order, however many they are."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from agentcom.hub import followers as module
from agentcom.hub.feeds import SLOW_BYTES
from agentcom.hub.followers import Followers, Following
from agentcom.model.address import Address
from agentcom.model.ids import WallTime
from agentcom.model.message import Message, MessageId
from agentcom.protocol import codec
from agentcom.protocol.live import LetterFrame
from agentcom.protocol.told import Letter
from agentcom.testing.waiting import PATIENCE_S

LOG = "channel/default/dev"
OTHER = "channel/default/ops"
EACH = 10  # followers that are brought something before others get their turn
MANY = module.AT_ONCE + 1


@pytest.fixture(autouse=True)
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REST_S", 0)


@pytest.fixture
def rests(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return what is asked of `sleep`, which is over at once."""
    found: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        found.append(seconds)
        await sleep(0)

    monkeypatch.setattr(module, "REST_S", 7)
    monkeypatch.setattr(asyncio, "sleep", noted)
    return found


def letter(seq: int) -> Letter:
    name = MessageId(f"m{seq}")
    message = Message(id=name, thread=name, sender=Address("user:ann"), at=WallTime(1), body="x")
    return Letter(seq=seq, message=message)


@dataclass
class Reader:
    """A sink that remembers."""

    seqs: list[int] = field(default_factory=list)
    buffered_bytes: int = 0
    let_go: bool = False
    writes: int = 0
    ended: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def records(self, first: int, payloads: Sequence[bytes], *, at_once: bool = False) -> None:
        assert payloads
        self.writes += at_once
        for seq, payload in enumerate(payloads, first):
            frame = codec.decode_from_hub(payload)
            assert isinstance(frame, LetterFrame)
            assert (frame.log, frame.letter.seq) == ("channel/dev", seq)
            self.seqs.append(frame.letter.seq)
        self.news.set()

    def activity(self, payload: bytes) -> None:
        raise AssertionError(payload)

    def too_slow(self) -> None:
        self.let_go = True
        self.news.set()

    async def until(self, what: Callable[["Reader"], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not what(self):
                self.news.clear()
                await self.news.wait()


class Site:
    """Letters that are stored, and who follows them."""

    def __init__(self) -> None:
        self.stored = 0
        self.reads = 0
        self.hold: asyncio.Event | None = None
        self.now_s = 0.0
        self.followers = Followers(self._read, self._clock_s)

    def _clock_s(self) -> float:
        """Tell a time that goes on by so much that `EACH` followers come to a slice."""
        self.now_s += module.SLICE_S / (EACH - 0.5)
        return self.now_s

    async def _read(self, log: str, after: int, limit: int) -> Sequence[Letter]:
        assert log in (LOG, OTHER)
        self.reads += 1
        page = [letter(seq) for seq in range(after + 1, min(self.stored, after + limit) + 1)]
        await asyncio.sleep(0)
        if self.hold is not None:
            await self.hold.wait()
        return page

    def post(self, count: int = 1) -> None:
        for _ in range(count):
            self.stored += 1
            self.followers.publish(LOG, letter(self.stored))

    def enter(self, reader: Reader, owner: str = "user:ann", log: str = LOG) -> Following:
        def ended() -> None:
            reader.ended += 1

        one = Following(reader, log, "channel/dev", owner=Address(owner), ended=ended)
        self.followers.enter(one)
        return one

    async def follow_all(self, readers: Sequence[Reader]) -> None:
        for reader in readers:
            self.follow(reader)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def follow(
        self, reader: Reader, after: int = 0, owner: str = "user:ann", log: str = LOG
    ) -> Following:
        one = self.enter(reader, owner, log)
        self.followers.begin(one, after)
        return one


@pytest.mark.parametrize("count", [1, module.AT_ONCE, 3 * module.AT_ONCE + 1])
async def test_all_get_all_in_order(count: int) -> None:
    site, readers = Site(), [Reader() for _ in range(count)]
    site.post(3)
    for reader in readers:
        site.follow(reader)
    site.post(100)

    for reader in readers:
        await reader.until(lambda one: len(one.seqs) >= 103)
        assert reader.seqs == list(range(1, 104))


async def test_many_are_brought_a_letter_a_while_at_a_time() -> None:
    site, readers = Site(), [Reader() for _ in range(MANY)]
    await site.follow_all(readers)
    site.post()

    for turns in range(1, 4):
        await asyncio.sleep(0)
        assert sum(len(reader.seqs) for reader in readers) == turns * EACH
    await readers[-1].until(lambda one: one.seqs == [1])


async def test_it_rests_between_unless_much_waits(
    monkeypatch: pytest.MonkeyPatch, rests: list[float]
) -> None:
    monkeypatch.setattr(module, "TOGETHER_MAX", 1)
    site, readers = Site(), [Reader() for _ in range(MANY)]
    await site.follow_all(readers)
    rests.clear()
    site.post()
    await readers[-1].until(lambda one: one.seqs == [1])
    assert rests == [7] * (MANY // EACH)

    rests.clear()
    site.post()
    await asyncio.sleep(0)
    site.post()
    await readers[-1].until(lambda one: one.seqs == [1, 2, 3])
    assert rests == [0, 7, 0, 0, 7, 7, 7]  # the first is this test's own


async def test_a_letter_that_takes_long_rests_no_more(
    monkeypatch: pytest.MonkeyPatch, rests: list[float]
) -> None:
    site, readers = Site(), [Reader() for _ in range(MANY)]
    await site.follow_all(readers)
    rests.clear()
    monkeypatch.setattr(module, "SPREAD_S", 0.5 * module.SLICE_S)
    site.post()
    await readers[-1].until(lambda one: one.seqs == [1])
    assert rests == [7, 0, 0]


async def test_letters_that_wait_reach_a_reader_together() -> None:
    site, readers = Site(), [Reader() for _ in range(MANY)]
    await site.follow_all(readers)
    site.post()
    await asyncio.sleep(0)
    site.post(module.TOGETHER_MAX + 1)

    for reader in readers:
        await reader.until(lambda one: len(one.seqs) >= module.TOGETHER_MAX + 2)
    assert readers[0].seqs == [*range(1, module.TOGETHER_MAX + 3)]
    assert readers[0].writes == 3


async def test_large_letters_do_not_come_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOGETHER_CHARS", 2)
    site, readers = Site(), [Reader() for _ in range(MANY)]
    await site.follow_all(readers)
    site.post(4)

    await readers[-1].until(lambda one: one.seqs == [1, 2, 3, 4])
    assert readers[-1].writes == 2


async def test_one_slice_serves_all_logs() -> None:
    site, readers, others = Site(), *([Reader() for _ in range(MANY)] for _ in range(2))
    for name, many in ((LOG, readers), (OTHER, others)):
        for reader in many:
            site.follow(reader, log=name)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    site.followers.publish(LOG, letter(1))
    site.followers.publish(OTHER, letter(1))

    for turns in range(1, 7):
        await asyncio.sleep(0)
        assert sum(len(reader.seqs) for reader in readers + others) == turns * EACH
    await others[-1].until(lambda one: one.seqs == [1])


async def test_who_begins_while_letters_are_spread_gets_each_once() -> None:
    site, many, late = Site(), [Reader() for _ in range(5 * EACH)], Reader()
    for reader in many:
        site.follow(reader)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    site.post(20)
    await asyncio.sleep(0)
    site.follow(late)
    site.post(20)

    for reader in (late, many[-1]):
        await reader.until(lambda one: len(one.seqs) >= 40)
        assert reader.seqs == list(range(1, 41))


async def test_whoever_is_ended_while_a_letter_is_spread_does_not_get_it() -> None:
    site, many, out = Site(), [Reader() for _ in range(MANY)], Reader()
    for reader in many:
        site.follow(reader)
    site.follow(out, owner="user:eve")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    site.post()
    site.followers.end(LOG, Address("user:eve"))

    await many[-1].until(lambda one: one.seqs == [1])
    await asyncio.sleep(0)
    assert (out.seqs, out.ended) == ([], 1)


async def test_letters_beyond_what_waits_are_read_from_the_store(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SPREAD_MAX", 2)
    site, many = Site(), [Reader() for _ in range(MANY)]
    for reader in many:
        site.follow(reader)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    site.post(30)

    for reader in many:
        await reader.until(lambda one: len(one.seqs) >= 30)
        assert reader.seqs == list(range(1, 31))


async def test_a_follower_that_has_not_begun_misses_nothing_and_can_be_ended() -> None:
    site, reader, out = Site(), Reader(), Reader()
    waits, ended = site.enter(reader), site.enter(out, "user:eve")
    site.post(2)
    site.followers.end(LOG, Address("user:eve"))
    site.followers.begin(waits, 0)
    site.followers.begin(ended, 0)
    site.post()

    await reader.until(lambda one: len(one.seqs) >= 3)
    assert reader.seqs == [1, 2, 3]
    assert (out.seqs, out.ended, ended.over) == ([], 0, True)


async def test_who_leaves_while_it_reads_gets_nothing_more() -> None:
    site, reader = Site(), Reader()
    site.post(3)
    site.hold = asyncio.Event()
    one = site.follow(reader)
    await asyncio.sleep(0)
    site.followers.leave(one)
    site.hold.set()
    site.post()
    await asyncio.sleep(0)

    assert (reader.seqs, site.followers.count) == ([], 0)


async def test_who_does_not_keep_up_is_let_go() -> None:
    site, reader = Site(), Reader()
    site.follow(reader)
    site.post()
    await reader.until(lambda one: one.seqs == [1])
    reader.buffered_bytes = SLOW_BYTES + 1
    site.post()

    assert reader.let_go
