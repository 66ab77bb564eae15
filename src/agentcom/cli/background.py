"""Background processes of this person: started, waited for by a pipe, recorded, ended by pid.

A record names the pid and the process's start time, so that a pid which another program took over
is never signalled.
"""

import contextlib
import hashlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from agentcom.cli import context
from agentcom.cli.errors import CommandFailed, Exit

READY_S: Final = 30.0
"""A cold start on a busy small machine takes some seconds."""
STOP_S: Final = 15.0
"""A hub drains for up to 8 s."""
LOG_BYTES_MAX: Final = 10 << 20
"""A larger log is put aside at the next start; one older is kept."""
_SHUT_OUT: Final = frozenset({"not_authenticated", "not_allowed"})
_CODED: Final = re.compile(r"(.*) \(([a-z_]+)\)", re.DOTALL)
_TAIL_LINES: Final = 5
_TAIL_BYTES: Final = 4_096
_END_S: Final = 5.0
_LOOK_AGAIN_S: Final = 0.05

Ready = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Process:
    """A process that we started."""

    pid: int
    start: str

    @property
    def alive(self) -> bool:
        """Whether this very process runs."""
        return self.start != "" and start_time(self.pid) == self.start


def program(*words: str) -> list[str]:
    """Return the argv that runs this program with this interpreter."""
    return [sys.executable, "-P", "-m", "agentcom.cli.main", *words]


def sidecar_name(home: Path) -> str:
    """Return the name under which the sidecar of a machine's home is recorded."""
    if home.absolute() == context.machine_home():
        return "sidecar"
    return f"sidecar-{hashlib.sha256(os.fsencode(home.absolute())).hexdigest()[:8]}"


def recorded() -> list[str]:
    """Return the names of everything that was started here, sidecars first."""
    names = {path.stem for path in (context.home() / "run").glob("*.json")}
    return sorted(names, key=lambda name: (name == "hub", name))


def all_up() -> bool:
    """Whether something was started here, and all of it runs."""
    names = recorded()
    return bool(names) and all(running(name) is not None for name in names)


def start(name: str, words: Sequence[str], *, home: Path | None = None) -> tuple[Process, Ready]:
    """Start `agentcom WORDS --ready-fd N` and return when it says that it is ready.

    Raises:
        CommandFailed: it ended, or was not ready in time; the message has its last words.
    """
    base = home or context.home()
    found = running(name, home=home)
    if found is not None:
        raise CommandFailed(
            f"the {name} runs already (pid {found[0].pid})",
            hint="agentcom down",
            exit_code=Exit.STALE,
            code="conflict",
        )
    log = base / "logs" / f"{name}.log"
    context.private_folder(log.parent)
    _set_aside(log)
    since = log.stat().st_size if log.exists() else 0
    child, reading = launch(words, log=log)
    try:
        answer = _ready(name, reading, log, since)
        process = Process(child.pid, start_time(child.pid))
        record = {"pid": process.pid, "start": process.start, **_public(answer)}
        context.write_private(_path(base, name), json.dumps(record) + "\n")
    except BaseException:  # Ctrl-C too: what nobody has recorded, nobody would ever stop
        _end(child)
        raise
    finally:
        os.close(reading)
    child.returncode = 0  # it outlives us on purpose: Python need not warn of it
    return process, answer


def spawn(
    words: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None
) -> tuple[subprocess.Popen[bytes], Ready | None]:
    """Start a process of its own session and wait for its word; None if it never came."""
    child, reading = launch(words, log=log, environment=environment)
    try:
        return child, heard(reading, READY_S)
    finally:
        os.close(reading)


def launch(
    words: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None
) -> tuple[subprocess.Popen[bytes], int]:
    """Start a process of its own session; return it and the pipe on which it says it is ready."""
    reading, writing = os.pipe()
    with _private_log(log) as out:
        child = subprocess.Popen(  # noqa: S603 - this program itself
            program(*words, "--ready-fd", str(writing)),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            pass_fds=(writing,),
            start_new_session=True,
            env=None if environment is None else dict(environment),
        )
    os.close(writing)
    return child, reading


