"""The checks of `agentcom doctor`: each exercises one thing, and answers with its fix."""

import asyncio
import contextlib
import importlib.metadata
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from agentcom.cli import background, context, enrol
from agentcom.cli.demo_project import git
from agentcom.cli.errors import CommandFailed
from agentcom.client.hub import HubClient
from agentcom.model.errors import AgentComError
from agentcom.model.ids import AgentId, MachineId, TaskId
from agentcom.model.task import TaskSpec, TaskState
from agentcom.protocol import shown
from agentcom.sidecar import sandbox, wakefulness
from agentcom.sidecar.config import AgentConfig, Home, MachineConfig, Settings
from agentcom.testing import scenario

OK: Final = "ok"
WARN: Final = "warn"
FAIL: Final = "FAIL"
PYTHON_MIN: Final = (3, 11)
GIT_MIN: Final = (2, 38)
"""`git merge-tree --write-tree`."""
FREE_BYTES_MIN: Final = 1 << 30
TASK_S: Final = 30.0
CLOCK_YEAR_MIN: Final = 2026

Row = dict[str, Any]


class Found(NamedTuple):
    """What a check found, and what to do if it is not well."""

    state: str
    text: str
    fix: str = ""


def run(*, end_to_end: bool) -> list[Row]:
    """Return one row for each check."""
    checks: list[tuple[str, Callable[[], Found]]] = [
        ("python", _python),
        ("git", _git),
        ("home", _home),
        ("disk", _disk),
        ("clock", _clock),
        ("sleep", _sleep),
        ("store", _store),
        ("network", _network),
        ("sandbox", _sandbox),
    ]
    if end_to_end:
        checks.append(("task", _task))
    rows = [_row(name, _safely(check)) for name, check in checks]
    return rows + [
        _row(f"agent {check.runtime}", _agent(check.ready, check.version, check.problem, check.fix))
        for check in enrol.preflight()
    ]


def _row(name: str, found: Found) -> Row:
    return {"check": name, "state": found.state, "found": found.text, "fix": found.fix}


def _safely(check: Callable[[], Found]) -> Found:
    try:
        return check()
    except AgentComError as error:
        fix = error.hint if isinstance(error, CommandFailed) else ""
        return Found(FAIL, error.message, fix)
    except (OSError, subprocess.SubprocessError, TimeoutError) as error:
        return Found(FAIL, str(error) or type(error).__name__)


def _python() -> Found:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < PYTHON_MIN:
        return Found(FAIL, version, "install Python 3.11 or newer")
    return Found(OK, version)


def _git() -> Found:
    if shutil.which("git") is None:
        return Found(FAIL, "not installed", "apt install git, or brew install git")
    said = git(Path.cwd(), "--version").split()[2]
    version = tuple(int(part) for part in said.split(".")[:2])
    if version < GIT_MIN:
        return Found(FAIL, said, "install git 2.38 or newer")
    with _scratch() as folder:
        identity = ("-c", "user.name=Doctor", "-c", "user.email=doctor@agentcom.invalid")
        git(folder, "init", "-q", "--bare", "origin.git")
        git(folder, "clone", "-q", "origin.git", "work")
        git(folder / "work", *identity, "commit", "-q", "--allow-empty", "-m", "Try")
        git(folder / "work", "push", "-q", "origin", "HEAD:refs/agentcom/doctor")
    return Found(OK, f"{said}: committed and pushed")


def _home() -> Found:
    home = context.home()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if home.stat().st_mode & 0o077:
        return Found(WARN, f"others may look into {home}", f"chmod 700 {home}")
    return Found(OK, str(home))


def _disk() -> Found:
    home = context.home()
    free = shutil.disk_usage(home).free
    probe = home / ".doctor"
    began = time.monotonic()
    with probe.open("wb") as file:
        file.write(b"agentcom")
        file.flush()
        os.fsync(file.fileno())
    spent_ms = (time.monotonic() - began) * 1000
    probe.unlink()
    text = f"{free >> 30} GiB free, fsync in {spent_ms:.1f} ms"
    if free < FREE_BYTES_MIN:
        return Found(FAIL, text, "free some space, or set AGENTCOM_HOME to another disk")
    return Found(OK, text)


def _clock() -> Found:
    now = time.gmtime()
    shown_time = time.strftime("%Y-%m-%d %H:%M UTC", now)
    if now.tm_year < CLOCK_YEAR_MIN:
        return Found(FAIL, shown_time, "set the clock: timedatectl set-ntp true")
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return Found(OK, f"{shown_time}; leases run on CLOCK_MONOTONIC")
    return Found(OK, f"{shown_time}; leases run on CLOCK_BOOTTIME")


