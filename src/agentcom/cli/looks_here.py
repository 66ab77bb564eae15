"""What `doctor` looks at on this computer: folders, files, and the hub's data. No hub is asked."""

import functools
import importlib.metadata
import os
import pwd
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agentcom import app
from agentcom.cli import background, context, upgrade_plan
from agentcom.cli.errors import CommandFailed
from agentcom.cli.findings import NONE, OK, Found, bad, odd
from agentcom.hub import config as hub_config
from agentcom.model.errors import StoreRefused

PYTHON_MIN: Final = (3, 11)
GIT_MIN: Final = (2, 38)
"""`git merge-tree --write-tree`."""
FREE_BYTES_MIN: Final = 1 << 30
CLOCK_YEAR_MIN: Final = 2026
CHECKED_BYTES_MAX: Final = 64 << 20
"""A larger store is only opened here; `agentcom backup now` and the hub read it whole."""
BACKUPS_MISSED: Final = 2
_GIT_S: Final = 10.0
_HOUR_S: Final = 3_600
_OTHERS: Final = 0o077
_SECRETS: Final = (
    *("context.json", "environment", "machine/token", "hub/hub.key", "hub/hub.sqlite"),
    *("upgrade/upgrade.json",),
)


def python() -> Found:
    """The interpreter."""
    version = ".".join(map(str, sys.version_info[:3]))
    if tuple(sys.version_info[:2]) < PYTHON_MIN:
        return bad("python.old", version, "install Python 3.11 or newer, and AgentCom with it")
    return Found(OK, version)


def git() -> Found:
    """The git that is on PATH."""
    if shutil.which("git") is None:
        fix = "brew install git" if sys.platform == "darwin" else "apt install git"
        return bad("git.missing", "not installed", fix)
    said = _said("git", "--version").split()
    text = said[2] if len(said) > 2 else "no version"  # noqa: PLR2004 - git version 2.39.5
    parts = [int(part) for part in text.split(".")[:2] if part.isdecimal()]
    if tuple(parts) < GIT_MIN:
        return bad("git.old", text, "install git 2.38 or newer")
    return Found(OK, text)


def home() -> Found:
    """The folder of everything that is kept for this person."""
    place = context.home()
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        (place / ".doctor").write_bytes(b"")
        (place / ".doctor").unlink()
        about = place.stat()
    except OSError as error:
        return bad("home.not_writable", f"{place}: {error.strerror}", _way_to(place, error))
    of_service = os.geteuid() == 0 and context.hub_home() == place
    if about.st_uid != os.geteuid() and not of_service:
        me = pwd.getpwuid(os.geteuid()).pw_name
        fix = f"sudo chown -R {me} {shlex.quote(str(place))}"
        return bad("home.owner", f"{place} belongs to user {about.st_uid}", fix)
    if about.st_mode & _OTHERS:
        fix = f"chmod 700 {shlex.quote(str(place))}"
        mend = functools.partial(place.chmod, 0o700)
        return odd("home.open", f"others may look into {place}", fix, mend=mend)
    return Found(OK, str(place))


def secrets() -> list[Found]:
    """Files that only their owner may read."""
    found = []
    for path in (context.home() / name for name in _SECRETS):
        try:
            mode = path.stat().st_mode
        except OSError:
            continue
        if mode & _OTHERS:
            what = f"others may read {path}; change what is in it: agentcom token rotate"
            fix = f"chmod 600 {shlex.quote(str(path))}"
            found.append(
                bad("secret.readable", what, fix, mend=functools.partial(path.chmod, 0o600))
            )
    return found or [Found(OK, "only you can read tokens and keys")]


def disk() -> Found:
    """Room and speed of the disk."""
    place = context.home()
    free = shutil.disk_usage(place).free
    probe = place / ".doctor"
    began = time.monotonic()
    with probe.open("wb") as file:
        file.write(b"agentcom")
        file.flush()
        os.fsync(file.fileno())
    spent_ms = (time.monotonic() - began) * 1000
    probe.unlink()
    text = f"{free / (1 << 30):.1f} GiB free, fsync in {spent_ms:.1f} ms"
    if free < FREE_BYTES_MIN:
        fix = "agentcom machine disk, and free some space; or set AGENTCOM_HOME to another disk"
        return bad("disk.low", text, fix)
    return Found(OK, text)


def clock() -> Found:
    """The wall clock, and what leases run on."""
    now = time.gmtime()
    shown = time.strftime("%Y-%m-%d %H:%M UTC", now)
    if now.tm_year < CLOCK_YEAR_MIN:
        return bad("clock.wrong", shown, "timedatectl set-ntp true")
    kind = "CLOCK_BOOTTIME" if hasattr(time, "CLOCK_BOOTTIME") else "CLOCK_MONOTONIC"
    return Found(OK, f"{shown}; leases run on {kind}")


def upgrade() -> Found:
    """Whether an upgrade is half done."""
    plan = upgrade_plan.interrupted()
    if plan is not None:
        what = f"from {plan.old} to {plan.new or 'another version'}, while {plan.step}"
        return bad("upgrade.interrupted", what, "agentcom upgrade --resume")
    return Found(OK, importlib.metadata.version("agentcom"))


