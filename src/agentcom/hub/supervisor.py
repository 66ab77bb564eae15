"""Keeps a hub's services alive, as OTP does: restart one for one, and escalate when that fails.

Children start in order, each when the one before is ready, and stop in reverse order. More
failures than the intensity allows end everything: `run` raises `Escalated`, and the process ends,
for whoever supervises it to start afresh. So does the first failure of a critical child.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import structlog

from agentcom.hub.clock import Clock
from agentcom.model.ids import Instant, Rng
from agentcom.telemetry import events

INTENSITY: Final = 3  # restarts of all children together
PERIOD_MS: Final = 30_000  # in this time; one more is escalated
BACKOFF_BASE_MS: Final = 100
BACKOFF_MAX_MS: Final = 5_000
SHUTDOWN_MS: Final = 5_000  # for a child to end by itself, and again after it was cancelled


class Restart(StrEnum):
    """When a child that ended is started again."""

    PERMANENT = "permanent"
    TRANSIENT = "transient"
    """Only if it failed."""
    TEMPORARY = "temporary"
    """Never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """One service and how it is kept."""

    name: str
    run: Callable[[], Awaitable[None]]
    restart: Restart = Restart.PERMANENT
    shutdown_ms: int = SHUTDOWN_MS
    critical: bool = False
    """A failure ends everything at once: nothing may go on without it."""
    ready: asyncio.Event | None = None
    """Set by the child when it serves; the next child waits for it. None: ready when started."""
    stop: Callable[[], Awaitable[None]] | None = None
    """Asks the child to end by itself; without it the child is cancelled."""


class Escalated(Exception):
    """A service failed for good; the cause is its last failure."""

    def __init__(self, child: str) -> None:
        super().__init__(f"service {child} failed for good")
        self.child = child


class Ended(Exception):
    """A service that must run ended without a failure."""


class Supervisor:
    """Runs children until `stop` is called or one fails for good."""

    def __init__(
        self,
        children: Sequence[ChildSpec],
        *,
        clock: Clock,
        rng: Rng,
        restarted: Callable[[str], None] = lambda _name: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        intensity: int = INTENSITY,
        period_ms: int = PERIOD_MS,
    ) -> None:
        assert len({child.name for child in children}) == len(children)
        self._children = children
        self._clock = clock
        self._rng = rng
        self._restarted = restarted
        self._sleep = sleep
        self._intensity = intensity
        self._period_ms = period_ms
        self._failures: deque[Instant] = deque()
        self._stopping = asyncio.Event()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._log = structlog.get_logger()
        self.ready = asyncio.Event()
        """Set once every child has been ready."""

    async def run(self) -> None:
        """Start the children and keep them until `stop`.

        Raises:
            Escalated: a child failed too often, or a critical one failed once.
        """
        stopping = asyncio.create_task(self._stopping.wait(), name="stopping")
        at_once = False
        try:
            await self._start(stopping)
            await self._watch({stopping})
        except Escalated as error:
            self._log.critical(events.SUPERVISOR_ESCALATED, child=error.child)
            at_once = self._is_critical(error.child)
            raise
        finally:
            stopping.cancel()
            await self._end_all(at_once=at_once)

    def stop(self) -> None:
        """Let `run` stop the children in reverse order and return."""
        self._stopping.set()

    async def _start(self, stopping: asyncio.Task[Any]) -> None:
        for child in self._children:
            task = asyncio.create_task(self._keep(child), name=child.name)
            self._tasks[child.name] = task
            self._log.info(events.CHILD_STARTED, child=child.name)
            if child.ready is None:
                continue
            ready = asyncio.create_task(child.ready.wait(), name=f"{child.name} ready")
            try:
                await self._watch({stopping, ready})
            finally:
                ready.cancel()
            if self._stopping.is_set():
                return
        self.ready.set()

    async def _watch(self, until: Collection[asyncio.Task[Any]]) -> None:
        """Wait for one of `until`; raises the escalation of a child that comes before."""
        while True:
            running = {task for task in self._tasks.values() if not task.done()}
            for task in self._tasks.values():
                if task.done() and not task.cancelled():
                    task.result()
            if any(task.done() for task in until):
                return
            await asyncio.wait({*until, *running}, return_when=asyncio.FIRST_COMPLETED)

    async def _keep(self, child: ChildSpec) -> None:
        while True:
            error = await self._attempt(child)
            if error is None and child.restart is not Restart.PERMANENT:
                self._log.info(events.CHILD_ENDED, child=child.name)
                return
            if self._stopping.is_set():
                return
            error = error or Ended(f"service {child.name} ended")
            self._log.error(
                events.CHILD_FAILED, child=child.name, critical=child.critical, exc_info=error
            )
            if child.critical:
                raise Escalated(child.name) from error
            if child.restart is Restart.TEMPORARY:
                return
            delay_ms = self._next_delay_ms(child, error)
            await self._sleep(delay_ms / 1_000)
            if self._stopping.is_set():
                return
            self._restarted(child.name)
            self._log.warning(events.CHILD_RESTARTED, child=child.name, delay_ms=delay_ms)

    async def _attempt(self, child: ChildSpec) -> Exception | None:
        if child.ready is not None:
            child.ready.clear()
        me = asyncio.current_task()
        assert me is not None
        try:
            await child.run()
        except asyncio.CancelledError as error:
            if me.cancelling():
                raise
            return Ended(f"service {child.name} was cancelled from inside: {error}")
        except Exception as error:  # noqa: BLE001  # the supervisor restarts the unit
            return error
        return None

    def _next_delay_ms(self, child: ChildSpec, error: Exception) -> int:
        now = self._clock.now().instant
        self._failures.append(now)
        while self._failures[0] <= now - self._period_ms:
            self._failures.popleft()
        if len(self._failures) > self._intensity:
            raise Escalated(child.name) from error
        ceiling = min(BACKOFF_BASE_MS << (len(self._failures) - 1), BACKOFF_MAX_MS)
        return int(ceiling * (0.5 + self._rng.random() / 2))

    def _is_critical(self, name: str) -> bool:
        return any(child.critical for child in self._children if child.name == name)

    async def _end_all(self, *, at_once: bool) -> None:
        self._stopping.set()
        if at_once:
            for task in self._tasks.values():
                task.cancel()
        started = self._children[: len(self._tasks)]
        for child in reversed(started):
            if not self._tasks[child.name].done():
                await self._end(child, self._tasks[child.name], ask=not at_once)
        for task in self._tasks.values():
            if task.done() and not task.cancelled():
                task.exception()  # a failure beside the one that is raised was logged

    async def _end(self, child: ChildSpec, task: asyncio.Task[None], *, ask: bool) -> None:
        timeout_s = child.shutdown_ms / 1_000
        if ask and child.stop is not None:
            await self._ask(child, task, timeout_s)
        task.cancel()
        await asyncio.wait({task}, timeout=timeout_s)
        event = events.CHILD_STOPPED if task.done() else events.CHILD_ABANDONED
        self._log.info(event, child=child.name)

    async def _ask(self, child: ChildSpec, task: asyncio.Task[None], timeout_s: float) -> None:
        assert child.stop is not None
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                try:
                    await child.stop()
                except Exception as error:  # noqa: BLE001  # it is cancelled instead
                    self._log.error(events.CHILD_FAILED, child=child.name, exc_info=error)
                    return
                await asyncio.wait({task})
