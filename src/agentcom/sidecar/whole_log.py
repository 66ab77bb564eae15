"""An attempt's whole log, as people read it: on this machine's disk, read in parts by offset.

It is made of what the agent's runtime reports, so a sidecar that starts again and reads the same
output makes the same log: offsets stay true.
"""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Final

from agentcom.model.limits import LOG_PART_BYTES
from agentcom.protocol.live import LogPart, LogWanted
from agentcom.sidecar.config import Home
from agentcom.sidecar.machine_values import Key

BYTES_MAX: Final = 64 << 20
"""Nobody reads so much; the raw output, as far as it is kept, lies beside it."""
CONTINUATION: Final = bytes(range(0x80, 0xC0))
"""Bytes of UTF-8 that begin no character."""

_NAME: Final = "agent.log"
_BUFFER_BYTES: Final = 64 << 10


class WholeLog:
    """Written while the agent of an attempt works; a run that follows goes on with it."""

    def __init__(self, folder: Path) -> None:
        """Begin anew: who follows an agent again reads its output from the start."""
        self._path = folder / _NAME
        self._path.unlink(missing_ok=True)
        self._waiting = bytearray()
        self._size = 0
        self._lost = False

    def add(self, text: bytes) -> None:
        """Take what was said."""
        self._waiting += text
        if len(self._waiting) > _BUFFER_BYTES:
            self.flushed()

    def flushed(self) -> int | None:
        """Write down what was taken and return the log's length; None: it is too long to keep."""
        if self._lost or self._size + len(self._waiting) > BYTES_MAX:
            self._lost = True
            self._waiting.clear()
            return None
        try:
            with self._path.open("ab") as file:
                file.write(self._waiting)
        except OSError:  # a full disk: the agent goes on, and so do those who follow it live
            self._lost = True
            return None
        self._size += len(self._waiting)
        self._waiting.clear()
        return self._size


async def show(home: Home, wanted: LogWanted, send: Callable[[LogPart], None]) -> None:
    """Answer who reads a log."""
    send(await asyncio.to_thread(part, home, wanted))


def part(home: Home, wanted: LogWanted) -> LogPart:
    """Return the part of a log that somebody reads, whole characters only."""
    nothing = LogPart(key=wanted.key)
    if not wanted.task.isalnum():
        return nothing
    path = home.attempt(Key(wanted.task, wanted.fence).text) / _NAME
    with contextlib.suppress(OSError), path.open("rb") as file:
        size = file.seek(0, 2)
        begin = min(max(0, wanted.offset), size)
        file.seek(begin)
        found = file.read(LOG_PART_BYTES)
        if begin + len(found) < size:  # a character that is cut comes with the next part
            whole = found.rstrip(CONTINUATION)
            found = found if len(whole) == len(found) else whole[:-1]
        text = found.decode("utf-8", "replace")
        return LogPart(key=wanted.key, text=text, next=begin + len(found), size=size)
    return nothing
