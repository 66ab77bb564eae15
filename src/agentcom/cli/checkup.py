"""The checks of `agentcom doctor`: each exercises one thing, and answers with its fix."""

import asyncio
import contextlib
import importlib.metadata
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from agentcom.cli import background, looks_fleet, looks_here, looks_hub
from agentcom.cli.demo_project import git
from agentcom.cli.errors import CommandFailed
from agentcom.cli.findings import NONE, OK, Found, bad, odd
from agentcom.client.hub import HubClient
from agentcom.model.errors import AgentComError
from agentcom.model.ids import AgentId, MachineId, TaskId
from agentcom.model.task import TaskSpec, TaskState
from agentcom.protocol import shown
from agentcom.sidecar import sandbox, wakefulness
from agentcom.sidecar.config import AgentConfig, Home, MachineConfig, Settings
from agentcom.testing import scenario

TASK_S: Final = 30.0

Row = dict[str, Any]
Look = Callable[[], Found | list[Found]]


class Scope(StrEnum):
    """How much is looked at."""

    ALL = "all"
    QUICK = "quick"
    """What is set up here, and nothing tried: no hub, no task, no network but the hub's."""
    SCRATCH = "scratch"
    """The program itself, tried in a scratch folder: nothing that is set up here."""


def run(scope: Scope, *, mend: bool = False) -> list[Row]:
    """Return one row for each thing that was looked at; `mend`: what is safe to mend is mended."""
    looks: list[tuple[str, Look]] = [("python", looks_here.python), ("git", looks_here.git)]
    if scope is not Scope.SCRATCH:
        looks += _set_up(scope)
    with contextlib.ExitStack() as ends:
        if scope is not Scope.QUICK:
            hub = _ScratchHub(ends)
            looks += [
                ("push", _push),
                ("sleep", _sleep),
                ("sandbox", _sandbox),
                ("scratch hub", hub.store),
                ("loopback", _network),
            ]
            looks += [("task", hub.task)] if scope is Scope.ALL else []
        return [_row(name, one) for name, look in looks for one in _looked(look, mend=mend)]


def _looked(look: Look, *, mend: bool) -> list[Found]:
    found = _safely(look)
    if mend and any(_mended(one) for one in found):
        return _safely(look)
    return found


def _set_up(scope: Scope) -> list[tuple[str, Look]]:
    looks: list[tuple[str, Look]] = [
        ("home", looks_here.home),
        ("disk", looks_here.disk),
        ("clock", looks_here.clock),
        ("secrets", looks_here.secrets),
        ("version", looks_here.upgrade),
        ("settings", looks_here.config),
        ("processes", looks_here.process),
        ("store", looks_here.store),
        ("backups", looks_here.backups),
        ("contexts", looks_here.contexts),
    ]
    way = _safely(looks_hub.look)
    is_up = any(one.state == OK or one.id == "clock.skew" for one in way)
    looks += [
        ("hub", lambda: way),
        ("machine", lambda: looks_fleet.machine(hub=is_up)),
        ("agents", looks_fleet.agents),
        ("leftovers", looks_fleet.left),
    ]
    if is_up:
        looks.append(("fleet", looks_fleet.fleet))
    if scope is Scope.ALL:
        looks.append(("repository", lambda: looks_fleet.repository(Path.cwd())))
    return looks


def _row(name: str, found: Found) -> Row:
    return {
        "check": name,
        "state": found.state,
        "id": found.id or None,
        "found": found.text,
        "fix": found.fix,
    }


def _mended(found: Found) -> bool:
    if found.mend is None:
        return False
    found.mend()
    return True


def _safely(look: Look) -> list[Found]:
    try:
        found = look()
    except AgentComError as error:
        fix = error.hint if isinstance(error, CommandFailed) else ""
        return [bad("check.failed", error.message, fix)]
    except (OSError, subprocess.SubprocessError, TimeoutError) as error:
        return [bad("check.failed", str(error) or type(error).__name__, "agentcom doctor, again")]
    return [found] if isinstance(found, Found) else found


