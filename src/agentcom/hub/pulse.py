"""The hub's pulse, once a second: loop lag, the wall clock's steps, the operator's watchdog.

The watchdog is told from the event loop itself, so a loop that stands still is noticed outside.
"""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from agentcom.hub.clock import Clock, StepWatch
from agentcom.telemetry import events
from agentcom.telemetry.metrics import Metrics

PULSE_MS: Final = 1_000

log = structlog.get_logger(__name__)


class Notifier:
    """Tells systemd how the service is (sd_notify); does nothing under anyone else."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        environment = os.environ if environment is None else environment
        address = environment.get("NOTIFY_SOCKET", "")
        # A leading @ stands for a name in Linux's abstract name space.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watched = environment.get("WATCHDOG_USEC", "0").isdigit() and bool(
            int(environment.get("WATCHDOG_USEC", "0"))
        )

    def reloading(self, begins: bool) -> None:
        """Tell that the settings are read again, or that this is over."""
        # systemd takes the one as the beginning only with the time at which it was sent.
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000
        self.tell(f"RELOADING=1\nMONOTONIC_USEC={now_us}" if begins else "READY=1")

    def tell(self, state: str) -> None:
        """Send one state; a listener that is gone does not disturb."""
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)
            try:
                sender.sendto(state.encode(), self._address)
            except OSError as error:
                log.debug("notify.failed", reason=error.strerror)


class Pulse:
    """Looks at the loop and the clocks, and says that the hub lives."""

    def __init__(
        self,
        *,
        clock: Clock,
        metrics: Metrics,
        notifier: Notifier,
        stepped: Callable[[], None],
        lagged: Callable[[float], None] = lambda _lag_s: None,
    ) -> None:
        self._clock = clock
        self._metrics = metrics
        self._notifier = notifier
        self._stepped = stepped
        self._lagged = lagged
        self._steps = StepWatch(clock.now())

    async def run(self) -> None:
        """Beat until cancelled; a supervisor's child."""
        loop = asyncio.get_running_loop()
        while True:
            stepped: asyncio.Future[int] = loop.create_future()
            self._rest(loop, stepped)
            try:
                step_ms = await stepped
            finally:
                self._handle.cancel()
            log.warning(events.CLOCK_STEPPED, step_ms=step_ms)
            self._stepped()

    def _rest(self, loop: asyncio.AbstractEventLoop, stepped: "asyncio.Future[int]") -> None:
        due_s = loop.time() + PULSE_MS / 1_000
        self._handle = loop.call_at(due_s, self._beat, loop, due_s, stepped)

    def _beat(
        self, loop: asyncio.AbstractEventLoop, due_s: float, stepped: "asyncio.Future[int]"
    ) -> None:
        """Look once: nearly always that is all, and no task wakes up for it."""
        lag_s = max(0.0, loop.time() - due_s)
        self._metrics.loop_lag.observe(lag_s)
        self._lagged(lag_s)
        if self._notifier.watched:
            self._notifier.tell("WATCHDOG=1")
        step_ms = self._steps.step_ms(self._clock.now())
        if not step_ms:
            self._rest(loop, stepped)
        elif not stepped.done():
            stepped.set_result(step_ms)
