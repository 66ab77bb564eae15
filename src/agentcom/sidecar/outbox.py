"""The sidecar's memory on disk: one fsynced file per attempt, replaced whole at each step.

`held/` has what the hub may still ask for: attempts, and reports without an acknowledgement.
`kept/` has acknowledged results for 7 days, to be offered to a restored hub. `damaged/` has what
could not be read; one bad file never hides another.
"""

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar, Final

import msgspec
import structlog

from agentcom.model import errors
from agentcom.model.ids import WallTime
from agentcom.sidecar.machine_values import Key, Record

KEEP_MS: Final = 7 * 86_400_000
"""A hub is restored from a backup within this time, or a person decides."""
KEPT_OFFERED_MAX: Final = 256
"""Results offered to a restored hub: a link's queue holds four times as many."""
_SUFFIX: Final = ".json"

log = structlog.get_logger(__name__)


class DiskRefused(errors.AgentComError):
    """A record could not be made durable; the message names the cause."""

    code: ClassVar[str] = "storage_full"
    status: ClassVar[int] = 507
    retryable: ClassVar[bool] = True


class Outbox:
    """All records of one machine identity; blocking, so call it from a thread."""

    def __init__(self, root: Path) -> None:
        self._held = root / "held"
        self._kept = root / "kept"
        self._damaged = root / "damaged"
        for folder in (self._held, self._kept, self._damaged):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def scan(self) -> tuple[Record, ...]:
        """Return every held record; a file that cannot be read is put aside, loudly."""
        for leftover in self._held.glob(".*"):
            leftover.unlink()
        return tuple(self._readable(sorted(self._held.glob(f"*{_SUFFIX}"))))

    def store(self, record: Record) -> None:
        """Make `record` durable in place of the attempt's former one.

        Raises:
            DiskRefused: the disk is full or broken; the former record stands.
        """
        path = self._path(self._held, record.key)
        draft = path.with_name(f".{path.name}")
        try:
            _write(draft, msgspec.json.encode(record))
            draft.replace(path)
            _sync(self._held)
        except OSError as error:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            fix = "free some space" if full else f"look at {self._held}"
            raise DiskRefused(f"cannot store: {error.strerror}: {fix}") from error

    def forget(self, key: Key, *, keep: bool) -> None:
        """End an attempt's record; `keep` has its result stay for a while.

        Raises:
            DiskRefused: the disk is broken; the record stands, and is reported again.
        """
        path = self._path(self._held, key)
        try:
            if keep and self._has_result(path):
                path.replace(self._path(self._kept, key))
                os.utime(self._path(self._kept, key))
                _sync(self._kept)
            else:
                path.unlink(missing_ok=True)
            _sync(self._held)
        except OSError as error:
            raise DiskRefused(f"cannot put a record away: {error.strerror}") from error

    def kept(self) -> tuple[Record, ...]:
        """Return the newest acknowledged results that are still here, oldest first."""
        dated = sorted((path.stat().st_mtime_ns, path) for path in self._kept.glob(f"*{_SUFFIX}"))
        return tuple(self._readable(path for _, path in dated[-KEPT_OFFERED_MAX:]))

    def prune(self, now: WallTime) -> int:
        """Delete kept results that are older than `KEEP_MS`; return how many."""
        old = [
            path
            for path in self._kept.glob(f"*{_SUFFIX}")
            if path.stat().st_mtime * 1_000 < now - KEEP_MS
        ]
        for path in old:
            path.unlink(missing_ok=True)
        return len(old)

    def _readable(self, paths: Iterable[Path]) -> Iterator[Record]:
        for path in paths:
            record = self._read(path)
            if record is not None:
                yield record

    def _read(self, path: Path) -> Record | None:
        try:
            record = msgspec.json.decode(path.read_bytes(), type=Record)
            if path.name != record.key.text + _SUFFIX:
                raise msgspec.ValidationError("the name of the file is another attempt's")
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            log.error("record.damaged", file=path.name, moved_to="damaged", reason=str(error))  # noqa: TRY400 - a trace of the decoder helps nobody
            path.replace(self._damaged / path.name)
            return None
        return record

    def _has_result(self, path: Path) -> bool:
        record = self._read(path) if path.exists() else None
        return record is not None and (record.result or record.landing) is not None

    @staticmethod
    def _path(folder: Path, key: Key) -> Path:
        return folder / f"{key.text}{_SUFFIX}"


def _write(path: Path, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
