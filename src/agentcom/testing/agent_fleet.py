"""What becomes of an agent's work when the processes around it die: one hub, one machine, one CLI.

Hub and sidecar are processes of their own, as a user would run them.
"""

import asyncio
import contextlib
import importlib.util
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import httpx

from agentcom.model.ids import AgentId, MachineId
from agentcom.sidecar import confines, survivors
from agentcom.sidecar.config import AgentConfig, Home, MachineConfig, Settings
from agentcom.sidecar.runtime import base
from agentcom.testing import agent_checks, scenario
from agentcom.testing.agent_checks import DONE, RUN_S, Differs, Row, Unable
from agentcom.testing.hub_process import HubProcess, agentcom
from agentcom.testing.mock_llm.answers import Entry

AWAY_S: Final = 60.0
"""How long the hub is gone: thrice its lease."""
THINKS_MS: Final = 15_000
"""How long the model thinks while something dies; a new sidecar is up after 2 s."""
STEP_S: Final = 0.1
AGENT: Final = "doctor"
TOOL: Final = "tool of the hub"
OUTAGES: Final = ("SIGKILL of sidecar", "hub away 60 s")
_OVER: Final = frozenset({"completed", "failed", "cancelled"})


class Fleet:
    """A hub, and a machine with one agent."""

    def __init__(self, hub: HubProcess, home: Home) -> None:
        self.hub = hub
        self.home = home
        self._sidecar: subprocess.Popen[bytes] | None = None

    @property
    def sidecar_pid(self) -> int:
        """Who the sidecar is."""
        assert self._sidecar is not None
        return self._sidecar.pid

    def start(self) -> None:
        """Start the sidecar."""
        words = ["sidecar", "run", "--home", str(self.home.root)]
        with (self.home.root / "sidecar.log").open("ab") as out:
            self._sidecar = agentcom(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def kill(self) -> None:
        """SIGKILL the sidecar; its agents go on."""
        assert self._sidecar is not None
        self._sidecar.kill()
        self._sidecar.wait()

    def end(self) -> int:
        """End the sidecar and what it left; return how many processes of its agents that were."""
        if self._sidecar is not None and self._sidecar.poll() is None:
            self._sidecar.terminate()
            try:
                self._sidecar.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
        folders = self.home.root / "attempts"
        places = list(folders.iterdir()) if folders.is_dir() else []
        return sum(survivors.kill_survivors(self.home.tag(at.name), at) for at in places)

    def submit(self, prompt: str, **more: Any) -> str:
        """Ask for a task."""
        return self.hub.submit({"title": "A task", "prompt": prompt, "failures_max": 1, **more})

    def ended(self, task: str) -> dict[str, Any]:
        """Return the task once it is over."""
        rows: list[dict[str, Any]] = []

        def over() -> bool:
            with contextlib.suppress(httpx.TransportError):  # the hub may be away
                rows.append(self.hub.task(task))
            return bool(rows) and rows[-1]["state"] in _OVER

        wait_for(over)
        return rows[-1]


@contextlib.contextmanager
def fleet_of(
    runtime: base.Runtime, settings: Mapping[str, str], folder: Path, *, slots: int = 1
) -> Iterator[Fleet]:
    """Run a hub and a machine whose one agent is driven by `runtime`."""
    with HubProcess() as hub:
        admitted = hub.admitted("doctor")
        home = Home(folder)
        agent = AgentConfig(
            name=AgentId(AGENT),
            runtime=runtime.name,
            slots=slots,
            settings=dict(settings),
            confines=confines.OPEN,
        )
        machine = MachineConfig(
            hub=hub.url,
            machine=MachineId(admitted["machine"]),
            agents=(agent,),
            settings=Settings(first_event_ms=int(RUN_S * 1_000)),
        )
        home.save(machine, admitted["token"])
        fleet = Fleet(hub, home)
        try:
            fleet.start()
            yield fleet
        finally:
            fleet.end()


async def tool_row(runtime: base.Runtime, settings: Mapping[str, str], folder: Path) -> Row:
    """Say whether the agent's call of a hub's tool reaches the hub, under its own name."""

    def find() -> str:
        if not runtime.uses_mcp:
            raise Unable("it has no client for MCP; its agent uses the command agentcom")
        if importlib.util.find_spec("mcp") is None:
            raise Unable("pip install 'agentcom[mcp]' first")
        letter = {"to": ["user:bench"], "body": "the parser is done"}
        prompt = scenario.render(
            [scenario.Use("message_send", letter), scenario.Say("I told them.")]
        )
        with fleet_of(runtime, settings, folder / "mcp") as fleet:
            task = fleet.ended(fleet.submit(prompt))
            letters = fleet.hub.call("inbox_read").get("letters", [])
        sent = [one["message"] for one in letters if one["message"].get("sort") != "notice"]
        if [one["sender"] for one in sent] != [f"agent:{AGENT}"]:
            raise Differs(f"no letter came; the task is {task['state']}: {task.get('reason')}")
        return DONE

    version = runtime.preflight(settings).version
    return await agent_checks.rated(runtime.name, version, TOOL, DONE, asyncio.to_thread(find))


async def outage_rows(
    runtime: base.Runtime,
    settings: Mapping[str, str],
    folder: Path,
    log: Sequence[Entry],
    only: Sequence[str] | None = None,
) -> AsyncIterator[Row]:
    """Say what is lost when the sidecar is killed, and when the hub is away for a minute."""
    version = runtime.preflight(settings).version

    def sidecar_killed(fleet: Fleet) -> None:
        fleet.kill()
        fleet.start()

    def hub_away(fleet: Fleet) -> None:
        fleet.hub.kill()
        time.sleep(AWAY_S)
        fleet.hub.restart()

    for name, deed in zip(OUTAGES, (sidecar_killed, hub_away), strict=True):
        if only and name not in only:
            continue
        place = folder / name.replace(" ", "-")
        finding = asyncio.to_thread(_outage, runtime, settings, place, log, deed)
        yield await agent_checks.rated(runtime.name, version, name, "done, attempt 1", finding)


def _outage(
    runtime: base.Runtime,
    settings: Mapping[str, str],
    folder: Path,
    log: Sequence[Entry],
    deed: Callable[[Fleet], None],
) -> str:
    origin = folder / "origin.git"
    agent_checks.make_tree(folder / "seed")
    agent_checks.git(folder, "clone", "-q", "--bare", str(folder / "seed"), str(origin))
    runs = folder / "runs"
    steps: list[scenario.Step] = [
        scenario.Shell(("touch", str(runs))),
        scenario.Sleep(THINKS_MS),
        scenario.Write("hello.txt", "hello\n"),
        scenario.Say("Done: hello.txt written."),
    ]
    with fleet_of(runtime, settings, folder / "machine") as fleet:
        before = len(log)
        task = fleet.submit(scenario.render(steps), repo=str(origin))
        wait_for(lambda: runs.exists() or agent_checks.asked_for_text(runtime, log[before:]))
        deed(fleet)
        row = fleet.ended(task)
        left = fleet.end()
    if left:
        raise Differs(f"{left} processes were left")
    if row["state"] != "completed":
        raise Differs(f"{row['state']}: {row.get('failure')} {row.get('reason')}")
    commits = agent_checks.git(origin, "for-each-ref", "--format=%(refname)", "refs/heads/agent")
    names = commits.split()
    if len(names) != 1 or agent_checks.git(origin, "show", f"{names[0]}:hello.txt") != "hello":
        raise Differs(f"its work is not at the origin: {names}")
    return f"done, attempt {row['attempt']}"


def wait_for(holds: Callable[[], bool], *, patience_s: float = RUN_S) -> None:
    """Return when `holds` does.

    Raises:
        Differs: it does not in time.
    """
    deadline = time.monotonic() + patience_s
    while not holds():
        if time.monotonic() > deadline:
            raise Differs(f"not so after {patience_s:.0f} s")
        time.sleep(STEP_S)
