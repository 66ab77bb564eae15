"""What is asked of a hub's data from outside: by a doctor, and around an upgrade."""

from pathlib import Path

from agentcom.store import sqlite_copies, sqlite_disk, sqlite_open
from agentcom.store.sqlite_backups import STORE_FILE


def path_of(home: Path) -> Path:
    """Return the database of the hub in `home`."""
    return home / STORE_FILE


def lock(home: Path) -> Path:
    """Return the file with the process that has the data, or had them last."""
    return home / sqlite_disk.LOCK_NAME


def formats(home: Path) -> tuple[int, int]:
    """Return the format of the data of a hub that does not run, and the one that we make.

    Raises:
        StoreRefused: they cannot be read.
    """
    return sqlite_open.format_of(path_of(home)), sqlite_open.newest_format()


def check(home: Path) -> None:
    """Read all data of a hub that does not run.

    Raises:
        StoreRefused: they are damaged.
    """
    sqlite_open.check_whole(path_of(home))


def born_s(home: Path) -> int:
    """Return when the data began: Unix seconds; 0 if they cannot be read."""
    return sqlite_copies.born_s(path_of(home))
