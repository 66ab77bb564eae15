"""Keeping this computer awake while an attempt runs; an idle one may sleep.

The system's own tool holds the lock for as long as its child reads our pipe, so that a sidecar
that is killed leaves no lock behind. Where there is no such tool, or it may not, agents stand
still in sleep and go on after it: that costs time, and no work (`docs/concepts/leases.md`).
"""

import asyncio
import contextlib
import os
import platform
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
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
        self._holder: subprocess.Popen[bytes] | None = None
        self._useless = False

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the computer awake while the context lasts, if it can be."""
        self._users += 1
        if self._users == 1:
            self._begin()
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._end()

    def _begin(self) -> None:
        argv = None if self._useless else command()
        if argv is None:
            return
        pipe, null = subprocess.PIPE, subprocess.DEVNULL
        try:
            self._holder = subprocess.Popen(  # noqa: S603 - the system's own tool
                argv, stdin=pipe, stdout=null, stderr=null, start_new_session=True
            )
        except OSError as error:
            self._give_up(error.strerror or "it does not start")

    def _end(self) -> None:
        holder, self._holder = self._holder, None
        if holder is None:
            return
        if holder.poll() is not None:
            self._give_up(f"it ended at once with exit {holder.returncode}")
        # Nobody waits for it: an attempt that is cancelled ends now.
        asyncio.get_running_loop().run_in_executor(None, _ended, holder)

    def _give_up(self, reason: str) -> None:
        self._useless = True
        log.info("sleep.not_inhibited", reason=reason)


def _ended(holder: "subprocess.Popen[bytes]") -> None:
    """Let go of the pipe, and see that the tool ends."""
    assert holder.stdin is not None
    with contextlib.suppress(OSError):
        holder.stdin.close()
    try:
        holder.wait(END_S)
    except subprocess.TimeoutExpired:
        os.killpg(holder.pid, signal.SIGKILL)  # it is not reaped, so the group is still its own
        holder.wait()
