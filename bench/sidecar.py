"""What a sidecar adds to a task, and what it weighs.

`before`: from the receipt of an assignment to the first line of its agent. `after`: from the
agent's last line to the hub's answer to the result. Both on the demo's repository, without what git
spent with origin. Beside the times, which other programs make longer, stands what they hardly
change: how many git commands that takes, and the processor time of the sidecar and its git. The
memory is that of a sidecar whose 24 agents all work.

python -m bench.sidecar [--tasks 20] [--agents 24] [--trace]
"""

import argparse
import asyncio
import contextlib
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

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


class Ran(NamedTuple):
    """One git command; it is remote if it talked to origin."""

    began: float
    ended: float
    words: tuple[str, ...]
    remote: bool


class Timed(Sidecar):
    """A sidecar that notes when frames came, and what processor time it had used by then."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.assigned: tuple[float, float] = (0.0, 0.0)
        self.answered: dict[str, asyncio.Future[tuple[float, float]]] = {}
        glance = self._preflight.glance

        async def looked(tell: Any) -> None:
            self.assigned = (time.time(), _cpu_s())  # the first thing that an assignment does
            await glance(tell)

        self._preflight.glance = looked  # type: ignore[method-assign] # a bench looks inside

    async def _tell(self, fact: Any) -> None:
        if isinstance(fact, frames.Ack) and fact.of is ReportKind.FINISH:
            answered = self.answer(fact.task)
            if not answered.done():
                answered.set_result((time.time(), _cpu_s()))
        await super()._tell(fact)

    def answer(self, task: str) -> asyncio.Future[tuple[float, float]]:
        """Return what is done when the hub has a task's result."""
        return self.answered.setdefault(task, asyncio.get_running_loop().create_future())


@contextlib.contextmanager
def git_commands() -> Iterator[list[Ran]]:
    """Collect the git commands of this process."""
    spent: list[Ran] = []
    run = git.run

    async def timed(args: Any, *more: Any, remote: bool = False, **rest: Any) -> git.GitResult:
        began = time.time()
        try:
            return await run(args, *more, remote=remote, **rest)
        finally:
            spent.append(Ran(began, time.time(), tuple(args), remote))

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


async def overhead(
    hub: HubProcess, folder: Path, tasks: int, sandbox: Sandbox, *, trace: bool = False
) -> Row:
    """Return what tasks cost that run one after the other; `trace` shows their git commands."""
    origin = demo_project.make_origin(folder)
    config = enrolled(hub, folder / f"machine-{sandbox.value}", 1, sandbox)
    before: list[float] = []
    after: list[float] = []
    used: list[float] = []
    counts: list[tuple[int, int]] = []
    with git_commands() as ran:
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
                    answered, cpu_s = await sidecar.answer(task)
                first, last = _lines(config, task)
                assigned, cpu_before_s = sidecar.assigned
                if number >= WARM_UP:
                    before.append(1_000 * (first - assigned - _remote(ran, assigned, first)))
                    after.append(1_000 * (answered - last - _remote(ran, last, answered)))
                    used.append(1_000 * (cpu_s - cpu_before_s))
                    counts.append((_local(ran, assigned, first), _local(ran, last, answered)))
                if trace:
                    _show(ran, assigned, {"agent's first line": first, "its last line": last})
                ran.clear()
    return {
        "sandbox": sandbox.value,
        "tasks": tasks,
        "before": {**_of(before), "git": statistics.median(count for count, _ in counts)},
        "after": {**_of(after), "git": statistics.median(count for _, count in counts)},
        "cpu_ms": statistics.median(used),
    }


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


def _remote(spent: list[Ran], begin: float, end: float) -> float:
    """Return how long git talked to origin in that time; commands may overlap."""
    found, reached = 0.0, begin
    for one in sorted(spent):
        if one.remote:
            found += max(0.0, min(one.ended, end) - max(one.began, reached))
            reached = max(reached, min(one.ended, end))
    return found


def _local(spent: list[Ran], begin: float, end: float) -> int:
    """Return how many git commands that talked to nobody began in that time."""
    return sum(begin <= one.began <= end for one in spent if not one.remote)


def _show(spent: list[Ran], begin: float, marks: dict[str, float]) -> None:
    """Print what happened when, in milliseconds since the assignment."""
    rows = [(one.began, one.ended, " ".join(one.words)[:90], one.remote) for one in spent]
    rows += [(at, at, f"-- {mark}", False) for mark, at in marks.items()]
    for began, ended, said, remote in sorted(rows):
        far = "origin" if remote else ""
        took = f"{1_000 * (began - begin):8.1f} {1_000 * (ended - began):7.1f}"
        sys.stdout.write(f"{took}  {far:6}  {said}\n")
    sys.stdout.write("\n")


def _cpu_s() -> float:
    """Return the processor time of this process, and of the programs that it waited for."""
    both = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in both)


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


def measure(tasks: int, agents: int, kinds: tuple[Sandbox, ...], *, trace: bool = False) -> Row:
    """Return all figures; without agents there is none of the memory."""
    with tempfile.TemporaryDirectory(prefix="agentcom-bench-") as name, HubProcess() as hub:
        rows = []
        for kind in kinds:
            folder = Path(name, kind.value)
            folder.mkdir()
            rows.append(asyncio.run(overhead(hub, folder, tasks, kind, trace=trace)))
        crowd = memory(hub, Path(name), agents) if agents else None
        return {"overhead": rows, "memory": crowd}


def tables(found: Row) -> Iterator[report.Table]:
    """Yield the figures as tables."""
    header = ["sandbox", "before, p50", "p90", "git commands"]
    header += ["after, p50", "p90", "git commands", "CPU of both", "target", "met"]
    yield (
        "A sidecar's part of a task, without git's talk to origin",
        header,
        [
            [
                row["sandbox"],
                *(
                    f"{row[part][figure]:.0f}{unit}"
                    for part in ("before", "after")
                    for figure, unit in (("p50_ms", " ms"), ("p90_ms", " ms"), ("git", ""))
                ),
                f"{row['cpu_ms']:.0f} ms",
                f"<= {OVERHEAD_MS_MAX:.0f} ms",
                "yes"
                if max(row["before"]["p50_ms"], row["after"]["p50_ms"]) <= OVERHEAD_MS_MAX
                else "NO",
            ]
            for row in found["overhead"]
        ],
    )
    row = found["memory"]
    if row is None:
        return
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
    parser.add_argument("--trace", action="store_true", help="show the git commands of each task")
    options = parser.parse_args()
    kinds = (Sandbox.OFF,) if options.trace else (Sandbox.OFF, Sandbox.AUTO)
    found = measure(options.tasks, options.agents, kinds, trace=options.trace)
    sys.stdout.write(f"{report.aligned(tables(found))}\n")


if __name__ == "__main__":
    main()
