"""What people ask and read of log levels over HTTP."""

from typing import Annotated

import msgspec

from agentcom.model.ids import MachineId


class LogLevelAsked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much is to be logged, of what, and for how long."""

    level: str
    """`debug`, `info`, `warning`, `error`; `usual`: as the settings say."""
    logger: Annotated[str, msgspec.Meta(max_length=128)] = ""
    """A module, such as `agentcom.transport`; empty: everything."""
    for_ms: Annotated[int, msgspec.Meta(ge=1, le=86_400_000)] = 600_000
    machine: Annotated[str, msgspec.Meta(max_length=256)] = ""
    """A machine whose sidecar is meant; empty: the hub."""


class LogLevelShown(msgspec.Struct, frozen=True, kw_only=True):
    """A level that is not the usual one."""

    logger: str
    level: str
    left_ms: int


class LogLevelsShown(msgspec.Struct, frozen=True, kw_only=True):
    """How much the hub logs now; of a machine that was told: who was told."""

    usual: str
    overrides: tuple[LogLevelShown, ...] = ()
    machine: MachineId | None = None
