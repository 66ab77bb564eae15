"""Notes that a fleet shares, and files that go with messages."""

import msgspec

from agentcom.model.address import Address
from agentcom.model.ids import DEFAULT_PROJECT, ProjectId, WallTime


class SharedNote(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """One version of a named piece of text. Versions count from 1 and are never changed."""

    name: str
    text: str
    author: Address
    at: WallTime
    project: ProjectId = DEFAULT_PROJECT
    deleted: bool = False
    version: int = 1


class Blob(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """A file, known by its content."""

    digest: str
    """SHA-256 of the bytes, in hexadecimal."""
    bytes: int
    owner: Address
    created_at: WallTime
    media: str = "application/octet-stream"
    name: str = ""
    project: ProjectId = DEFAULT_PROJECT
    version: int = 1


def note_key(project: ProjectId, name: str) -> str:
    """Return the key of the newest version of a note."""
    return f"{project}/{name}"


def note_version_key(project: ProjectId, name: str, version: int) -> str:
    """Return the key of one version of a note; sorts by version, and no name has its sign."""
    return f"{project}/{name}@{str(version).zfill(8)}"


def blob_key(project: ProjectId, digest: str) -> str:
    """Return the key of a file's row."""
    return f"{project}/{digest}"
