"""Holds: what attempts take (a base to land on, places at limits) and give back when they end."""

from enum import StrEnum

import msgspec

from agentcom.model.ids import TaskId


class HoldMode(StrEnum):
    """Whether others may hold the key too."""

    EXCLUSIVE = "exclusive"
    SHARED = "shared"


class Hold(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """What one attempt has taken, and gives back when it ends."""

    task: TaskId
    attempt: int
    key: str
    mode: HoldMode = HoldMode.EXCLUSIVE
    amount: int = 1
    version: int = 1
