"""A client's session: requests by key, and the logs it follows."""

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Final

from agentcom.core import facts
from agentcom.hub.limits_guard import Traffic
from agentcom.hub.requests import check_key
from agentcom.model import limits, policy
from agentcom.model.errors import MalformedInput, NotAllowed
from agentcom.model.policy import Action
from agentcom.protocol import codec, frames
from agentcom.transport.ws_calls import Calls
from agentcom.transport.ws_following import Subscriptions
from agentcom.transport.ws_session import Session

ACCESS: Final[Mapping[type[frames.FromPeer], Action]] = MappingProxyType(
    {frames.SubmitFrame: Action.TASK_SUBMIT, frames.CancelFrame: Action.TASK_CANCEL}
)
"""What guards a client's frames; calls have a table of their own, followed logs `FOLLOWED`."""
_SUBMIT: Final = ACCESS[frames.SubmitFrame]
_CANCEL: Final = ACCESS[frames.CancelFrame]
_SUBMITS: Final = Traffic.SUBMIT


class ClientSide:
    """One person or program at the other end."""

    def __init__(self, session: Session, version: int) -> None:
        self._session = session
        self._subscriptions = Subscriptions(session)
        self._calls = Calls(session)
        desk = session.desk
        desk.presence.came(session.identity)
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
                self._request(key, cancel, _CANCEL)
            case frames.Subscribe():
                self._subscriptions.subscribe(frame)
            case frames.Unsubscribe():
                self._subscriptions.unsubscribe(frame)
            case frames.CallFrame():
                self._calls.take(frame)
            case frames.Hello():
                raise MalformedInput("hello was said already")
            case _:
                raise NotAllowed("this connection said hello as a client, not as a machine")

    def gone(self) -> None:
        self._calls.gone()
        self._subscriptions.gone()
        self._session.desk.presence.left(self._session.identity)

    def _request(self, key: str, body: facts.Body, action: Action, *, cost: int = 1) -> None:
        check_key(key)
        desk, identity = self._session.desk, self._session.identity
        # Whose task it is, is known to the core, which looks again.
        policy.authorize(identity, action, owner=identity.user)
        traffic = _SUBMITS if action is _SUBMIT else Traffic.QUERY
        desk.budgets.spend(identity, traffic, desk.clock.now(), cost)
        self._session.ask(body, partial(self._session.answer, key), key=key)
