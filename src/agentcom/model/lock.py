"""Locks: names and files that agents and people keep for themselves for a while."""

from typing import NewType

import msgspec

from agentcom.model.address import Address
from agentcom.model.ids import (
    DEFAULT_PROJECT,
    Fence,
    PoolId,
    ProjectId,
    TaskId,
    WallTime,
    short,
)

LockId = NewType("LockId", str)


class Lock(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """One lock that is held, or that someone waits for."""

    id: LockId
    holder: Address
    at: WallTime
    project: ProjectId = DEFAULT_PROJECT
    repo: str = ""
    """Whose files `globs` are, as tasks name it; empty: `globs` are names of anything."""
    globs: tuple[str, ...] = ()
    shared: bool = False
    task: TaskId | None = None
    """It ends with this attempt of this task."""
    fence: Fence | None = None
    number: int = 0
    """Grows with every lock that is granted: what it guards can refuse an older one's writes."""
    granted_at: WallTime | None = None
    """None: it waits."""
    expires_at: WallTime | None = None
    """When it ends, or while it waits: when its place in the queue does."""
    ttl_ms: int = 0
    version: int = 1

    @property
    def words(self) -> str:
        """Which one it is, and of what."""
        return f"lock {short(self.id)} on {', '.join(self.globs)}"


def numbers_log(pool: PoolId) -> str:
    """Return the key of the row that keeps the newest number of a pool's locks."""
    return f"locks/{pool}"
