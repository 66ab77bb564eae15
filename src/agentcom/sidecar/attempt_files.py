"""The files of an attempt's folder: their names, atomic replacement, and bounded logs.

Standard library only, since the supervisor imports it.
"""

import contextlib
import json
import os
from typing import Any, Final

LAUNCH: Final = "launch.json"
RECORD: Final = "supervisor.json"
EXIT: Final = "exit.json"
OPENING: Final = "opening"
SAID: Final = "said.log"
"""Of an agent that talks: the keys of what was written to it, one a line."""
PROVIDER_LOG: Final = "provider-log"
"""The agent's home, and on a second line what its program logs there of its provider."""
SOCKETS: Final = "sockets"
"""Names the folder outside this one that the run has for its sockets."""
SOCKET: Final = "control.sock"
STDOUT: Final = "stdout.log"
STDERR: Final = "stderr.log"
LOG: Final = "supervisor.log"

_LINE_CUT: Final = b" [agentcom: the rest of this line is not kept]"


def write_json(path: str, value: dict[str, Any], *, durable: bool) -> None:
    """Replace a file at once: a reader sees the old content or the new one."""
    temporary = f"{path}.tmp"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(handle, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
        json.dump(value, file)
        file.flush()
        if durable:
            os.fsync(file.fileno())
    os.replace(temporary, path)  # noqa: PTH105 - as above
    if durable:
        folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_CLOEXEC)  # noqa: PTH120 - as above
        os.fsync(folder)
        os.close(folder)


BRIEF_BYTES: Final = 200
"""Kept of a line that only shows that the agent goes on: enough to see what it was."""


class BoundedLog:
    """A bounded log file: its head, and at the end its tail; longer lines are cut."""

    def __init__(
        self,
        path: str,
        *,
        bytes_max: int,
        tail_bytes: int,
        line_bytes_max: int,
        brief: tuple[bytes, ...] = (),
    ) -> None:
        """Create the file; of lines that begin as one in `brief` only the start is kept."""
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self.handle = os.open(path, flags, 0o600)
        self.truncated = False
        self._room = bytes_max
        self._tail_bytes = tail_bytes
        self._line_bytes_max = line_bytes_max
        self._line_bytes = 0
        self._spilled = 0
        self._tail = bytearray()
        self._brief = BriefLines(brief) if brief else None

    def write(self, chunk: bytes) -> None:
        """Keep what the bounds allow."""
        if self._brief is not None:
            chunk = self._brief.cut(chunk)
        kept = self._cut_lines(chunk)
        self._store(kept[: self._room])
        rest = kept[self._room :]
        self._room -= len(kept) - len(rest)
        self._spilled += len(rest)
        self._tail += rest
        if len(self._tail) > 2 * self._tail_bytes:
            del self._tail[: -self._tail_bytes]

    def finish(self, *, durable: bool) -> None:
        """Add the tail, since the last record of a stream is its verdict."""
        if self._brief is not None:
            self.write(self._brief.rest())
        tail = bytes(self._tail[-self._tail_bytes :])
        if len(tail) < self._spilled:
            self.truncated = True
            tail = tail[tail.find(b"\n") + 1 :]
            dropped = self._spilled - len(tail)
            self._store(b"\n[agentcom: %d bytes of output are not kept]\n" % dropped)
        self._store(tail)
        with contextlib.suppress(OSError):
            if durable and os.fstat(self.handle).st_size:
                os.fsync(self.handle)

    def _cut_lines(self, chunk: bytes) -> bytes:
        line_bytes_max = self._line_bytes_max
        if self._line_bytes + len(chunk) <= line_bytes_max:
            newline = chunk.rfind(b"\n")
            before = 0 if newline >= 0 else self._line_bytes
            self._line_bytes = before + len(chunk) - newline - 1
            return chunk
        kept: list[bytes] = []
        for number, piece in enumerate(chunk.split(b"\n")):
            if number:
                kept.append(b"\n")
                self._line_bytes = 0
            room = max(0, line_bytes_max - self._line_bytes)
            kept.append(piece[:room])
            self._line_bytes += len(piece)
            if len(piece) > room and self._line_bytes - len(piece) <= line_bytes_max:
                kept.append(_LINE_CUT)
                self._line_bytes = line_bytes_max + 1
                self.truncated = True
        return b"".join(kept)

    def _store(self, data: bytes) -> None:
        try:
            while data:
                data = data[os.write(self.handle, data) :]
        except OSError:  # a full disk must not stop the draining: the agent would block
            self.truncated = True


class BriefLines:
    """Cuts the lines that begin in a certain way: some programs repeat a message with each word."""

    def __init__(self, prefixes: tuple[bytes, ...]) -> None:
        self._prefixes = prefixes
        self._longest = max(map(len, prefixes))
        self._start = b""
        """Of a line of which it is not known yet how it begins."""
        self._room: int | None = None
        """What may be kept of this line; None: not known yet, negative: all."""

    def cut(self, chunk: bytes) -> bytes:
        kept: list[bytes] = []
        for number, piece in enumerate(chunk.split(b"\n")):
            if number:
                kept.append(self._start + b"\n")
                self._start, self._room = b"", None
            kept.append(self._part(piece))
        return b"".join(kept)

    def rest(self) -> bytes:
        rest, self._start = self._start, b""
        self._room = -1
        return rest

    def _part(self, piece: bytes) -> bytes:
        if self._room is None:
            self._start += piece
            if len(self._start) < self._longest:
                return b""
            piece, self._start = self._start, b""
            self._room = BRIEF_BYTES if piece.startswith(self._prefixes) else -1
        if self._room < 0:
            return piece
        kept = piece[: self._room]
        self._room -= len(kept)
        return kept
