"""All that a client follows: subscribed once per log, and again after a reconnect."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog

from agentcom.client.connection import ConnectionLost, Heard
from agentcom.client.follow import Follow, N, News
from agentcom.client.keys import new_key
from agentcom.client.problems import error_of
from agentcom.model import errors
from agentcom.model.errors import AgentComError
from agentcom.model.event import task_log
from agentcom.model.replies import Followed, Reply
from agentcom.protocol import frames
from agentcom.protocol.live import Ended, LetterFrame, PresenceFrame

ALL: Final = "*"
Subscribing = Callable[[frames.Subscribe, Heard], Awaitable[None]]
"""(request, what to do when its reply has come, before any frame behind it)."""

log = structlog.get_logger(__name__)


class Follows:
    """The readers of one client, by log."""

    def __init__(self, subscribe: Subscribing, tell: Callable[[frames.Unsubscribe], None]) -> None:
        self._ask = subscribe
        self._tell = tell
        self._by_log: dict[str, list[Follow[Any]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def open(
        self, asked: frames.Subscribe, kind: type[Follow[N]]
    ) -> AsyncIterator[Follow[N]]:
        """Follow a log; when the block is entered, the hub has begun to send.

        Raises:
            Conflict: it is followed already, in another way.
        """
        name = asked.log
        follow = kind(asked, self._again)
        others = self._by_log.setdefault(name, [])
        if any(_differs(other, asked) for other in others):
            raise errors.Conflict("this log is followed already, in another way")
        others.append(follow)
        try:
            await self._subscribe(name)
            yield follow
        finally:
            others.remove(follow)
            if not others:
                self._by_log.pop(name, None)
                self._tell(frames.Unsubscribe(key=new_key(), log=name))

    def show(self, news: News | LetterFrame | PresenceFrame | Ended) -> None:
        """Bring what the hub sent to those who follow it."""
        match news:
            case Ended(log=name, code=code, message=message):
                for follow in self._by_log.get(name, ()):
                    follow.fail(error_of(code, message))
            case frames.Activity(task=task):
                self._take((task_log(task), ALL), news)
            case _:
                self._take((news.log,), news)  # as it was subscribed to, maybe all

    def resume(self, *, restored: bool) -> None:
        """Subscribe to everything once more, on a new connection."""
        for name in self._by_log:
            if restored:
                self._restart(name, "the hub was restored")
            self._again(name)

    def fail(self, error: AgentComError) -> None:
        """End all of them."""
        for follows in self._by_log.values():
            for follow in follows:
                follow.fail(error)

    async def close(self) -> None:
        """Ask for nothing more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _take(self, names: tuple[str, ...], news: News | LetterFrame | PresenceFrame) -> None:
        for name in names:
            for follow in self._by_log.get(name, ()):
                follow.take(news)

    async def _subscribe(self, name: str) -> None:
        follows = self._by_log[name]
        after = min(follow.cursor for follow in follows)
        frame = frames.Subscribe(
            key=new_key(),
            log=name,
            after=after,
            live_only=all(follow.live_only for follow in follows),
            progress=any(follow.asked.progress for follow in follows),
            needs=follows[0].asked.needs,
            states=follows[0].asked.states,
        )

        def heard(reply: Reply) -> None:
            for follow in follows:
                if isinstance(reply, Followed):
                    follow.begin(reply.after)
                follow.hear(after)

        try:
            await self._ask(frame, heard)
        except (errors.Conflict, errors.CursorAhead) as error:
            if after == 0:
                raise
            self._restart(name, error.message)
        if any(follow.cursor < after for follow in follows):
            await self._subscribe(name)  # one has started over since this was asked

    def _restart(self, name: str, reason: str) -> None:
        for follow in self._by_log[name]:
            log.warning("follow.restarted", log=name, after=follow.cursor, reason=reason)
            follow.restart()

    def _again(self, name: str) -> None:
        """Subscribe once more: after a reconnect, or for a reader that missed something."""
        task = asyncio.create_task(self._resume(name))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _resume(self, name: str) -> None:
        try:
            if name in self._by_log:
                await self._subscribe(name)
        except ConnectionLost:
            return  # the next connection subscribes again
        except AgentComError as error:
            for follow in self._by_log.get(name, ()):
                follow.fail(error)


def _differs(follow: Follow[Any], asked: frames.Subscribe) -> bool:
    other = (follow.live_only, follow.asked.needs, follow.asked.states)
    return other != (asked.live_only, asked.needs, asked.states)
