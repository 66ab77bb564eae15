"""The loop of a pool: batch, decide, commit, perform.

Facts that arrive while a batch is on its way to the store are the next batch. No effect leaves
before the commit that caused it. What a verdict means is in `_turn`: committed, no room, or the
memory no longer agrees with the store, and then the store is right. A fact that the core fails on
is refused by itself: a defect must not take everybody's work with it.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec
import structlog

from agentcom.core import facts, leases, loading, pool
from agentcom.core.effects import Answer, Effect, Refuse, SetTimer
from agentcom.core.facts import Fact
from agentcom.core.prices import Prices
from agentcom.core.view import PoolView
from agentcom.hub import faults
from agentcom.hub.bodies import Bodies
from agentcom.hub.clock import Clock
from agentcom.hub.committing import commit
from agentcom.hub.inbox import Inbox
from agentcom.hub.lookups import found
from agentcom.model.batch import Append
from agentcom.model.errors import AgentComError, Fault, StorageFull, Unavailable
from agentcom.model.ids import IdSource, Instant, PoolId, Rng
from agentcom.store.base import Committed, Full, Store, TermLost
from agentcom.store.failures import StoreFailed

log = structlog.get_logger(__name__)
replace: Final = msgspec.structs.replace
_LATE_MS: Final = 1_000  # a loop that stood still for longer cannot blame its machines
_AGAIN_MS: Final = 1_000  # a timer that came while the store took nothing comes again
_FAULT_MS: Final = 60_000  # one that the core failed on: it is tried again, and all is read anew
_REPLIES: Final = (Answer, Refuse)


class Outlet(Protocol):
    """Who carries out effects: connections, timers, feeds. Never fails for one peer's sake."""

    def perform(self, effects: Sequence[Effect]) -> None:
        """Carry out effects, in order."""
        ...

    def publish(self, first: int, appends: Sequence[Append]) -> None:
        """Show committed records, numbered from `first`, to those who follow their logs."""
        ...


