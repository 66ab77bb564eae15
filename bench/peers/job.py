"""The job that every system is given, and what a system must be able to do to take it.

Everything that runs in the peers' own environment imports only this and the peer's own library.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, Final, Protocol

SLOTS: Final = 16
IN_FLIGHT: Final = 64
THREADS: Final = 8
"""Callers of a system whose client blocks."""
PAYLOAD: Final = "x" * 500
RESULT: Final = "y" * 200
POLL_S: Final = 0.02
"""Between two looks at what has ended, where a system cannot tell."""
BEGAN: Final = "BENCH_PEERS_BEGAN"
"""Environment: the file that the bodies of tasks write to."""

_file: int | None = None


class System(Protocol):
    """A client of one system under test. Constructed with the address of its server."""

    def __init__(self, server: str) -> None: ...

    async def open(self) -> None:
        """Connect, and prepare an empty queue; the worker starts afterwards."""
        ...

    def submit(self, number: int) -> Awaitable[object]:
        """Submit one task; done when the system has acknowledged it."""
        ...

    async def ended(self, count: int) -> None:
        """Return as soon as this client can see that `count` tasks have ended since `open`."""
        ...

    async def close(self) -> None:
        """Disconnect."""
        ...


def body(number: int) -> str:
    """Be the task: note when it began, and return the result."""
    now = time.monotonic_ns()
    global _file  # noqa: PLW0603 - one per process, also in one that was forked
    if _file is None:
        _file = os.open(os.environ[BEGAN], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(_file, b"%d %d\n" % (number, now))
    return RESULT


class Results:
    """What a client that must ask for results has not seen yet."""

    def __init__(self, look: Callable[[list[str]], Awaitable[Sequence[Any]]]) -> None:
        self._look = look
        self._open: list[str] = []
        self._ended = 0

    def expect(self, key: str) -> None:
        """Note where the result of one more task will be."""
        self._open.append(key)

    async def ended(self, count: int) -> None:
        """Look again and again, until `count` results were found."""
        while self._ended < count:
            looked, self._open = self._open, []
            found = await self._look(looked) if looked else ()
            missing = [k for k, value in zip(looked, found, strict=True) if value is None]
            self._ended += len(looked) - len(missing)
            self._open += missing
            await asyncio.sleep(POLL_S)


def cpu_s(roots: AbstractSet[int]) -> float:
    """Return the CPU time of some processes, all below them, and all below that have ended."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = place.read_text("utf-8", "replace").rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        pid = int(place.parent.name)
        parents[pid], ticks[pid] = int(fields[1]), sum(map(int, fields[11:15]))
    return sum(ticks[pid] for pid in ticks if _below(pid, roots, parents)) / os.sysconf(
        "SC_CLK_TCK"
    )


def _below(pid: int, roots: AbstractSet[int], parents: dict[int, int]) -> bool:
    while pid:
        if pid in roots:
            return True
        pid = parents.get(pid, 0)
    return False
