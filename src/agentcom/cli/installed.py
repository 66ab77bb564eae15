"""What pip has installed of this program: packed into wheels again, replaced, and put back.

Going back needs no network: what an upgrade will replace is packed before it does, the packages
that AgentCom depends on included, and what it adds is removed again.
"""

import base64
import hashlib
import importlib.metadata
import json
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from agentcom.cli import context
from agentcom.cli.errors import CommandFailed

PACKAGE: Final = "agentcom"
INSTALL_S: Final = 600.0
"""Some 60 MB over a slow line."""
PUT_BACK: Final = "put-back.sh"
"""Beside the wheels: what to run if the program itself cannot be started any more."""
_ROOM: Final = 3
"""Copies of what is replaced that must fit: its wheels, what comes, what pip sets aside."""
_SPARE_BYTES: Final = 64 << 20
_SAID_CHARS: Final = 500
_UNPACKED: Final = (".dist-info/RECORD", ".dist-info/INSTALLER", ".dist-info/direct_url.json")
_TAG: Final = re.compile(r"^Tag: (\S+)$", re.MULTILINE)


class Kept(NamedTuple):
    """What leads back to the packages of before."""

    wheels: tuple[str, ...]
    added: tuple[str, ...]
    """Packages that were not there before."""


def check_place() -> None:
    """Look whether pip can replace this program.

    Raises:
        CommandFailed: it runs from a checkout, or another tool installed it.
    """
    dist = importlib.metadata.distribution(PACKAGE)
    origin = json.loads(dist.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        raise CommandFailed(
            "this AgentCom runs from a checkout", hint="git pull, then agentcom upgrade --restart"
        )
    if run(sys.executable, "-P", "-m", "pip", "--version").returncode != 0:
        raise CommandFailed(
            "this AgentCom was not installed by pip",
            hint="upgrade it with the tool that installed it, then agentcom upgrade --restart",
        )


def keep(wanted: str, folder: Path) -> Kept:
    """Pack what installing `wanted` would replace, and return the way back.

    Raises:
        CommandFailed: it cannot be installed, or there is no room for it.
    """
    coming = _coming(wanted)
    here = [dist for name in sorted({PACKAGE, *coming}) if (dist := _found(name)) is not None]
    _check_room(here, folder)
    shutil.rmtree(folder / "wheels", ignore_errors=True)
    context.private_folder(folder / "wheels")
    wheels = tuple(str(_pack(dist, folder / "wheels")) for dist in here)
    kept = Kept(wheels, tuple(name for name in coming if _found(name) is None))
    words = [sys.executable, "-P", "-m", "pip", *_back(wheels)]
    context.write_private(folder / PUT_BACK, f"#!/bin/sh\nexec {shlex.join(words)}\n")
    return kept


def install(wanted: str) -> None:
    """Install another version; raises `CommandFailed`."""
    _pip("install", "--upgrade", wanted)


def put_back(kept: Kept) -> None:
    """Install what was kept, and remove what has come; raises `CommandFailed`."""
    _pip(*_back(kept.wheels))
    if kept.added:
        _pip("uninstall", "--yes", *kept.added)


def ask(*words: str, bound_s: float = INSTALL_S) -> str:
    """Run a program and return what it said.

    Raises:
        CommandFailed: it failed; the message has its last words.
    """
    done = run(*words, bound_s=bound_s)
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).replace("\n", "; ")
        call = " ".join(words[4:7]) if words[0] == sys.executable else words[0]
        raise CommandFailed(f"`{call}` failed: {said[-_SAID_CHARS:] or 'it said nothing'}")
    return done.stdout


def run(*words: str, bound_s: float = INSTALL_S) -> "subprocess.CompletedProcess[str]":
    """Run a program to its end; one that cannot be run, or is too slow, has failed."""
    try:
        return subprocess.run(  # noqa: S603 - pip, and this program itself
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=bound_s,
            check=False,
            close_fds=False,  # the lock of an upgrade is held until all that it runs has ended
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(words, 1, "", str(error))


def _pip(*words: str) -> str:
    flags = ("--quiet", "--disable-pip-version-check", "--no-input")
    return ask(sys.executable, "-P", "-m", "pip", words[0], *flags, *words[1:])


def _back(wheels: Sequence[str]) -> list[str]:
    return ["install", "--no-deps", "--no-index", "--force-reinstall", *wheels]


def _coming(wanted: str) -> list[str]:
    """Return the packages that pip would install, in their own spelling."""
    said = _pip("install", "--upgrade", "--dry-run", "--report", "-", wanted)
    # A warning may come before the report.
    report = json.loads(said[said.index("{") :])
    return [str(one["metadata"]["name"]) for one in report["install"]]


def _found(name: str) -> importlib.metadata.Distribution | None:
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _check_room(dists: Sequence[importlib.metadata.Distribution], folder: Path) -> None:
    sizes = [file.size or 0 for dist in dists for file in dist.files or ()]
    needed = _ROOM * sum(sizes) + _SPARE_BYTES
    context.private_folder(folder)
    for place in (folder, Path(sysconfig.get_path("purelib"))):
        check_room(place, needed, "to exchange the packages")


def check_room(place: Path, needed_bytes: int, what_for: str) -> None:
    """Raise `CommandFailed` if the disk of `place` has less room."""
    free = shutil.disk_usage(place).free
    if free < needed_bytes:
        raise CommandFailed(
            f"{free >> 20} MiB are free at {place}, and {needed_bytes >> 20} are needed"
            f" {what_for}; nothing was changed",
            hint="free some space, then agentcom upgrade",
            code="no_room",
        )


def _pack(dist: importlib.metadata.Distribution, folder: Path) -> Path:
    """Pack what is installed of a package into a wheel again."""
    tags = _TAG.findall(dist.read_text("WHEEL") or "") or ["py3-none-any"]
    name = re.sub(r"[-_.]+", "_", dist.metadata["Name"]).lower()
    wheel = folder / f"{name}-{dist.version}-{tags[0]}.whl"
    lines, record = [], ""
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in dist.files or ():
            inside = file.as_posix()
            if inside.startswith("..") or "__pycache__" in inside:  # scripts are made anew
                continue
            if inside.endswith(_UNPACKED):
                record = f"{inside.partition('/')[0]}/RECORD"
                continue
            data = Path(str(dist.locate_file(file))).read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            lines.append(f"{inside},sha256={digest},{len(data)}\n")
            packed.writestr(inside, data)
        packed.writestr(record, "".join(lines) + f"{record},,\n")
    return wheel