def _push() -> Found:
    if shutil.which("git") is None:
        return Found(NONE, "there is no git")
    with _scratch() as folder:
        identity = ("-c", "user.name=Doctor", "-c", "user.email=doctor@agentcom.invalid")
        try:
            git(folder, "init", "-q", "--bare", "origin.git")
            git(folder, "clone", "-q", "origin.git", "work")
            git(folder / "work", *identity, "commit", "-q", "--allow-empty", "-m", "Try")
            git(folder / "work", "push", "-q", "origin", "HEAD:refs/agentcom/doctor")
        except (AgentComError, subprocess.SubprocessError) as error:
            return bad("git.broken", str(error), "git config --list --show-origin")
    return Found(OK, "committed and pushed")


def _sleep() -> Found:
    """Say whether this computer can be kept awake while an agent works."""
    commands = wakefulness.commands()
    if not commands:
        what = "nothing here keeps it awake while agents work"
        return odd("sleep.not_inhibited", what, "turn sleep off")
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
    return odd("sleep.not_inhibited", f"{tool} may not keep it awake: {said}", fix)


def _network() -> Found:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        with socket.create_connection(address, timeout=5) as client, server.accept()[0] as peer:
            client.sendall(b"x")
            if peer.recv(1) != b"x":
                what = "loopback loses bytes"
                return bad("scratch.network", what, "look at the firewall of this computer")
    return Found(OK, "bound and reached 127.0.0.1")


def _sandbox() -> Found:
    found = sandbox.probe()
    if found.program:
        return Found(OK, f"{found.program} works: agents and checks run in it")
    return odd("sandbox.missing", f"agents see all that you see: {found.problem}", found.fix)


class _ScratchHub:
    """A hub in a scratch folder, started twice; what it is tried with is kept if it goes wrong."""

    def __init__(self, ends: contextlib.ExitStack) -> None:
        self._ends = ends
        self._folder = Path()
        self._ready: background.Ready | None = None
        self._well = False

    def store(self) -> Found:
        stores = {entry.name for entry in importlib.metadata.entry_points(group="agentcom.stores")}
        if "sqlite" not in stores:
            return bad("scratch.store", "no store is installed", "install agentcom again")
        with _hub() as (first, self._folder):
            began = asyncio.run(_whoami(first))
        self._ends.callback(self._tidy)
        again, _ = self._ends.enter_context(_hub(self._folder))
        ready = {**again, "token": first["token"]}
        if asyncio.run(_whoami(ready)) != began:
            what = "what was written is not there after a restart"
            return bad("scratch.store", what, "look after the disk: dmesg")
        self._ready, self._well = ready, True
        return Found(OK, "written, closed, opened and read")

    def task(self) -> Found:
        if self._ready is None:
            return Found(NONE, "there is no hub to try it at")
        began, self._well = time.monotonic(), False
        with contextlib.ExitStack() as child:
            end = asyncio.run(_run_task(self._ready, self._folder / "machine", child))
        spent = f"{time.monotonic() - began:.1f} s"
        if end is not TaskState.COMPLETED:
            fix = "agentcom demo --keep, and read its logs"
            return bad("scratch.task", f"it ended as {end}", fix)
        self._well = True
        return Found(OK, f"submitted, run and completed in {spent}")

    def _tidy(self) -> None:
        if self._well:
            shutil.rmtree(self._folder, ignore_errors=True)


def _start_sidecar(home: Path, ends: contextlib.ExitStack) -> None:
    words = ["sidecar", "run", "--home", str(home)]
    child, reading = background.launch(words, log=home.parent / "sidecar.log")
    os.close(reading)
    ends.callback(_end, child)


async def _run_task(ready: background.Ready, home: Path, ends: contextlib.ExitStack) -> TaskState:
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
        await asyncio.to_thread(_start_sidecar, home, ends)
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
