"""How a supervisor gets to be the parent of all that its agent leaves, and buries it.

Standard library only, since the supervisor imports it.
"""

import contextlib
import ctypes
import os
import signal
import socket
import sys
from typing import Final

_PR_SET_CHILD_SUBREAPER: Final = 36


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
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    return receiver


def reap_all() -> None:
    """Bury every child that has ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
