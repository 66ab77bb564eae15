"""Figures of the disk: how large the store is, how much is free, how old the newest copy is.

They are read in a thread when somebody asks for metrics, and at most every few seconds: neither an
idle hub nor its event loop notices them.
"""

import asyncio
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from agentcom.hub.backup_schedule import Copies
from agentcom.hub.clock import Clock
from agentcom.hub.config import HubConfig
from agentcom.telemetry import metrics
from agentcom.telemetry.metrics import Metrics

AGE_MS: Final = 5_000  # younger figures are shown again: listing copies reads a file for each
_FILES: Final = ("", "-wal", "-shm")


class Readings:
    """Reads the figures of one hub's folders."""

    def __init__(self, config: HubConfig, clock: Clock, store_file: str, copies: Copies) -> None:
        """`store_file` is the name of the store's file in the home."""
        self._config = config
        self._clock = clock
        self._store_file = config.home / store_file
        self._copies = copies if config.store == "sqlite" else None
        self._read_at: int | None = None
        self._sizes: Mapping[str, float] = {}
        self._free: Mapping[str, float] = {}
        self._count = 0
        self._newest: int | None = None
        self._drilled: int | None = None

    def show(self, measured: Metrics) -> "Readings":
        """Show the figures among a hub's metrics, and return these readings."""
        measured.watch_counts(
            metrics.STORE_BYTES, "Size of the store's files", "file", lambda: self._sizes
        )
        measured.watch_counts(
            metrics.DISK_FREE_BYTES,
            "Room left on the disk of a folder",
            "folder",
            lambda: self._free,
        )
        if self._copies is None:
            return self
        measured.watch_number(metrics.BACKUPS, "Copies of the data", lambda: self._count)
        measured.watch_number(
            metrics.BACKUP_AGE_SECONDS,
            "Age of the newest copy; NaN: there is none",
            lambda: self._age_s(self._newest),
        )
        measured.watch_number(
            metrics.BACKUP_DRILL_AGE_SECONDS,
            "Since a copy was last restored aside and compared; NaN: never",
            lambda: self._age_s(self._drilled),
        )
        return self

    async def refresh(self) -> None:
        """Read the disk, unless that was just done."""
        now = self._clock.now().instant
        if self._read_at is None or now - self._read_at >= AGE_MS:
            self._read_at = now
            await asyncio.to_thread(self._read)

    def _read(self) -> None:
        self._sizes = {
            f"store{suffix}": size
            for suffix in _FILES
            if (size := _size(self._store_file.with_name(self._store_file.name + suffix)))
        }
        folders = {"home": self._config.home, "backups": self._config.backup_folder}
        self._free = {name: free for name, path in folders.items() if (free := _free(path))}
        made = self._copies.listed() if self._copies is not None else ()
        self._count = len(made)
        self._newest = max((one.at for one in made), default=None)
        drills = [one.drilled.at for one in made if one.drilled is not None]
        self._drilled = max(drills, default=None)

    def _age_s(self, since: int | None) -> float:
        return math.nan if since is None else max(0, self._clock.now().wall - since) / 1_000


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _free(path: Path) -> int:
    try:
        return shutil.disk_usage(path).free
    except OSError:  # the folder of the copies is made with the first one
        return 0
