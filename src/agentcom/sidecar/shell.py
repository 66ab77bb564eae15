"""The sidecar's shell: one loop that feeds facts to the machine and performs its orders.

Everything that takes time (attempts, landings, the disk, the link) runs in tasks of its own and
answers with a fact, so heartbeats never wait for work. Between facts nothing happens at all.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, assert_never

import structlog

from agentcom.client.link import Lost, Opened, Received
from agentcom.model import errors
from agentcom.model.failure import FailureClass
from agentcom.model.ids import Instant, Rng
from agentcom.model.result import Landing, LandStatus
from agentcom.protocol import frames, live
from agentcom.protocol.review import ReviewedFrame, ReviewFrame
from agentcom.sidecar import computer, lease_log, machine, places, results, tunnels
from agentcom.sidecar import machine_values as values
from agentcom.sidecar.attempts import Attempts
from agentcom.sidecar.clock import Clock, SystemClock
from agentcom.sidecar.config import Config
from agentcom.sidecar.disk import Disk
from agentcom.sidecar.endpoint import Endpoint
from agentcom.sidecar.lifetime import cancel, signals
from agentcom.sidecar.looking import Looking
from agentcom.sidecar.machine_attempts import RUNNING
from agentcom.sidecar.machine_mail import Mail
from agentcom.sidecar.machine_values import Key, Record, Stage, View
from agentcom.sidecar.preflight import Preflight
from agentcom.sidecar.runtime import base
from agentcom.sidecar.story import known, of, told

FACTS_MAX: Final = 1_024
"""Facts that wait for the loop; then whoever brings more waits too."""
SETTLE_S_MAX: Final = 5.0
"""A disk that takes longer keeps a stop waiting in vain; what is not stored is done again."""
EXIT_DONE: Final = 0
EXIT_NOT_ALLOWED: Final = 4
EXIT_STALE: Final = 5
_CRASHED: Final = FailureClass.CRASHED
log = structlog.get_logger(__name__)


class Sidecar:
    """One machine's sidecar, from its start to its end."""

    def __init__(
        self,
        config: Config,
        *,
        runtimes: Mapping[str, base.Runtime] | None = None,
        clock: Clock | None = None,
        rng: Rng | None = None,
        software: str = "agentcom",
        on_welcome: Callable[[Sequence[str]], None] | None = None,
    ) -> None:
        """`on_welcome` is called once, when the hub first takes this machine in.

        It is given what the hub says of agents that it does not take.
        """
        self._config = config
        self._clock = clock or SystemClock()
        self._software = software
        self._facts: asyncio.Queue[values.Fact | frames.MailFrame] = asyncio.Queue(FACTS_MAX)
        self._on_welcome = on_welcome
        self._refused: list[str] = []
        self._stop = asyncio.Event()
        self.refusal: errors.AgentComError | None = None
        """Why the hub does not take this machine, once `run` has ended for that."""
        self.restarts = False
        """Whether `run` has ended for another process to take its place: the hub asked for it."""
        self._view = View(agents=())
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._runs: dict[Key, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._disk = Disk(
            config.home, clock=self._clock, tell=self._tell, forgotten=self._forgotten
        )
        self._found = places.installed_runtimes() if runtimes is None else runtimes
        self._preflight = Preflight(config, self._found)
        self.reload = self._preflight.reload
        self._endpoint = Endpoint(config)
        self._mail = Mail(self._send_now)
        self._attempts = Attempts(
            config,
            runtimes=self._found,
            tell=self._tell,
            clock=self._clock,
            endpoint=self._endpoint,
            mail=self._mail,
            may_wake=self._may_wake,
            shut_out=self._preflight.shut_out,
        )
        self._reviews = self._attempts.reviews(self._send_now)
        self._lease_log = lease_log.from_environment()
        self._link = tunnels.link(config, rng or random.SystemRandom(), software)

    def stop(self) -> None:
        """Take no new work, leave running agents to a successor, and end `run`."""
        self._stop.set()

    async def run(self, *, handle_signals: bool = True) -> int:
        """Serve until `stop` or SIGTERM and return the exit code.

        Raises:
            Conflict: another sidecar runs with this identity.
        """
        with self._config.home.lock(), signals(self.stop, self.reload, wanted=handle_signals):
            async with self._endpoint.listening(), self._attempts.boxes.supervisors.kept():
                return await self._serve()

    async def _serve(self) -> int:
        orders = await self._load()
        self._looking = Looking(self._config.home)
        link = asyncio.create_task(self._follow_link())
        service = [
            asyncio.create_task(self._decide_forever(orders)),
            asyncio.create_task(self._disk.run()),
            link,
        ]
        self._spawn(self._disk.keep_house(lambda: self._view.attempts))
        self._spawn(self._preflight.watch(self._tell))
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait([*service, stopping], return_when=asyncio.FIRST_COMPLETED)
            return await self._end(link, service)
        finally:
            await cancel([*service, stopping, *self._tasks])
            await self._reviews.end()
            self._looking.end()
            for timer in self._timers.values():
                timer.cancel()

    # The loop -----------------------------------------------------------------------------------

    async def _load(self) -> tuple[values.Order, ...]:
        records, incarnation = await self._disk.load()
        self._view, orders = machine.load(
            await self._preflight.first(),
            records,
            ttl_ms=self._config.machine.settings.ttl_ms,
            resources=self._config.machine.settings.resources or computer.resources(),
            host=computer.facts(),
            software=self._software,
            incarnation=incarnation,
        )
        log.info("sidecar.started", machine=self._config.machine.machine, held=len(records))
        return orders

    async def _decide_forever(self, orders: tuple[values.Order, ...]) -> None:
        for order in orders:
            self._perform(order)
        while True:
            fact = await self._facts.get()
            if isinstance(fact, frames.MailFrame):
                self._mail.take(fact)
            else:
                for order in machine.decide(self._view, fact, now=self._now()):
                    self._perform(order)
            if self._lease_log is not None:
                self._lease_log.note(self._view, self._now())
            self._facts.task_done()

    def _may_wake(self, key: Key) -> bool:
        attempt = self._view.attempts.get(key)
        running = attempt is not None and attempt.stage in RUNNING and not attempt.spent_out
        return running and not self._view.draining

    def _send_now(self, frame: frames.MailTaken | ReviewedFrame) -> None:
        if self._view.session is not None:
            self._link.send(frame)

    async def _tell(self, fact: values.Fact | frames.MailFrame) -> None:
        await self._facts.put(fact)

    async def _follow_link(self) -> None:
        async for event in self._link.events():
            match event:
                case Opened():
                    log.info("link.opened", hub=self._config.machine.hub)
                    await self._tell(values.Connected())
                case Received(live.LogWanted() | live.LogLevelFrame() as asked):
                    self._spawn(self._looking.answer(asked, self._link.send))
                case Received(frame):
                    if isinstance(frame, frames.Assign):
                        await self._preflight.glance(self._tell)
                    if isinstance(frame, frames.Drain) and frame.restart:
                        self.restarts = True
                        self.stop()
                    if isinstance(frame, ReviewFrame):
                        await self._reviews.take(frame)
                    elif isinstance(frame, values.FromHub | frames.MailFrame):
                        await self._tell(frame)
                case Lost(reason, code):
                    log.info("link.lost", reason=reason, code=code)
                    await self._reviews.close()
                    await self._tell(values.Disconnected())
                case _:
                    assert_never(event)

    def _forgotten(self, record: Record) -> None:
        log.info("attempt.closed", **of(record), stage=record.stage.value)
        self._spawn(self._disk.after(record))

    # Orders -------------------------------------------------------------------------------------

    def _perform(self, order: values.Order) -> None:  # noqa: C901, PLR0912 - a total match
        match order:
            case values.Send(frame):
                self._send(frame)
            case values.Store() | values.Forget() | values.Offer() | values.Remember():
                self._disk.put(order)
            case values.Start(record, adopt):
                self._start(record, adopt=adopt)
            case values.Stop(key, reason):
                self._stop_attempt(key, stale=reason is None)
            case values.Land(record):
                self._run(record, self._land(record))
            case values.Answered(key, name, answer):
                self._attempts.answered(key, name, answer)
            case values.SetTimer(key, at):
                self._set_timer(key, at)
            case values.Settle():
                self._welcomed()
            case values.Reconnect(reason, after_ms):
                log.info("link.dropped", reason=reason, after_ms=after_ms)
                self._link.drop(after_ms)
            case values.Quit(reason):
                self.refusal = errors.NotAllowed(reason)
                self._stop.set()
            case values.Notify(key, text):
                self._spawn_for(key, self._attempts.notify(key, text))
            case values.Report():
                self._report(order)
            case _:
                assert_never(order)

    def _report(self, order: values.Report) -> None:
        if order.event == "agent.refused" and self._on_welcome is not None:
            self._refused.append(order.detail)
        about = {} if order.key is None else known(self._view.attempts, order.key)
        log.warning(order.event, detail=order.detail, **about)

    def _welcomed(self) -> None:
        self._link.settle()
        tell, self._on_welcome = self._on_welcome, None
        if tell is not None:
            tell(self._refused)

    def _send(self, frame: frames.FromMachine) -> None:
        if isinstance(frame, frames.Finish | frames.StoppedFrame | frames.LandedFrame):
            about = known(self._view.attempts, Key(frame.task, frame.fence))
            log.info("report.sent", kind=type(frame).__name__, **about)
        elif isinstance(frame, frames.Decline):
            log.info("task.declined", task=frame.task, reason=frame.reason)
        self._link.send(frame)

    def _run(self, record: Record, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._spawn_for(record.key, self._guarded(record, work))
        self._runs[record.key] = task
        task.add_done_callback(lambda done: self._over(record.key, done))
        return task

    def _over(self, key: Key, done: asyncio.Task[None]) -> None:
        if self._runs.get(key) is done:
            del self._runs[key]

    async def _guarded(self, record: Record, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception as error:  # one attempt's bug must not end the others
            log.exception("attempt.broken", task=record.key.task)
            message = f"the sidecar failed: {type(error).__name__}: see its log"
            attempt = self._view.attempts.get(record.key)
            if attempt is not None and attempt.stage is Stage.LANDING:
                landing = Landing(status=LandStatus.ERROR, message=message)
                await self._tell(values.LandEnded(record.key, landing))
                return
            await self._tell(values.Ended(record.key, results.failed(_CRASHED, message)))

    def _stop_attempt(self, key: Key, *, stale: bool) -> None:
        attempt = self._view.attempts[key]
        running = self._runs.get(key)
        if running is not None and attempt.granted:
            return  # a landing sees that it is not wanted any more; its push is never cut in two
        log.info("attempt.stopping", **of(attempt.record), stale=stale)
        self._spawn_for(key, self._wind_down(attempt.record, running, stale=stale))

    async def _wind_down(
        self, record: Record, running: asyncio.Task[None] | None, *, stale: bool
    ) -> None:
        with self._attempts.awake.kept():  # until the work is safe
            await self._halt(record, running)
            await asyncio.wait([self._run(record, self._attempts.wind_down(record, stale=stale))])

    async def _halt(self, record: Record, running: asyncio.Task[None] | None) -> None:
        """End the agent first, since nobody wants what it does now, and then what follows it."""
        if running is not None:
            running.cancel()
        await self._attempts.stop(record)
        await cancel([running] if running is not None else [])

    def _start(self, record: Record, *, adopt: bool) -> None:
        log.info("attempt.started", **of(record), adopt=adopt)
        self._run(record, self._attempts.run(record, adopt=adopt))

    async def _land(self, record: Record) -> None:
        log.info("landing.started", **of(record))
        attempt = self._view.attempts[record.key]

        def still_mine() -> bool:
            lands = attempt.stage is Stage.LANDING and record.key in self._view.attempts
            return lands and machine.lease_valid(self._view, self._now())

        landing = await self._attempts.land(record, still_mine, riders=lambda: attempt.riders)
        await self._tell(values.LandEnded(record.key, landing))

    def _set_timer(self, key: str, at: Instant) -> None:
        former = self._timers.pop(key, None)
        if former is not None:
            former.cancel()
        delay_s = max(0, at - self._now()) / 1000
        loop = asyncio.get_running_loop()
        self._timers[key] = loop.call_later(delay_s, self._fired, key, at)

    def _fired(self, key: str, at: Instant) -> None:
        self._timers.pop(key, None)
        late_ms = self._now() - at
        if key == "heartbeat" and late_ms > self._view.ttl_ms:
            # Timers stand still in sleep, and nobody at the other end waited for us.
            log.info("machine.slept", seconds=late_ms // 1000)
            self._link.drop(0)
            return
        self._spawn(self._tell(values.TimerFired(key)))

    # The end ------------------------------------------------------------------------------------

    async def _end(self, link: asyncio.Task[None], service: list[asyncio.Task[None]]) -> int:
        error = link.exception() if link.done() and not link.cancelled() else self.refusal
        if isinstance(error, errors.AgentComError):
            self.refusal = error
            log.error("sidecar.refused", code=error.code, reason=error.message)
            await self._stop_everything()
            await self._settled()
            return EXIT_STALE if isinstance(error, errors.Superseded) else EXIT_NOT_ALLOWED
        for task in service:
            if task.done():
                task.result()  # a bug: let it be seen, and let the operator's supervisor restart us
        await self._tell(values.DrainAsked())
        log.info("sidecar.draining", running=len(self._runs))
        if self._runs and (drain_ms := self._config.machine.settings.drain_ms):
            await asyncio.wait(list(self._runs.values()), timeout=drain_ms / 1000)
        await self._settled()
        await self._link.close()
        log.info("sidecar.stopped", left_running=len(self._runs))
        return EXIT_DONE

    async def _settled(self) -> None:
        """Let what is decided reach the disk, and the last frames the link."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S_MAX):
                await self._facts.join()
                await self._disk.join()
                await self._facts.join()

    async def _stop_everything(self) -> None:
        """End all agents: nobody may use their work until this machine is let in again."""
        await asyncio.gather(*(self._end_one(key, run) for key, run in self._runs.items()))

    async def _end_one(self, key: Key, running: asyncio.Task[None]) -> None:
        attempt = self._view.attempts.get(key)
        if attempt is None or attempt.stage is Stage.LANDING:
            await cancel([running])
            return
        await self._halt(attempt.record, running)
        await self._attempts.wind_down(attempt.record, stale=False)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _spawn_for(self, key: Key, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        with told(known(self._view.attempts, key)):
            return self._spawn(work)

    def _now(self) -> Instant:
        return self._clock.now().instant
