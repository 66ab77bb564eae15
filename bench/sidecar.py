"""What a sidecar adds to a task, and what it weighs.

`before`: from the receipt of an assignment to the first line of its agent. `after`: from the
agent's last line to the hub's answer to the result. Both on the demo's repository, with and without
what git spent with origin. The memory is that of a sidecar whose 24 agents all work.

python -m bench.sidecar [--tasks 20] [--agents 24]
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Final

from agentcom.cli import demo_project
from agentcom.model.ids import AgentId, MachineId
from agentcom.model.result import ReportKind
from agentcom.protocol import frames
from agentcom.sidecar import git, process
from agentcom.sidecar.config import AgentConfig, Config, Home, MachineConfig
from agentcom.sidecar.confines import Confines, Sandbox
from agentcom.sidecar.shell import Sidecar
from agentcom.testing import hub_process
from agentcom.testing.hub_process import HubProcess
from bench import report

WARM_UP: Final = 3
OVERHEAD_MS_MAX: Final = 150.0
PATIENCE_S: Final = 60.0
_SCRIPT: Final = "date +%s.%N; echo more >> README.md; date +%s.%N"
_WAIT: Final = "echo ready; exec sleep 600"

Row = dict[str, Any]
Interval = tuple[float, float]


class Timed(Sidecar):
    """A sidecar that notes when frames came."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.assigned: dict[str, float] = {}
        self.answered: dict[str, asyncio.Future[float]] = {}

    async def _tell(self, fact: Any) -> None:
        if isinstance(fact, frames.Assign):
            self.assigned[fact.assignment.task] = time.time()
        elif isinstance(fact, frames.Ack) and fact.of is ReportKind.FINISH:
            answered = self.answer(fact.task)
            if not answered.done():
                answered.set_result(time.time())
        await super()._tell(fact)

    def answer(self, task: str) -> asyncio.Future[float]:
        """Return what is done when the hub has a task's result."""
        return self.answered.setdefault(task, asyncio.get_running_loop().create_future())


@contextlib.contextmanager
def remote_git() -> Iterator[list[Interval]]:
    """Collect when git talked to origin."""
    spent: list[Interval] = []
    run = git.run

    async def timed(*args: Any, remote: bool = False, **more: Any) -> git.GitResult:
        began = time.time()
        try:
            return await run(*args, remote=remote, **more)
        finally:
            if remote:
                spent.append((began, time.time()))

    git.run = timed
    try:
        yield spent
    finally:
        git.run = run


@contextlib.asynccontextmanager
async def running(config: Config) -> AsyncIterator[Timed]:
    """Run a sidecar in this process."""
    sidecar = Timed(config)
    task = asyncio.create_task(sidecar.run(handle_signals=False))
    try:
        yield sidecar
    finally:
        sidecar.stop()
        await task


def enrolled(hub: HubProcess, root: Path, agents: int, sandbox: Sandbox) -> Config:
    """Make a machine of the hub with so many agents, each for plain commands."""
    home = Home(root)
    names = [AgentId(f"{root.name}-{number}") for number in range(agents)]
    confines = Confines(sandbox=sandbox)
    home.save(
        MachineConfig(
            hub=hub.url,
            machine=MachineId(root.name),
            agents=tuple(
                AgentConfig(name=name, runtime="command", confines=confines) for name in names
            ),
        ),
        hub.machine(root.name),
    )
    return home.load()


async def overhead(hub: HubProcess, folder: Path, tasks: int, sandbox: Sandbox) -> Row:
    """Return what tasks cost that run one after the other."""
    origin = demo_project.make_origin(folder)
    config = enrolled(hub, folder / f"machine-{sandbox.value}", 1, sandbox)
    before: list[float] = []
    after: list[float] = []
    with remote_git() as remote:
        async with running(config) as sidecar:
            for number in range(tasks + WARM_UP):
                asked = {
                    "title": f"Task {number}",
                    "command": ["sh", "-c", _SCRIPT],
                    "repo": str(origin),
                    "verify": ["true"],
                    "land": "branch",
                }
                task = await asyncio.to_thread(hub.submit, asked)
                async with asyncio.timeout(PATIENCE_S):
                    answered = await sidecar.answer(task)
                first, last = _lines(config, task)
                assigned = sidecar.assigned[task]
                if number >= WARM_UP:
                    before.append(1_000 * (first - assigned - _within(remote, assigned, first)))
                    after.append(1_000 * (answered - last - _within(remote, last, answered)))
                remote.clear()
    return {"sandbox": sandbox.value, "tasks": tasks, "before": _of(before), "after": _of(after)}


