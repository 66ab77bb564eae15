"""Shared notes: what the next version of a note is. Pure."""

import re
from typing import Final

from agentcom.model.address import Address
from agentcom.model.errors import Conflict, InvalidInput, NotFound
from agentcom.model.ids import ProjectId, WallTime
from agentcom.model.shared_note import SharedNote

NAME_CHARS: Final = 200
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]*(?:/[a-z0-9][a-z0-9._-]*)*")


def check_name(name: str) -> str:
    """Return `name` if a note may have it.

    Raises:
        InvalidInput: it has other characters, or is too long.
    """
    if len(name) > NAME_CHARS or _NAME.fullmatch(name) is None:
        raise InvalidInput("name", f"use a-z, 0-9, . _ - and /, at most {NAME_CHARS}: api/style")
    return name


def newest(row: SharedNote | None) -> int:
    """Return the version that a writer has to know; 0 if there is no such note."""
    return 0 if row is None or row.deleted else row.version


def written(
    row: SharedNote | None,
    *,
    name: str,
    project: ProjectId,
    text: str,
    author: Address,
    at: WallTime,
    expected: int | None,
) -> SharedNote:
    """Return the next version of a note.

    Raises:
        Conflict: it is not at the version that its writer knows.
    """
    _check(row, expected)
    version = 1 if row is None else row.version + 1
    return SharedNote(
        name=check_name(name), text=text, author=author, at=at, project=project, version=version
    )


def deleted(
    row: SharedNote | None, *, author: Address, at: WallTime, expected: int | None
) -> SharedNote:
    """Return the version that says that a note is gone.

    Raises:
        NotFound: there is none.
        Conflict: it is not at the version that is meant.
    """
    if row is None or row.deleted:
        raise NotFound("there is no such note")
    _check(row, expected)
    return SharedNote(
        name=row.name,
        text="",
        author=author,
        at=at,
        project=row.project,
        deleted=True,
        version=row.version + 1,
    )


def _check(row: SharedNote | None, expected: int | None) -> None:
    if expected is not None and expected != newest(row):
        raise Conflict(f"the note is at version {newest(row)} now; read it, then write")
