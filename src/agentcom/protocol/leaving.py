"""What the removal of a person is answered with."""

import msgspec

from agentcom.model.identity import Role
from agentcom.model.ids import UserId


class Leaves(msgspec.Struct, frozen=True, kw_only=True):
    """What of a person ends, and what passes to somebody else."""

    user: UserId
    role: Role
    removed: bool
    """Whether they were removed before."""
    last_admin: bool
    """True: they cannot be removed."""
    connections: int
    """Open ones, which are closed."""
    tokens: int
    codes: int
    machines: tuple[str, ...]
    schedules: tuple[str, ...]
    tasks: dict[str, int]
    """Live ones, by state."""
    asks: int
    channels: tuple[str, ...]
    """Those that they own."""
