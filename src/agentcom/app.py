"""The composition root of a hub: settings in, a running hub out, and its end in good order.

Here, and nowhere else, concrete parts meet: which store, which doors, which clock. What the parts
do stands in their own files; what is restarted when it fails, in `hub/supervisor.py`.
"""

import asyncio
import contextlib
import getpass
import importlib.metadata
import logging
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import msgspec
import structlog

from agentcom import __version__
from agentcom.core import leases
from agentcom.core.facts import Body, Fact
from agentcom.hub import certificate as certificates
from agentcom.hub import config as configs
from agentcom.hub import maintenance
from agentcom.hub.activities import Activities
from agentcom.hub.auth import Authenticator
from agentcom.hub.clock import Clock, SystemClock
from agentcom.hub.config import ConfigInvalid, HubConfig, LogFormat
from agentcom.hub.credentials import Credentials
from agentcom.hub.cursors import Cursors
from agentcom.hub.enrolment import Enrolment, first_admin
from agentcom.hub.feeds import Feeds
from agentcom.hub.identifiers import SystemRng, UuidIds
from agentcom.hub.journal_log import JournalLog
from agentcom.hub.limits_guard import RATES, Budgets
from agentcom.hub.pulse import Notifier, Pulse
from agentcom.hub.queries import Queries
from agentcom.hub.queries_fleet import Fleet
from agentcom.hub.queries_people import People
from agentcom.hub.requests import Causes
from agentcom.hub.supervisor import ChildSpec, Supervisor
from agentcom.hub.switchboard import Switchboard
from agentcom.hub.wiring import DueTimers, HubEngine, timed
from agentcom.model.identity import Identity
from agentcom.model.ids import DEFAULT_POOL, UserId, encode_base32
from agentcom.model.rates import Rate
from agentcom.model.replies import Reply
from agentcom.protocol.shown import HubStatus
from agentcom.store.base import Store
from agentcom.store.memory import MemoryStore
from agentcom.store.sqlite import SqliteStore
from agentcom.telemetry import events, logs, metrics
from agentcom.transport.guard import Rules
from agentcom.transport.http import http_app
from agentcom.transport.http_call import Address, Hall, ask
from agentcom.transport.port import Port
from agentcom.transport.socket import PortLimits
from agentcom.transport.ws import Desk, WebSocketDoor

STORE_FILE: Final = "hub.sqlite"
STORES: Final = "agentcom.stores"
STOP_MS: Final = 1_500  # for each part but the port, so that all end within 10 s
CHECKPOINT_MS: Final = 1_500  # a checkpoint that takes longer is left to the next start
_FREE_RATE: Final = Rate(1_000_000, 1, 1_000_000)
_WILDCARDS: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104  # names that mean all of them

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class HubInfo:
    """A hub that is ready, as whoever started it wants to know it."""

    url: str
    host: str
    port: int
    pid: int
    home: Path
    incarnation: int
    admin: UserId
    admin_token: str | None
    """The first admin's, at the very first start; shown this once."""
    fingerprint: str | None
    """What clients pin, if the certificate is the hub's own."""


async def run_hub(
    config: HubConfig,
    *,
    ready: Callable[[HubInfo], None],
    stop: asyncio.Event | None = None,
    store: Store | None = None,
    clock: Clock | None = None,
) -> int:
    """Run a hub until `stop` is set; without one, until a signal comes, with logs set up.

    Returns 0 after an end in good order.

    Raises:
        StoreRefused: the store is damaged, or another hub has it.
        PortUnavailable: the address cannot be listened on.
        Escalated: a part failed for good.
    """
    if stop is not None:
        await _Hub(config, store, clock or SystemClock(), stop).run(ready)
        return 0
    stop = asyncio.Event()
    with _as_process(config, stop):
        try:
            await _Hub(config, store, clock or SystemClock(), stop).run(ready)
        except Exception as error:
            log.critical(events.HUB_FAILED, reason=str(error), kind=type(error).__name__)
            raise
    return 0


