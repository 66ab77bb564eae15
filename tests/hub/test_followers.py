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

LOG = "channel/default/dev"
PATIENCE_S = 5.0


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
    ended: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def records(self, first: int, payloads: Sequence[bytes]) -> None:
        for payload in payloads:
            frame = codec.decode_from_hub(payload)
            assert isinstance(frame, LetterFrame)
            assert (frame.log, frame.letter.seq) == ("channel/dev", first)
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
        self.followers = Followers(self._read)

    async def _read(self, log: str, after: int, limit: int) -> Sequence[Letter]:
        assert log == LOG
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

    def enter(self, reader: Reader, owner: str = "user:ann") -> Following:
        def ended() -> None:
            reader.ended += 1

        one = Following(reader, LOG, "channel/dev", owner=Address(owner), ended=ended)
        self.followers.enter(one)
        return one

    def follow(self, reader: Reader, after: int = 0, owner: str = "user:ann") -> Following:
        one = self.enter(reader, owner)
        self.followers.begin(one, after)
        return one


@pytest.mark.parametrize("count", [1, module.SLICE, 3 * module.SLICE + 1])
async def test_all_get_all_in_order(count: int) -> None:
    site, readers = Site(), [Reader() for _ in range(count)]
    site.post(3)
    for reader in readers:
        site.follow(reader)
    site.post(100)

    for reader in readers:
        await reader.until(lambda one: len(one.seqs) >= 103)
        assert reader.seqs == list(range(1, 104))


async def test_many_are_brought_a_letter_a_part_at_a_time() -> None:
    site, readers = Site(), [Reader() for _ in range(2 * module.SLICE)]
    for reader in readers:
        site.follow(reader)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    site.post()

    await asyncio.sleep(0)
    assert sum(len(reader.seqs) for reader in readers) == module.SLICE
    await readers[-1].until(lambda one: one.seqs == [1])


async def test_who_begins_while_letters_are_spread_gets_each_once() -> None:
    site, many, late = Site(), [Reader() for _ in range(5 * module.SLICE)], Reader()
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
    site, many, out = Site(), [Reader() for _ in range(2 * module.SLICE)], Reader()
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
    site, many = Site(), [Reader() for _ in range(module.SLICE + 1)]
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
