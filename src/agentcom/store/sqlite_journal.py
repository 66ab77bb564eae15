"""The journal of batches on disk: with a copy of the store, it leads to any batch after it.

It is written behind the store, in a thread of its own: a batch is acknowledged before it is in the
journal, and in the journal, synced, about a second later. It never keeps the store waiting. What
cannot be written leaves a gap, which the next copy closes.

Each incarnation has a folder, whose segments are named by the number of their first batch. One
holds a mark and records: length, number, time of writing (UTC milliseconds), checksum, and the
canonical bytes of the batch.
"""

import os
import queue
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import msgspec
import structlog

from agentcom.model.batch import Batch
from agentcom.model.ids import WallTime
from agentcom.store import codec, sqlite_disk

SEGMENT_BYTES: Final = 64 << 20  # then there is a new one, so that old ones can go
SYNC_S: Final = 1.0  # what a crash may cost the journal, beside what it may not cost the store
WAITING_MAX: Final = 65_536  # batches that wait for a slow disk; one more is a gap
ENDING: Final = ".journal"

_MARK: Final = b"agcjrnl1"
_HEAD: Final = struct.Struct(">IQQI")

log = structlog.get_logger(__name__)


class Entry(NamedTuple):
    """One batch of the journal."""

    number: int
    at: WallTime
    batch: Batch


class JournalDamaged(Exception):
    """A record in the middle of a journal cannot be read."""


