"""The composition root of a hub: settings in, a running hub out, and its end in good order.

Here, and nowhere else, concrete parts meet: which store, which doors. What the parts do stands in
their own files; what is restarted when it fails, in `hub/supervisor.py`.
"""

import asyncio
import importlib.metadata
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, cast

import structlog

from agentcom import __version__
from agentcom.hub.address import Address, address_of, certificate_of, host_names
from agentcom.hub.backup_schedule import Copies, Schedule
from agentcom.hub.certificate import LiveCertificate
from agentcom.hub.clock import Clock, SystemClock
from agentcom.hub.config import ConfigInvalid, HubConfig
from agentcom.hub.enrolment import first_admin
from agentcom.hub.forge_events import ForgeEvents, read_secret
from agentcom.hub.process import as_process, os_user, spare_the_collector
from agentcom.hub.readings import Readings
from agentcom.hub.reloading import Adjust, Make, Reloader
from agentcom.hub.services import STOP_MS, Services, until
from agentcom.hub.supervisor import ChildSpec, Supervisor
from agentcom.model.ids import UserId
from agentcom.protocol.shown import HubStatus
from agentcom.store import sqlite_backups, sqlite_files
from agentcom.store.base import Store
from agentcom.store.memory import MemoryStore
from agentcom.store.sqlite import SqliteOptions, SqliteStore
from agentcom.store.sqlite_archive import ARCHIVE_FILE, SqliteArchive
from agentcom.store.sqlite_backups import Backups
from agentcom.store.sqlite_hub_files import HubFiles
from agentcom.store.sqlite_journal import Journal
from agentcom.telemetry import events
from agentcom.transport.forwarded import networks
from agentcom.transport.guard import Rules
from agentcom.transport.http import http_app
from agentcom.transport.http_call import Hall
from agentcom.transport.port import Port
from agentcom.transport.shedding import Shedding
from agentcom.transport.socket import PortLimits
from agentcom.transport.ws import WebSocketDoor
from agentcom.transport.ws_session import Desk

STORE_FILE: Final = sqlite_backups.STORE_FILE
STORES: Final = "agentcom.stores"
files = sqlite_files

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
    reread: Callable[[], HubConfig] | None = None,
) -> int:
    """Run a hub until `stop` is set; without one, as a process: with logs, until a signal.

    `reread` reads the settings again when somebody asks for that.

    Returns 0 after an end in good order.

    Raises:
        StoreRefused: the store is damaged, or another hub has it.
        PortUnavailable: the address cannot be listened on.
        Escalated: a part failed for good.
    """
    clock = clock or SystemClock()
    if stop is not None:
        await _Hub(config, store, clock, stop, reread).run(ready)
        return 0
    stop = asyncio.Event()

    def loaded(info: HubInfo) -> None:
        spare_the_collector()
        ready(info)

    hub = _Hub(config, store, clock, stop, reread)
    with as_process(config, stop, hub.reloader.signalled):
        await hub.run(loaded)
    return 0


def open_store(config: HubConfig) -> Store:
    """Return the store that the settings name, not opened yet.

    Raises:
        ConfigInvalid: nothing of that name is installed.
    """
    if config.store == "memory":
        return MemoryStore()
    if config.store == "sqlite":
        options = SqliteOptions(accept_rollback=config.accept_rollback)
        folder = config.backup_folder / sqlite_backups.JOURNAL
        journal = Journal(folder) if config.backups.journal else None
        return SqliteStore(config.home / STORE_FILE, options=options, journal=journal)
    for entry in importlib.metadata.entry_points(group=STORES, name=config.store):
        return cast("Store", entry.load()(config.home))
    known = ", ".join(sorted(entry.name for entry in importlib.metadata.entry_points(group=STORES)))
    raise ConfigInvalid(f"setting store: {config.store} is not installed; there are {known}")


def open_copies(folder: Path, *, on_wait: Callable[[str], None] = lambda _why: None) -> Copies:
    """Return the copies of hubs' data in a folder; `on_wait` hears whom a change waits for."""
    copies = Backups(folder)
    copies.on_wait = on_wait
    return copies


def open_files(home: Path) -> HubFiles:
    """Return the files of the hub in `home`: what is done with them while it does not run."""
    return HubFiles(home, SystemClock().now)


