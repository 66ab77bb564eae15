"""A whole hub in one process, on an ephemeral port of the loopback: for tests and benchmarks."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from agentcom.core import facts
from agentcom.core.facts import Fact
from agentcom.hub import tokens
from agentcom.hub.activities import Activities
from agentcom.hub.auth import Authenticator
from agentcom.hub.channels_members import Members
from agentcom.hub.clock import Clock, SystemClock
from agentcom.hub.engine import Engine
from agentcom.hub.feeds import Feeds
from agentcom.hub.identifiers import SystemRng, UuidIds
from agentcom.hub.limits_guard import Budgets
from agentcom.hub.listening import Listening
from agentcom.hub.logs import Logs
from agentcom.hub.mail_delivery import MailDelivery
from agentcom.hub.mailboxes import Mailboxes
from agentcom.hub.presence import Presences
from agentcom.hub.presence_watch import PresenceWatch
from agentcom.hub.recipients import Recipients
from agentcom.hub.requests import Causes
from agentcom.hub.switchboard import Switchboard
from agentcom.hub.talk import Talk
from agentcom.hub.timers import Timers
from agentcom.hub.writing import Writer
from agentcom.model.batch import Batch, Insert, Table
from agentcom.model.identity import Credential, CredentialKind, Role
from agentcom.model.ids import (
    DEFAULT_POOL,
    DEFAULT_PROJECT,
    BatchId,
    MachineId,
    ProjectId,
    TaskId,
    UserId,
)
from agentcom.model.task import Task
from agentcom.store.base import Committed, Store
from agentcom.store.memory import MemoryStore
from agentcom.testing.waiting import PATIENCE_S
from agentcom.transport.port import Port
from agentcom.transport.socket import PortLimits
from agentcom.transport.ws import WebSocketDoor
from agentcom.transport.ws_session import HELLO_MS, Desk


class HubSite:
    """A running hub: its parts to look at, and tokens for who wants to come in."""

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock | None = None,
        budgets: Budgets | None = None,
        hello_ms: int = HELLO_MS,
    ) -> None:
        self.store = store
        self.clock = clock or SystemClock()
        self.ids = UuidIds(self.clock)
        self.feeds = Feeds(store, Activities())
        self.timers = Timers(self.clock, self._fire)
        self.switchboard = Switchboard(self.timers, self.feeds)
        self.engine = Engine(
            store,
            self.switchboard,
            pool_id=DEFAULT_POOL,
            holder="test",
            clock=self.clock,
            ids=self.ids,
            rng=SystemRng(),
        )
        self.switchboard.attach(self.engine)
        self.feeds.attach(self._live_task)
        self.auth = Authenticator(store, self.clock, self.ids)
        self.door = WebSocketDoor(self._desk(budgets or Budgets(), hello_ms))
        self.port_number = 0
        self._port: Port | None = None
        self._tls: ssl.SSLContext | None = None
        self._running: asyncio.Task[None] | None = None

    def _desk(self, budgets: Budgets, hello_ms: int) -> Desk:
        writer = Writer(self.store, self.clock, self.ids)
        people = Recipients(self.store, lambda: self.engine.view)
        logs, members = Logs(self.store, writer), Members(self.store, writer, people)
        boxes = Mailboxes(self.store, writer, logs, self.clock)
        presence = Presences(self.store, lambda: self.engine.view)
        return Desk(
            engine=self.engine,
            switchboard=self.switchboard,
            feeds=self.feeds,
            auth=self.auth,
            budgets=budgets,
            clock=self.clock,
            causes=Causes("t"),
            talk=Talk(self.clock, Budgets()),
            delivery=MailDelivery(boxes, self.switchboard, lambda: self.engine.view),
            listening=Listening(logs, members),
            presence=presence,
            watch=PresenceWatch(presence),
            hub="test",
            hello_ms=hello_ms,
        )

    def _fire(self, body: facts.Body, late_ms: int) -> None:
        self.engine.timer(body, late_ms)

    @property
    def url(self) -> str:
        """Where the hub listens."""
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://127.0.0.1:{self.port_number}"

    async def start(self) -> None:
        """Load the store and decide."""
        await self.engine.start(await self.store.open())
        self._running = asyncio.create_task(self.engine.run())

    async def listen(
        self,
        *,
        app: Any = None,
        limits: PortLimits | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Open the port: a new one, or the one it had."""
        self._tls = tls
        self._port = Port(
            app or _nothing_here,
            {b"/ws": self.door.route},
            is_trusted=self.door.is_trusted,
            limits=limits,
            tls=tls,
        )
        self.port_number = await self._port.start("127.0.0.1", self.port_number)

    async def unlisten(self) -> None:
        """Close the port with all its connections."""
        if self._port is not None:
            await self._port.stop(1.0)
            self._port = None

    async def stop(self) -> None:
        """End everything."""
        await self.unlisten()
        self.timers.clear_all()
        if self._running is not None:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running
        await self.store.close()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something about the hub is true."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110  # no event stands for all of it
                await asyncio.sleep(0.001)

    async def token(
        self,
        user: str = "ada",
        role: Role = Role.SUBMITTER,
        *,
        project: ProjectId = DEFAULT_PROJECT,
    ) -> str:
        """Return a new token of a person."""
        return await self._mint(CredentialKind.USER, role, UserId(user), project, None)

    async def machine(self, name: str, owner: str = "ada") -> str:
        """Enrol a machine and return its token."""
        machine = MachineId(name)
        enrol = facts.Enrol(machine, name, UserId(owner))
        await self.engine.ask(Fact(body=enrol))
        return await self._mint(
            CredentialKind.MACHINE, Role.AGENT, UserId(owner), DEFAULT_PROJECT, machine
        )

    def _live_task(self, task: TaskId) -> Task | None:
        return self.engine.view.tasks.get(task)

    async def _mint(
        self,
        kind: CredentialKind,
        role: Role,
        owner: UserId,
        project: ProjectId,
        machine: MachineId | None,
    ) -> str:
        minted = tokens.mint(kind)
        row = Credential(
            id=minted.id,
            kind=kind,
            digest=minted.digest,
            role=role,
            owner=owner,
            created_at=self.clock.now().wall,
            machine=machine,
            project=project,
        )
        insert = Insert(Table.CREDENTIAL, row.id, row)
        batch = Batch(id=BatchId(self.ids.new()), pool=DEFAULT_POOL, changes=(insert,))
        verdict = await self.store.commit(batch)
        assert isinstance(verdict, Committed)
        return minted.text


@asynccontextmanager
async def hub_site(store: Store | None = None, **options: Any) -> AsyncIterator[HubSite]:
    """Run a hub that listens, and stop it."""
    site = HubSite(store or MemoryStore(), **options)
    await site.start()
    try:
        await site.listen()
        yield site
    finally:
        await site.stop()


async def _nothing_here(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b""})
