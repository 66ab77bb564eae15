"""What an agent may use of its computer and reach from it: settings, and what they come to."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Final

import msgspec

from agentcom.sidecar.process import ProcessLimits

PROCESSES_MAX: Final = 4_096
"""A large build has hundreds; who has more multiplies without end."""
RESERVE_PART: Final = 8
"""Of the computer's memory this part is left for everything else, if nobody says less."""
MEMORY: Final = "memory_mb"
PROCESSORS: Final = "cpu"
"""Names of reservations (`--uses`) that bound the attempt, too."""

_Count = Annotated[int, msgspec.Meta(ge=0)]


class Sandbox(StrEnum):
    """Whether an agent's programs run in a sandbox."""

    AUTO = "auto"
    """Where there is one; else without, and it is said."""
    REQUIRED = "required"
    """Where there is none, the agent runs nothing."""
    OFF = "off"


class Network(StrEnum):
    """What a sandboxed program reaches."""

    ALL = "all"
    NONE = "none"
    """Not even this computer: it has no way to the hub, and none to a model."""


class Confines(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one agent may use and reach; a 0 takes the default."""

    sandbox: Sandbox = Sandbox.AUTO
    """`auto`: where there is one; `required`: nothing runs without; `off`."""
    network: Network = Network.ALL
    """What a sandbox reaches: `all` or `none`."""
    readable: tuple[str, ...] = ()
    """Files and folders that its sandbox shows besides what every one has."""
    writable: tuple[str, ...] = ()
    """Those in which it may write, besides its task's folder and its home."""
    memory_mb: _Count = 0
    """All its processes of one attempt together; by default most of the computer's."""
    cpus: _Count = 0
    """By default all of them."""
    processes: _Count = 0
    """At once; by default `PROCESSES_MAX`."""
    file_mb: _Count = 0
    """The largest file that it may write; by default the disk is the bound."""
    secrets: str = ""
    """A file of NAME=VALUE lines, readable for its owner alone: variables that it gets."""


OPEN: Final = Confines(sandbox=Sandbox.OFF)
"""Of scripted agents, which look for signs outside of their folders."""


def bound(
    limits: ProcessLimits, confines: Confines, uses: Mapping[str, int], computer: Mapping[str, int]
) -> ProcessLimits:
    """Return `limits` with those of an attempt: what it reserved, at most what its agent may use.

    `computer` is what there is (`computer.resources`).
    """
    there_mb = computer.get(MEMORY, 0)
    memory_mb = _least(confines.memory_mb, uses.get(MEMORY, 0)) or there_mb - (
        there_mb // RESERVE_PART
    )
    return msgspec.structs.replace(
        limits,
        memory_bytes_max=memory_mb << 20,
        cpus=_least(confines.cpus, uses.get(PROCESSORS, 0)),
        processes_max=confines.processes or PROCESSES_MAX,
        file_bytes_max=confines.file_mb << 20,
    )


def _least(allowed: int, reserved: int) -> int:
    """Return the lower bound; 0 is none."""
    return min(filter(None, (allowed, reserved)), default=0)