def open_store(config: HubConfig) -> Store:
    """Return the store that the settings name, not opened yet.

    Raises:
        ConfigInvalid: nothing of that name is installed.
    """
    if config.store == "memory":
        return MemoryStore()
    if config.store == "sqlite":
        return SqliteStore(config.home / STORE_FILE)
    found = importlib.metadata.entry_points(group=STORES, name=config.store)
    for entry in found:
        return cast("Store", entry.load()(config.home))
    known = ", ".join(sorted(entry.name for entry in importlib.metadata.entry_points(group=STORES)))
    raise ConfigInvalid(f"setting store: {config.store} is not installed; there are {known}")


class _Hub:
    """All parts of one hub."""

    def __init__(
        self, config: HubConfig, store: Store | None, clock: Clock, stop: asyncio.Event
    ) -> None:
        self._config = config
        self._clock = clock
        self._stop = stop
        self._started = clock.now()
        self._notifier = Notifier()
        self._is_ready = False
        self._incarnation = 0
        config.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._metrics = metrics.Metrics()
        store = store if store is not None else open_store(config)
        self._store = timed(store, self._metrics.commit.observe, time.perf_counter)
        self._rng = SystemRng()
        ids = UuidIds(clock)
        self._auth = Authenticator(self._store, clock, ids)
        self._credentials = Credentials(self._auth, self._store, clock, ids)
        self._timers = DueTimers(clock)
        self._feeds = Feeds(self._store, Activities())
        self._journal = JournalLog(self._feeds, self._metrics)
        self._switchboard = Switchboard(self._timers, self._journal)
        self._engine = HubEngine(
            self._store,
            self._switchboard,
            pool_id=DEFAULT_POOL,
            holder=f"{socket.gethostname()}:{os.getpid()}",
            clock=clock,
            ids=ids,
            rng=self._rng,
        )
        self._join_parts()
        self._hall = self._build_hall(ids)
        self._certificate = _certificate(config)
        self._door = WebSocketDoor(self._build_desk())
        self._port = self._build_port()
        self._address = Address(url="")

    async def run(self, ready: Callable[[HubInfo], None]) -> None:
        """Start everything, wait for the end, and stop everything, whatever happens."""
        log.info(events.HUB_STARTED, version=__version__, pid=os.getpid())
        self._incarnation = await self._store.open()
        try:
            await self._engine.start(self._incarnation)
            admin = self._config.admin or first_admin(_os_user())
            token = await self._credentials.ensure_admin(admin)
            number = await self._port.start(self._config.host, self._config.port)
            self._address = self._reached_at(number)
            await self._serve(lambda: ready(self._info(number, admin, token)))
        finally:
            self._timers.clear_all()
            await self._close_store()
        log.info(events.HUB_STOPPED)

    async def _serve(self, ready: Callable[[], None]) -> None:
        supervisor = Supervisor(
            self._children(),
            clock=self._clock,
            rng=self._rng,
            restarted=lambda name: self._metrics.restarts.labels(name).inc(),
        )
        running = asyncio.create_task(supervisor.run(), name="supervisor")
        stopping = asyncio.create_task(self._stop.wait(), name="stop")
        is_up = asyncio.create_task(supervisor.ready.wait(), name="ready")
        try:
            await asyncio.wait({running, stopping, is_up}, return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                self._is_ready = True
                self._notifier.tell("READY=1")
                log.info(events.HUB_READY, url=self._address.url, incarnation=self._incarnation)
                ready()
                await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._is_ready = False
            self._notifier.tell("STOPPING=1")
            log.info(events.HUB_STOPPING)
            supervisor.stop()
            is_up.cancel()
            stopping.cancel()
            await running

    # Parts --------------------------------------------------------------------------------------

    def _join_parts(self) -> None:
        engine, measured = self._engine, self._metrics
        engine.lease_ttl_ms = self._config.lease_ttl_ms
        self._switchboard.attach(engine)
        self._timers.attach(engine.timer)
        self._feeds.attach(lambda task: engine.view.tasks.get(task))

        def on_turn(count: int, seconds: float) -> None:
            measured.batch.observe(count)
            measured.turn.observe(seconds)

        engine.on_turn = on_turn

    def _build_hall(self, ids: UuidIds) -> Hall:
        cursors = Cursors()
        engine = self._engine
        fleet = Fleet(lambda: engine.view, cursors, lambda: self._clock.now().instant)
        hall = Hall(
            engine=engine,
            feeds=self._feeds,
            auth=self._auth,
            credentials=self._credentials,
            enrolment=Enrolment(
                self._auth, self._credentials, self._store, self._clock, ids, self._submit_fact
            ),
            budgets=self._budgets(),
            clock=self._clock,
            causes=Causes(encode_base32(secrets.randbits(30), length=6)),
            queries=Queries(self._store, self._feeds.activities, cursors),
            fleet=fleet,
            people=People(self._store, cursors),
            metrics=self._metrics,
            status=self._status,
            is_ready=lambda: self._is_ready,
            drain=self._stop.set,
            address=lambda: self._address,
        )
        self._metrics.watch(
            tasks=fleet.task_counts,
            agents=fleet.agent_counts,
            connections=lambda: {"ws": self._switchboard.connection_count},
        )
        self._metrics.watch_number(
            metrics.INBOX_FACTS, "Facts that wait for a decision", lambda: engine.backlog
        )
        return hall

    def _build_desk(self) -> Desk:
        hall = self._hall
        return Desk(
            engine=self._engine,
            switchboard=self._switchboard,
            feeds=self._feeds,
            auth=self._auth,
            budgets=hall.budgets,
            clock=self._clock,
            causes=hall.causes,
            hub=socket.gethostname(),
        )

    def _build_port(self) -> Port:
        bounds = self._config.limits
        limits = PortLimits(
            body_bytes_max=bounds.body_bytes_max,
            send_bytes_max=bounds.send_bytes_max,
            untrusted_per_address_max=bounds.untrusted_per_address_max,
            untrusted_max=bounds.untrusted_max,
        )
        own = self._certificate
        tls = None if own is None else certificates.server_context(own)
        rules = Rules(hosts=_hosts(self._config), origins=frozenset(self._config.origins))
        return Port(
            http_app(self._hall),
            {b"/ws": self._door.route},
            limits=limits,
            tls=tls,
            rules=rules,
            is_trusted=self._door.is_trusted,
        )

    def _budgets(self) -> Budgets:
        if self._config.limits.rates:
            return Budgets()
        return Budgets(dict.fromkeys(RATES, _FREE_RATE))

    def _children(self) -> list[ChildSpec]:
        """The services, in the order in which they start; they stop in the other one."""
        decided, closed = asyncio.Event(), asyncio.Event()
        pulse = Pulse(
            clock=self._clock,
            metrics=self._metrics,
            notifier=self._notifier,
            stepped=self._reset_timers,
        )

        async def flush() -> None:
            await self._engine.drained()
            decided.set()

        async def close() -> None:
            await self._close_port()
            closed.set()

        return [
            ChildSpec(
                name="engine",
                run=lambda: _until(decided, self._engine.run()),
                stop=flush,
                critical=True,
                shutdown_ms=STOP_MS,
            ),
            ChildSpec(name="auth", run=self._auth.run, shutdown_ms=STOP_MS),
            ChildSpec(
                name="maintenance",
                run=lambda: maintenance.run(self._store, self._clock),
                shutdown_ms=STOP_MS,
            ),
            ChildSpec(name="pulse", run=pulse.run, shutdown_ms=STOP_MS),
            ChildSpec(
                name="port",
                run=lambda: _until(closed),
                stop=close,
                shutdown_ms=self._config.drain_ms + 2 * STOP_MS,
            ),
        ]

    # The end --------------------------------------------------------------------------------------

    async def _close_port(self) -> None:
        """Take nothing new, answer what was asked, and tell everyone to come back later."""
        self._hall.stopping.set()
        self._switchboard.drain(self._rng)
        await self._port.stop(self._config.drain_ms / 1_000)

    async def _close_store(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CHECKPOINT_MS / 1_000):
                await self._auth.flush()
                await self._store.checkpoint()
        await self._store.close()

    # Odds and ends --------------------------------------------------------------------------------

    async def _submit_fact(self, body: Body, identity: Identity) -> Reply | msgspec.Raw:
        hall = self._hall
        return await ask(hall, Fact(body=body, actor=identity, cause=hall.causes.new()))

    def _reset_timers(self) -> None:
        """The wall clock was set: what waits for a time of day is mapped anew."""
        now = self._clock.now()
        for task in list(self._engine.view.tasks.values()):
            self._switchboard.perform(leases.timers_of(task, now))

    def _status(self) -> HubStatus:
        hall, now = self._hall, self._clock.now()
        machines, connected = hall.fleet.machine_counts()
        return HubStatus(
            version=__version__,
            state="ready" if self._is_ready else "draining",
            incarnation=self._incarnation,
            store=self._config.store,
            started_at=self._started.wall,
            uptime_ms=now.instant - self._started.instant,
            issuing=self._engine.view.issuing,
            tasks=hall.fleet.task_counts(),
            ended=self._journal.ended,
            agents=hall.fleet.agent_counts(),
            machines=machines,
            machines_connected=connected,
            backlog=self._engine.backlog,
        )

    def _reached_at(self, number: int) -> Address:
        config = self._config
        host = config.host
        if host in _WILDCARDS:
            host = config.hosts[0] if config.hosts else socket.gethostname()
        scheme = "http" if self._certificate is None else "https"
        url = config.public_url or f"{scheme}://{_bracketed(host)}:{number}"
        return Address(url=url.rstrip("/"), fingerprint=self._fingerprint)

    @property
    def _fingerprint(self) -> str | None:
        """What to pin; a certificate that was given is the clients' own business."""
        own = self._certificate
        return own.fingerprint if own is not None and self._config.certificate is None else None

    def _info(self, number: int, admin: UserId, token: str | None) -> HubInfo:
        return HubInfo(
            url=self._address.url,
            host=self._config.host,
            port=number,
            pid=os.getpid(),
            home=self._config.home,
            incarnation=self._incarnation,
            admin=admin,
            admin_token=token,
            fingerprint=self._fingerprint,
        )


async def _until(over: asyncio.Event, work: Awaitable[None] | None = None) -> None:
    """Run `work` until `over` is set; raises what it raises."""
    end = asyncio.ensure_future(over.wait())
    parts: set[asyncio.Future[Any]] = {end}
    if work is not None:
        parts.add(asyncio.ensure_future(work))
    try:
        done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        for part in done:
            part.result()
    finally:
        for part in parts:
            part.cancel()
        await asyncio.gather(*parts, return_exceptions=True)


@contextlib.contextmanager
def _as_process(config: HubConfig, stop: asyncio.Event) -> Iterator[None]:
    """Set up what belongs to a process: logs, and what signals mean."""
    as_json = config.log_format is LogFormat.JSON or (
        config.log_format is LogFormat.AUTO and not sys.stderr.isatty()
    )
    level = logging.getLevelNamesMapping()[config.log_level.value.upper()]
    pipe = logs.configure(as_json=as_json, level=level)
    loop = asyncio.get_running_loop()

    def asked(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)  # the second time: at once, which is safe
        stop.set()

    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, asked, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
        pipe.close()


def _certificate(config: HubConfig) -> certificates.HubCertificate | None:
    if config.certificate is not None and config.key is not None:
        return certificates.HubCertificate(
            certificate=config.certificate,
            key=config.key,
            fingerprint=certificates.fingerprint(config.certificate),
        )
    if not config.uses_tls:
        return None
    names = [config.host, socket.gethostname(), *config.hosts]
    return certificates.ensure_certificate(config.home / "tls", names)


def _hosts(config: HubConfig) -> frozenset[str]:
    """Return the names by which requests may call this hub; addresses cannot be rebound."""
    names = {config.host, *config.hosts}
    if config.public_url is not None:
        names.add(config.public_url.partition("://")[2].partition("/")[0].rpartition(":")[0])
    if not configs.is_loopback(config.host):
        names.add(socket.gethostname())
        with contextlib.suppress(OSError):
            names |= {str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None)}
    return frozenset(_bracketed(name.lower()) for name in names if name not in _WILDCARDS)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _os_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return ""
