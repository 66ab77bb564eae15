"""What may be changed of tasks that have not begun, and of schedules; what is not given stays."""

import msgspec
from msgspec import UNSET, UnsetType

from agentcom.model.ids import WallTime
from agentcom.model.schedule import Missed, Overlap, Schedule
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
        return _given(self)

    def applied_to(self, spec: TaskSpec) -> TaskSpec:
        """Return `spec` with the new values."""
        return msgspec.structs.replace(spec, **self.given())


class ScheduleEdit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """New values for some fields of a schedule; its coming runs have them."""

    cron: str | UnsetType = UNSET
    zone: str | UnsetType = UNSET
    missed: Missed | UnsetType = UNSET
    overlap: Overlap | UnsetType = UNSET
    start_within_ms: int | UnsetType | None = UNSET
    """None: a run waits for as long as it takes."""
    task: TaskEdit = TaskEdit()

    def applied_to(self, schedule: Schedule) -> Schedule:
        """Return `schedule` with the new values."""
        given = {**_given(self), "task": self.task.applied_to(schedule.task)}
        return msgspec.structs.replace(schedule, **given)


def _given(edit: msgspec.Struct) -> dict[str, object]:
    fields = ((name, getattr(edit, name)) for name in edit.__struct_fields__)
    return {name: value for name, value in fields if value is not UNSET}
