"""The hub without its doors: engine, timers, feeds, tokens, queries, put together.

Doors take what they need from here. What must go on running is listed in `children`.
"""

import asyncio
import contextlib
import os
import platform
import secrets
import socket
import time
from collections.abc import Awaitable, Mapping
from functools import partial
from typing import Any, Final

import msgspec

from agentcom import __version__
from agentcom.core import budgets, deadlines, locking
from agentcom.core.facts import Body, Fact
from agentcom.core.outgoing import parse_allowed
from agentcom.hub import maintenance, prices
from agentcom.hub.activities import Activities
from agentcom.hub.admission import Admission
from agentcom.hub.alerting import Alerting
from agentcom.hub.archiving import Archiver
from agentcom.hub.audit_log import AuditLog
from agentcom.hub.auth import Authenticator
from agentcom.hub.choosing import Chooser
from agentcom.hub.clock import Clock
from agentcom.hub.config import HubConfig
from agentcom.hub.conversation import Conversation, Means
from agentcom.hub.credentials import Credentials
from agentcom.hub.cursors import Cursors
from agentcom.hub.engine import Engine
from agentcom.hub.enrolment import Enrolment
from agentcom.hub.external import Externals
from agentcom.hub.feeds import Feeds
from agentcom.hub.figures import Figures
from agentcom.hub.identifiers import Entropy, SystemRng, UuidIds
from agentcom.hub.journal_log import JournalLog
from agentcom.hub.leaving import Leaving
from agentcom.hub.limits_guard import RATES, Budgets, FailureGuard
from agentcom.hub.pulse import Notifier, Pulse
from agentcom.hub.queries import Queries
from agentcom.hub.queries_fleet import Fleet
from agentcom.hub.queries_graphs import Graphs
from agentcom.hub.queries_people import People
from agentcom.hub.reloading import Adjust, Make
from agentcom.hub.requests import Causes
from agentcom.hub.schedule_runs import Runs
from agentcom.hub.schedules import Schedules
from agentcom.hub.supervisor import ChildSpec
from agentcom.hub.switchboard import Switchboard
from agentcom.hub.timed_store import timed
from agentcom.hub.timers import Timers
from agentcom.model.errors import Timeout
from agentcom.model.identity import Identity
from agentcom.model.ids import DEFAULT_POOL, IdSource, WallTime, encode_base32
from agentcom.model.rates import Rate
from agentcom.model.replies import Reply
from agentcom.model.usage import DAY_MS
from agentcom.store.archive import Archive, NoArchive
from agentcom.store.base import Store
from agentcom.telemetry.levels import Levels
from agentcom.telemetry.metrics import OVERLOAD, Metrics

ASK_MS: Final = 25_000  # below the usual 30 s of clients and proxies, so that they see our answer
STOP_MS: Final = 1_500  # for each part but the port, so that all end within 10 s
CHECKPOINT_MS: Final = 1_500  # a checkpoint that takes longer is left to the next start
_FREE_RATE: Final = Rate(1_000_000, 1, 1_000_000)


