"""The processes of a fleet in a scratch folder: started, killed, paused, found again, ended.

A hub on SQLite and a few machines, each a process of its own as a user would run it. Everything
that is killed is known by pid and start time; `end` leaves nothing of the fleet alive.
"""

import asyncio
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Final

from agentcom.client.hub import HubClient
from agentcom.model.ids import AgentId, Instant, MachineId
from agentcom.protocol import shown
from agentcom.sidecar import attempt_files, lease_log, processes, survivors
from agentcom.sidecar.clock import SystemClock
from agentcom.sidecar.config import AgentConfig, Home, MachineConfig, Settings
from agentcom.sidecar.confines import OPEN

LEASE_MS: Final = 3_000
READY_S: Final = 30.0
"""A cold start on a busy small machine takes some seconds."""
END_S: Final = 12.0
"""A hub drains for up to 8 s."""
MACHINES: Final = ("ash", "box", "elm")
CLIENT: Final = "client"
"""Who submits and follows, beside the machines."""
TWIN: Final = "-twin"
"""Behind a machine's name: another computer with the same identity."""
AGENTS: Final = MappingProxyType({"run": ("command", 3), "edit": ("testagent", 2)})
"""Capability -> runtime and slots of each machine's agents."""


class NotStarted(Exception):
    """A process did not start, though nobody hurt it; the message has its last words."""


