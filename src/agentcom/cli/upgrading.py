"""How another version takes over: keep the old one, install, look at the new one, start it.

Everything that the new version does is done by processes of it: this one still has the old code.
"""

import base64
import hashlib
import importlib.metadata
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from agentcom.cli import background, context, output, services
from agentcom.cli.errors import CommandFailed

PACKAGE: Final = "agentcom"
INSTALL_S: Final = 600.0
"""Some 60 MB over a slow line."""
LOOK_S: Final = 120.0
"""The checks of `agentcom doctor --quick` on a busy small machine."""
_FOLDER: Final = "upgrade"
_SAID_CHARS: Final = 500


def run(*, version: str | None, source: str | None) -> tuple[str, str]:
    """Install a version and go on with it; return the version of before and the one of now.

    Raises:
        CommandFailed: it cannot be installed here, or does not work; then the old one is back.
    """
    dist = importlib.metadata.distribution(PACKAGE)
    _check_place(dist)
    old = dist.version
    kept = _keep(dist)
    wanted = source or (f"{PACKAGE}=={version}" if version else PACKAGE)
    try:
        _pip("install", "--upgrade", wanted)
        new = _version()
        _look()
    except CommandFailed as error:
        _put_back(kept)
        raise _taken_back(error, old) from error
    if new == old:
        return old, new
    try:
        restart()
    except CommandFailed as error:
        _put_back(kept)
        again = _failing(restart)
        raise _taken_back(error, old, again) from error
    return old, new


def restart() -> None:
    """Start what runs here anew, with the program that is installed now.

    Raises:
        CommandFailed: it does not come up.
    """
    if services.active():
        services.end()
        services.begin()
        if not background.wait_for(background.all_up, timeout_s=background.READY_S):
            raise CommandFailed("the service did not come up", hint="agentcom service show")
        return
    names = [name for name in background.recorded() if background.running(name) is not None]
    if not names:
        output.talk("note: nothing runs here: agentcom up")
        return
    for name in names:
        background.stop(name)
    _ask(*background.program("up", *([] if "sidecar" in names else ["--no-agents"])))
    for name in names:
        if name not in ("hub", "sidecar"):
            output.talk(f"note: {name} has stopped: agentcom sidecar run --home FOLDER")


def _check_place(dist: importlib.metadata.Distribution) -> None:
    origin = json.loads(dist.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        raise CommandFailed(
            "this AgentCom runs from a checkout", hint="git pull, then agentcom upgrade --restart"
        )
    done = _run(sys.executable, "-P", "-m", "pip", "--version")
    if done.returncode != 0:
        raise CommandFailed(
            "this AgentCom was not installed by pip",
            hint="upgrade it with the tool that installed it, then agentcom upgrade --restart",
        )


def _keep(dist: importlib.metadata.Distribution) -> Path:
    """Pack what is installed into a wheel again, so that going back needs no network."""
    folder = context.home() / _FOLDER
    context.private_folder(folder)
    wheel = folder / f"{PACKAGE}-{dist.version}-py3-none-any.whl"
    lines, record = [], ""
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in dist.files or ():
            name = file.as_posix()
            if name.startswith("..") or "__pycache__" in name:  # scripts are made anew
                continue
            if name.endswith((".dist-info/RECORD", ".dist-info/INSTALLER", "direct_url.json")):
                record = f"{name.partition('/')[0]}/RECORD"
                continue
            data = Path(str(dist.locate_file(file))).read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            lines.append(f"{name},sha256={digest},{len(data)}\n")
            packed.writestr(name, data)
        packed.writestr(record, "".join(lines) + f"{record},,\n")
    return wheel


def _put_back(wheel: Path) -> None:
    _pip("install", "--no-deps", "--no-index", "--force-reinstall", str(wheel))


def _taken_back(error: CommandFailed, old: str, more: str = "") -> CommandFailed:
    also = f"; and {old} did not start again: {more}" if more else ""
    return CommandFailed(
        f"{error.message}; version {old} is installed again{also}",
        hint="agentcom doctor" if not more else f"less {context.home() / 'logs' / 'hub.log'}",
    )


def _failing(act: Callable[[], None]) -> str:
    try:
        act()
    except CommandFailed as error:
        return error.message
    return ""


def _version() -> str:
    return _ask(*background.program("--version")).split()[-1]


def _look() -> None:
    """Have the new version try itself in a scratch folder, while the old one still serves."""
    _ask(*background.program("doctor", "--quick"))


def _pip(*words: str) -> None:
    flags = ("--quiet", "--disable-pip-version-check", "--no-input")
    _ask(sys.executable, "-P", "-m", "pip", words[0], *flags, *words[1:])


def _ask(*words: str) -> str:
    done = _run(*words)
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).replace("\n", "; ")
        call = " ".join(words[4:7]) if words[0] == sys.executable else words[0]
        raise CommandFailed(f"`{call}` failed: {said[-_SAID_CHARS:] or 'it said nothing'}")
    return done.stdout


def _run(*words: str) -> "subprocess.CompletedProcess[str]":
    bound_s = INSTALL_S if "pip" in words else LOOK_S
    try:
        return subprocess.run(  # noqa: S603 - pip, and this program itself
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=bound_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(words, 1, "", str(error))
