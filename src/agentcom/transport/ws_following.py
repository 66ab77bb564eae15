"""What a client's connection follows: tasks, mailboxes, channels, presence; each log once."""

import asyncio
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Protocol

from agentcom.hub import speaking
from agentcom.hub.feeds import Subscription
from agentcom.hub.limits_guard import Traffic
from agentcom.hub.listening import ENDED
from agentcom.hub.requests import check_key
from agentcom.model import policy
from agentcom.model.errors import AgentComError, InvalidInput, NotFound
from agentcom.model.policy import Action
from agentcom.model.replies import Done
from agentcom.protocol import codec, frames
from agentcom.protocol.live import CHANNEL, MAIL, PRESENCE, Ended
from agentcom.transport.ws_session import Session

SUBSCRIPTIONS_MAX: Final = 256  # of one connection


FOLLOWED: Final[Mapping[str, Action]] = MappingProxyType(
    {
        MAIL: Action.MESSAGE_READ,
        CHANNEL: Action.CHANNEL_READ,
        PRESENCE: Action.AGENT_READ,
        "task/": Action.EVENTS_READ,
        "*": Action.EVENTS_READ,
    }
)
"""What guards each kind of log."""


def access_of(log: str) -> Action:
    """Return what guards a log."""
    kind, slash, _ = log.partition("/")
    return FOLLOWED.get(kind + slash, Action.EVENTS_READ)


class Source(Protocol):
    """Something followed, once it was looked up."""

    @property
    def reply(self) -> Done:
        """What the request for it is answered with."""
        ...

    def begin(self) -> None:
        """Bring what there is."""
        ...

    def leave(self) -> None:
        """End it, begun or not."""
        ...


class Subscriptions:
    """All that one connection follows."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._followed: dict[str, Source] = {}
        self._wanted: dict[str, frames.Subscribe] = {}
        """The newest request for each log, while it is looked up."""
        self._tasks: set[asyncio.Task[None]] = set()

    def subscribe(self, frame: frames.Subscribe) -> None:
        """Look a log up and follow it; raises what is wrong with the request itself."""
        desk, identity = self._session.desk, self._session.identity
        check_key(frame.key)
        desk.budgets.spend(identity, Traffic.QUERY, desk.clock.now())
        if len(self._followed) + len(self._tasks) >= SUBSCRIPTIONS_MAX:
            raise InvalidInput("log", f"at most {SUBSCRIPTIONS_MAX} subscriptions; use * for all")
        self._wanted[frame.log] = frame
        task = asyncio.create_task(self._follow(frame))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def unsubscribe(self, frame: frames.Unsubscribe) -> None:
        """Follow a log no more."""
        key = check_key(frame.key)
        self._wanted.pop(frame.log, None)
        self._drop(frame.log)
        self._session.reply(key, Done())

    def gone(self) -> None:
        """Forget them all."""
        for task in self._tasks:
            task.cancel()
        for source in self._followed.values():
            source.leave()
        self._followed.clear()

    async def _follow(self, frame: frames.Subscribe) -> None:
        session, name = self._session, frame.log
        try:
            source = await self._look_up(frame)
        except AgentComError as error:
            session.error(error, key=frame.key)
            return
        finally:
            wanted = self._wanted.get(name) is frame
            if wanted:
                del self._wanted[name]
        session.reply(frame.key, source.reply)
        if not wanted:  # another request for the same log came meanwhile
            source.leave()
            return
        self._drop(name)
        self._followed[name] = source
        source.begin()

    async def _look_up(self, frame: frames.Subscribe) -> Source:
        desk, identity = self._session.desk, self._session.identity
        policy.authorize(identity, access_of(frame.log), owner=identity.user)
        if desk.listening.has(frame.log):
            after = None if frame.live_only else frame.after
            who = speaking.person(identity)
            return await desk.listening.follow(
                who, frame.log, self._session, after=after, ended=lambda: self._ended(frame.log)
            )
        if frame.log == PRESENCE:
            session = self._session
            return desk.watch.watch(
                speaking.person(identity),
                frame.needs,
                frame.states,
                show=session.write,
                buffered=lambda: session.buffered_bytes,
            )
        await desk.feeds.check(identity, frame.log, after=frame.after)
        return _Feed(self._session, frame)

    def _ended(self, name: str) -> None:
        self._followed.pop(name, None)
        ended = Ended(log=name, code=NotFound.code, message=ENDED)
        self._session.write(codec.encode(ended))

    def _drop(self, name: str) -> None:
        source = self._followed.pop(name, None)
        if source is not None:
            source.leave()


class _Feed:
    """The records of a task, or of all."""

    reply: Final = Done()

    def __init__(self, session: Session, frame: frames.Subscribe) -> None:
        self._session = session
        self._frame = frame
        self._subscription: Subscription | None = None

    def begin(self) -> None:
        session, frame = self._session, self._frame
        self._subscription = session.desk.feeds.follow(
            session,
            session.identity,
            frame.log,
            after=frame.after,
            live_only=frame.live_only,
            progress=frame.progress,
        )

    def leave(self) -> None:
        if self._subscription is not None:
            self._session.desk.feeds.leave(self._subscription)