# The hub of this computer ---------------------------------------------------------------------


def config() -> Found:
    """The hub's settings."""
    place = context.hub_home()
    if not place.exists():
        return Found(NONE, "no hub lives here")
    try:
        hub_config.load(flags={"home": place})
    except hub_config.ConfigInvalid as error:
        return bad("config.invalid", error.message, f"edit {place / hub_config.FILE_NAME}")
    return Found(OK, str(place))


def process() -> list[Found]:
    """The processes that were started here."""
    found, running = [], []
    for name in background.recorded():
        alive = background.running(name)
        lock = (
            app.files.lock(context.hub_home()) if name == "hub" else context.machine_home() / "lock"
        )
        if alive is not None:
            running.append(f"{name} (pid {alive[0].pid})")
            if name in ("hub", "sidecar") and _is_older(lock):
                what = f"the {name} was started before this version was installed"
                found.append(odd(f"{name}.old_program", what, "agentcom upgrade --restart"))
        elif name == "hub":
            said = background.last_words(context.home() / "logs" / "hub.log")
            found.append(bad("hub.ended", f"it runs no more: {said[:200]}", "agentcom up"))
        elif name == "sidecar":
            found.append(bad("sidecar.not_running", "it was started, and has ended", "agentcom up"))
    return found or [Found(OK if running else NONE, ", ".join(running) or "nothing runs here")]


def store() -> Found:
    """The hub's data, if no hub has them open: a running one looks after them itself."""
    path = app.files.path_of(context.hub_home())
    if not path.exists():
        return Found(NONE, "no data here")
    if background.running("hub") is not None:
        return Found(OK, "the hub has it open")
    back = "agentcom backup restore"
    try:
        have, known = app.files.formats(path.parent)
        if have > known:
            what = f"{path} has format {have}, and this program knows {known}"
            return bad("store.newer", what, "agentcom upgrade")
        if path.stat().st_size <= CHECKED_BYTES_MAX:
            app.files.check(path.parent)
    except StoreRefused as error:
        return bad("store.damaged", error.message.partition(": put")[0], back)
    return Found(OK, f"format {have}")


def backups() -> Found:
    """The copies of the hub's data."""
    path = app.files.path_of(context.hub_home())
    if not path.exists():
        return Found(NONE, "no data here")
    try:
        settings = hub_config.load(flags={"home": context.hub_home()})
    except hub_config.ConfigInvalid:
        return Found(NONE, "see the hub's settings")
    if not settings.backups.every_hours:
        return Found(NONE, "by hand, as hub.toml says")
    copies = app.open_copies(settings.backup_folder)
    listed = copies.listed()
    born_s = listed[0].at / 1_000 if listed else app.files.born_s(path.parent)
    age_h = (time.time() - born_s) / _HOUR_S
    if age_h > BACKUPS_MISSED * settings.backups.every_hours:
        what = "the newest copy is" if listed else "there is no copy, and the data are"
        return odd("backup.stale", f"{what} {age_h:.0f} h old", "agentcom backup now")
    if not listed:
        return Found(OK, "the first one is not due yet")
    made = settings.backup_folder / "copies" / listed[0].name / path.name
    if not made.exists() or made.stat().st_size != listed[0].bytes:
        what = f"{made} has not {listed[0].bytes} bytes any more"
        return bad("backup.damaged", what, "agentcom backup now")
    return Found(OK, f"{listed[0].name}, {age_h:.0f} h old")


def known_hubs() -> list[context.Context]:
    """Return the hubs that are known here; none if the file cannot be read."""
    try:
        return context.known()
    except CommandFailed:
        return []


def contexts() -> Found:
    """The file with the hubs that are known here."""
    try:
        known = context.known()
    except CommandFailed as error:
        if error.exit_code == error.exit_code.NOT_ALLOWED:
            return Found(NONE, "others may read it")
        return bad("context.damaged", error.message, error.hint.partition(",")[0])
    if not known:
        return Found(NONE, "no hub is known here yet")
    return Found(OK, ", ".join(one.url for one in known))


def _is_older(started: Path) -> bool:
    """Return whether a process that writes `started` as it begins began before the installation."""
    record = importlib.metadata.distribution("agentcom").locate_file("")
    dates = [path.stat().st_mtime for path in Path(str(record)).glob("agentcom-*.dist-info/RECORD")]
    try:
        return bool(dates) and started.stat().st_mtime < max(dates)
    except OSError:
        return False


def _way_to(place: Path, error: OSError) -> str:
    for path in _above(place):
        if path.exists() and not path.is_dir():
            return f"mv {shlex.quote(str(path))} {shlex.quote(f'{path}.aside')}"
    if isinstance(error, PermissionError):
        return f"chmod u+rwx {shlex.quote(str(place))}"
    return "export AGENTCOM_HOME=FOLDER, a folder that you may write"


def _above(place: Path) -> Iterator[Path]:
    yield place
    yield from place.parents


def _said(*words: str) -> str:
    done = subprocess.run(  # noqa: S603 - git itself
        words, capture_output=True, text=True, timeout=_GIT_S, check=False
    )
    return done.stdout
