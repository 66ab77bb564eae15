"""Small pieces between the large ones: a store that is timed, timers that know their lateness."""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, cast

import msgspec

from agentcom.core import facts
from agentcom.core.facts import Body, Fact
from agentcom.hub.clock import Clock
from agentcom.hub.engine import Engine
from agentcom.hub.timers import Timers
from agentcom.model.batch import Batch
from agentcom.model.ids import Instant
from agentcom.model.replies import Reply
from agentcom.store.base import Store, Verdict


class HubEngine(Engine):
    """An engine that gives machines this hub's lease where they ask for none of their own."""

    lease_ttl_ms = 0

    def ask(self, fact: Fact) -> Awaitable[Reply | msgspec.Raw]:
        """Queue a fact and return its answer."""
        body = fact.body
        if isinstance(body, facts.MachineConnected) and not body.ttl_ms:
            body = msgspec.structs.replace(body, ttl_ms=self.lease_ttl_ms)
            fact = msgspec.structs.replace(fact, body=body)
        return super().ask(fact)


class _Due(NamedTuple):
    at: Instant
    body: Body


class DueTimers:
    """Timers that tell how late they are: a hub that slept must not blame its machines."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._timers = Timers(clock, self._fire)
        self._bring: Callable[[Body, int], None] = lambda _body, _late_ms: None

    def attach(self, bring: Callable[[Body, int], None]) -> None:
        """Name who gets a timer's body, and by how many milliseconds it is late."""
        self._bring = bring

    def set(self, key: str, at: Instant, body: Body) -> None:
        """Bring `body` at `at`; replaces the timer of the same key."""
        self._timers.set(key, at, cast("Body", _Due(at, body)))  # opaque to the timers

    def clear(self, key: str) -> None:
        """Forget a timer."""
        self._timers.clear(key)

    def clear_all(self) -> None:
        """Forget every timer."""
        self._timers.clear_all()

    def _fire(self, body: Body) -> None:
        due = cast("_Due", body)
        self._bring(due.body, max(0, self._clock.now().instant - due.at))


def timed(store: Store, observe: Callable[[float], None], clock: Callable[[], float]) -> Store:
    """Return `store` with the time of every commit observed, in seconds."""
    return cast("Store", _Timed(store, observe, clock))


class _Timed:
    def __init__(
        self, store: Store, observe: Callable[[float], None], clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._observe = observe
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def commit(self, batch: Batch) -> Verdict:
        started = self._clock()
        verdict = await self._store.commit(batch)
        self._observe(self._clock() - started)
        return verdict
