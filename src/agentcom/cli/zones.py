"""The time zone of this computer by its IANA name: schedules are stored with one."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

LOCALTIME: Final = Path("/etc/localtime")
_FOLDER: Final = "zoneinfo/"


def local_zone(environment: Mapping[str, str] | None = None, localtime: Path = LOCALTIME) -> str:
    """Return the name of the local time zone; UTC if there is none that has a name."""
    environment = os.environ if environment is None else environment
    given = environment.get("TZ", "").removeprefix(":")
    if _is_zone(given):
        return given
    target = str(localtime.resolve())
    _, found, name = target.rpartition(_FOLDER)
    return name if found and _is_zone(name) else "UTC"


def _is_zone(name: str) -> bool:
    from zoneinfo import ZoneInfo

    try:
        return bool(name) and bool(ZoneInfo(name))
    except (KeyError, ValueError, OSError):
        return False
