"""What is done with the files of a hub from outside of it, mostly while it does not run."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from agentcom.model.backup import Backup, Point, Restored
from agentcom.model.ids import Now
from agentcom.store import sqlite_export, sqlite_import, sqlite_restore, sqlite_room
from agentcom.store.sqlite_backups import Backups
from agentcom.store.sqlite_import import Imported
from agentcom.store.sqlite_room import Room


class HubFiles:
    """The files of the hub in one folder; every method blocks."""

    def __init__(self, home: Path, clock: Callable[[], Now]) -> None:
        self._home = home
        self._clock = clock

    def restore(self, folder: Path, *, name: str | None, point: Point) -> Restored:
        """Put a copy back as the data; see `store/sqlite_restore.py`."""
        copies = Backups(folder)
        return asyncio.run(sqlite_restore.restore(copies, self._home, name=name, point=point))

    def drill(
        self,
        folder: Path,
        name: str | None,
        *,
        on_wait: Callable[[str], None] = lambda _why: None,
    ) -> Backup:
        """Restore a copy aside and compare it; see `store/sqlite_restore.py`."""
        copies = Backups(folder)
        copies.on_wait = on_wait
        return asyncio.run(sqlite_restore.drill(copies, name=name, clock=self._clock))

    def export(self, *, access: bool) -> Iterator[bytes]:
        """Yield all that the hub knows as lines; it may run. See `store/sqlite_export.py`."""
        return sqlite_export.export(self._home, now=self._clock().wall, access=access)

    def load(self, file: BinaryIO) -> Imported:
        """Make the data of a new hub of an export; see `store/sqlite_import.py`."""
        return asyncio.run(sqlite_import.load(self._home, sqlite_import.read_lines(file)))

    def room(self) -> Room:
        """Return what the data take on the disk; the hub may run. See `store/sqlite_room.py`."""
        return sqlite_room.measure(self._home)

    def compact(self) -> tuple[int, int]:
        """Write the data anew without free room; return the bytes before and after."""
        return asyncio.run(sqlite_room.compact(self._home))
