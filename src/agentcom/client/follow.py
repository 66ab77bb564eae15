"""One reader of a task's events, or of all: in order, without gap or duplicate."""

import asyncio
from collections.abc import Callable
from typing import Final

from agentcom.model.errors import AgentComError
from agentcom.protocol import frames

EVENTS_MAX: Final = 4_096
"""Events that wait for a slow reader; the rest is fetched again, by sequence."""

News = frames.EventFrame | frames.Activity


class Follow:
    """An endless iterator over one log; the hub client feeds it."""

    def __init__(
        self, log: str, *, after: int, progress: bool, live_only: bool, again: Callable[[str], None]
    ) -> None:
        self.log = log
        self.cursor = after
        """The sequence of the newest event taken."""
        self.progress = progress
        self.live_only = live_only
        self._was_live_only = live_only
        self._again = again
        self._news: asyncio.Queue[News | None] = asyncio.Queue(EVENTS_MAX + 1)
        self._deaf = True  # until the hub has begun to send from our cursor on
        self._missed = False
        self._error: AgentComError | None = None

    def take(self, news: News) -> None:
        """Keep what is new for the reader."""
        if self._deaf:
            return
        if isinstance(news, frames.Activity):
            if self.progress and self._news.empty():
                self._news.put_nowait(news)
        elif news.seq > self.cursor:
            if self._news.qsize() >= EVENTS_MAX:
                self._deaf = self._missed = True
                return
            self.cursor = news.seq
            self.live_only = False  # from here on there is a place to resume from
            self._news.put_nowait(news)

    def hear(self, after: int) -> None:
        """Take what comes from now on, unless the hub, which sends from `after` on, skips some."""
        self._deaf = after > self.cursor
        if not self._deaf:
            self._missed = False

    def restart(self) -> None:
        """Start over as at first: the hub's sequences are others than those seen before."""
        self.cursor = 0
        self.live_only = self._was_live_only
        self._deaf = True

    def fail(self, error: AgentComError) -> None:
        """End the iteration with an error, after what has come."""
        self._error = error
        if not self._news.full():
            self._news.put_nowait(None)

    def __aiter__(self) -> "Follow":
        """Return itself."""
        return self

    async def __anext__(self) -> News:
        """Return the next event; raises what ended the client."""
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