def tell_ready(ready_fd: int | None, answer: Ready) -> None:
    """Tell whoever started us that we are ready; the pipe is closed, so a second time is silent."""
    if ready_fd is None:
        return
    with contextlib.suppress(OSError):
        os.write(ready_fd, json.dumps(answer).encode() + b"\n")
        os.close(ready_fd)


def running(name: str, *, home: Path | None = None) -> tuple[Process, Ready] | None:
    """Return the recorded process, if it lives."""
    try:
        record = json.loads(_path(home or context.home(), name).read_text("utf-8"))
        process = Process(record["pid"], record["start"])
    except (FileNotFoundError, ValueError, KeyError):
        return None
    return (process, record) if process.alive else None


def stop(name: str, *, home: Path | None = None) -> bool:
    """End the recorded process in peace; False if it does not run.

    Raises:
        CommandFailed: it still runs after the time that draining may take.
    """
    found = running(name, home=home)
    if found is not None:
        process, _ = found
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
        if not wait_for(lambda: not process.alive, timeout_s=STOP_S):
            raise CommandFailed(
                f"the {name} (pid {process.pid}) has not ended in {STOP_S:.0f} s",
                hint=f"kill -9 {process.pid}",
            )
    _path(home or context.home(), name).unlink(missing_ok=True)
    return found is not None


def wait_for(holds: Callable[[], bool], *, timeout_s: float) -> bool:
    """Wait until a condition of the operating system holds; False after the time-out."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_AGAIN_S)
    return True


def start_time(pid: int) -> str:
    """Return when a process started, in the system's own words; "" if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return "" if Path("/proc/self/stat").exists() else _start_by_ps(pid)
    fields = stat[stat.rindex(b")") + 2 :].split()
    return "" if fields[0] in b"ZX" else fields[19].decode()


def last_words(log: Path, since: int = 0) -> str:
    """Return the error at the end of a log, or its last lines in one; `since`: a byte of it."""
    try:
        data = log.read_bytes()[since:][-_TAIL_BYTES:]
    except OSError:
        return "it left no log"
    lines = [line for line in data.decode("utf-8", "replace").splitlines() if line.strip()]
    for line in reversed(lines):
        if line.startswith("error: "):
            return line.removeprefix("error: ")
    return " | ".join(lines[-_TAIL_LINES:]) or "it said nothing"


def heard(reading: int, timeout_s: float) -> Ready | None:
    """Return what a process said on its pipe; None if it ended, or said nothing in time."""
    deadline = time.monotonic() + timeout_s
    said = b""
    while not said.endswith(b"\n"):
        left_s = deadline - time.monotonic()
        if left_s <= 0 or not select.select([reading], [], [], left_s)[0]:
            return None
        chunk = os.read(reading, 65_536)
        if not chunk:
            return None
        said += chunk
    answer = json.loads(said)
    return answer if isinstance(answer, dict) else {}


def _ready(name: str, reading: int, log: Path, since: int) -> Ready:
    answer = heard(reading, READY_S)
    if answer is None:
        said, code = _told(last_words(log, since))
        raise CommandFailed(
            f"the {name} did not start: {said}",
            hint=f"less {log}, or agentcom doctor",
            exit_code=Exit.NOT_ALLOWED if code in _SHUT_OUT else Exit.FAILED,
            code=code or "not_started",
        )
    return answer


def _told(words: str) -> tuple[str, str]:
    """Return a process's last error without its code, and the code; "" if it has none."""
    found = _CODED.fullmatch(words)
    return (found[1], found[2]) if found else (words, "")


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(_END_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _public(answer: Ready) -> Ready:
    return {key: value for key, value in answer.items() if key != "token"}


def _path(base: Path, name: str) -> Path:
    return base / "run" / f"{name}.json"


def _set_aside(log: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > LOG_BYTES_MAX:
            log.replace(log.with_suffix(".log.1"))


def _private_log(path: Path) -> BinaryIO:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    return os.fdopen(handle, "ab")


def _start_by_ps(pid: int) -> str:
    done = subprocess.run(  # noqa: S603 - a number
        ["ps", "-o", "lstart=", "-p", str(pid)],  # noqa: S607 - the system's own
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()
