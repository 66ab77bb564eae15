"""What a task tells of those before it that were the same work; counted by `core/loops.py`."""

import msgspec

from agentcom.model.ids import WallTime


class Repetition(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """How often work that is the same has completed."""

    tree: str | None
    """The commit that the newest one left its repository at."""
    unchanged: int
    """How many in a row left it there."""
    since: WallTime
    in_hour: int
    """Completions in the hour that began at `since`."""
    seq: int = 0
    """The newest place in the queue when the last one was counted: what is behind it followed."""
