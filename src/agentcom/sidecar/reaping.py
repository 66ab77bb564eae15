"""How a supervisor gets to be the parent of all that its agent leaves, ends it, and buries it.

Standard library only, since the supervisor imports it.
"""

import contextlib
import ctypes
import os
import select
import signal
import socket
import sys
import time
from typing import Final

from agentcom.sidecar import processes

SWEEP_MS_MAX: Final = 10_000
"""How long a killed process may take to vanish (uninterruptible I/O) before it is given up."""

_PAUSE_S: Final = 0.02
_SIGNALS_BYTES: Final = 65_536
_PR_SET_CHILD_SUBREAPER: Final = 36
_CAUGHT: Final = (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


def become_reaper() -> None:
    """Have orphans of the agent re-parented to this process; macOS has no such thing."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def catch_signals() -> socket.socket:
    """Return a socket that becomes readable with each signal: its number."""
    receiver, sender = socket.socketpair()
    receiver.setblocking(False)
    sender.setblocking(False)
    signal.set_wakeup_fd(sender.detach(), warn_on_full_buffer=False)
    for number in _CAUGHT:
        signal.signal(number, lambda *_: None)
    return receiver


def leave_signals(receiver: socket.socket) -> None:
    """Undo `catch_signals` in a process that was forked, and has its own life now."""
    os.close(signal.set_wakeup_fd(-1))
    for number in _CAUGHT:
        signal.signal(number, signal.SIG_DFL)
    receiver.close()


def reap_all() -> bool:
    """Bury every child that has ended; tell whether there are others."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
        return True
    return False


def boot_s() -> float:
    """Return the seconds since the computer was started, its sleep included."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def sweep(signals: socket.socket) -> int:
    """Kill and reap all descendants; return how many could not be ended in time.

    `signals` is readable when a child ended.
    """
    give_up_at = boot_s() + SWEEP_MS_MAX / 1000
    often = False
    while True:
        if not reap_all() and sys.platform == "linux":
            return 0  # orphans are children of the reaper, so without any there is nobody
        left = processes.descendants(processes.read_table(), {os.getpid()})
        if not left or boot_s() >= give_up_at:
            return len(left)
        if often:  # they may multiply faster than they are found; a group dies at one blow
            for group in {entry.group for entry in left if entry.group != os.getpgrp()}:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(group, signal.SIGKILL)
        often = True
        for entry in left:
            processes.kill(entry)
        select.select([signals], [], [], _PAUSE_S)
        with contextlib.suppress(BlockingIOError):
            signals.recv(_SIGNALS_BYTES)


def signal_inner(box: int, number: signal.Signals) -> None:
    """Send a signal to what a sandbox runs, as to a process group, and not to the sandbox.

    The sandbox is `box`, and as the first process inside its child.
    """
    table = processes.read_table()
    first = {entry.pid for entry in table.values() if entry.ppid == box}
    for entry in processes.descendants(table, first):
        if entry.group == box:
            processes.send(entry, number)
