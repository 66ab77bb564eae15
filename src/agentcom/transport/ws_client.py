"""A client's session: requests by key, and the logs it follows."""

import asyncio
from functools import partial
from typing import Final

from agentcom.core import facts
from agentcom.hub.feeds import Subscription
from agentcom.hub.limits_guard import Traffic
from agentcom.hub.requests import check_key
from agentcom.model import limits, policy
from agentcom.model.errors import AgentComError, InvalidInput, MalformedInput, NotAllowed
from agentcom.model.policy import Action
from agentcom.model.replies import Done
from agentcom.protocol import codec, frames
from agentcom.transport.ws_calls import Calls
from agentcom.transport.ws_session import Session

SUBSCRIPTIONS_MAX: Final = 256  # of one connection
_SUBMIT: Final = Action.TASK_SUBMIT
_SUBMITS: Final = Traffic.SUBMIT


class ClientSide:
    """One person or program at the other end."""

    def __init__(self, session: Session, version: int) -> None:
        self._session = session
        self._subscriptions: dict[str, Subscription] = {}
        self._wanted: dict[str, frames.Subscribe] = {}
        """The newest request for each log, while it is looked up."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._calls = Calls(session)
        desk = session.desk
        ready = frames.Ready(
            version=version,
            hub=desk.hub,
            incarnation=desk.engine.view.incarnation,
            server_ms=desk.clock.now().wall,
        )
        session.write(codec.encode(ready))

    def take(self, frame: frames.FromPeer) -> None:
        match frame:
            case frames.SubmitFrame():  # nearly every frame
                tasks = frame.tasks
                body = facts.Submit(tasks, frame.parent, frame.fence)
                self._request(frame.key, body, _SUBMIT, cost=len(tasks))
            case frames.CancelFrame(key=key, task=task, reason=reason):
                cancel = facts.Cancel(task, reason[: limits.REASON_CHARS])
                self._request(key, cancel, Action.TASK_CANCEL)
            case frames.Subscribe():
                self._subscribe(frame)
            case frames.Unsubscribe(key=key, log=name):
                self._wanted.pop(name, None)
                subscription = self._subscriptions.pop(name, None)
                if subscription is not None:
                    self._session.desk.feeds.leave(subscription)
                self._session.reply(check_key(key), Done())
            case frames.CallFrame():
                self._calls.take(frame)
            case frames.Hello():
                raise MalformedInput("hello was said already")
            case _:
                raise NotAllowed("this connection said hello as a client, not as a machine")

    def gone(self) -> None:
        self._calls.gone()
        for task in self._tasks:
            task.cancel()
        for subscription in self._subscriptions.values():
            self._session.desk.feeds.leave(subscription)
        self._subscriptions.clear()

    def _request(self, key: str, body: facts.Body, action: Action, *, cost: int = 1) -> None:
        check_key(key)
        desk, identity = self._session.desk, self._session.identity
        # Whose task it is, is known to the core, which looks again.
        policy.authorize(identity, action, owner=identity.user)
        traffic = _SUBMITS if action is _SUBMIT else Traffic.QUERY
        desk.budgets.spend(identity, traffic, desk.clock.now(), cost)
        self._session.ask(body, partial(self._session.answer, key), key=key)

    def _subscribe(self, frame: frames.Subscribe) -> None:
        desk, identity = self._session.desk, self._session.identity
        check_key(frame.key)
        policy.authorize(identity, Action.EVENTS_READ)
        desk.budgets.spend(identity, Traffic.QUERY, desk.clock.now())
        if len(self._subscriptions) + len(self._tasks) >= SUBSCRIPTIONS_MAX:
            raise InvalidInput("log", f"at most {SUBSCRIPTIONS_MAX} subscriptions; use * for all")
        self._wanted[frame.log] = frame
        task = asyncio.create_task(self._follow(frame))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _follow(self, frame: frames.Subscribe) -> None:
        session = self._session
        feeds = session.desk.feeds
        try:
            await feeds.check(session.identity, frame.log, after=frame.after)
        except AgentComError as error:
            session.error(error, key=frame.key)
            return
        finally:
            wanted = self._wanted.get(frame.log) is frame
            if wanted:
                del self._wanted[frame.log]
        self._session.reply(frame.key, Done())
        if not wanted:
            return  # another request for the same log came meanwhile
        old = self._subscriptions.pop(frame.log, None)
        if old is not None:
            feeds.leave(old)
        self._subscriptions[frame.log] = feeds.follow(
            session,
            session.identity,
            frame.log,
            after=frame.after,
            live_only=frame.live_only,
            progress=frame.progress,
        )