class Engine(Inbox):
    """One pool's only writer, and the inbox of what it decides."""

    def __init__(
        self,
        store: Store,
        outlet: Outlet,
        *,
        pool_id: PoolId,
        holder: str,
        clock: Clock,
        ids: IdSource,
        rng: Rng,
    ) -> None:
        super().__init__()
        self._store = store
        self._outlet = outlet
        self._pool = pool_id
        self._holder = holder
        self._clock = clock
        self._ids = ids
        self._rng = rng
        self._incarnation = 0
        self._view: PoolView | None = None
        self._forgiven = Instant(0)
        self._bodies = Bodies(store)
        self.prices = Prices()
        self.on_turn: Callable[[int, float], None] = lambda _facts, _seconds: None

    @property
    def view(self) -> PoolView:
        """The live rows; read only, and only for what may be a moment ahead of the store."""
        if self._view is None:
            raise Unavailable("the hub is starting")
        return self._view

    async def start(self, incarnation: int) -> None:
        """Take the lead and load what is live."""
        self._incarnation = incarnation
        await self._load()

    def timer(self, body: facts.Body, late_ms: int) -> None:
        """Queue what a timer brings; a late one means that this hub slept, not its machines."""
        if late_ms > _LATE_MS and self._view is not None:
            now = self._clock.now().instant
            # Many timers are late after one stall: each moment of it is forgiven once.
            leases.forgive(self._view, now - max(now - late_ms, self._forgiven))
            self._forgiven = now
        self.put(Fact(body=body))

    async def run(self) -> None:
        """Decide until cancelled; then nobody waits for an answer any more."""
        try:
            while True:
                await self._turn(await self.take())
                # What was sent leaves, and what came meanwhile joins the next batch.
                await asyncio.sleep(0)
        finally:
            self.refuse_all(Unavailable("the hub stops; ask again"))

    # Turns ----------------------------------------------------------------------------------------

    async def _turn(self, batch: Sequence[Fact], *, again: bool = False) -> None:
        time = asyncio.get_running_loop().time
        started = time()
        if faults.point("engine: forget everything"):
            await self._load()
        view = self.view
        try:
            batch = await found(self._store, view, batch)
            plan = pool.decide(view, batch, now=self._clock.now(), ids=self._ids, rng=self._rng)
        except (AgentComError, StoreFailed):
            raise
        except Exception as error:  # noqa: BLE001 - a defect, told by `_one_by_one`
            await self._one_by_one(batch, error)
            return
        verdict = Committed(0) if plan.batch.empty else await commit(self._store, plan.batch)
        match verdict:
            case Committed(first=first):
                view.confirm()
                await self._carry_out(plan, first)
            case Full():
                view.discard()
                await self._without_submits(batch, again=again)
            case TermLost():
                raise Unavailable("another hub leads this pool now")
            case _:
                await self._start_over(batch, again=again)
        self.on_turn(len(batch), time() - started)

    async def _carry_out(self, plan: pool.Plan, first: int) -> None:
        """Let out what a batch has caused; its records are numbered from `first`."""
        self._bodies.remember(plan.batch.changes)
        self.put_first([_unread(fact) for fact in plan.deferred])
        self._outlet.perform(await self._bodies.attach(plan.effects))
        self._outlet.publish(first, plan.batch.appends)
        for effect in plan.effects:
            if isinstance(effect, _REPLIES):
                self.resolve(effect)

    async def _start_over(self, batch: Sequence[Fact], *, again: bool) -> None:
        """Drop the memory, read what is stored, and decide once more.

        Nothing of the batch was written.
        """
        self.view.discard()  # sessions live on in the next view, as they were before the batch
        await self._load()
        if again:
            self._give_up(batch, Unavailable("the store changed under the hub; ask again"))
        else:
            await self._turn([_unread(fact) for fact in batch], again=True)

    async def _one_by_one(self, batch: Sequence[Fact], error: Exception) -> None:
        """The core failed, so its memory is in doubt: read what is stored, then try each alone.

        Nothing of the batch was written.
        """
        self.view.discard()
        await self._load()
        if len(batch) > 1:
            for fact in batch:
                await self._turn([_unread(fact)])
            return
        (fact,) = batch
        kind, user = type(fact.body).__name__, fact.actor.user
        log.error("engine.fault", fact=kind, user=user, cause=fact.cause, exc_info=error)
        self._give_up(batch, Fault(), _FAULT_MS)

    async def _without_submits(self, batch: Sequence[Fact], *, again: bool) -> None:
        """The disk is full: new tasks are refused, reports of finished work still fit."""
        full = StorageFull("the hub's disk is full; nothing was stored")
        reports = [fact for fact in batch if not isinstance(fact.body, facts.Submit)]
        if again or len(reports) == len(batch):
            self._give_up(batch, full)
            return
        self._give_up([fact for fact in batch if isinstance(fact.body, facts.Submit)], full)
        await self._turn(reports, again=True)

    def _give_up(
        self, batch: Sequence[Fact], error: AgentComError, again_ms: int = _AGAIN_MS
    ) -> None:
        """Refuse requests; machines report again by themselves, and timers are set again."""
        at = Instant(self._clock.now().instant + again_ms)
        own = [fact.body for fact in batch if isinstance(fact.body, facts.Own)]
        self._outlet.perform([SetTimer(f"again/{body!r}", at, body) for body in own])
        for fact in batch:
            if fact.reply_to is not None:
                self.resolve(Refuse(fact.reply_to, error))

    async def _load(self) -> None:
        term = await self._store.acquire(self._pool, self._holder)
        rows = await self._store.scan(self._pool)
        now, old = self._clock.now(), self._view
        self._view, effects = loading.load(
            rows, incarnation=self._incarnation, term=term, now=now, pool=self._pool
        )
        self._view.prices = self.prices
        if old is not None:
            effects = [*effects, *leases.inherit(self._view, old)]
        self._outlet.perform(effects)


def _unread(fact: Fact) -> Fact:
    """Return `fact` as it came: what was read for it may have changed."""
    return replace(fact, found=facts.NOTHING_FOUND)
