"""The sandbox of agents and checks: bubblewrap, with a view of the computer built from nothing.

What a program sees is a list: the system's programs, its own, its task's folder, a home and a
folder for temporary files of its own. Everything else of the disk is absent, other attempts and the
sidecar's own files first of all. It has processes of its own, which the kernel ends with the first
of them, so that nothing is left whatever it does and whoever else is killed.
"""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

import agentcom
from agentcom.model.failure import FailureClass
from agentcom.sidecar.confines import Confines, Sandbox
from agentcom.sidecar.process import NotStarted
from agentcom.sidecar.runtime import base

PROGRAM: Final = "bwrap"
INSTALL: Final = "install bubblewrap (Debian, Fedora and Arch call the package so)"
PROBE_S_MAX: Final = 20.0
"""It takes milliseconds; a busy machine is given its time."""

_SYSTEM: Final = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc"),
    *("/opt", "/nix", "/snap"),
)
_RESOLVER: Final = "/etc/resolv.conf"
_SHARED_BYTES_MAX: Final = str(512 << 20)
"""Of shared memory that is no process's; browsers take some."""
_SECRET_FILES_MAX: Final = 2_000
"""Entries of /etc that are looked at for what is not everybody's to read."""
_APART: Final = (
    *("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts"),
    *("--unshare-cgroup-try", "--cap-drop", "ALL", "--die-with-parent"),
)
"""`--die-with-parent`: who kills the supervisor ends all that it started."""


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What a sandboxed program sees beside the system; paths are absolute."""

    home: str
    """The folder that it finds at its HOME."""
    temporary: str
    """The folder that it finds at /tmp and /var/tmp."""
    writable: tuple[str, ...] = ()
    readable: tuple[str, ...] = ()
    hidden: str = ""
    """The sidecar's own folder: no program's folder that holds it is shown."""
    network: bool = True


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """Whether this computer has a sandbox; `problem` and `fix` if not."""

    program: str = ""
    problem: str = ""
    fix: str = ""


def probe() -> Found:
    """Run an empty program in a sandbox, and say whether that works here."""
    program = shutil.which(PROGRAM)
    if sys.platform != "linux":
        return Found(problem="there is no sandbox for this system", fix="use Linux, or a container")
    if program is None:
        return Found(problem=f"{PROGRAM} is not on PATH", fix=INSTALL)
    argv = [program, *_APART, *_system(), "--dev", "/dev", "--proc", "/proc"]
    argv += ["sh", "-c", "echo . >/dev/null"]
    try:
        done = subprocess.run(  # noqa: S603 - fixed words
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=PROBE_S_MAX, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Found(problem=f"{program} does not work: {error}", fix=INSTALL)
    if done.returncode == 0:
        return Found(program=program)
    said = done.stderr.decode("utf-8", "replace").strip()[:200]
    fix = "allow user namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone"
    fix += ", kernel.apparmor_restrict_unprivileged_userns), or run the sidecar in a container"
    return Found(problem=f"{program} does not work here: {said}", fix=fix)


def wanted(confines: Confines, found: Found) -> bool:
    """Tell whether to run in the sandbox.

    Raises:
        NotStarted: it is required, and there is none.
    """
    if confines.sandbox is Sandbox.OFF:
        return False
    if found.program:
        return True
    if confines.sandbox is Sandbox.REQUIRED:
        message = f"its sandbox is required: {found.problem}; {found.fix}"
        raise NotStarted(FailureClass.NOT_INSTALLED, message)
    return False


def boxed(launch: base.Launch, view: View, found: Found) -> base.Launch:
    """Return `launch` inside a sandbox with that view.

    Raises:
        NotStarted: the program is not there.
    """
    path = launch.environment.get("PATH", os.defpath)
    program = shutil.which(launch.argv[0], path=path) or _relative(launch)
    if program is None:
        message = f"cannot start {launch.argv[0]}: No such file or directory"
        raise NotStarted(FailureClass.NOT_INSTALLED, message)
    home = launch.environment.get("HOME", view.home)
    Path(view.temporary).mkdir(mode=0o700, parents=True, exist_ok=True)
    tools = [
        *_tools(path, home),
        *(it for it in _around(Path(program), home) if not view.hidden.startswith(f"{it}/")),
    ]
    argv = [
        found.program,
        *_APART,
        *(() if view.network else ("--unshare-net",)),
        *_system(),
        *("--proc", "/proc", "--dev", "/dev", "--size", _SHARED_BYTES_MAX, "--tmpfs", "/dev/shm"),  # noqa: S108 - inside
        *("--bind", view.temporary, "/tmp", "--bind", view.temporary, "/var/tmp"),  # noqa: S108 - inside
        *_all("--ro-bind-try", _outermost(tools)),
        *("--bind", view.home, home),
        # The home may cover what was there; what is asked for by name lies above it.
        *_all("--ro-bind-try", _own_tools(tools, home)),
        *_all("--ro-bind-try", view.readable),
        *_all("--bind-try", view.writable),
        *("--remount-ro", "/dev", "--remount-ro", "/"),  # both are memory
        *("--chdir", launch.cwd, "--"),
        *launch.argv,
    ]
    return msgspec.structs.replace(launch, argv=argv, boxed=True)


def _system() -> Iterator[str]:
    for path in _SYSTEM:
        yield from ("--ro-bind-try", path, path)
    real = os.path.realpath(_RESOLVER)
    if not real.startswith("/etc/"):
        yield from ("--ro-bind-try", real, real)
    for path in _hidden():
        # What is the owner's alone stays so when root is the owner, and the program is root's.
        kind = ("--tmpfs", path) if os.path.isdir(path) else ("--ro-bind", "/dev/null", path)  # noqa: PTH112 - strings
        yield from kind


def _hidden() -> Iterator[str]:
    """Yield what in /etc is readable for root alone, or its group."""
    if os.geteuid() != 0:
        return
    waiting, seen = ["/etc"], 0
    while waiting and seen < _SECRET_FILES_MAX:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                seen += 1
                mode = entry.stat(follow_symlinks=False).st_mode
                if stat.S_ISLNK(mode):
                    continue
                if not mode & stat.S_IROTH:
                    yield entry.path
                elif stat.S_ISDIR(mode):
                    waiting.append(entry.path)


def _relative(launch: base.Launch) -> str | None:
    path = os.path.join(launch.cwd, launch.argv[0])  # noqa: PTH118 - as the system does it
    return path if os.sep in launch.argv[0] and os.access(path, os.X_OK) else None


def _tools(path: str, home: str) -> Iterator[str]:
    """Yield the folders of programs on `path`, each with what was installed beside it."""
    ours = Path(agentcom.__file__).parents[1]
    yield from (sys.prefix, sys.base_prefix, str(ours))
    for name in path.split(os.pathsep):
        folder = Path(name)
        if folder.is_absolute() and folder.is_dir():
            yield name
            yield from _beside(folder, home)


def _beside(folder: Path, home: str) -> Iterator[str]:
    """Yield where a program's libraries are: beside its `bin`, with both."""
    root = folder.parent
    installed = any((root / name).is_dir() for name in ("lib", "node_modules"))
    if folder.name == "bin" and installed and not _private(root, home):
        yield str(root)


