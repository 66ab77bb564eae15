"""All that agents and people say to each other: a hub's calls, and the services behind them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec

from agentcom.core.facts import Fact
from agentcom.core.view import PoolView
from agentcom.hub.clock import Clock
from agentcom.hub.limits_guard import Budgets
from agentcom.hub.logs import Logs
from agentcom.hub.switchboard import Switchboard
from agentcom.hub.talk import Talk
from agentcom.hub.writing import Writer
from agentcom.model.ids import IdSource
from agentcom.model.replies import Reply
from agentcom.store.base import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What the services of a conversation work with."""

    store: Store
    clock: Clock
    ids: IdSource
    budgets: Budgets
    switchboard: Switchboard
    view: Callable[[], PoolView]
    ask: Callable[[Fact], Awaitable[Reply | msgspec.Raw]]
    """Brings a fact to the pool and returns its answer; raises its refusal."""


class Conversation:
    """Puts the services together; each offers its calls to `talk`."""

    def __init__(self, means: Means) -> None:
        self.talk = Talk(means.clock, means.budgets)
        self.writer = Writer(means.store, means.clock, means.ids)
        self.logs = Logs(means.store, self.writer)
