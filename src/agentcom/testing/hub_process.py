"""A hub under measurement: `agentcom hub run` as a process of its own, with default settings.

Store SQLite with `synchronous=FULL` on the disk of the folder for temporary files; tokens, rate
limits, feeds and logs as in production. What it costs is read from `/proc`, from outside.
"""

import contextlib
import itertools
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx
from prometheus_client.parser import text_string_to_metric_families

READY_S: Final = 60.0
STOP_S: Final = 60.0
CODES: Final = 64  # join codes, each for a part of the machines
ENROLLING: Final = 16  # at a time
_PROXY: Final = "AGENTCOM_HUB_TRUSTED_PROXIES"  # we say where each stranger comes from
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


def waited_s(pid: int) -> float:
    """Return for how long a process's first thread could run and had no core to run on."""
    return int(Path(f"/proc/{pid}/schedstat").read_text("ascii").split()[1]) / 1e9


def resident_bytes(pid: int) -> int:
    """Return the memory of a process that is in RAM, shared pages too; cheap enough to sample."""
    pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def written_bytes(pid: int) -> int:
    """Return how much a process has caused to be written to disks."""
    lines = Path(f"/proc/{pid}/io").read_text("ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes:"))


class HubProcess:
    """A hub in a folder of its own, until the end of the `with` block."""

    def __init__(self, *flags: str) -> None:
        self._flags = flags
        self._cleanup = contextlib.ExitStack()
        self._token = ""
        self._strangers = itertools.count(1)
        self.url = ""
        self.pid = 0

    def __enter__(self) -> Self:
        """Start it and wait until it answers."""
        try:
            folder = tempfile.TemporaryDirectory(prefix="agentcom-hub-")
            self.home = Path(self._cleanup.enter_context(folder))
            self.log = self.home / "hub.log"
            self._start()
            headers = {"Authorization": f"Bearer {self._token}"}
            self._http = self._cleanup.enter_context(
                httpx.Client(base_url=self.url, headers=headers, trust_env=False, timeout=30)
            )
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

    def kill(self) -> None:
        """SIGKILL it, whatever it does."""
        self._child.kill()
        self._child.wait()

    def restart(self) -> None:
        """Start it again on the same store and port, and wait until it answers."""
        self._start()

    def stop(self) -> int:
        """End it in good order, and return its exit code; its folder stays until the end."""
        if self._child.poll() is None:
            self._child.send_signal(signal.SIGTERM)
        try:
            return self._child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._child.returncode

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
        code = self.post("/users", {"name": name, "role": "submitter"})["code"]
        return self._enrol({"code": code})

    def machine(self, name: str) -> str:
        """Enrol a machine and return its token."""
        return str(self.admitted(name)["token"])

    def admitted(self, name: str) -> dict[str, Any]:
        """Enrol a machine and return all that its sidecar needs."""
        code = self.post("/machines/invite", {"name": name})["code"]
        return self.post("/enrol", {"code": code})

    def machines(self, count: int) -> list[str]:
        """Enrol many machines, with codes that many may use; return their tokens."""
        uses = -(-count // CODES)
        codes = [self.post("/machines/invite", {"uses": uses})["code"] for _ in range(CODES)]
        # Several at a time, so that the hub commits them together; each by another code, since
        # uses of one code are counted one after the other.
        with ThreadPoolExecutor(ENROLLING) as threads:
            asked = ({"code": codes[n % CODES], "name": f"idle-{n}"} for n in range(count))
            return list(threads.map(self._enrol, asked))

    def submit(self, task: dict[str, Any]) -> str:
        """Ask for a task and return it."""
        return str(self.post("/tasks", task)["tasks"][0])

    def task(self, task: str) -> dict[str, Any]:
        """Return a task as it is now."""
        answer = self._http.get(f"/api/v1/tasks/{task}").raise_for_status()
        found: dict[str, Any] = answer.json()["task"]
        return found

    def call(self, name: str, **fields: Any) -> dict[str, Any]:
        """Make a call as the admin and return its answer."""
        return self.post(f"/calls/{name}", fields)

    def status(self) -> dict[str, Any]:
        """Return how the hub says that it is."""
        found: dict[str, Any] = self._http.get("/api/v1/status").raise_for_status().json()
        return found

    def agents(self) -> list[str]:
        """Return the agents that can take work now."""
        rows = self._http.get("/api/v1/agents").raise_for_status().json()["agents"]
        return [row["id"] for row in rows if row["state"] == "idle"]

    def metrics(self) -> str:
        """Return what the hub measures, as text."""
        return self._http.get("/metrics").raise_for_status().text

    def histogram(self, name: str) -> dict[float, int]:
        """Return how many observations a metric without labels has, by upper bound, in order."""
        text = self.metrics()
        found: dict[float, int] = {}
        before = 0
        for family in text_string_to_metric_families(text):
            for sample in family.samples if family.name == name else ():
                if sample.name.endswith("_bucket"):
                    found[float(sample.labels["le"])] = int(sample.value) - before
                    before = int(sample.value)
        return found

    def _start(self) -> None:
        reading, writing = os.pipe()
        port = self.url.rpartition(":")[2] or "0"
        words = ["hub", "run", "--home", str(self.home), "--port", port, "--admin", "bench"]
        with self.log.open("ab") as out:
            self._child = agentcom(
                [*words, *self._flags, "--ready-fd", str(writing)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                pass_fds=(writing,),
                env={**os.environ, "AGENTCOM_HOME": str(self.home), _PROXY: "127.0.0.1"},
            )
        os.close(writing)
        self._cleanup.callback(self.stop)
        with os.fdopen(reading, "rb") as pipe:
            answer = self._hear(pipe.fileno())
        self.pid = self._child.pid
        self.url = str(answer["url"])
        self._token = answer["token"] or self._token  # only the first start shows it

    def _enrol(self, asked: dict[str, Any]) -> str:
        """Let somebody in, from an address of their own: one address may ask only so often."""
        number = next(self._strangers)
        address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        return str(self.post("/enrol", asked, {"X-Forwarded-For": address})["token"])

    def post(
        self, path: str, body: dict[str, Any], headers: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """Make a request as the admin and return its answer; a refusal raises `RuntimeError`."""
        response = self._http.post(f"/api/v1{path}", json=body, headers=headers)
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


def agentcom(words: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Run the product's own program, with this Python."""
    return subprocess.Popen(  # noqa: S603 - this product itself
        [sys.executable, "-P", "-m", "agentcom.cli.main", *words], **options
    )