def _around(program: Path, home: str) -> Iterator[str]:
    """Yield what belongs to a program: where links lead, and the package that it is part of."""
    real = Path(os.path.realpath(program))
    package = next((it for it in real.parents if it.name == "node_modules"), real.parent)
    yield str(real)
    for folder in (package, real.parent, program.parent):
        yield from _beside(folder, home)
    if not program.is_symlink():
        yield str(program)
    elif not _private(program.parent, home):
        yield str(program.parent)
    if not _private(package, home):
        yield str(package)
    with_line = _interpreter(real)
    if with_line is not None:
        yield os.path.realpath(with_line)


def _interpreter(program: Path) -> str | None:
    try:
        with program.open("rb") as file:
            line = file.readline(256)
    except OSError:
        return None
    words = line[2:].split() if line.startswith(b"#!") else []
    return os.fsdecode(words[0]) if words else None


def _private(folder: Path, home: str) -> bool:
    """Tell whether a folder is too much to show: a home, what is above one, or `~/.local`."""
    homes = {Path(home), Path.home(), Path(tempfile.gettempdir(), "any")}
    return any(folder == it / ".local" or folder in {it, *it.parents} for it in homes)


def _outermost(paths: Iterable[str]) -> list[str]:
    """Return the paths that are in no other one, and not in what every sandbox shows."""
    shown = list(_SYSTEM)
    for path in sorted(set(paths), key=len):
        if not any(path == it or path.startswith(f"{it}/") for it in shown):
            shown.append(path)
    return shown[len(_SYSTEM) :]


def _own_tools(tools: Iterable[str], home: str) -> list[str]:
    return [path for path in _outermost(tools) if path.startswith(f"{home}/")]


def _all(option: str, paths: Iterable[str]) -> Iterator[str]:
    for path in paths:
        yield from (option, path, path)
