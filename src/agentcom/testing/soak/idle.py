"""Idle costs nothing: a hub and real sidecars with real agent programs, and nothing to do.

The agents' programs are told to use the scripted model server, which counts what is asked of it.
A task at the end shows that it does count.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agentcom.model.ids import AgentId, MachineId
from agentcom.sidecar.config import AgentConfig, Home, MachineConfig
from agentcom.sidecar.confines import OPEN
from agentcom.testing import scenario
from agentcom.testing.hub_process import HubProcess, agentcom, cpu_s, written_bytes
from agentcom.testing.soak.bars import Outcome, Say

CPU_PERCENT: Final = 0.5
"""Of one core, for the hub and for each sidecar."""
WRITTEN_BYTES: Final = 524_288
"""What an idle hub may write, however long it is watched: when the tokens were last used, and the
log of its start folded in. Nothing is written again and again."""
SETTLE_S: Final = 10.0  # what starts up is not idle yet
READY_S: Final = 60.0
CONTROL_S: Final = 120.0
END_S: Final = 15.0
CLI_FOLDER: Final = ".agent-clis"
_LOOK_S: Final = 0.2
_SAY_EVERY_S: Final = 10.0
_ASK: Final = """
import sys, urllib.request
body = b'{"model": "scripted", "messages": [{"role": "user", "content": "hello"}]}'
kind = {"content-type": "application/json"}
urllib.request.urlopen(urllib.request.Request(sys.argv[1], body, kind), timeout=30).read()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How many, and for how long."""

    sidecars: int = 10
    seconds: float = 600.0


def run(plan: Plan, say: Say) -> Outcome:
    """Connect everything, wait, and see what it has cost."""
    outcome = Outcome("idle")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="agentcom-idle-")))
        hub = stack.enter_context(HubProcess())
        model = stack.enter_context(_model(folder))
        programs = _programs()
        sidecars = [
            stack.enter_context(_sidecar(hub, folder / f"m{n}", n, model.url, programs))
            for n in range(plan.sidecars)
        ]
        _until(lambda: hub.status()["machines_connected"] == plan.sidecars, READY_S)
        outcome.figures["agents_of_each_sidecar"] = [*programs, "testagent", "command"]
        say(f"{plan.sidecars} sidecars connected, agents: {', '.join(programs) or 'no CLI here'}")
        time.sleep(SETTLE_S)
        _watch(plan, say, outcome, hub, model, [one.pid for one in sidecars])
        say("a task for each agent program, to see that the model server counts")
        before = model.requests()
        tasks = _control(hub, model.url, programs)
        requests = model.requests() - before
        outcome.at_least(f"control: model requests of {tasks} tasks", requests, tasks)
        outcome.none("sidecars that ended by themselves", _ended(sidecars))
    return outcome


class _Model:
    """The scripted model server, and its log."""

    def __init__(self, log: Path, port_file: Path) -> None:
        self._log = log
        self.url = f"http://127.0.0.1:{port_file.read_text('ascii').strip()}"

    def requests(self) -> int:
        return sum(line.startswith(b"{") for line in self._log.read_bytes().splitlines())


def _watch(
    plan: Plan, say: Say, outcome: Outcome, hub: HubProcess, model: _Model, pids: Sequence[int]
) -> None:
    """Measure a time in which nothing is asked."""
    before = {pid: cpu_s(pid) for pid in (hub.pid, *pids)}
    written, requests, began = written_bytes(hub.pid), model.requests(), time.monotonic()
    while (left_s := began + plan.seconds - time.monotonic()) > 0:
        say(f"idle for {plan.seconds - left_s:.0f} of {plan.seconds:.0f} s")
        time.sleep(min(_SAY_EVERY_S, left_s))
    took_s = time.monotonic() - began
    percent = {pid: 100 * (cpu_s(pid) - cpu) / took_s for pid, cpu in before.items()}
    hub_percent = percent.pop(hub.pid)
    wrote = written_bytes(hub.pid) - written
    outcome.exactly(f"model requests in {took_s:.0f} s", model.requests() - requests, 0)
    outcome.at_most("hub: CPU of a core", hub_percent, CPU_PERCENT, "%")
    outcome.at_most("busiest sidecar: CPU of a core", max(percent.values()), CPU_PERCENT, "%")
    outcome.at_most("hub: written to its disk", wrote, WRITTEN_BYTES, "bytes")
    outcome.counts = f"{len(pids)} sidecars, {took_s:.0f} s"
    outcome.figures |= {
        "seconds": round(took_s),
        "sidecars": len(pids),
        "hub_cpu_percent": round(hub_percent, 3),
        "sidecar_cpu_percent": [round(one, 3) for one in percent.values()],
        "hub_written_bytes": wrote,
    }


def _control(hub: HubProcess, model: str, programs: Mapping[str, str]) -> int:
    """Let each agent program do a task that asks the model; return how many tasks there were."""
    prompt = scenario.render([scenario.Say("Done.")])
    tasks: list[dict[str, Any]] = [
        {"title": "control", "prompt": prompt, "needs": [name]} for name in programs
    ]
    if not tasks:
        command = [sys.executable, "-c", _ASK, f"{model}/v1/chat/completions"]
        tasks = [{"title": "control", "command": command, "needs": ["command"]}]
    for task in tasks:
        hub.submit(task)
    _until(lambda: hub.status()["ended"].get("completed") == len(tasks), CONTROL_S)
    return len(tasks)


@contextlib.contextmanager
def _model(folder: Path) -> Iterator[_Model]:
    log, port_file = folder / "model.jsonl", folder / "port"
    words = ["mock-llm", "--port-file", str(port_file)]
    with log.open("wb") as out, _running(agentcom(words, stdout=out, stderr=out)):
        _until(port_file.exists, READY_S)
        yield _Model(log, port_file)


@contextlib.contextmanager
def _sidecar(
    hub: HubProcess, root: Path, number: int, model: str, programs: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a machine's sidecar as a user would, with every agent that there is."""
    admitted = hub.admitted(f"idle-{number}")
    agents = [
        AgentConfig(
            name=AgentId(f"{name}-{number}"),
            runtime=name,
            capabilities=(name,),
            confines=OPEN,
            settings={"binary": binary, "base_url": model, "model": "scripted"},
        )
        for name, binary in programs.items()
    ]
    agents += [
        AgentConfig(
            name=AgentId(f"{name}-{number}"), runtime=name, capabilities=(name,), confines=OPEN
        )
        for name in ("testagent", "command")
    ]
    machine = MachineConfig(
        hub=hub.url, machine=MachineId(admitted["machine"]), agents=tuple(agents)
    )
    Home(root).save(machine, admitted["token"])
    own = {k: v for k, v in os.environ.items() if not k.startswith("AGENTCOM_")}
    with (root / "sidecar.log").open("wb") as out:
        words = ["sidecar", "run", "--home", str(root)]
        child = agentcom(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=own)
    with _running(child):
        yield child


@contextlib.contextmanager
def _running(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """End a process when the block is left."""
    try:
        yield
    finally:
        child.terminate()
        try:
            child.wait(END_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _programs() -> Mapping[str, str]:
    """Return the agents' own programs that are installed, by runtime."""
    found = {}
    for name in ("claude", "codex"):
        local = Path(CLI_FOLDER, name, "bin", name)
        binary = str(local.resolve()) if local.exists() else shutil.which(name)
        if binary is not None:
            found[name] = binary
    return found


def _ended(children: Sequence[subprocess.Popen[bytes]]) -> list[str]:
    return [f"exit code {child.returncode}" for child in children if child.poll() is not None]


def _until(holds: Any, patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"something did not come true within {patience_s:.0f} s")
        time.sleep(_LOOK_S)