def adjustments_of(config: HubConfig) -> Mapping[str, Adjust]:
    """Return what a hub with these settings can change while it runs, by name."""
    return _Hub(config, None, SystemClock(), asyncio.Event()).adjustments


class _Hub:
    """One hub: its services, its doors, and its life."""

    def __init__(
        self,
        config: HubConfig,
        store: Store | None,
        clock: Clock,
        stop: asyncio.Event,
        reread: Callable[[], HubConfig] | None = None,
    ) -> None:
        config.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._config = config
        self._stop = stop
        self._started = clock.now()
        self._is_ready = False
        self._incarnation = self._number = 0
        self._certificate = certificate_of(config)
        self._address = Address(url="")
        own = store is None and config.store == "sqlite"
        archive = SqliteArchive(config.home / ARCHIVE_FILE) if own else None
        self._services = Services(config, store or open_store(config), clock, archive=archive)
        copies, measured = Backups(config.backup_folder), self._services.metrics
        self._readings = Readings(config, clock, STORE_FILE, copies).show(measured)
        self._forge_secret = read_secret(config.forge_secret)
        self._schedule = Schedule(config, clock, copies, count=measured.backup_runs.inc)
        self.adjustments = {**self._services.adjustments(), **self._adjustments()}
        self.reloader = Reloader(
            config, reread, self.adjustments, around=self._services.notifier.reloading
        )
        self._hall = self._build_hall()
        self._desk = self._build_desk()
        self._port = self._build_port()

    async def run(self, ready: Callable[[HubInfo], None]) -> None:
        """Start everything, wait for the end, and stop everything, whatever happens."""
        services, config = self._services, self._config
        log.info(events.HUB_STARTED, version=__version__, pid=os.getpid())
        self._incarnation = await services.store.open()
        try:
            await services.start(self._incarnation)
            number = self._number = await self._port.start(config.host, config.port)
            # Not before: a start that failed would leave an admin whose token nobody has seen.
            admin = config.admin or first_admin(os_user())
            token = await services.credentials.ensure_admin(admin)
            self._address = address_of(config, number, self._certificate)
            await self._serve(lambda: ready(self._info(number, admin, token)))
            await services.tidy()
        finally:
            await self._port.stop(0)  # nothing to do, unless a part has failed
            services.end()
            await services.store.close()
            await services.archiver.archive.close()
        log.info(events.HUB_STOPPED)

    async def _serve(self, ready: Callable[[], None]) -> None:
        services = self._services
        supervisor = Supervisor(
            [*services.children(), *self._backups(), self._doors()],
            clock=services.clock,
            rng=services.rng,
            restarted=lambda name: services.metrics.restarts.labels(name).inc(),
        )
        running = asyncio.create_task(supervisor.run(), name="supervisor")
        stopping = asyncio.create_task(self._stop.wait(), name="stop")
        is_up = asyncio.create_task(supervisor.ready.wait(), name="ready")
        try:
            await asyncio.wait({running, stopping, is_up}, return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                self._is_ready = True
                services.notifier.tell("READY=1")
                log.info(events.HUB_READY, url=self._address.url, incarnation=self._incarnation)
                ready()
                await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._is_ready = False
            services.notifier.tell("STOPPING=1")
            log.info(events.HUB_STOPPING)
            supervisor.stop()
            is_up.cancel()
            stopping.cancel()
            await running

    def _backups(self) -> list[ChildSpec]:
        if self._config.store != "sqlite":
            return []
        schedule, sampler = self._schedule, self._services.alerting.sampler
        sampler.read_backups = lambda: schedule.how(self._started.wall)
        return [ChildSpec(name="backups", run=schedule.run)]

    def _doors(self) -> ChildSpec:
        """The port, as the service that starts last and stops first; it listens already."""
        closed = asyncio.Event()

        async def close() -> None:
            self._hall.stopping.set()
            self._services.switchboard.drain(self._services.rng)
            await self._port.stop(self._config.drain_ms / 1_000)
            closed.set()

        return ChildSpec(
            name="port",
            run=lambda: until(closed),
            stop=close,
            shutdown_ms=self._config.drain_ms + 2 * STOP_MS,
        )

    def _build_hall(self) -> Hall:
        services = self._services
        return Hall(
            engine=services.engine,
            feeds=services.feeds,
            auth=services.auth,
            audit=services.audit,
            credentials=services.credentials,
            enrolment=services.enrolment,
            budgets=services.budgets,
            clock=services.clock,
            causes=services.causes,
            queries=services.queries,
            graphs=services.graphs,
            chooser=services.chooser,
            fleet=services.fleet,
            people=services.people,
            leaving=services.leaving,
            schedules=services.schedules,
            talk=services.conversation.talk,
            externals=services.externals,
            listening=services.conversation.listening,
            watch=services.conversation.watch,
            blobs=services.conversation.blobs,
            forge_events=ForgeEvents(self._forge_secret),
            alerting=services.alerting,
            metrics=services.metrics,
            levels=services.levels,
            streams=services.streams,
            measure=self._readings.refresh,
            status=self._status,
            is_ready=lambda: self._is_ready,
            drain=self._stop.set,
            reload=lambda who: self.reloader.reload(who=who),
            bring=services.switchboard.bring,
            address=lambda: self._address,
        )

    def _adjustments(self) -> Mapping[str, Adjust]:
        """Return how the doors' settings, and those of copies, change while the hub runs."""

        def names(config: HubConfig) -> Make:
            def make() -> None:
                self._port.set_rules(_rules(config))
                if self._address.url:
                    self._address = address_of(config, self._number, self._certificate)

            return make

        def secret(config: HubConfig) -> Make:
            events_of = ForgeEvents(read_secret(config.forge_secret))
            return lambda: setattr(self._hall, "forge_events", events_of)

        def lease(config: HubConfig) -> Make:
            return lambda: setattr(self._desk, "lease_ttl_ms", config.lease_ttl_ms)

        return {
            **dict.fromkeys(("hosts", "origins", "public_url", "trusted_proxies"), names),
            "forge_secret": secret,
            "lease_ttl_ms": lease,
            "backups": lambda config: partial(self._schedule.adjust, config),
        }

    def _build_desk(self) -> Desk:
        services = self._services
        return Desk(
            engine=services.engine,
            switchboard=services.switchboard,
            feeds=services.feeds,
            auth=services.auth,
            budgets=services.budgets,
            clock=services.clock,
            causes=services.causes,
            talk=services.conversation.talk,
            delivery=services.conversation.delivery,
            listening=services.conversation.listening,
            watch=services.conversation.watch,
            presence=services.conversation.presence,
            hub=socket.gethostname(),
            lease_ttl_ms=self._config.lease_ttl_ms,
        )

    def _build_port(self) -> Port:
        bounds = self._config.limits
        door = WebSocketDoor(self._desk)
        limits = PortLimits(
            body_bytes_max=bounds.body_bytes_max,
            send_bytes_max=bounds.send_bytes_max,
            untrusted_per_address_max=bounds.untrusted_per_address_max,
            untrusted_max=bounds.untrusted_max,
        )
        live = None if self._certificate is None else LiveCertificate(self._certificate)
        return Port(
            Shedding(http_app(self._hall), self._services.admission.sheds),
            {b"/ws": door.route},
            limits=limits,
            tls=None if live is None else live.context,
            rules=_rules(self._config),
            is_trusted=door.is_trusted,
            arriving=(lambda: None) if live is None else live.look,
        )

    def _status(self) -> HubStatus:
        services = self._services
        now = services.clock.now()
        machines, connected = services.fleet.machine_counts()
        return HubStatus(
            version=__version__,
            state="ready" if self._is_ready else "draining",
            incarnation=self._incarnation,
            store=self._config.store,
            started_at=self._started.wall,
            uptime_ms=now.instant - self._started.instant,
            issuing=services.engine.view.issuing,
            tasks=services.fleet.task_counts(),
            ended=services.journal.ended,
            agents=services.fleet.agent_counts(),
            machines=machines,
            machines_connected=connected,
            backlog=services.engine.backlog,
            pauses=len(services.engine.view.pauses),
        )

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
            fingerprint=self._address.fingerprint,
        )


def _rules(config: HubConfig) -> Rules:
    return Rules(
        hosts=host_names(config),
        origins=frozenset(config.origins),
        proxies=networks(config.trusted_proxies),
    )
