"""Who follows a mailbox or a channel, and from where on.

A follower reads what is stored, page by page, and then gets letters as they become durable. A log's
sequences have no gaps, so a letter that does not follow the last one says that something is to be
read first. Whoever does not keep up is let go, and comes back with the sequence it has.
"""

import asyncio
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
SLICE: Final = 32  # followers that are brought a letter at once: half a millisecond
SPREAD_MAX: Final = 256  # letters of one log that wait for that
Read = Callable[[str, int, int], Awaitable[Sequence[Letter]]]
"""(log, after, limit) -> letters in order."""

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

    def __init__(self, read: Read) -> None:
        self._read = read
        self._by_log: dict[str, dict[Following, None]] = {}
        self._spreading: dict[str, deque[Letter]] = {}
        """Letters that many followers get, a part of them at a time."""
        self._tasks: set[asyncio.Task[None]] = set()

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
        elif len(followers) <= SLICE:
            self._bring(tuple(followers), letter, {})
        else:
            self._spreading[log] = deque([letter])
            task = asyncio.create_task(self._spread(log))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _spread(self, log: str) -> None:
        """Bring letters to many, a part of them at a time: the hub has other things to do."""
        letters = self._spreading[log]
        try:
            while letters:
                letter, payloads = letters.popleft(), dict[str, bytes]()
                followers = tuple(self._by_log.get(log, ()))
                for first in range(0, len(followers), SLICE):
                    self._bring(followers[first : first + SLICE], letter, payloads)
                    await asyncio.sleep(0)
        finally:
            del self._spreading[log]

    def _bring(
        self, followers: Sequence[Following], letter: Letter, payloads: dict[str, bytes]
    ) -> None:
        for following in followers:
            following.newest = max(following.newest, letter.seq)
            if following.pump is not None or not following.begun or following.over:
                continue  # it reads, or will, and finds this one stored
            if letter.seq <= following.cursor:
                continue  # it has read it already
            if letter.seq != following.cursor + 1:
                self._catch_up(following)
                continue
            name = following.name
            payload = payloads.get(name) or payloads.setdefault(name, _encode(name, letter))
            following.cursor = letter.seq
            following.sink.records(letter.seq, [payload])
            if following.sink.buffered_bytes > SLOW_BYTES:
                following.sink.too_slow()

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


def _encode(name: str, letter: Letter) -> bytes:
    return codec.encode(LetterFrame(log=name, letter=letter))


def _check_pump(following: Following, pump: "asyncio.Task[None]") -> None:
    error = None if pump.cancelled() else pump.exception()
    if error is not None:
        log.error("follower.failed", log=following.log, exc_info=error)
        following.sink.too_slow()  # it resumes
