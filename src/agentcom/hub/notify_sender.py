"""Sends what waits in the outbox: in order for each destination, again after a failure, in bounds.

Many notices that wait for one destination become one digest. A destination that fails for long, or
for good, is parked: it gets nothing until a person lets it go on.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import takewhile
from typing import Final, Protocol

import structlog

from agentcom.core.outgoing import AddressRefused
from agentcom.hub.clock import Clock
from agentcom.hub.notifications import Notifications, replace
from agentcom.hub.outgoing import Unreachable
from agentcom.model import limits
from agentcom.model.errors import AgentComError
from agentcom.model.ids import Rng, WallTime
from agentcom.model.notify import Destination, Notice
from agentcom.model.rates import Limiter, Rate
from agentcom.telemetry import events

RATE: Final = Rate(6, 60_000, 6)
"""Deliveries to one destination: as many as a person reads, and below what each chat allows."""
DIGEST_FROM: Final = 4
"""So many that wait together are one delivery."""
RETRY_BASE_MS: Final = 5_000
RETRY_MAX_MS: Final = 900_000
PARK_AFTER: Final = 20
"""Failures in a row, some four hours with the pauses above: then it is no passing one."""
STORE_AGAIN_S: Final = 1.0

log = structlog.get_logger(__name__)


class Undelivered(Exception):
    """A destination did not take a delivery."""

    def __init__(self, reason: str, *, final: bool = False, after_ms: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.final = final
        """Whether a repeat will not help."""
        self.after_ms = after_ms
        """When it asked to be tried again; 0: it did not."""


class Courier(Protocol):
    """Who brings notices to a destination."""

    async def deliver(self, destination: Destination, notices: Sequence[Notice]) -> None:
        """Bring some notices in one delivery.

        Raises:
            Undelivered: they are not there, or nobody knows.
        """
        ...


class Sender:
    """Works off the outbox."""

    def __init__(
        self,
        notifications: Notifications,
        courier: Courier,
        *,
        clock: Clock,
        rng: Rng,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._notifications = notifications
        self._courier = courier
        self._clock = clock
        self._rng = rng
        self._sleep = sleep
        self._rates = Limiter(RATE)
        self._working: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Send until cancelled; a supervisor's child."""
        try:
            while True:
                await self._notifications.news.wait()
                self._notifications.news.clear()
                self._reap()
                self._begin()
        finally:
            for task in self._working.values():
                task.cancel()
            await asyncio.gather(*self._working.values(), return_exceptions=True)
            self._working.clear()

    def _reap(self) -> None:
        for name, task in list(self._working.items()):
            if task.done():
                del self._working[name]
                if not task.cancelled():
                    task.result()  # a defect: the supervisor starts this service again

    def _begin(self) -> None:
        names = self._notifications.names()
        for name, task in self._working.items():
            if name not in names or name in self._notifications.resumed:
                task.cancel()  # it may be in a long pause
        for name in names:
            if name not in self._working:
                self._notifications.resumed.discard(name)
                task = asyncio.create_task(self.drain(name), name=f"notify {name}")
                task.add_done_callback(lambda _: self._notifications.news.set())
                self._working[name] = task

    async def drain(self, name: str) -> None:
        """Send what waits for one destination, until there is nothing or it is parked."""
        while name in self._notifications.names():
            row = self._notifications.find(name)
            wait_ms = self._wait_ms(row)
            if wait_ms:
                await self._sleep(wait_ms / 1_000)
                continue
            count = self._notifications.waiting(name)
            waiting = await self._notifications.next_of(name, limits.NOTICES_MAX)
            if not waiting:
                self._notifications.found_none(name, count)
                return
            self._rates.charge(name, self._clock.now().instant)
            batch = _together(waiting)
            await self._settle(row, batch, await self._try(row, batch))

    def _wait_ms(self, row: Destination) -> int:
        now = self._clock.now()
        pause_ms = 0
        if row.next_at is not None:  # a clock that was set back does not make it longer
            pause_ms = min(max(0, row.next_at - now.wall), RETRY_MAX_MS)
        return max(pause_ms, self._rates.wait_ms(row.name, now.instant))

    async def _try(self, row: Destination, batch: Sequence[Notice]) -> Undelivered | None:
        try:
            await self._courier.deliver(row, batch)
        except Undelivered as error:
            return error
        except (AddressRefused, Unreachable) as error:
            return Undelivered(str(error))
        return None

    async def _settle(
        self, row: Destination, batch: Sequence[Notice], failed: Undelivered | None
    ) -> None:
        """Write down what became of a delivery, once the store takes it."""
        while True:
            try:
                if failed is None:
                    await self._sent(row, batch)
                else:
                    await self._failed(row, failed)
            except AgentComError as error:
                log.warning(events.DELIVERY_WAITS, destination=row.name, reason=error.message)
                await self._sleep(STORE_AGAIN_S)
                continue
            return

    async def _sent(self, row: Destination, batch: Sequence[Notice]) -> None:
        after = replace(
            row,
            failures=0,
            problem="",
            next_at=None,
            sent=row.sent + len(batch),
            sent_at=self._clock.now().wall,
        )
        await self._notifications.settled(row, batch, after)

    async def _failed(self, row: Destination, error: Undelivered) -> None:
        now, failures = self._clock.now().wall, row.failures + 1
        parks = error.final or failures >= PARK_AFTER
        log.warning(
            events.DELIVERY_FAILED, destination=row.name, failures=failures, parked=parks,
            reason=error.reason,
        )  # fmt: skip
        after = replace(
            row,
            failures=failures,
            failed_at=now,
            problem=error.reason[: limits.REASON_CHARS],
            next_at=WallTime(now + self._pause_ms(failures, error)),
            parked=error.reason[: limits.REASON_CHARS] if parks else "",
            parked_at=now if parks else None,
        )
        await self._notifications.write(row, after)

    def _pause_ms(self, failures: int, error: Undelivered) -> int:
        ceiling = min(RETRY_BASE_MS << min(failures - 1, 16), RETRY_MAX_MS)
        pause_ms = int(ceiling * (0.5 + self._rng.random() / 2))
        return max(pause_ms, min(error.after_ms, RETRY_MAX_MS))


def _together(waiting: Sequence[Notice]) -> Sequence[Notice]:
    """Return what is sent at once: the next one, or many as a digest; what asks stands alone."""
    first = waiting[0]
    if first.person is not None or first.ended:
        return (first,)
    run = list(takewhile(lambda one: one.person is None and not one.ended, waiting))
    return run if len(run) >= DIGEST_FROM else run[:1]
