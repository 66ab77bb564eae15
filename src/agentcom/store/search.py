"""What can be found by words, and what of a row is looked at; the same in every store."""

from collections.abc import Sequence
from typing import Final

import msgspec

from agentcom.model.batch import Row, Table
from agentcom.model.ids import ProjectId
from agentcom.model.message import Message
from agentcom.model.shared_note import SharedNote
from agentcom.model.task import TaskBody

TABLES: Final = (Table.MESSAGE, Table.NOTE_VERSION, Table.BODY)
"""Whose rows are searched: they are inserted and deleted, and a note is its newest version."""


class Words(msgspec.Struct, frozen=True, kw_only=True):
    """What to look for: rows that have all words; the last one may be the beginning of one."""

    text: str
    project: ProjectId
    tables: tuple[Table, ...] = TABLES
    limit: int = 100


class Found(msgspec.Struct, frozen=True):
    """Keys of rows that fit, best first; a note's key is that of `Table.NOTE`."""

    keys: Sequence[tuple[Table, str]]
    complete: bool = True
    """False: the newest rows have not been looked at; `Store.index` does it."""


class Findable(msgspec.Struct, frozen=True):
    """What of one row is searched."""

    table: Table
    key: str
    project: ProjectId | None
    """None: the row does not say; it is its task's."""
    title: str
    text: str


def of(table: Table, key: str, row: Row) -> Findable | None:
    """Return what of a row is searched; None for one that is not."""
    match row:
        case Message():
            return Findable(table, key, row.project, row.subject, row.body)
        case SharedNote(deleted=True):
            return Findable(Table.NOTE, key.rpartition("@")[0], row.project, "", "")
        case SharedNote():
            named = key.rpartition("@")[0]
            return Findable(Table.NOTE, named, row.project, row.name, row.text)
        case TaskBody():
            return Findable(table, key, None, row.spec.title, row.spec.prompt)
        case _:
            return None


def words_of(text: str) -> list[str]:
    """Return the words that are looked for."""
    return text.lower().split()
