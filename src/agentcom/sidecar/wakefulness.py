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


def commands() -> Sequence[Sequence[str]]:
    """Return what keeps this computer awake, each while its standard input is open.

    The first keeps it from falling asleep; another has an announced sleep wait, for some seconds.
    """
    if platform.system() == "Darwin":
        tool, words = "caffeinate", [["-i"]]
    else:
        tool, who = "systemd-inhibit", "--who=AgentCom"
        words = [
            ["--what=sleep:idle", "--mode=block", who, "--why=An agent works"],
            ["--what=sleep", "--mode=delay", who, "--why=An agent's work is brought to safety"],
        ]
    found = shutil.which(tool)
    return [[found, *some, _UNTIL_THE_PIPE_ENDS] for some in words] if found is not None else ()


class Wakefulness:
    """One lock of each kind for all attempts of a machine."""

    def __init__(self) -> None:
        self._users = 0
        self._holders: dict[int, subprocess.Popen[bytes]] = {}
        self._useless: set[int] = set()
        """Locks that this system does not give."""

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
        pipe, null = subprocess.PIPE, subprocess.DEVNULL
        for number, argv in enumerate(commands()):
            if number in self._useless:
                continue
            try:
                self._holders[number] = subprocess.Popen(  # noqa: S603 - the system's own tool
                    argv, stdin=pipe, stdout=null, stderr=null, start_new_session=True
                )
            except OSError as error:
                self._give_up(number, error.strerror or "it does not start")

    def _end(self) -> None:
        holders, self._holders = self._holders, {}
        for number, holder in holders.items():
            if holder.poll() is not None:
                self._give_up(number, f"it ended at once with exit {holder.returncode}")
            # Nobody waits for it: an attempt that is cancelled ends now.
            asyncio.get_running_loop().run_in_executor(None, _ended, holder)

    def _give_up(self, number: int, reason: str) -> None:
        self._useless.add(number)
        log.info("sleep.not_inhibited", only_delayed=bool(number), reason=reason)


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