def memory(hub: HubProcess, folder: Path, agents: int) -> Row:
    """Return what a sidecar and its supervisors weigh, with no agent at work and with all."""
    config = enrolled(hub, folder / "crowd", agents, Sandbox.OFF)
    log = (folder / "sidecar.log").open("wb")
    sidecar = hub_process.agentcom(
        ["sidecar", "run", "--home", str(config.home.root)], stdout=log, stderr=log
    )
    try:
        _until(lambda: _connected(hub, config))
        idle = _private_kib(sidecar.pid)
        for number in range(agents):
            hub.submit({"title": f"Task {number}", "command": ["sh", "-c", _WAIT]})
        _until(lambda: len(_ready(config)) == agents)
        busy = _private_kib(sidecar.pid)
        supervisors = [_private_kib(pid) for pid in _supervisors(config)]
    finally:
        sidecar.terminate()
        sidecar.wait()
        log.close()
        for path in (config.home.root / "attempts").glob("*"):
            process.kill_survivors(config.home.tag(path.name), path)
    return {
        "agents": agents,
        "sidecar_mib_idle": idle / 1_024,
        "sidecar_mib": busy / 1_024,
        "sidecar_kib_each": (busy - idle) / agents,
        "supervisor_kib": statistics.median(supervisors),
    }


def _lines(config: Config, task: str) -> tuple[float, float]:
    (folder,) = (config.home.root / "attempts").glob(f"{task}.*")
    first, last = (folder / "stdout.log").read_text("ascii").split()
    return float(first), float(last)


def _within(spent: list[Interval], begin: float, end: float) -> float:
    """Return how long git talked to origin in that time; commands may overlap."""
    found, reached = 0.0, begin
    for began, ended in sorted(spent):
        found += max(0.0, min(ended, end) - max(began, reached))
        reached = max(reached, min(ended, end))
    return found


def _of(values_ms: list[float]) -> Row:
    ordered = sorted(values_ms)
    return {"p50_ms": statistics.median(ordered), "p90_ms": ordered[int(len(ordered) * 0.9)]}


def _connected(hub: HubProcess, config: Config) -> bool:
    names = {agent.name for agent in config.machine.agents}
    return names <= set(hub.agents())


def _ready(config: Config) -> list[Path]:
    logs = (config.home.root / "attempts").glob("*/stdout.log")
    return [path for path in logs if path.stat().st_size]


def _supervisors(config: Config) -> list[int]:
    records = (config.home.root / "attempts").glob("*/supervisor.json")
    return [json.loads(path.read_text("utf-8"))["pid"] for path in records]


def _private_kib(pid: int) -> int:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()
    return sum(int(line.split()[1]) for line in rollup if "Private_" in line)


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError("the machine did not get there in time")
        time.sleep(0.05)


def measure(tasks: int, agents: int, kinds: tuple[Sandbox, ...]) -> Row:
    """Return all figures."""
    with tempfile.TemporaryDirectory(prefix="agentcom-bench-") as name, HubProcess() as hub:
        rows = []
        for kind in kinds:
            folder = Path(name, kind.value)
            folder.mkdir()
            rows.append(asyncio.run(overhead(hub, folder, tasks, kind)))
        return {"overhead": rows, "memory": memory(hub, Path(name), agents)}


def tables(found: Row) -> Iterator[report.Table]:
    """Yield the figures as tables."""
    header = ["sandbox", "before, p50", "p90", "after, p50", "p90", "target", "met"]
    yield (
        "A sidecar's part of a task, without git's talk to origin",
        header,
        [
            [
                row["sandbox"],
                *(
                    f"{row[part][figure]:.0f} ms"
                    for part in ("before", "after")
                    for figure in ("p50_ms", "p90_ms")
                ),
                f"<= {OVERHEAD_MS_MAX:.0f} ms",
                "yes"
                if max(row["before"]["p50_ms"], row["after"]["p50_ms"]) <= OVERHEAD_MS_MAX
                else "NO",
            ]
            for row in found["overhead"]
        ],
    )
    row = found["memory"]
    yield (
        f"Memory of a sidecar with {row['agents']} agents at work",
        ["sidecar, idle", "sidecar, all at work", "each of its agents", "each supervisor"],
        [
            [
                f"{row['sidecar_mib_idle']:.0f} MiB",
                f"{row['sidecar_mib']:.0f} MiB",
                f"{row['sidecar_kib_each']:.0f} KiB",
                f"{row['supervisor_kib'] / 1_024:.1f} MiB",
            ]
        ],
    )


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(prog="python -m bench.sidecar", description=__doc__)
    parser.add_argument("--tasks", type=int, default=20)
    parser.add_argument("--agents", type=int, default=24)
    options = parser.parse_args()
    print(
        report.aligned(tables(measure(options.tasks, options.agents, (Sandbox.OFF, Sandbox.AUTO))))
    )


if __name__ == "__main__":
    main()
