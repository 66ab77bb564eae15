"""The hub's computer: its disk and clock stay, its process comes and goes.

The process is the real one: services, supervisor, WebSocket door and sessions, on a loop of
virtual time. Only the store's disk, the sockets, the clock and chance are simulated.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine
from itertools import count
from pathlib import Path
from typing import Any, Final

import msgspec

from agentcom.core.facts import Body, Fact
from agentcom.hub import services as hub_services
from agentcom.hub import speaking
from agentcom.hub.config import Bounds, HubConfig
from agentcom.hub.requests import payload_hash
from agentcom.hub.services import Services
from agentcom.hub.supervisor import Escalated, Supervisor
from agentcom.model.errors import AgentComError, Unavailable
from agentcom.model.identity import Identity
from agentcom.model.ids import Fence, Instant, TaskId
from agentcom.model.replies import Reply
from agentcom.protocol.calls import Call
from agentcom.store.failures import StoreFailed
from agentcom.testing.simulation.clocks import NodeClock
from agentcom.testing.simulation.hub_disk import HubDisk, HubStore
from agentcom.testing.simulation.kernel import MS, SECOND, Kernel
from agentcom.testing.simulation.loop import NodeLoop
from agentcom.testing.simulation.network import Network
from agentcom.testing.simulation.options import Options
from agentcom.testing.simulation.trace import Trace, Violation
from agentcom.transport.socket import Head, SocketListener
from agentcom.transport.ws import WebSocketDoor
from agentcom.transport.ws_session import Desk

START_US: Final = 300 * MS
"""From the start of the process to its open port."""
DOWN_US: Final = 20 * SECOND
"""Longest time between a crash and the next start."""
ALERTS_MS: Final = 60_000
"""Between two looks at the alerts, which no promise is about."""
ASK_LATENCY_US: Final = 5 * MS
_REPLY: Final[msgspec.json.Decoder[Reply]] = msgspec.json.Decoder(Reply)

Asked = Callable[[Reply | AgentComError], None]
Answered = Callable[[object], None]


class HubNode:
    """One hub, through all lives of its process."""

    def __init__(
        self, kernel: Kernel, options: Options, network: Network, disk: HubDisk, trace: Trace
    ) -> None:
        self.disk = disk
        self.clock = NodeClock(kernel, booted_ms=5_000)
        self.store: HubStore | None = None
        self.services: Services | None = None
        self.loop: NodeLoop | None = None
        self.ready = False
        self.quiet = False
        """True in the liveness phase: the process stays up, and its disk is good."""
        self.disk_full = False
        self.deaths = 0
        self._kernel = kernel
        self._options = options
        self._network = network
        self._trace = trace
        self._rng = random.Random(f"{options.seed}/hub")
        self._door: WebSocketDoor | None = None
        self._supervisor: Supervisor | None = None
        self._main: asyncio.Task[None] | None = None
        self._numbers = count(1)
        self._asks: dict[int, Callable[[Any], None]] = {}
        self._config = HubConfig(home=Path("/nowhere"), store="memory", limits=Bounds(rates=False))

    # The process's life ---------------------------------------------------------------------------

    def start(self) -> None:
        """Start a process."""
        if self.loop is not None:
            return
        rng = random.Random(self._rng.getrandbits(64))
        self.loop = NodeLoop(self._kernel)  # type: ignore[abstract]  # what a hub needs of one
        self.loop.rested = self._look
        with self.loop.running():
            self.store = HubStore(
                self.disk,
                self._options,
                rng,
                is_quiet=lambda: self.quiet,
                is_full=lambda: self.disk_full,
            )
            self.services = Services(self._config, self.store, self.clock, entropy=rng.randbytes)
            self.services.alerting.sampler.read_disk = _no_disk
            self.services.alerting.alerts.look_ms = ALERTS_MS
            self._door = WebSocketDoor(self._desk(self.services))
        self._trace.note("hub", "starts")
        self._main = self.loop.create_task(self._run(self.services, self.store))
        self.loop.pump()

    def crash(self, *, down_us: int | None = None) -> None:
        """Kill the process: nothing of it runs on, nothing of it says goodbye."""
        if self.loop is None:
            return
        self._trace.note("hub", "killed")
        self._trace.counts["hub crashes"] += 1
        self._bury()
        wait_us = self._down_us() if down_us is None else down_us
        self._kernel.after(wait_us, self.start)

    def end(self) -> None:
        """Let the process go: the run is over."""
        if self.loop is not None:
            self._bury()

    def restart(self) -> None:
        """Stop the process in good order; the operator's supervisor starts the next one."""
        if self.loop is not None and self.ready:
            self._trace.note("hub", "stops in order")
            self._trace.counts["hub restarts"] += 1
            self.loop.call(self._stop)

    def stall(self, duration_us: int, *, suspended: bool) -> None:
        """Let the process stand still; `suspended` if its computer sleeps."""
        loop = self.loop
        if loop is None or loop.frozen:
            return
        self._trace.note("hub", "sleeps" if suspended else "stands still")
        self._trace.counts["hub suspends" if suspended else "hub stalls"] += 1
        loop.freeze()
        self._kernel.after(duration_us, self._thaw, loop, suspended)

    def _thaw(self, loop: NodeLoop, suspended: bool) -> None:
        if loop is self.loop and loop.frozen:
            self._trace.note("hub", "goes on")
            loop.thaw(suspended=suspended)
            self._look()

    async def _run(self, services: Services, store: HubStore) -> None:
        incarnation = await store.open()
        await services.engine.start(incarnation)
        self._supervisor = supervisor = Supervisor(
            services.children(), clock=services.clock, rng=services.rng
        )
        asyncio.get_running_loop().call_later(START_US / SECOND, self._listen)
        await supervisor.run()

    def _listen(self) -> None:
        self.ready = True
        self._network.hub = self
        self._trace.note("hub", "ready")

    def _stop(self) -> None:
        assert self.services is not None
        assert self._supervisor is not None
        self._network.hub = None
        self.ready = False
        self.services.switchboard.drain(self.services.rng)
        self._supervisor.stop()

    def _look(self) -> None:
        """See whether the process has ended by itself, and whether it failed as it must not."""
        loop, main = self.loop, self._main
        if loop is None or main is None:
            return
        if loop.violation is not None:
            raise loop.violation
        if loop.failures:
            raise Violation("no failure goes unhandled", loop.failures[0])
        if not main.done():
            return
        error = None if main.cancelled() else main.exception()
        root = _root(error)
        if isinstance(root, Violation):
            raise root
        if not (root is None or isinstance(root, StoreFailed | Unavailable)):
            raise Violation("the hub ends only when it must", repr(root))
        self._trace.note("hub", f"ended: {type(root).__name__ if root else 'in order'}")
        self._trace.counts["hub ended by itself" if error else "hub ended in order"] += 1
        self._bury()
        self._kernel.after(self._down_us(), self.start)

    def _bury(self) -> None:
        loop, store, services = self.loop, self.store, self.services
        assert loop is not None
        assert store is not None
        assert services is not None
        self.ready = False
        broken, self._asks = self._asks, {}
        for asked in broken.values():
            self._kernel.after(ASK_LATENCY_US, asked, Unavailable("the connection broke"))
        self._network.hub_died()
        self.disk.crash(store.pending)
        store.crash()
        self.loop = self.services = self.store = self._door = self._supervisor = None
        main, self._main = self._main, None
        if main is not None and not main.done():
            # The dead process unwinds where nobody can see it: store and sockets are gone.
            if loop.frozen:
                loop.thaw(suspended=False)
            main.cancel()
        loop.bury()
        self.deaths += 1

    def _down_us(self) -> int:
        return int(self._rng.random() ** 2 * DOWN_US) if not self.quiet else SECOND

    # What comes in --------------------------------------------------------------------------------

    def route(self, head: Head) -> SocketListener | None:
        """Return the session of an upgrade; None if nobody listens, or it was refused."""
        if self._door is None or not self.ready:
            return None
        return self._door.route(head)

    def call(self, action: Callable[..., object], *arguments: object) -> None:
        """Run something in the hub's loop, if a process runs."""
        if self.loop is not None:
            self.loop.call(action, *arguments)
            self._look()

    def ask(self, body: Body, identity: Identity, asked: Asked, *, key: str | None = None) -> None:
        """Bring a person's request as the HTTP door does; `asked` hears the answer, if any."""

        async def reply(services: Services) -> Reply:
            payload = payload_hash(body) if key else None
            fact = Fact(
                body=body, actor=identity, cause=services.causes.new(), key=key, payload=payload
            )
            found = await hub_services.ask(services.engine, fact)
            return _REPLY.decode(bytes(found)) if isinstance(found, msgspec.Raw) else found

        self._bring(reply, asked)

    def converse(
        self,
        call: Call,
        identity: Identity,
        asked: Answered,
        *,
        key: str,
        attempt: tuple[TaskId, Fence] | None = None,
    ) -> None:
        """Bring a call of a person, or of the agent of an attempt; see `ask`."""

        async def answer(services: Services) -> object:
            if attempt is None:
                speaker = speaking.person(identity)
            else:
                speaker = speaking.attempt(services.engine.view, identity, *attempt)
            talk = services.conversation.talk
            return await talk.do(speaker, call, cause=services.causes.new(), key=key)

        self._bring(answer, asked)

    def _bring(
        self, work: Callable[[Services], Coroutine[Any, Any, Any]], asked: Callable[[Any], None]
    ) -> None:
        services, loop = self.services, self.loop
        if services is None or loop is None or not self.ready or loop.frozen:
            self._kernel.after(ASK_LATENCY_US, asked, Unavailable("there is no hub"))
            return
        number = next(self._numbers)
        self._asks[number] = asked
        self.call(lambda: loop.create_task(self._answer(work(services), number)))

    async def _answer(self, work: Coroutine[Any, Any, Any], number: int) -> None:
        try:
            answer = await work
        except AgentComError as error:
            answer = error
        asked = self._asks.pop(number, None)
        if asked is not None:
            self._kernel.after(ASK_LATENCY_US, asked, answer)

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Let the process do something of its own, such as ending a token."""
        loop = self.loop
        if loop is None or not self.ready:
            work.close()
            return
        self.call(lambda: loop.create_task(_quietly(work)))

    def _desk(self, services: Services) -> Desk:
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
            hub="hub",
        )

    @property
    def instant(self) -> Instant:
        """The hub's own monotonic time."""
        return self.clock.now().instant


async def _quietly(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except (AgentComError, StoreFailed):
        return  # the hub went away, or its disk is full: the operator asks again


async def _no_disk() -> tuple[None, None]:
    return None, None  # threads and real disks have no place here


def _root(error: BaseException | None) -> BaseException | None:
    while isinstance(error, Escalated) and error.__cause__ is not None:
        error = error.__cause__
    return error
