"""The standard input of an agent that talks: what was said, in order, and once for each key.

A sidecar that starts again reads the output from its start, comes to the same replies and says
them again; the keys tell what was said already, also when nobody is there to say it to any more.
Standard library only, since the supervisor imports it.
"""

import contextlib
import os
import selectors
from typing import IO, Final

SAID: Final = b"said\n"
"""The agent gets it, or has got it before."""
CLOSED: Final = b"closed\n"
"""The agent takes no more."""
FULL: Final = b"full\n"
"""It does not read what it was told before."""

PENDING_BYTES_MAX: Final = 16 << 20
"""What waits for an agent that does not read; a pipe alone holds 64 KiB."""
KEYS_MAX: Final = 100_000
"""Replies to one run: each permission is one, and a day has fewer seconds."""
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC


class AgentInput:
    """The way into one agent; closed until it is opened."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        """`selector` is asked when the pipe takes more."""
        self._selector = selector
        self._pipe: IO[bytes] | None = None
        self._closing = False
        self._pending = bytearray()
        self._keys: set[str] = set()
        self._record: int | None = None
        self._farewell = b""

    def open(self, pipe: IO[bytes], record: str) -> None:
        """Write to this pipe from now on, and the keys of what was said to a new file."""
        os.set_blocking(pipe.fileno(), False)
        self._record = os.open(record, _NEW_FILE, 0o600)
        self._pipe = pipe

    def say(self, key: str, data: bytes) -> bytes:
        """Write `data` behind what was said before, unless its key was; return what came of it."""
        if key in self._keys:
            return SAID
        if self._pipe is None or self._closing:
            return CLOSED
        if len(self._pending) + len(data) > PENDING_BYTES_MAX or len(self._keys) >= KEYS_MAX:
            return FULL
        self._keys.add(key)
        self._note(key)
        self._pending += data
        self._write(0)
        return SAID

    def keep_farewell(self, data: bytes) -> bytes:
        """Keep what asks the agent to end, for when it is stopped; it replaces what was kept."""
        self._farewell = data
        return SAID

    def part(self) -> bool:
        """Say the farewell and close; False if there is none, or nobody to say it to."""
        if self._pipe is None or self._closing or not self._farewell:
            return False
        self._pending += self._farewell
        self.close()
        return True

    def close(self) -> None:
        """End the input behind what was said."""
        self._closing = True
        if self._pipe is not None:
            self._write(0)

    def _note(self, key: str) -> None:
        assert self._record is not None
        with contextlib.suppress(OSError):  # a full disk must not keep the agent waiting
            os.write(self._record, key.encode("ascii", "replace") + b"\n")

    def _write(self, _events: int) -> None:
        pipe = self._pipe
        if pipe is None:
            return
        try:
            while self._pending:
                del self._pending[: os.write(pipe.fileno(), self._pending)]
        except BlockingIOError:
            self._watch(pipe, wanted=True)
            return
        except OSError:  # it has closed its input, or is gone
            self._closing = True
            self._pending.clear()
        self._watch(pipe, wanted=False)
        if self._closing:
            self._pipe = None
            pipe.close()

    def _watch(self, pipe: IO[bytes], *, wanted: bool) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(pipe)
        if wanted:
            self._selector.register(pipe, selectors.EVENT_WRITE, self._write)
