"""What may be changed of a task that has not begun; a field that is not given stays."""

import msgspec
from msgspec import UNSET, UnsetType

from agentcom.model.ids import WallTime
from agentcom.model.task import TaskSpec


class TaskEdit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """New values for some fields of a specification."""

    title: str | UnsetType = UNSET
    prompt: str | UnsetType = UNSET
    needs: tuple[str, ...] | UnsetType = UNSET
    priority: int | UnsetType = UNSET
    emergency: bool | UnsetType = UNSET
    deadline_ms: int | UnsetType = UNSET
    failures_max: int | UnsetType = UNSET
    not_before: WallTime | UnsetType | None = UNSET
    """None: it may start as soon as anything else allows."""
    labels: dict[str, str] | UnsetType = UNSET

    def given(self) -> dict[str, object]:
        """Return the fields that have a new value."""
        fields = ((name, getattr(self, name)) for name in self.__struct_fields__)
        return {name: value for name, value in fields if value is not UNSET}

    def applied_to(self, spec: TaskSpec) -> TaskSpec:
        """Return `spec` with the new values."""
        return msgspec.structs.replace(spec, **self.given())
