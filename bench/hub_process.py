"""The hub under measurement: `agentcom hub run` as a process of its own, with default settings.

Store SQLite with `synchronous=FULL` on the disk of the folder for temporary files; tokens, rate
limits, feeds and logs as in production. What it costs is read from `/proc`, from outside.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx

READY_S: Final = 30.0
STOP_S: Final = 30.0
CODES: Final = 64  # join codes, each for a part of the machines
ENROLLING: Final = 16  # at a time
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What the hub has used so far."""

    cpu_s: float
    private_bytes: int


def cpu_s(pid: int) -> float:
    """Return the CPU time that all threads of a process have used."""
    stat = Path(f"/proc/{pid}/stat").read_text("ascii")
    return sum(map(int, stat.rpartition(")")[2].split()[11:13])) / _TICKS_PER_S


class HubProcess:
    """A hub in a folder of its own, until the end of the `with` block."""

    def __init__(self, *flags: str, launcher: tuple[str, ...] = ()) -> None:
        """Run with `flags`; `launcher` runs the `agentcom` program in another way."""
        self._flags = flags
        self._launcher = launcher or (sys.executable, "-P", "-m", "agentcom.cli.main")
        self._cleanup = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Start it and wait until it answers."""
        try:
            self._start()
        except BaseException:
            self._cleanup.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop it and remove its folder."""
        self._cleanup.close()

    def cost(self) -> Cost:
        """Return CPU time of all threads, and memory that no other process shares."""
        rollup = Path(f"/proc/{self.pid}/smaps_rollup").read_text("ascii")
        private_kib = sum(
            int(line.split()[1]) for line in rollup.splitlines() if "Private_" in line
        )
        return Cost(cpu_s=self.cpu_s(), private_bytes=private_kib * 1_024)

    def cpu_s(self) -> float:
        """Return CPU time of all threads; unlike `cost`, it does not walk the memory map."""
        return cpu_s(self.pid)

    def user(self, name: str) -> str:
        """Let a submitter in and return the token."""
        code = self._post("/users", {"name": name, "role": "submitter"})["code"]
        return self._enrol({"code": code})

    def machine(self, name: str) -> str:
        """Enrol a machine and return its token."""
        code = self._post("/machines/invite", {"name": name})["code"]
        return self._enrol({"code": code})

    def machines(self, count: int) -> list[str]:
        """Enrol many machines, with codes that many may use; return their tokens."""
        uses = -(-count // CODES)
        codes = [self._post("/machines/invite", {"uses": uses})["code"] for _ in range(CODES)]
        # Several at a time, so that the hub commits them together; each by another code, since
        # uses of one code are counted one after the other.
        with ThreadPoolExecutor(ENROLLING) as threads:
            asked = ({"code": codes[n % CODES], "name": f"idle-{n}"} for n in range(count))
            return list(threads.map(self._enrol, asked))

    def status(self) -> dict[str, Any]:
        """Return how the hub says that it is."""
        found: dict[str, Any] = self._http.get("/api/v1/status").raise_for_status().json()
        return found

    def _start(self) -> None:
        folder = self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="agentcom-bench-"))
        self.home = Path(folder)
        self.log = self.home / "hub.log"
        reading, writing = os.pipe()
        words = ["hub", "run", "--home", folder, "--port", "0", "--admin", "bench"]
        with self.log.open("wb") as out:
            self._child = subprocess.Popen(
                [*self._launcher, *words, *self._flags, "--ready-fd", str(writing)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                pass_fds=(writing,),
                env={**os.environ, "AGENTCOM_HOME": folder},
            )
        os.close(writing)
        self._cleanup.callback(self._end)
        with os.fdopen(reading, "rb") as pipe:
            answer = self._hear(pipe.fileno())
        self.pid = self._child.pid
        self.url = str(answer["url"])
        headers = {"Authorization": f"Bearer {answer['token']}"}
        self._http = self._cleanup.enter_context(
            httpx.Client(base_url=self.url, headers=headers, trust_env=False, timeout=30)
        )

    def _enrol(self, asked: dict[str, Any]) -> str:
        return str(self._post("/enrol", asked)["token"])

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        response = self._http.post(f"/api/v1{path}", json=body)
        if response.is_error:
            raise RuntimeError(f"{path}: {response.status_code} {response.text}")
        found: dict[str, Any] = response.json()
        return found

    def _hear(self, pipe: int) -> dict[str, Any]:
        said = b""
        while not said.endswith(b"\n"):
            ready = select.select([pipe], [], [], READY_S)[0]
            chunk = os.read(pipe, 65_536) if ready else b""
            if not chunk:
                raise RuntimeError(
                    f"the hub did not start:\n{self.log.read_text('utf-8')[-2_000:]}"
                )
            said += chunk
        found: dict[str, Any] = json.loads(said)
        return found

    def _end(self) -> None:
        self._child.send_signal(signal.SIGTERM)
        try:
            self._child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
