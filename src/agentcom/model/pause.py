"""What a person has paused: a scope, who did it and why."""

from typing import Final

import msgspec

from agentcom.model.errors import InvalidInput
from agentcom.model.ids import MachineId, ProjectId, UserId, WallTime

ALL: Final = "all"
KINDS: Final = ("agent", "machine", "pool", "project", "task", "user")
_SCOPE_CHARS: Final = 128


class Pause(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Nothing in this scope gets a new attempt. A task's own pause stands in its row."""

    key: str
    """The scope: `all`, or `pool:NAME`, `project:NAME`, `user:NAME`, `task:ID`; of those who work,
    `agent:NAME` or `machine:ID`."""
    by: UserId
    at: WallTime
    reason: str = ""
    version: int = 1
    project: ProjectId | None = None
    """Whose business it is; None: everyone's."""
    name: str = ""
    """What people call a machine; the scope has its id."""

    @property
    def words(self) -> str:
        """Who paused what, and why, for people."""
        kind, _, name = self.key.partition(":")
        what = {"all": "everything", "task": "the task"}.get(
            kind, f"the {kind} {self.name or name}"
        )
        did = "stopped" if kind in ("agent", "machine", "user") else "paused"
        return f"{self.by} {did} {what}" + (f": {self.reason}" if self.reason else "")


def machine_scope(machine: MachineId) -> str:
    """Return the scope of all that a machine does."""
    return f"machine:{machine}"


def split_scope(scope: str) -> tuple[str, str]:
    """Return kind and name of a scope; raises `InvalidInput` for what is none."""
    kind, colon, name = scope.partition(":")
    fits = len(scope) <= _SCOPE_CHARS and scope.isprintable()
    if fits and (scope == ALL or (kind in KINDS and colon and name)):
        return kind, name
    kinds = ", ".join(f"{kind}:NAME" for kind in KINDS)
    raise InvalidInput("scope", f"all, or one of {kinds}")
