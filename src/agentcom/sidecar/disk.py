"""The shell's way to the disk: one order after the other, each answered by a fact."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection
from typing import assert_never

import structlog

from agentcom.sidecar import housekeeping, repositories, story
from agentcom.sidecar import machine_values as values
from agentcom.sidecar.clock import Clock
from agentcom.sidecar.config import Home
from agentcom.sidecar.machine_values import Key, Record
from agentcom.sidecar.outbox import DiskRefused, Outbox

Order = values.Store | values.Forget | values.Offer | values.Remember
Tell = Callable[[values.Fact], Awaitable[None]]

log = structlog.get_logger(__name__)


class Disk:
    """The records of one machine, and what may be cleared away beside them."""

    def __init__(
        self, home: Home, *, clock: Clock, tell: Tell, forgotten: Callable[[Record], None]
    ) -> None:
        """`forgotten` is called with each record that was put away."""
        self._home = home
        self._clock = clock
        self._tell = tell
        self._forgotten = forgotten
        self._outbox = Outbox(home.outbox)
        # Bounded by the attempts that the machine holds: a few orders each.
        self._orders: asyncio.Queue[Order] = asyncio.Queue()

    async def load(self) -> tuple[tuple[Record, ...], int]:
        """Return what is held, and the hub's incarnation as it was seen last; clear leftovers."""
        records = await asyncio.to_thread(self._outbox.scan)
        held = [record.key for record in records]
        now = self._clock.now().wall
        await asyncio.to_thread(self._outbox.prune, now)
        await asyncio.to_thread(housekeeping.clear_leftovers, self._home, held, now)
        return records, self._incarnation()

    def put(self, order: Order) -> None:
        """Perform `order` after those before it."""
        self._orders.put_nowait(order)

    async def join(self) -> None:
        """Return when everything that was put is done."""
        await self._orders.join()

    async def run(self) -> None:
        """Perform orders until cancelled."""
        while True:
            order = await self._orders.get()
            match order:
                case values.Store(record):
                    await self._store(record)
                case values.Forget(record, keep):
                    await self._forget(record, keep=keep)
                case values.Offer():
                    await self._tell(values.Kept(await asyncio.to_thread(self._outbox.kept)))
                case values.Remember(incarnation):
                    self._remember(incarnation)
                case _:
                    assert_never(order)
            self._orders.task_done()

    async def keep_house(self, held: Callable[[], Collection[Key]]) -> None:
        """Clear away what nobody needs any more, now and once a day."""
        while True:
            now = self._clock.now().wall
            await asyncio.to_thread(self._outbox.prune, now)
            await housekeeping.sweep(self._home, held, now)
            await asyncio.sleep(housekeeping.EVERY_MS / 1000)

    async def after(self, record: Record) -> None:
        """Clear away what one attempt that is over leaves."""
        await housekeeping.after(self._home, record, self._clock.now().wall)

    async def _store(self, record: Record) -> None:
        try:
            await asyncio.to_thread(self._outbox.store, record)
        except DiskRefused as error:
            await self._tell(values.NotStored(record.key, record.stage, error.message))
        else:
            await self._tell(values.Stored(record.key, record.stage))

    async def _forget(self, record: Record, *, keep: bool) -> None:
        try:
            await asyncio.to_thread(self._outbox.forget, record.key, keep=keep)
        except DiskRefused as error:
            log.error("record.not_forgotten", **story.of(record), reason=error.message)  # noqa: TRY400 - the cause is in the message
        self._forgotten(record)

    def _incarnation(self) -> int:
        with contextlib.suppress(OSError, ValueError):
            return int(self._home.incarnation.read_text(encoding="ascii"))
        return 0

    def _remember(self, incarnation: int) -> None:
        # Without it, the kept results are offered once more: that is harmless.
        with contextlib.suppress(OSError):
            repositories.write(self._home.incarnation, str(incarnation))