class Journal:
    """Writes batches down, in order, as they are committed."""

    def __init__(self, folder: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._root = self._folder = folder
        self._segment_bytes = segment_bytes
        self._waiting: queue.SimpleQueue[tuple[int, Batch] | None] = queue.SimpleQueue()
        self._file: BinaryIO | None = None
        self._last = -1
        self._synced_at = 0.0
        self._thread = threading.Thread(target=self._run, name="store-journal", daemon=True)
        self.failed = False
        """Whether something could not be written down; the next segment begins behind it."""

    def start(self, incarnation: int) -> None:
        """Begin a segment of an incarnation: another one's batches have the same numbers."""
        self._folder = folder_of(self._root, incarnation)
        sqlite_disk.make_folder(self._folder)
        self._thread.start()

    def note(self, number: int, batch: Batch) -> None:
        """Take a batch that is durable in the store; from any one thread at a time."""
        if self._waiting.qsize() < WAITING_MAX:
            self._waiting.put((number, batch))
        else:
            self.failed = True

    def close(self) -> None:
        """Write down what waits, and end."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                taken = self._waiting.get(timeout=SYNC_S if self._file is not None else None)
            except queue.Empty:
                self._guarded(self._sync)
                continue
            if taken is None:
                self._guarded(self._end)
                return
            self._guarded(partial(self._write, *taken))

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except OSError as error:
            self._file = None
            self._last = -1
            if not self.failed:
                log.warning("journal.failed", folder=str(self._folder), reason=error.strerror)
            self.failed = True

    def _write(self, number: int, batch: Batch) -> None:
        file = self._file
        if file is None or number != self._last + 1 or file.tell() >= self._segment_bytes:
            self._end()
            file = self._file = self._begin(number)
        body = codec.encode_batch(batch)
        at = int(time.time() * 1000)
        checksum = zlib.crc32(body, zlib.crc32(struct.pack(">QQ", number, at)))
        file.write(_HEAD.pack(len(body), number, at, checksum) + body)
        self._last = number
        if time.monotonic() - self._synced_at >= SYNC_S:
            self._sync()

    def _begin(self, number: int) -> BinaryIO:
        path = self._folder / f"{number:020d}{ENDING}"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        file = os.fdopen(fd, "wb")
        file.write(_MARK)
        sqlite_disk.sync_folder(self._folder)
        return file

    def _sync(self) -> None:
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
        self._synced_at = time.monotonic()

    def _end(self) -> None:
        self._sync()
        if self._file is not None:
            self._file.close()
        self._file = None


def folder_of(root: Path, incarnation: int) -> Path:
    """Return where the journal of an incarnation is."""
    return root / str(incarnation)


def segments(folder: Path) -> Sequence[tuple[int, Path]]:
    """Return the segments of a journal with the numbers of their first batches, in order."""
    found = folder.glob(f"*{ENDING}") if folder.is_dir() else ()
    return sorted((int(path.stem), path) for path in found if path.stem.isdecimal())


def entries(folder: Path, after: int) -> Iterator[Entry]:
    """Yield the batches behind the one with this number, up to the first gap.

    What was being written when a process died ends its segment.

    Raises:
        JournalDamaged: a record is not as it was written.
    """
    number = after
    for entry in _from(folder, after):
        if entry.number <= number:
            continue  # a segment that a restart wrote anew
        if entry.number != number + 1:
            return
        number = entry.number
        yield entry


def is_whole(folder: Path, after: int) -> bool:
    """Return whether no batch is missing behind the one with this number, up to the last."""
    try:
        last = number_after(folder, after)
        return beyond_gap(folder, last) is None
    except JournalDamaged:
        return False


def number_after(folder: Path, after: int) -> int:
    """Return how far a journal leads from a batch, up to the first gap."""
    return max((entry.number for entry in entries(folder, after)), default=after)


def beyond_gap(folder: Path, last: int) -> Entry | None:
    """Return the first batch behind the gap that follows a batch; None: there is none."""
    return next((entry for entry in _from(folder, last) if entry.number > last + 1), None)


def find(folder: Path, number: int) -> Entry | None:
    """Return one batch, if it is there."""
    return next((entry for entry in _from(folder, number - 1) if entry.number == number), None)


def drop_before(folder: Path, number: int) -> int:
    """Delete segments that hold nothing behind a batch; return how many."""
    found = segments(folder)
    old = [path for (_, path), (then, _) in pairwise(found) if then <= number + 1]
    for path in old:
        path.unlink()
    return len(old)


def _from(folder: Path, after: int) -> Iterator[Entry]:
    found = segments(folder)
    for at, (_, path) in enumerate(found):
        following = found[at + 1][0] if at + 1 < len(found) else None
        if following is not None and following <= after + 1:
            continue
        yield from _records(path)


def _records(path: Path) -> Iterator[Entry]:
    with path.open("rb") as file:
        if file.read(len(_MARK)) != _MARK:
            if path.stat().st_size >= len(_MARK):
                raise JournalDamaged(f"{path} is no journal")
            return
        wanted = int(path.stem)
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            length, number, at, checksum = _HEAD.unpack(head)
            body = file.read(length)
            if len(body) < length:
                if _follows(body, wanted + 1):
                    raise _damaged(path, wanted)  # its length is not as it was written
                return  # torn
            if zlib.crc32(body, zlib.crc32(struct.pack(">QQ", number, at))) != checksum:
                if not file.read(1):
                    return  # torn, on a disk that had kept the length first
                raise _damaged(path, wanted)
            wanted = number + 1
            try:
                batch = codec.decode_batch(body)
            except msgspec.DecodeError as error:
                raise JournalDamaged(f"{path}: batch {number} cannot be read: {error}") from error
            yield Entry(number, WallTime(at), batch)


def _follows(rest: bytes, number: int) -> bool:
    """Return whether a whole record of a batch lies somewhere in bytes that seem torn."""
    mark = struct.pack(">Q", number)
    found = rest.find(mark)
    while found >= 0:
        start = found - struct.calcsize(">I")
        head = rest[max(start, 0) : start + _HEAD.size]
        if start >= 0 and len(head) == _HEAD.size:
            length, number, at, checksum = _HEAD.unpack(head)
            body = rest[start + _HEAD.size : start + _HEAD.size + length]
            if zlib.crc32(body, zlib.crc32(struct.pack(">QQ", number, at))) == checksum:
                return True
        found = rest.find(mark, found + 1)
    return False


def _damaged(path: Path, number: int) -> JournalDamaged:
    return JournalDamaged(
        f"{path} is damaged at batch {number}: agentcom backup restore --batch {number - 1} leads"
        " as far as it is whole"
    )
