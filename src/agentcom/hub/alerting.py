"""Alerts, notifications and chats of a hub, put together."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec

from agentcom.core.facts import Fact
from agentcom.core.view import PoolView
from agentcom.hub.activities import Activities
from agentcom.hub.alert_figures import Sampler
from agentcom.hub.alerts import Alerts
from agentcom.hub.chats import Chats
from agentcom.hub.clock import Clock
from agentcom.hub.config import HubConfig
from agentcom.hub.destinations import Destinations
from agentcom.hub.notifications import Notifications
from agentcom.hub.notify_courier import Couriers
from agentcom.hub.notify_secrets import Secrets
from agentcom.hub.notify_sender import Sender
from agentcom.hub.outgoing import Outgoing
from agentcom.hub.supervisor import ChildSpec
from agentcom.hub.switchboard import Publisher
from agentcom.hub.talk import Talk
from agentcom.hub.task_news import TaskNews, of_ask
from agentcom.hub.writing import Draft, Writer
from agentcom.model.address import Address
from agentcom.model.ask import Ask
from agentcom.model.ids import IdSource, Rng
from agentcom.model.notify import Topic
from agentcom.model.replies import Reply
from agentcom.store.base import Store

STOP_MS: Final = 1_500


class Alerting:
    """Looks for what is wrong, and tells it; nothing here is on the way of a task."""

    def __init__(
        self,
        config: HubConfig,
        store: Store,
        clock: Clock,
        ids: IdSource,
        rng: Rng,
        *,
        view: Callable[[], PoolView],
        feeds: Publisher,
    ) -> None:
        self._clock = clock
        self._ids = ids
        self._rng = rng
        self._store = store
        self._home = config.home
        self._view = view
        self._writer = Writer(store, clock, ids)
        self._secrets = Secrets(config.home)
        sent = config.outgoing
        self.outgoing = Outgoing(sent.allow, certificates=sent.certificates, proxy=sent.proxy)
        self.notifications = Notifications(store, self._writer, clock, ids)
        self.task_news = TaskNews(feeds, self.notifications, self._writer, store=store, view=view)

    def attach(
        self,
        *,
        activities: Activities,
        ended: Callable[[], Mapping[str, int]],
        backlog: Callable[[], int],
        talk: Talk,
        ask: Callable[[Fact], Awaitable[Reply | msgspec.Raw]],
    ) -> None:
        """Take the parts that in turn needed `task_news` to exist."""
        self.sampler = Sampler(
            self._view,
            activities,
            ended=ended,
            backlog=backlog,
            home=self._home,
            now=self._clock.now(),
        )
        self.alerts = Alerts(
            self._store,
            self._writer,
            self._clock,
            self._ids,
            sampler=self.sampler,
            notifications=self.notifications,
        )
        self.chats = Chats(
            self._store,
            self._writer,
            self._clock,
            notifications=self.notifications,
            secrets=self._secrets,
            outgoing=self.outgoing,
            talk=talk,
            ask=ask,
        )
        self.destinations = Destinations(
            self.notifications, self._secrets, self.outgoing, self.chats, self._clock
        )
        couriers = Couriers(self._secrets, self.outgoing, self._clock, telegram=self.chats)
        self.sender = Sender(self.notifications, couriers, clock=self._clock, rng=self._rng)

    async def load(self) -> None:
        """Read what is stored; before anything is decided."""
        await self.notifications.load()
        await self.alerts.load()

    def told_of(self, draft: Draft, ask: Ask, to: Address | None) -> None:
        """Add to a draft what is told of a question."""
        if self.notifications.wants(Topic.ASKS):
            news = of_ask(ask, to)
            if news is not None:
                self.notifications.put(draft, news)

    def children(self) -> list[ChildSpec]:
        """Return the services in the order in which they start."""
        runs = {
            "news": self.task_news.run,
            "notify": self.sender.run,
            "chats": self.chats.run,
            "alerts": self.alerts.run,
        }
        return [ChildSpec(name=name, run=run, shutdown_ms=STOP_MS) for name, run in runs.items()]
