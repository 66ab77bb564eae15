"""One reader of what a hub brings of a log: in order, without gap or duplicate."""

import asyncio
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from agentcom.model.errors import AgentComError
from agentcom.protocol import frames
from agentcom.protocol.live import LetterFrame, PresenceFrame

EVENTS_MAX: Final = 4_096
"""Events that wait for a slow reader; the rest is fetched again, by sequence."""

News = frames.EventFrame | frames.Activity
"""Of tasks."""
N = TypeVar("N", bound=News | LetterFrame | PresenceFrame)


class Follow(Generic[N]):
    """An endless iterator over one log; `Follows` feeds it."""

    def __init__(self, asked: frames.Subscribe, again: Callable[[str], None]) -> None:
        self.asked = asked
        self.log = asked.log
        self.cursor = asked.after
        """The sequence of the newest event taken."""
        self.live_only = asked.live_only
        self._again = again
        self._news: asyncio.Queue[N | None] = asyncio.Queue(EVENTS_MAX + 1)
        self._deaf = True  # until the hub has begun to send from our cursor on
        self._missed = False
        self._error: AgentComError | None = None

    def take(self, news: N) -> None:
        """Keep what is new for the reader."""
        if self._deaf:
            return
        if isinstance(news, frames.Activity):
            if self.asked.progress and self._news.empty():
                self._news.put_nowait(news)
        elif isinstance(news, PresenceFrame):
            self._keep(news, None)
        else:
            self._keep(news, news.letter.seq if isinstance(news, LetterFrame) else news.seq)

    def begin(self, after: int) -> None:
        """Take it as where a reader of what is new begins, so that it resumes from there."""
        if self.live_only:
            self.live_only = False
            self.cursor = after

    def hear(self, after: int) -> None:
        """Take what comes from now on, unless the hub, which sends from `after` on, skips some."""
        self._deaf = after > self.cursor
        if not self._deaf:
            self._missed = False

    def restart(self) -> None:
        """Start over as at first: the hub's sequences are others than those seen before."""
        self.cursor = 0
        self.live_only = self.asked.live_only
        self._deaf = True

    def fail(self, error: AgentComError) -> None:
        """End the iteration with an error, after what has come."""
        self._error = error
        if not self._news.full():
            self._news.put_nowait(None)

    def __aiter__(self) -> "Follow[N]":
        """Return itself."""
        return self

    async def __anext__(self) -> N:
        """Return the next event; raises what ended the client, or the subscription."""
        if self._news.empty():
            if self._error is not None:
                raise self._error
            if self._missed:
                self._again(self.log)
        news = await self._news.get()
        if news is None:
            assert self._error is not None
            raise self._error
        return news

    def _keep(self, news: N, seq: int | None) -> None:
        if seq is not None and seq <= self.cursor:
            return
        if self._news.qsize() >= EVENTS_MAX:
            self._deaf = self._missed = True
            return
        if seq is not None:
            self.cursor = seq
            self.live_only = False  # from here on there is a place to resume from
        self._news.put_nowait(news)
