"""Tasks that ended long ago: each with all that belongs to it, as one value of the archive."""

from typing import ClassVar

import msgspec

from agentcom.model.errors import AgentComError
from agentcom.model.event import TaskEvent
from agentcom.model.ids import WallTime
from agentcom.model.result import KeptResult
from agentcom.model.task import Task, TaskBody
from agentcom.model.usage import Usage


class Archived(AgentComError):
    """The task is in the archive: it can be read, and not changed. Submit it anew."""

    code: ClassVar[str] = "archived"
    status: ClassVar[int] = 409


class ArchiveDamaged(AgentComError):
    """The archive cannot be read: put a sound copy of it back (`agentcom backup restore`)."""

    code: ClassVar[str] = "archive_damaged"
    status: ClassVar[int] = 500


class Told(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A record of a task's feed, with the sequence that it had."""

    seq: int
    record: TaskEvent


class Dossier(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A task that has ended, with its specification, results, turns and feed."""

    task: Task
    archived_at: WallTime
    body: TaskBody | None = None
    results: tuple[KeptResult, ...] = ()
    """The newest first."""
    usage: tuple[Usage, ...] = ()
    events: tuple[Told, ...] = ()


class ArchiveSize(msgspec.Struct, frozen=True, kw_only=True):
    """How much an archive holds."""

    tasks: int
    bytes: int
