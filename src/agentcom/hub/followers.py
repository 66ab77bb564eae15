"""Who follows a mailbox or a channel, and from where on.

A follower reads what is stored, page by page, and then gets letters as they become durable. A log's
sequences have no gaps, so a letter that does not follow the last one says that something is to be
read first. Whoever does not keep up is let go, and comes back with the sequence it has.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

import structlog

from agentcom.hub.feeds import BEHIND_BYTES, SLOW_BYTES, Sink, drained
from agentcom.model.address import Address
from agentcom.protocol import codec
from agentcom.protocol.live import LetterFrame
from agentcom.protocol.told import Letter

PAGE: Final = 64
AT_ONCE: Final = 32  # followers that are brought a letter without more ado: some 0.3 ms
SLICE_S: Final = 0.0003  # of bringing letters to more than that, then come others
REST_S: Final = 0.001  # for them: a push to an agent goes before a post to a thousand readers
SPREAD_S: Final = 0.2  # letters that take longer to all of them rest no more
SPREAD_MAX: Final = 256  # letters of one log that wait for that
TOGETHER_MAX: Final = 32  # letters that a follower gets in one write, if they wait
TOGETHER_CHARS: Final = 65_536  # and what they may say together
Read = Callable[[str, int, int], Awaitable[Sequence[Letter]]]
"""(log, after, limit) -> letters in order."""
Payloads = dict[str, list[bytes]]
"""Letters as frames, by what followers call the log."""

log = structlog.get_logger(__name__)


class Following:
    """One follower of one log."""

    __slots__ = (
        "begun",
        "cursor",
        "ended",
        "log",
        "name",
        "newest",
        "over",
        "owner",
        "pump",
        "sink",
    )

    def __init__(
        self, sink: Sink, log: str, name: str, *, owner: Address, ended: Callable[[], None]
    ) -> None:
        self.sink = sink
        self.log = log
        self.name = name
        """What the follower calls the log."""
        self.owner = owner
        self.ended = ended
        """Tells the follower that it may not follow any more."""
        self.begun = False
        self.over = False
        self.cursor = 0
        self.newest = 0
        self.pump: asyncio.Task[None] | None = None


class Followers:
    """All who follow a log of messages."""

    def __init__(self, read: Read, clock_s: Callable[[], float] = time.perf_counter) -> None:
        self._read = read
        self._clock_s = clock_s
        self._by_log: dict[str, dict[Following, None]] = {}
        self._spreading: dict[str, deque[Letter]] = {}
        """Letters that many followers get, a part of them at a time."""
        self._spread: asyncio.Task[None] | None = None

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(map(len, self._by_log.values()))

    def enter(self, following: Following) -> None:
        """Note a follower, who gets nothing before `begin`; from now on `end` reaches it."""
        self._by_log.setdefault(following.log, {})[following] = None

    def begin(self, following: Following, after: int) -> None:
        """Bring the letters after a sequence, unless the subscription has ended meanwhile."""
        following.begun = True
        following.cursor = after
        following.newest = max(following.newest, after)
        if not following.over:
            self._catch_up(following)

    def leave(self, following: Following) -> None:
        """End a subscription."""
        following.over = True
        followers = self._by_log.get(following.log, {})
        followers.pop(following, None)
        if not followers:
            self._by_log.pop(following.log, None)
        if following.pump is not None:
            following.pump.cancel()

    def end(self, log: str, owner: Address | None = None) -> None:
        """End what someone (None: everyone) follows of a log; they are told."""
        for following in tuple(self._by_log.get(log, ())):
            if owner in (None, following.owner):
                self.leave(following)
                if following.begun:
                    following.ended()

    def publish(self, log: str, letter: Letter) -> None:
        """Bring a letter that became durable to those who are up to date."""
        followers = self._by_log.get(log)
        if not followers:
            return
        spreading = self._spreading.get(log)
        if spreading is not None:
            if len(spreading) >= SPREAD_MAX:
                spreading.pop()  # the one after it says that something is to be read
            spreading.append(letter)
        elif len(followers) <= AT_ONCE:
            payloads: Payloads = {}
            for following in tuple(followers):
                self._bring(following, [letter], payloads)
        else:
            self._spreading[log] = deque([letter])
            if self._spread is None:
                self._spread = asyncio.create_task(self._spread_all())

    async def _spread_all(self) -> None:
        """Bring letters to many, a while at a time: the hub has other things to do.

        In between it rests, unless that takes long, or more waits than one write takes.
        """
        clock_s = self._clock_s
        until_s = clock_s() + SLICE_S
        try:
            while self._spreading:
                log, waiting = next(iter(self._spreading.items()))
                letters, payloads = _first_of(waiting), Payloads()
                late_s = until_s + SPREAD_S
                for following in tuple(self._by_log.get(log, ())):
                    self._bring(following, letters, payloads)
                    now_s = clock_s()
                    if now_s >= until_s:
                        much = len(waiting) >= TOGETHER_MAX or len(self._spreading) > 1
                        await asyncio.sleep(0 if much or now_s >= late_s else REST_S)
                        until_s = clock_s() + SLICE_S
                del self._spreading[log]
                if waiting:  # behind the other logs
                    self._spreading[log] = waiting
        finally:
            self._spreading.clear()
            self._spread = None

    def _bring(self, to: Following, letters: Sequence[Letter], payloads: Payloads) -> None:
        """Bring a follower letters that follow one another, as far as it has not had them."""
        first, last = letters[0].seq, letters[-1].seq
        to.newest = max(to.newest, last)
        cursor = to.cursor
        if to.pump is not None or not to.begun or to.over or last <= cursor:
            return  # it reads, or will, and finds them stored; or it has read them already
        if first > cursor + 1:
            self._catch_up(to)
            return
        encoded = payloads.get(to.name)
        if encoded is None:
            encoded = payloads[to.name] = [_encode(to.name, letter) for letter in letters]
        to.cursor = last
        had = cursor + 1 - first
        to.sink.records(cursor + 1, encoded[had:] if had else encoded, at_once=True)
        if to.sink.buffered_bytes > SLOW_BYTES:
            to.sink.too_slow()

    def _catch_up(self, following: Following) -> None:
        following.pump = asyncio.create_task(self._pump(following))
        following.pump.add_done_callback(partial(_check_pump, following))

    async def _pump(self, to: Following) -> None:
        while True:
            newest = to.newest
            page = await self._read(to.log, to.cursor, PAGE)
            for letter in page:
                if to.sink.buffered_bytes > BEHIND_BYTES and not await drained(to.sink):
                    to.sink.too_slow()
                    return
                to.cursor = letter.seq
                to.sink.records(letter.seq, [_encode(to.name, letter)])
            if len(page) < PAGE and to.newest == newest:
                to.cursor = max(to.cursor, newest)  # what is missing was pruned
                to.pump = None
                return


def _first_of(waiting: deque[Letter]) -> Sequence[Letter]:
    """Take the first letters that follow one another, as many as go into one write."""
    letters = [waiting.popleft()]
    room = TOGETHER_CHARS - len(letters[0].message.body)
    while waiting and len(letters) < TOGETHER_MAX and waiting[0].seq == letters[-1].seq + 1:
        room -= len(waiting[0].message.body)
        if room < 0:
            break
        letters.append(waiting.popleft())
    return letters


def _encode(name: str, letter: Letter) -> bytes:
    return codec.encode(LetterFrame(log=name, letter=letter))


def _check_pump(following: Following, pump: "asyncio.Task[None]") -> None:
    error = None if pump.cancelled() else pump.exception()
    if error is not None:
        log.error("follower.failed", log=following.log, exc_info=error)
        following.sink.too_slow()  # it resumes