class Services:
    """All that a hub does, whoever asks for it. Without an archive what is over stays."""

    def __init__(
        self,
        config: HubConfig,
        store: Store,
        clock: Clock,
        *,
        archive: Archive | None = None,
        entropy: Entropy = secrets.token_bytes,
    ) -> None:
        self.clock = clock
        self.metrics, self.notifier = Metrics(), Notifier()
        self.store = timed(store, self.metrics.commit.observe, time.perf_counter)
        self.rng = SystemRng(entropy)
        ids = UuidIds(clock, entropy)
        self.archiver = Archiver(
            self.store,
            archive or NoArchive(),
            clock=clock,
            ids=ids,
            view=lambda: self.engine.view,
            keep=config.retention,
        )
        self.causes = Causes(encode_base32(int.from_bytes(entropy(4)) >> 2, length=6))
        self._admit(config)
        self.auth = Authenticator(self.store, clock, ids, self._guard)
        self.credentials = Credentials(self.auth, self.store, clock, ids)
        self.enrolment = Enrolment(
            self.auth, self.credentials, self.store, clock, ids, self._submit_fact
        )
        self.timers = Timers(clock, self._fire)
        self.feeds = Feeds(self.store, Activities())
        self.journal = JournalLog(self.feeds, self.metrics, clock)
        self.alerting = self._watch(config, ids)
        self.switchboard = Switchboard(self.timers, self.alerting.task_news)
        self.engine = self._decide(ids)
        cursors = Cursors()
        self.queries = self._reads(cursors)
        self.graphs = Graphs(self.store, self.queries, cursors)
        self.fleet = Fleet(lambda: self.engine.view, cursors, lambda: clock.now().instant)
        self.people, self.chooser = People(self.store, cursors), Chooser(self.store)
        self.audit = AuditLog(self.store, clock, ids, cursors, config)
        self.schedules = Schedules(self.store, clock, ids, self._runs(), cursors)
        self.externals = self._let_in(ids)
        self.conversation = self._converse(ids, config)
        self.leaving = self._part()
        self._alert()
        self._attach(config)

    async def start(self, incarnation: int) -> None:
        """Load what is live; the engine decides once its service runs."""
        await self.alerting.load()
        await self.engine.start(incarnation)
        self.journal.take_up(self.engine.view.tasks.values())

    async def tidy(self) -> None:
        """Write down what is left, so that the next start is quick."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CHECKPOINT_MS / 1_000):
                await self.auth.flush()
                await self.store.checkpoint()

    def end(self) -> None:
        """Let nothing wait for its time any more."""
        self.timers.clear_all()
        self.levels.close()

    def children(self) -> list[ChildSpec]:
        """Return the services in the order in which they start; they stop in the other one."""
        decided = asyncio.Event()
        pulse = Pulse(
            clock=self.clock,
            metrics=self.metrics,
            notifier=self.notifier,
            stepped=self._reset_timers,
            lagged=self.admission.beat,
        )

        async def flush() -> None:
            await self.engine.drained()
            decided.set()

        return [
            ChildSpec(
                name="engine",
                run=lambda: until(decided, self.engine.run()),
                stop=flush,
                critical=True,
                shutdown_ms=STOP_MS,
            ),
            ChildSpec(name="auth", run=self.auth.run, shutdown_ms=STOP_MS),
            ChildSpec(
                name="maintenance",
                run=lambda: maintenance.run(self.store, self.clock, self._prune),
                shutdown_ms=STOP_MS,
            ),
            ChildSpec(name="audit", run=self.audit.run, shutdown_ms=STOP_MS),
            *self._archive_child(),
            *self.conversation.children(STOP_MS),
            ChildSpec(name="schedules", run=self.schedules.run, shutdown_ms=STOP_MS),
            *self.alerting.children(),
            ChildSpec(name="pulse", run=pulse.run, shutdown_ms=STOP_MS),
            *self._traces,
        ]

    def adjustments(self) -> Mapping[str, Adjust]:
        """Return how settings change while all this runs; see `hub/reloading.py`."""

        def reprice(config: HubConfig) -> Make:
            found = prices.load(config.prices)
            return lambda: setattr(self.engine, "prices", found)

        def allow(config: HubConfig) -> Make:
            found = [parse_allowed(text) for text in config.outgoing.allow]
            return partial(self.alerting.outgoing.set_allowed, found)

        return {
            "outgoing.allow": allow,
            "log_level": lambda config: partial(self.levels.usually, config.log_level),
            "prices": reprice,
            "limits.rates": lambda config: partial(self._bound, config),
        }

    def _admit(self, config: HubConfig) -> None:
        self.admission = Admission(self.clock, lambda: self.engine.backlog)
        shed = self.metrics.rate_limited.inc
        self.budgets, self._guard = Budgets(gate=self.admission, shed=shed), FailureGuard()
        self._bound(config)

    def _bound(self, config: HubConfig) -> None:
        self.admission.bounded = config.limits.rates
        if config.limits.rates:
            self.budgets.set(RATES)
            self._guard.set()
            return
        self.budgets.set(dict.fromkeys(RATES, _FREE_RATE), strangers=_FREE_RATE, known=_FREE_RATE)
        self._guard.set(_FREE_RATE, _FREE_RATE)

    def _archive_child(self) -> list[ChildSpec]:
        if not self.archiver.works:
            return []
        return [ChildSpec(name="archive", run=self.archiver.run, shutdown_ms=STOP_MS)]

    def _part(self) -> Leaving:
        parts = (self.people, self.credentials, self.schedules, self.conversation.members)
        return Leaving(self.store, self.clock, self.switchboard, lambda: self.engine.view, *parts)

    def _fire(self, body: Body, late_ms: int) -> None:
        self.engine.timer(body, late_ms)

    def _attach(self, config: HubConfig) -> None:
        """Close the circles: some parts need each other to exist."""
        engine, measured = self.engine, self.metrics
        self.auth.on_failure, self.auth.on_refused = self.audit.failed_login, self.audit.refused
        self.auth.shut_out = self.switchboard.shut_out = self.fleet.shut_out
        self.switchboard.attach(engine)
        self.feeds.attach(lambda task: engine.view.tasks.get(task))  # noqa: PLW0108  # each view anew

        def on_turn(count: int, seconds: float) -> None:
            measured.batch.observe(count)
            measured.turn.observe(seconds)
            self.admission.turned(count, seconds)

        engine.on_turn = on_turn
        self.switchboard.on_spent = measured.spent
        self.levels = Levels(self.journal.rebind)
        self.streams: dict[str, int] = {}
        """Open event streams by credential."""
        figures = Figures(
            alerting=self.alerting,
            engine=engine,
            fleet=self.fleet,
            feeds=self.feeds,
            journal=self.journal,
            switchboard=self.switchboard,
            streams=self.streams,
        )
        figures.show(measured)
        overload = "0 takes everything, 1 refuses requests beyond a share, 2 all submits and reads"
        measured.watch_number(OVERLOAD, overload, lambda: float(self.admission.load))
        engine.prices = prices.load(config.prices)
        self._traces = self._trace(config)

    def _trace(self, config: HubConfig) -> list[ChildSpec]:
        """Say what runs here, and let traces be sent if the settings say where to."""
        self.metrics.state(
            version=__version__,
            python=platform.python_version(),
            store=config.store,
            started_s=self.clock.now().wall / 1_000,
        )
        if config.otlp_endpoint is None:
            return []
        from agentcom.hub import tracing  # noqa: PLC0415 - who sends none pays nothing for it

        traces = tracing.Traces(
            self.journal.next,
            self.store,
            config.otlp_endpoint,
            headers=tracing.read_headers(config.otlp_headers),
            instance=socket.gethostname(),
            count=self.metrics.traces.inc,
        )
        self.journal.next = traces
        return [ChildSpec(name="traces", run=traces.run, shutdown_ms=STOP_MS)]

    def _decide(self, ids: IdSource) -> Engine:
        return Engine(
            self.store,
            self.switchboard,
            pool_id=DEFAULT_POOL,
            holder=f"{socket.gethostname()}:{os.getpid()}",
            clock=self.clock,
            ids=ids,
            rng=self.rng,
        )

    def _watch(self, config: HubConfig, ids: IdSource) -> Alerting:
        return Alerting(
            config,
            self.store,
            self.clock,
            ids,
            self.rng,
            view=lambda: self.engine.view,
            feeds=self.journal,
        )

    def _alert(self) -> None:
        self.alerting.attach(
            activities=self.feeds.activities,
            ended=lambda: self.journal.ended,
            backlog=lambda: self.engine.backlog,
            talk=self.conversation.talk,
            ask=lambda fact: ask(self.engine, fact),
        )
        self.conversation.ask_letters.also = self.alerting.told_of

    async def _prune(self, now: WallTime) -> int:
        gone = await self.conversation.prune(now) + await self.alerting.alerts.prune(now)
        return gone + await self.audit.tidy(now)

    def _runs(self) -> Runs:
        return Runs(
            self.store,
            lambda fact: ask(self.engine, fact),
            lambda: self.engine.view,
            self.causes,
        )

    def _reads(self, cursors: Cursors) -> Queries:
        live, archive = self.feeds.activities, self.archiver.archive
        return Queries(self.store, live, cursors, self.switchboard.remote_logs, archive)

    def _let_in(self, ids: IdSource) -> Externals:
        return Externals(
            self.engine,
            self.switchboard,
            self.store,
            self.credentials,
            ids,
            self.causes,
            lambda fact: ask(self.engine, fact),
        )

    def _converse(self, ids: IdSource, config: HubConfig) -> Conversation:
        means = Means(
            home=config.home,
            store=self.store,
            archive=self.archiver.archive,
            clock=self.clock,
            ids=ids,
            budgets=self.budgets,
            switchboard=self.switchboard,
            view=lambda: self.engine.view,
            ask=lambda fact: ask(self.engine, fact),
            posts_ms=round(config.retention.posts_days * DAY_MS),
        )
        return Conversation(means)

    async def _submit_fact(self, body: Body, identity: Identity) -> Reply | msgspec.Raw:
        return await ask(self.engine, Fact(body=body, actor=identity, cause=self.causes.new()))

    def _reset_timers(self) -> None:
        """The wall clock was set: what waits for a time of day is mapped anew."""
        view = self.engine.view
        now = self.clock.now()
        timers = [*deadlines.timers(view, now), *budgets.timers(view, now)]
        self.switchboard.perform([*timers, *locking.timers(view, now)])
        self.schedules.stepped()


async def ask(engine: Engine, fact: Fact, *, ask_ms: int = ASK_MS) -> Reply | msgspec.Raw:
    """Bring a fact to the pool and return its answer; raises its refusal.

    Raises:
        Timeout: there is none in time; it may come true nevertheless.
    """
    try:
        async with asyncio.timeout(ask_ms / 1_000):
            return await engine.ask(fact)
    except TimeoutError:
        raise Timeout(
            f"no answer in {ask_ms // 1_000} s; ask again with the same Idempotency-Key"
        ) from None


async def until(over: asyncio.Event, work: Awaitable[None] | None = None) -> None:
    """Run `work` until `over` is set; raises what it raises."""
    parts: list[asyncio.Future[Any]] = [asyncio.ensure_future(over.wait())]
    if work is not None:
        parts.append(asyncio.ensure_future(work))
    try:
        done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        for part in done:
            part.result()
    finally:
        for part in parts:
            part.cancel()
        await asyncio.gather(*parts, return_exceptions=True)
