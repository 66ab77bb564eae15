"""Keeping this computer awake while an attempt runs; an idle one may sleep.

The system's own tool holds the lock for as long as its child reads our pipe, so that a sidecar
that is killed leaves no lock behind. Where there is no such tool, or it may not, agents stand
still in sleep and go on after it: that costs time, and no work (`docs/concepts/leases.md`).
"""

import asyncio
import contextlib
import platform
import shutil
from collections.abc import AsyncIterator, Sequence
from typing import Final

import structlog

END_S: Final = 2.0
"""A tool that does not end with its pipe is killed after this."""
_UNTIL_THE_PIPE_ENDS: Final = "cat"

log = structlog.get_logger(__name__)


def command() -> Sequence[str] | None:
    """Return what keeps this computer awake while its standard input is open; None: nothing."""
    if platform.system() == "Darwin":
        tool, words = "caffeinate", ["-i"]
    else:
        tool = "systemd-inhibit"
        words = ["--what=sleep:idle", "--mode=block", "--who=AgentCom", "--why=An agent works"]
    found = shutil.which(tool)
    return [found, *words, _UNTIL_THE_PIPE_ENDS] if found is not None else None


class Wakefulness:
    """One lock for all attempts of a machine."""

    def __init__(self) -> None:
        self._users = 0
        self._holder: asyncio.subprocess.Process | None = None
        self._useless = False

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Keep the computer awake while the context lasts, if it can be."""
        self._users += 1
        try:
            if self._users == 1:
                await self._begin()
            yield
        finally:
            self._users -= 1
            if not self._users:
                await self._end()

    async def _begin(self) -> None:
        argv = None if self._useless else command()
        if argv is None:
            return
        pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        try:
            holder = await asyncio.create_subprocess_exec(
                *argv, stdin=pipe, stdout=null, stderr=null, start_new_session=True
            )
        except OSError as error:
            self._give_up(error.strerror or "it does not start")
            return
        if self._users and self._holder is None:
            self._holder = holder
        else:  # all was over, or begun anew, before the tool had started
            await _ended(holder)

    async def _end(self) -> None:
        holder, self._holder = self._holder, None
        if holder is None:
            return
        if holder.returncode is not None:
            self._give_up(f"it ended at once with exit {holder.returncode}")
            return
        await _ended(holder)

    def _give_up(self, reason: str) -> None:
        self._useless = True
        log.info("sleep.not_inhibited", reason=reason)


async def _ended(holder: asyncio.subprocess.Process) -> None:
    assert holder.stdin is not None
    holder.stdin.close()
    try:
        async with asyncio.timeout(END_S):
            await holder.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            holder.kill()
        await holder.wait()
