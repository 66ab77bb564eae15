"""Who follows a mailbox or a channel, and from where on.

A follower reads what is stored, page by page, and then gets letters as they become durable. A log's
sequences have no gaps, so a letter that does not follow the last one says that something is to be
read first. Whoever does not keep up is let go, and comes back with the sequence it has.
"""

import asyncio
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
        payloads: dict[str, bytes] = {}
        for following in tuple(self._by_log.get(log, ())):
            following.newest = max(following.newest, letter.seq)
            if following.pump is not None or not following.begun:
                continue  # it reads, or will, and finds this one stored
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
