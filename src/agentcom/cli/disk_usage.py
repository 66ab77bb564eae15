"""`agentcom machine disk`: what the machine of this computer keeps, and how large it is."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from agentcom.cli import output
from agentcom.cli.output import Column
from agentcom.sidecar import room
from agentcom.sidecar.config import Home

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")
_TABLE: Final = (
    Column("KIND", lambda row: row["kind"]),
    Column("SIZE", lambda row: size(row["size_bytes"])),
    Column("USED", lambda row: output.age(row["used_at"])),
    Column("NAME", lambda row: row["name"]),
    Column("PATH", lambda row: row["path"]),
)


def show(folder: Path, *, as_json: Sequence[str] | None) -> None:
    """List what lies in a machine's home, the largest first.

    Raises:
        NotFound: no machine was enrolled there.
    """
    home = Home(folder)
    usage = room.measure(home, home.load().machine.settings)
    output.listing([msgspec.to_builtins(place) for place in usage.places], _TABLE, as_json=as_json)
    output.talk(
        f"{size(usage.used_bytes)} of {size(usage.quota_bytes)} that it may use; "
        f"{size(usage.free_bytes)} are free on the disk, {size(usage.free_bytes_min)} stay so"
    )


def size(size_bytes: int) -> str:
    """Return a size as people read it."""
    unit = min(max(0, size_bytes.bit_length() - 1) // 10, len(_UNITS) - 1)
    amount = size_bytes / (1 << 10 * unit)
    return f"{amount:.1f} {_UNITS[unit]}" if unit else f"{size_bytes} B"
