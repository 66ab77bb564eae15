"""The demo's processes: a hub, and a machine for each agent; started, killed, and cleaned up."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from agentcom.cli import background
from agentcom.cli.errors import CommandFailed
from agentcom.model.ids import AgentId, MachineId
from agentcom.sidecar import survivors
from agentcom.sidecar.config import AgentConfig, Home, MachineConfig, Settings
from agentcom.sidecar.confines import OPEN

LEASE_MS: Final = 3_000
CHECKPOINT_MS: Final = 1_000
END_S: Final = 8.0
"""A hub that drains ends sooner."""
AGENTS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "ann": ("python", "area=tokens"),
        "bob": ("python", "area=parser"),
        "cy": ("docs", "area=parser"),
    }
)


class Fleet:
    """All processes of one demo; `end` leaves none of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._hub: subprocess.Popen[bytes] | None = None
        self._reading = -1
        self._sidecars: dict[str, subprocess.Popen[bytes]] = {}

    def launch_hub(self) -> None:
        """Start the hub, without waiting for it."""
        home = self.folder / "hub"
        home.mkdir(mode=0o700)
        words = ["hub", "run", "--home", str(home), "--port", "0", "--admin", "demo"]
        words += ["--lease-ttl-ms", str(LEASE_MS)]
        log = self.folder / "hub.log"
        self._hub, self._reading = background.launch(words, log=log, environment=_surroundings())

    def hub_ready(self) -> background.Ready:
        """Return the hub's address and the admin's token, when it is ready.

        Raises:
            CommandFailed: it did not start.
        """
        answer = background.heard(self._reading, background.READY_S)
        os.close(self._reading)
        if answer is None:
            said = background.last_words(self.folder / "hub.log")
            raise CommandFailed(f"the hub did not start: {said}", code="not_started")
        return answer

    def enrol(self, name: str, admitted: Any, *, url: str, runtime: str, **settings: str) -> None:
        """Write a machine's identity, with one agent of the same name."""
        agent = AgentConfig(
            name=AgentId(name),
            runtime=runtime,
            capabilities=AGENTS[name],
            settings=settings,
            confines=OPEN,
        )
        machine = MachineConfig(
            hub=url,
            machine=MachineId(admitted.machine),
            agents=(agent,),
            settings=Settings(
                ttl_ms=LEASE_MS,
                checkpoint_interval_ms=CHECKPOINT_MS,
                progress_interval_ms=CHECKPOINT_MS,
                checks=OPEN,
            ),
        )
        self.home(name).save(machine, admitted.token)

    def home(self, name: str) -> Home:
        """Return where a machine lives."""
        return Home(self.folder / name)

    def start(self, name: str) -> None:
        """Start a machine's sidecar, for the first time or again."""
        words = ["sidecar", "run", "--home", str(self.home(name).root)]
        log = self.folder / f"{name}.log"
        child, reading = background.launch(words, log=log, environment=_surroundings())
        os.close(reading)
        self._sidecars[name] = child

    def kill(self, name: str) -> int:
        """SIGKILL a machine: its sidecar, its agents and their supervisors; return how many."""
        sidecar = self._sidecars[name]
        sidecar.kill()
        sidecar.wait()
        return 1 + self._kill_attempts(name)

    def dead(self) -> Sequence[str]:
        """Return the processes that ended by themselves."""
        processes = {"hub": self._hub, **self._sidecars}
        return [
            name
            for name, process in processes.items()
            if process is not None and process.poll() is not None
        ]

    def end(self) -> None:
        """End every process that the demo started, whatever state it is in."""
        everyone = [*self._sidecars.values(), *([self._hub] if self._hub is not None else [])]
        for process in everyone:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + END_S
        for process in everyone:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for name in AGENTS:
            self._kill_attempts(name)

    def _kill_attempts(self, name: str) -> int:
        attempts = self.home(name).root / "attempts"
        if not attempts.is_dir():
            return 0
        folders = [folder for folder in attempts.iterdir() if folder.is_dir()]
        return sum(survivors.kill_survivors(folder.name, folder) for folder in folders)


def _surroundings() -> dict[str, str]:
    """Return our own variables, without what would send the demo to another hub or home."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AGENTCOM_")}
