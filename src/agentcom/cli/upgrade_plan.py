"""An upgrade on its way, as it is written down: whoever is killed leaves it for who goes on."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

import msgspec

from agentcom.cli import context
from agentcom.cli.errors import CommandFailed, Exit


class Step(StrEnum):
    """What is being done; the file names it before it is begun."""

    INSTALLING = "installing"
    """Packages are exchanged and tried; what ran, runs."""
    STOPPING = "stopping"
    """The old processes end, and the store is copied."""
    STARTING = "starting"
    """The new processes start, and bring the store to their format."""
    UNDOING = "undoing"
    """The old packages are put back."""
    RESTORING = "restoring"
    """The old version puts back the store, if it cannot read it any more, and starts."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """An upgrade on its way."""

    step: Step
    old: str
    new: str = ""
    names: tuple[str, ...]
    """What ran here, and shall run again."""
    service: bool
    wheels: tuple[str, ...]
    """The packages of before."""
    added: tuple[str, ...] = ()
    """Packages that were not there before."""
    copy: str | None = None
    """The copy of the store that was made before the new version touched it."""
    why: str = ""
    """Why it is taken back."""


def folder() -> Path:
    """Return where an upgrade keeps what leads back."""
    return context.home() / "upgrade"


def unfinished() -> Plan | None:
    """Return the upgrade that was begun and has not ended, whether or not someone is at it."""
    try:
        return msgspec.json.decode(_file().read_bytes(), type=Plan)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return None


def interrupted() -> Plan | None:
    """Return the upgrade that was begun, and that nobody goes on with."""
    plan = unfinished()
    if plan is None:
        return None
    try:
        with alone():
            return plan
    except CommandFailed:
        return None


def note(plan: Plan, **changes: object) -> Plan:
    """Write down what is done next, and return it."""
    after = msgspec.structs.replace(plan, **changes)
    context.write_private(_file(), msgspec.json.encode(after).decode() + "\n")
    return after


def forget() -> None:
    """Note that the upgrade has ended."""
    _file().unlink(missing_ok=True)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Keep out a second upgrade of this home, also while a program that we ran still works.

    Raises:
        CommandFailed: there is one.
    """
    context.private_folder(folder())
    handle = os.open(folder() / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(handle, 32, 0).decode("ascii", "replace").strip()
        os.close(handle)
        raise CommandFailed(
            f"an upgrade is on its way (begun by process {holder})",
            hint="wait for it, then agentcom status",
            exit_code=Exit.STALE,
            code="conflict",
        ) from None
    try:
        os.set_inheritable(handle, True)  # pip goes on if we are killed: nobody may join in
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)


def _file() -> Path:
    return folder() / "upgrade.json"
