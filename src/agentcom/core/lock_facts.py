"""Facts about locks; see `core/facts.py`."""

import msgspec

from agentcom.model.ids import Fence, TaskId
from agentcom.model.lock import LockId


class AcquireLock(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Someone asks for a lock; with `task`, the agent of its attempt `fence`."""

    globs: tuple[str, ...]
    repo: str = ""
    shared: bool = False
    ttl_ms: int | None = None
    queue_ms: int | None = None
    task: TaskId | None = None
    fence: Fence | None = None


class ReleaseLock(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Someone gives a lock back, or (`force`) breaks another's."""

    lock: LockId
    force: bool = False
    task: TaskId | None = None
    fence: Fence | None = None


class ShowLock(msgspec.Struct, frozen=True, gc=False):
    """Someone asks how a lock stands; changes nothing."""

    lock: LockId


class LocksDue(msgspec.Struct, frozen=True, gc=False):
    """Some lock may have come to its end, or a place in a queue."""


LockAsked = AcquireLock | ReleaseLock | ShowLock
