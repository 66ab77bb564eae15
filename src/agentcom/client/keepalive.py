"""Finding dead peers by the kernel: the other computer vanished, and its end was never told.

The kernel asks an idle connection's peer whether it is there. No program wakes up for that, at
neither end, and it works below TLS.
"""

import socket
from typing import Any, Final

IDLE_S: Final = 30
"""Silence after which the kernel asks; home routers forget idle connections after minutes."""
INTERVAL_S: Final = 10
PROBES: Final = 3
"""Without an answer to so many, in this interval, the connection is over: after a minute."""

_OPTIONS: Final = (
    ("TCP_KEEPIDLE", IDLE_S),
    ("TCP_KEEPALIVE", IDLE_S),  # its name on macOS
    ("TCP_KEEPINTVL", INTERVAL_S),
    ("TCP_KEEPCNT", PROBES),
)


def keep_alive(raw: Any) -> None:
    """Have the kernel watch a TCP socket, or all that a listening one will accept.

    `raw` is the socket of a transport, in the words of the event loop that has it; where the
    platform lacks an option, its own time holds.
    """
    if raw is None or raw.family not in (socket.AF_INET, socket.AF_INET6):
        return
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _OPTIONS:
        option = getattr(socket, name, None)
        if option is not None:
            raw.setsockopt(socket.IPPROTO_TCP, option, value)
