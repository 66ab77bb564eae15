"""Processes of load beside a hub under measurement: each does one thing, and talks by a pipe."""

import asyncio
import contextlib
import multiprocessing
import multiprocessing.connection
import resource
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Concatenate, Final, ParamSpec

import structlog

from agentcom.testing.hub_process import cpu_s

Pipe = multiprocessing.connection.Connection
P = ParamSpec("P")
Work = Callable[Concatenate[Pipe, P], Coroutine[Any, Any, None]]

READY_S: Final = 120.0
END_S: Final = 5.0
_SPAWN: Final = multiprocessing.get_context("spawn")
_CRITICAL: Final = 50


class Peer:
    """A process that makes load; it says something through a pipe, and ends when told to."""

    def __init__(self, work: Work[P], *args: P.args, **options: P.kwargs) -> None:
        self._pipe, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_run, args=(theirs, work, args, options), daemon=True)
        self._process.start()
        theirs.close()

    def cpu_s(self) -> float:
        """Return the CPU time that it has used."""
        assert self._process.pid is not None
        return cpu_s(self._process.pid)

    def hear(self, timeout_s: float = READY_S) -> Any:
        """Return what it says next.

        Raises:
            TimeoutError: it said nothing in time.
            EOFError: it ended.
        """
        if not self._pipe.poll(timeout_s):
            raise TimeoutError(f"{self._process.name} said nothing in {timeout_s:.0f} s")
        return self._pipe.recv()

    def tell(self, said: Any) -> None:
        """Say something to it."""
        self._pipe.send(said)

    def ask(self, said: Any, timeout_s: float = READY_S) -> Any:
        """Say something, and return the answer."""
        self.tell(said)
        return self.hear(timeout_s)

    def end(self) -> None:
        """Let it end, or make it."""
        self._pipe.close()  # whoever waits for a word sees that there will be none
        self._process.join(END_S)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join()


@contextlib.contextmanager
def peer(work: Work[P], *args: P.args, **options: P.kwargs) -> Iterator[Peer]:
    """Run a process of load and end it."""
    started = Peer(work, *args, **options)
    try:
        yield started
    finally:
        started.end()


async def told(pipe: Pipe) -> Any:
    """Return what the coordinator says next, without blocking the loop."""
    return await asyncio.to_thread(pipe.recv)


def more_files(wanted: int = 0) -> None:
    """Allow as many open sockets as the system does; processes started from here inherit it.

    Raises:
        RuntimeError: the system allows fewer than `wanted`.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise RuntimeError(
            f"this needs {wanted} open files in one process, and the system allows {hard}: "
            f"raise the hard limit (ulimit -Hn {wanted}), or ask for fewer connections"
        )


def _run(pipe: Pipe, work: Any, args: tuple[Any, ...], options: dict[str, Any]) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(_CRITICAL))
    with contextlib.suppress(EOFError, KeyboardInterrupt, BrokenPipeError):
        asyncio.run(work(pipe, *args, **options))
