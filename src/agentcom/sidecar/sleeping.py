"""Hearing that this computer is about to sleep, in time to hand over what its agents do.

On Linux logind says so to everybody, and waits some seconds for who holds a lock of mode `delay`
(`sidecar/wakefulness.py` does while an attempt runs). `dbus-monitor` hears it without rights and
without a library (systemd's interface org.freedesktop.login1, signal PrepareForSleep). Elsewhere
nothing is announced, and the lease decides (`docs/concepts/leases.md`).
"""

import asyncio
import contextlib
import platform
import shutil
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from agentcom.sidecar.lifetime import to_the_end

_WANTED: Final = "type='signal',interface='org.freedesktop.login1.Manager',member='PrepareForSleep'"
_TOOL: Final = "dbus-monitor"
_SCRIPT: Final = f'{_TOOL} --system "$1" & exec >&-; cat > /dev/null; kill $!'
"""Ends with our pipe, so that a sidecar that is killed leaves nothing behind."""
_MEMBER: Final = b"member=PrepareForSleep"
_LINE_BYTES_MAX: Final = 4_096

log = structlog.get_logger(__name__)


async def follow(told: Callable[[bool], Awaitable[None]]) -> None:
    """Call `told(True)` before each sleep and `told(False)` after it, until cancelled.

    Returns where nobody announces it.
    """
    if platform.system() != "Linux" or shutil.which(_TOOL) is None:
        return
    starting = asyncio.ensure_future(_started())
    try:
        process = await asyncio.shield(starting)
        assert process.stdout is not None
        await _read(process.stdout, told)
        log.info("sleep.not_announced", reason="the system's bus cannot be heard")
    except OSError as error:
        log.info("sleep.not_announced", reason=error.strerror)
    finally:
        await to_the_end(_end(starting))  # a process that is half made or half ended would be left


async def _started() -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", _SCRIPT, "sh", _WANTED),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        limit=_LINE_BYTES_MAX,
        start_new_session=True,
    )


async def _end(starting: asyncio.Future[asyncio.subprocess.Process]) -> None:
    with contextlib.suppress(OSError):
        process = await starting
        assert process.stdin is not None
        process.stdin.close()
        await process.communicate()  # to the end of its output, too, else a pipe is left open


async def _read(said: asyncio.StreamReader, told: Callable[[bool], Awaitable[None]]) -> None:
    """Read what the tool prints: a line for each message, and below it one for each argument."""
    announced = False
    while line := await said.readline():
        if announced:
            sleeps = line.split() == [b"boolean", b"true"]
            if sleeps:
                log.info("sleep.announced")
            else:
                log.info("sleep.over")
            await told(sleeps)
        announced = _MEMBER in line