class Fleet:
    """All processes of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = ""
        self.token = ""
        self.hub: subprocess.Popen[bytes] | None = None
        self.sidecars: dict[str, subprocess.Popen[bytes]] = {}
        self.died: dict[int, Instant] = {}
        """When each killed process was seen dead; what it believed ended with it."""
        self.hub_down: list[tuple[Instant, Instant]] = []
        self._clock = SystemClock()
        self._down_since: Instant | None = None
        self._reading: IO[bytes] | None = None

    def now(self) -> Instant:
        """Return the boot-time clock, which all processes of this computer share."""
        return self._clock.now().instant

    # The hub ------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """Where the hub listens; 0 before its first start."""
        return int(self.url.rpartition(":")[2] or 0)

    def launch_hub(self) -> None:
        """Start the hub, on the port that it had before, without waiting for it."""
        home = self.folder / "hub"
        home.mkdir(mode=0o700, exist_ok=True)
        words = ["hub", "run", "--home", str(home), "--port", str(self.port), "--admin", "chaos"]
        words += ["--lease-ttl-ms", str(LEASE_MS), "--log-level", "warning"]
        self.hub, self._reading = self._spawn(words, self.folder / "hub.log", ready=True)

    async def hub_ready(self) -> None:
        """Return when the hub answers.

        Raises:
            NotStarted: it ended, or was not ready in time.
        """
        assert self._reading is not None
        answer = await asyncio.to_thread(_heard, self._reading)
        self._reading.close()
        if answer is None:
            raise NotStarted(f"the hub: {last_words(self.folder / 'hub.log')}")
        self.url = answer["url"]
        self.token = answer["token"] or self.token
        if self._down_since is not None:
            self.hub_down.append((self._down_since, self.now()))
            self._down_since = None

    async def kill_hub(self) -> None:
        """SIGKILL the hub, in whatever state it is."""
        assert self.hub is not None
        if self._down_since is None:
            self._down_since = self.now()
        await self._kill(self.hub)
        if self._reading is not None:
            self._reading.close()

    # Machines -----------------------------------------------------------------------------------

    async def enrol(self, client: HubClient, address: Callable[[str], str]) -> None:
        """Make every machine a member of the fleet, which it reaches by its own address."""
        asked = {"uses": len(MACHINES)}
        code = (await client.post("/machines/invite", shown.Invitation, asked)).code
        for name in MACHINES:
            body = {"code": code, "name": name}
            self._save(name, await client.post("/enrol", shown.Admitted, body), address(name))

    def _save(self, name: str, admitted: shown.Admitted, url: str) -> None:
        agents = tuple(
            AgentConfig(
                name=AgentId(f"{name}-{capability}"),
                runtime=runtime,
                capabilities=(capability,),
                slots=slots,
                confines=OPEN,
            )
            for capability, (runtime, slots) in AGENTS.items()
        )
        settings = Settings(
            ttl_ms=LEASE_MS,
            checkpoint_interval_ms=60_000,
            progress_interval_ms=500,
            stop_grace_ms=1_000,
        )
        machine = MachineConfig(
            hub=url,
            machine=MachineId(str(admitted.machine)),
            agents=agents,
            settings=settings,
        )
        self.home(name).save(machine, admitted.token)

    def home(self, name: str) -> Home:
        """Return where a machine lives."""
        return Home(self.folder / name)

    def lease_log(self, name: str) -> Path:
        """Return where a machine writes down what it believes to hold."""
        return self.folder / f"{name}.leases"

    def start(self, name: str) -> None:
        """Start a machine's sidecar, for the first time or again."""
        words = ["sidecar", "run", "--home", str(self.home(name).root)]
        log = self.folder / f"{name}.log"
        extra = {lease_log.VARIABLE: str(self.lease_log(name))}
        self.sidecars[name], _ = self._spawn(words, log, ready=False, extra=extra)

    async def kill_sidecar(self, name: str) -> None:
        """SIGKILL a machine's sidecar; its agents go on under their supervisors."""
        await self._kill(self.sidecars[name])

    async def twin(self, name: str, lasts_s: float) -> None:
        """Let a second sidecar use a machine's identity for a while, as a cloned computer does."""
        twin, home = f"{name}{TWIN}", self.home(f"{name}{TWIN}")
        shutil.rmtree(home.root, ignore_errors=True)
        config = self.home(name).load()
        home.save(config.machine, config.token)
        words = ["sidecar", "run", "--home", str(home.root)]
        extra = {lease_log.VARIABLE: str(self.lease_log(twin))}
        process, _ = self._spawn(words, self.folder / f"{twin}.log", ready=False, extra=extra)
        try:
            await asyncio.sleep(lasts_s)
        finally:
            process.kill()
            process.wait()
            self.died[process.pid] = self.now()
            for place in home.root.glob("attempts/*/"):
                survivors.kill_survivors(place.name, place)

    def attempts(self, name: str) -> Sequence[survivors.Record]:
        """Return the attempts of a machine whose supervisor has not reported an end."""
        folder = self.home(name).root / "attempts"
        found = []
        for place in folder.iterdir() if folder.is_dir() else ():
            record = survivors.read_record(place)
            if record is not None and not (place / attempt_files.EXIT).exists():
                found.append(record)
        return found

    # The end ------------------------------------------------------------------------------------

    def dead(self) -> Sequence[str]:
        """Return the processes that ended by themselves."""
        everyone = {"hub": self.hub, **self.sidecars}
        return [
            f"{name} (exit {process.returncode})"
            for name, process in everyone.items()
            if process is not None and process.poll() is not None and process.pid not in self.died
        ]

    async def stop(self) -> Sequence[str]:
        """End everyone in peace, machines first; return who would not go, or went badly."""
        bad = []
        hub = [("hub", self.hub)] if self.hub is not None else []
        for name, process in [*self.sidecars.items(), *hub]:
            process.send_signal(signal.SIGTERM)
            try:
                code = await asyncio.to_thread(process.wait, END_S)
            except subprocess.TimeoutExpired:
                bad.append(f"{name} does not end at SIGTERM")
                await self._kill(process)
            else:
                bad += [f"{name} ended with exit code {code}"] if code else []
        return bad

    def end(self) -> None:
        """Kill whatever is left of the fleet, in whatever state it is."""
        if self._reading is not None:
            self._reading.close()
        for process in [*self.sidecars.values(), *([self.hub] if self.hub else [])]:
            if process.poll() is None:
                process.kill()
                process.wait()
        for entry in self.leftovers():
            processes.kill(entry)

    def leftovers(self) -> Sequence[processes.Entry]:
        """Return every process that works in this fleet's folder, or names one of its attempts."""
        return [
            entry
            for pid, entry in processes.read_table().items()
            if not entry.zombie and pid != os.getpid() and self._is_ours(pid)
        ]

    def _is_ours(self, pid: int) -> bool:
        root = str(self.folder)
        with contextlib.suppress(OSError):
            if str(Path(f"/proc/{pid}/cwd").readlink()).startswith(f"{root}/"):
                return True
        attempted = b"AGENTCOM_TASK_FILE=" + root.encode()
        return any(entry.startswith(attempted) for entry in processes.read_environment(pid))

    async def _kill(self, process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await asyncio.to_thread(process.wait)
        self.died[process.pid] = self.now()

    def _spawn(
        self, words: Sequence[str], log: Path, *, ready: bool, extra: dict[str, str] | None = None
    ) -> tuple[subprocess.Popen[bytes], IO[bytes] | None]:
        own = {k: v for k, v in os.environ.items() if not k.startswith("AGENTCOM_")}
        own["AGENTCOM_HOME"] = str(self.folder / "home")
        reading, writing = os.pipe() if ready else (-1, -1)
        words = [*words, "--ready-fd", str(writing)] if ready else words
        with log.open("ab") as out:
            child = subprocess.Popen(  # noqa: S603 - this product itself
                [sys.executable, "-P", "-m", "agentcom.cli.main", *words],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                pass_fds=(writing,) if ready else (),
                start_new_session=True,
                cwd="/",
                env={**own, **(extra or {})},
            )
        if not ready:
            return child, None
        os.close(writing)
        return child, os.fdopen(reading, "rb", buffering=0)


@contextlib.contextmanager
def fleet_in(folder: Path) -> Iterator[Fleet]:
    """Give a fleet that leaves no process behind."""
    fleet = Fleet(folder)
    try:
        yield fleet
    finally:
        fleet.end()


def last_words(log: Path) -> str:
    """Return the last lines of a log, in one."""
    with contextlib.suppress(OSError):
        return " | ".join(log.read_text("utf-8", "replace").splitlines()[-5:])
    return "no log"


def _heard(reading: IO[bytes]) -> dict[str, Any] | None:
    """Return what a process said on its pipe; None if it ended, or said nothing in time."""
    said = b""
    deadline = time.monotonic() + READY_S
    while not said.endswith(b"\n"):
        left_s = deadline - time.monotonic()
        try:
            if left_s <= 0 or not select.select([reading], [], [], left_s)[0]:
                return None
            chunk = reading.read(65_536)
        except (OSError, ValueError):  # it was killed meanwhile, and the pipe closed
            return None
        if not chunk:
            return None
        said += chunk
    answer: dict[str, Any] = json.loads(said)
    return answer
