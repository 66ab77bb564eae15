"""An asyncio event loop that lives on virtual time: the hub's real coroutines run on it.

It has no selector, no threads and no clock. The kernel calls `pump` when something came in from
outside or a timer is due; then everything that can run does, and virtual time stands still.
"""

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from heapq import heappop, heappush
from itertools import count
from typing import Any, Final, TypeVar

from agentcom.store.failures import StoreFailed
from agentcom.testing.simulation.kernel import SECOND, Entry, Kernel
from agentcom.testing.simulation.trace import Violation

T = TypeVar("T")

TASKS_MAX: Final = 1_000
"""Tasks that are remembered before those that are done are forgotten."""
UNWINDS_MAX: Final = 200
"""Rounds in which the tasks of a killed process end."""
ROUNDS_MAX: Final = 200_000
"""Rounds of one `pump`: a loop that needs more would never come to rest."""
RESOLUTION_S: Final = 5e-7
"""A timer counts as due this much early: microseconds do not survive floating point exactly."""


class Call:
    """What a loop will call, unless it is cancelled before: all that asyncio asks of a handle.

    Its own handles ask the loop for debugging each time that they are made and cancelled.
    """

    __slots__ = ("action", "arguments", "context", "due")

    def __init__(
        self,
        action: Callable[..., object],
        arguments: tuple[Any, ...],
        context: contextvars.Context | None,
        due: float = 0.0,
    ) -> None:
        self.action: Callable[..., object] | None = action
        self.arguments = arguments
        self.context = contextvars.copy_context() if context is None else context
        self.due = due

    def cancel(self) -> None:
        """Let it not happen."""
        self.action = None
        self.arguments = ()

    def cancelled(self) -> bool:
        """Return whether it will not happen."""
        return self.action is None

    def when(self) -> float:
        """Return the loop's time at which it is due."""
        return self.due


class NodeLoop(asyncio.AbstractEventLoop):
    """The event loop of one simulated process."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._ready: deque[Call] = deque()
        self._timers: list[tuple[float, int, Call]] = []
        self._number = count()
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._entry: Entry | None = None
        self._due_us = 0
        self._slept_us = 0
        self._frozen_at_us: int | None = None
        self._closed = self._running = False
        self.failures: list[str] = []
        """What no coroutine handled: a bug of the hub, wherever it came from."""
        self.violation: Violation | None = None
        self.rested: Callable[[], object] = lambda: None
        """Called when a timer has run and everything that followed from it."""

    # Time -----------------------------------------------------------------------------------------

    def time(self) -> float:
        """Return seconds of this process's monotonic clock, which stands still in a suspend."""
        return (self._kernel.now_us - self._slept_us) / SECOND

    @property
    def frozen(self) -> bool:
        """Whether the process stands still."""
        return self._frozen_at_us is not None

    def freeze(self) -> None:
        """Run nothing until `thaw`."""
        self._frozen_at_us = self._kernel.now_us

    def thaw(self, *, suspended: bool) -> None:
        """Go on; `suspended` if the computer slept, so that monotonic time did not pass."""
        assert self._frozen_at_us is not None
        if suspended:
            self._slept_us += self._kernel.now_us - self._frozen_at_us
        self._frozen_at_us = None
        self.pump()

    # Running --------------------------------------------------------------------------------------

    def pump(self) -> None:
        """Run everything that is ready or due, until nothing is."""
        if self._closed or self._frozen_at_us is not None or self._running:
            return
        # As `running`, which costs a third of a pump that has little to do.
        self._running = True
        asyncio._set_running_loop(self)  # noqa: SLF001  # made for authors of event loops
        try:
            self._run_all()
        finally:
            asyncio._set_running_loop(None)  # noqa: SLF001  # as above
            self._running = False
        self._arm()

    def _run_all(self) -> None:
        ready, timers = self._ready, self._timers
        now = self.time() + RESOLUTION_S
        for _ in range(ROUNDS_MAX):
            while timers and (timers[0][0] <= now or timers[0][2].action is None):
                ready.append(heappop(timers)[2])
            if not ready:
                return
            for _ in range(len(ready)):
                call = ready.popleft()
                action = call.action
                if action is None:
                    continue
                try:
                    call.context.run(action, *call.arguments)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:  # noqa: BLE001  # the handler judges it
                    message = f"exception in callback {action!r}"
                    self.call_exception_handler({"message": message, "exception": error})
        raise AssertionError("the event loop never comes to rest")

    @contextmanager
    def running(self) -> Iterator[None]:
        """Be the running loop, as asyncio's own loops say it to asyncio."""
        self._running = True
        asyncio._set_running_loop(self)  # noqa: SLF001  # made for authors of event loops
        try:
            yield
        finally:
            asyncio._set_running_loop(None)  # noqa: SLF001  # as above
            self._running = False

    def call(self, action: Callable[..., object], *arguments: Any) -> None:
        """Call `action` as a callback of this loop, and run what follows from it."""
        self.call_soon(action, *arguments)
        self.pump()

    def bury(self) -> None:
        """Let a killed process unwind where nobody sees it: its store and sockets are gone."""
        for task in self._tasks:
            task.cancel()
        for _ in range(UNWINDS_MAX):
            self.pump()
            if all(task.done() for task in self._tasks):
                break
            self._ready.extend(call for _, _, call in self._timers if call.action is not None)
            self._timers.clear()
        self.close()

    def _arm(self) -> None:
        timers, entry = self._timers, self._entry
        while timers and timers[0][2].action is None:
            heappop(timers)
        if not timers:
            return
        due_us = -int(-timers[0][0] * SECOND // 1) + self._slept_us
        if entry is not None:
            if due_us == self._due_us:
                return
            entry.cancel()
        self._due_us = due_us
        self._entry = self._kernel.at(due_us, self._wake)

    def _wake(self) -> None:
        self._entry = None
        self.pump()
        self.rested()

    # What asyncio asks of a loop ------------------------------------------------------------------

    def call_soon(  # type: ignore[override]  # as asyncio calls it
        self,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Call:
        call = Call(callback, args, context)
        self._ready.append(call)
        return call

    def call_later(  # type: ignore[override]  # as asyncio calls it
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Call:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]  # as asyncio calls it
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Call:
        call = Call(callback, args, context, when)
        heappush(self._timers, (when, next(self._number), call))
        return call

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]  # as asyncio calls it
        self,
        coro: Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[T]:
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks[task] = None
        if len(self._tasks) > TASKS_MAX:
            self._tasks = {task: None for task in self._tasks if not task.done()}
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, Violation):
            self.violation = error
        if isinstance(error, StoreFailed):
            return  # the process ends for that, whoever else was told
        self.failures.append(f"{context.get('message')}: {error!r}")

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self._closed

    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """End the process: nothing of it ever runs again."""
        self._closed = True
        if self._entry is not None:
            self._entry.cancel()
        self._ready.clear()
        self._timers.clear()