def _sleep() -> Found:
    """Say whether this computer can be kept awake while an agent works."""
    commands = wakefulness.commands()
    if not commands:
        return Found(WARN, "nothing here keeps it awake while agents work", "turn sleep off")
    argv = commands[0]
    words = [*argv[:-1], "true"]  # for the moment of a program that does nothing
    done = subprocess.run(  # noqa: S603 - the system's own tool
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10, check=False
    )
    tool = Path(argv[0]).name
    if done.returncode == 0:
        return Found(OK, f"{tool} keeps it awake while an agent works")
    said = done.stderr.strip().rpartition("\n")[2] or f"exit {done.returncode}"
    fix = "turn sleep off, or let this user inhibit it (polkit: inhibit-block-sleep)"
    return Found(WARN, f"{tool} may not keep it awake: {said}", fix)


def _store() -> Found:
    stores = {entry.name for entry in importlib.metadata.entry_points(group="agentcom.stores")}
    if "sqlite" not in stores:
        return Found(FAIL, "no store is installed", "install agentcom again")
    with _hub() as (first, folder):
        began = asyncio.run(_whoami(first))
    with _hub(folder) as (again, _):
        if asyncio.run(_whoami({**again, "token": first["token"]})) != began:
            return Found(FAIL, "what was written is not there after a restart", "check the disk")
    shutil.rmtree(folder, ignore_errors=True)
    return Found(OK, "written, closed, opened and read")


def _network() -> Found:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        with socket.create_connection(address, timeout=5) as client, server.accept()[0] as peer:
            client.sendall(b"x")
            if peer.recv(1) != b"x":
                return Found(FAIL, "loopback loses bytes", "look at the firewall of this computer")
    return Found(OK, "bound and reached 127.0.0.1")


def _sandbox() -> Found:
    found = sandbox.probe()
    if found.program:
        return Found(OK, f"{found.program} works: agents and checks run in it")
    return Found(WARN, f"agents see all that you see: {found.problem}", found.fix)


def _task() -> Found:
    with _hub() as (ready, folder):
        home = folder / "machine"
        child: subprocess.Popen[bytes] | None = None

        def start() -> None:
            nonlocal child
            words = ["sidecar", "run", "--home", str(home)]
            child, reading = background.launch(words, log=folder / "sidecar.log")
            os.close(reading)

        began = time.monotonic()
        try:
            end = asyncio.run(_run_task(ready, home, start))
        finally:
            if child is not None:
                _end(child)
    shutil.rmtree(folder, ignore_errors=True)
    spent = f"{time.monotonic() - began:.1f} s"
    if end is not TaskState.COMPLETED:
        return Found(FAIL, f"it ended as {end}", "agentcom demo --keep, and read its logs")
    return Found(OK, f"submitted, run and completed in {spent}")


async def _run_task(ready: background.Ready, home: Path, start: Callable[[], None]) -> TaskState:
    async with await HubClient.connect(ready["url"], ready["token"]) as client:
        code = (await client.post("/machines/invite", shown.Invitation, {"uses": 1})).code
        asked = {"code": code, "name": "doctor"}
        admitted = await client.post("/enrol", shown.Admitted, asked)
        agent = AgentConfig(name=AgentId("doctor-agent"), runtime="testagent")
        machine = MachineConfig(
            hub=ready["url"],
            machine=MachineId(str(admitted.machine)),
            agents=(agent,),
            settings=Settings(),
        )
        Home(home).save(machine, admitted.token)
        await asyncio.to_thread(start)
        spec = TaskSpec(title="Try", prompt=scenario.render(list(scenario.NAMED["edit"])))
        task = (await client.submit([spec])).tasks[0]
        return (await client.wait(TaskId(task), timeout_s=TASK_S)).state


async def _whoami(ready: background.Ready) -> str:
    async with await HubClient.connect(ready["url"], ready["token"]) as client:
        return (await client.get("/whoami", shown.Whoami)).user


@contextlib.contextmanager
def _hub(known: Path | None = None) -> Iterator[tuple[background.Ready, Path]]:
    """Run a hub on a free port in a scratch folder; the folder stays."""
    folder = known or Path(tempfile.mkdtemp(prefix="agentcom-doctor-"))
    log = folder / "hub.log"
    words = ["hub", "run", "--home", str(folder / "hub"), "--port", "0", "--admin", "doctor"]
    child, ready = background.spawn(words, log=log)
    try:
        if ready is None:
            said = background.last_words(log)
            raise CommandFailed(f"the hub did not start: {said}", hint=f"less {log}")
        yield ready, folder
    finally:
        _end(child)


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="agentcom-doctor-") as name:
        yield Path(name)


def _end(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        child.send_signal(signal.SIGTERM)
    try:
        child.wait(background.STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _agent(ready: bool, version: str, problem: str, fix: str) -> Found:
    return Found(OK, version) if ready else Found(WARN, problem, fix)
