"""Copies of a hub's data, and what putting one back made."""

from typing import ClassVar, Final, NamedTuple

import msgspec

from agentcom.model.errors import AgentComError
from agentcom.model.ids import TaskId, WallTime


class BackupDamaged(AgentComError):
    """A copy is not as it was made; another one may be."""

    code: ClassVar[str] = "backup_damaged"
    status: ClassVar[int] = 500


class PointNotReached(AgentComError):
    """The copies and the journal do not lead to the batch or time that was asked for."""

    code: ClassVar[str] = "point_not_reached"
    status: ClassVar[int] = 409


class Drilled(msgspec.Struct, frozen=True, kw_only=True):
    """When a copy was restored, and what it was compared with."""

    at: WallTime
    rows: int
    """Rows that were compared, one by one."""
    base: str
    """The copy that was restored; with the journal it became this one, if that is another."""


class ArchiveMark(msgspec.Struct, frozen=True, kw_only=True):
    """Which archive, and how old it is: each change of it counts."""

    id: int
    puts: int


class Backup(msgspec.Struct, frozen=True, kw_only=True):
    """One copy, as its manifest says."""

    name: str
    at: WallTime
    number: int
    """Of the last batch in it."""
    incarnation: int
    bytes: int
    sha256: str
    took_ms: int
    files: int = 0
    """Attached files that it names, and that were there."""
    drilled: Drilled | None = None
    archive: ArchiveMark | None = None
    """The archive that was copied with it; None: there was none, or its program noted none."""


class Point(NamedTuple):
    """How far to go: to a batch, to a time, or (neither) as far as there is anything."""

    number: int | None = None
    at: WallTime | None = None

    def has(self, number: int, at: WallTime) -> bool:
        """Return whether a batch that was written at a time is to be there."""
        if self.number is not None:
            return number <= self.number
        return self.at is None or at <= self.at


COPY_ONLY: Final = Point(number=0)
NEWEST: Final = Point()


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """What a restore made."""

    base: str
    """The copy it began with."""
    number: int
    """Of the last batch that is there."""
    at: WallTime
    """Of that batch, or of the copy."""
    replayed: int
    """Batches from the journal."""
    incarnation: int
    states: dict[str, int]
    """Live tasks by state."""
    held: tuple[TaskId, ...]
    """Tasks with an attempt at a machine: it goes on if the machine has it still; else it is issued
    again when its lease is over."""
    replaced: str | None
    """Where the data of before are now."""
    lost: tuple[TaskId, ...]
    """Tasks that those had and these have not, the first of them."""
    lost_count: int | None
    """How many; None: they could not be read."""
    gap: int | None = None
    """The batch with which the journal goes on behind a gap, which could not be reached."""
    without_archive: bool = False
    """Whether the copy's archive was not there: what only that had is missing."""
