"""Many agents of one machine at once, all real programs: what each costs, and whether they mix.

A hub and a sidecar run as processes of their own; the model is scripted. Every agent waits until
all are at work, so that what is measured is all of them together; then each writes a file of its
own and commits it. In the end every branch has exactly its own file, and every folder is clean.

Run: make bench-agents (ARGS="--agents 8 --runtime pi")
"""

import argparse
import asyncio
import contextlib
import datetime as dt
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from agentcom.cli import agent_doctor, enrol
from agentcom.sidecar import processes, supervise, survivors
from agentcom.testing import agent_checks, agent_fleet, scenario
from agentcom.testing.hub_process import cpu_s
from agentcom.testing.mock_llm import server
from bench import floors, report

ROOT: Final = Path(__file__).parent.parent
AGENTS: Final = 24
AT_WORK_S: Final = 300.0
"""Until all have started, one after the other on few cores."""
_ATTEMPT: Final = f"{supervise.ATTEMPT_VARIABLE}=".encode()
_KIB: Final = 1_024


def main() -> int:
    """Run it, print the figures, and publish them if asked to."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--agents", type=int, default=AGENTS)
    arguments.add_argument("--runtime", default="codex")
    arguments.add_argument("--publish", action="store_true", help="into docs/benchmarks")
    given = arguments.parse_args()
    found = asyncio.run(measured(given.runtime, given.agents))
    text = page(found)
    sys.stdout.write(text)
    if given.publish:
        stem = f"agents-{found['day']}"
        folder = ROOT / "docs" / "benchmarks"
        (folder / f"{stem}.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
        (folder / f"{stem}.md").write_text(text, "utf-8")
    return int(bool(found["faults"]))


async def measured(runtime: str, agents: int) -> dict[str, Any]:
    """Return the figures of one run."""
    program = agent_doctor.program_of(runtime)
    if program is None:
        raise SystemExit(f"{runtime} is not installed: make clis CLIS={runtime}")
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="agentcom-agents-"))
    try:
        async with server.serve(log=lambda _entry: None) as model:
            settings = {"base_url": model.url, "model": "scripted", "binary": program}
            return await asyncio.to_thread(_run, runtime, settings, folder, agents)
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def page(found: dict[str, Any]) -> str:
    """Return the figures as a page."""
    faults = "\n".join(f"- {fault}" for fault in found["faults"]) or "- none"
    each = found["agent_mib"]
    rows = [
        ["all at work after", f"{found['started_s']:.1f} s"],
        ["from there to the last task completed", f"{found['ended_s']:.1f} s"],
        ["tasks completed", f"{found['completed']} of {found['agents']}"],
        ["memory of one agent with all that it started (PSS), median", _mib(each["median"])],
        ["the same, at most", _mib(each["most"])],
        ["memory of its supervisor", _mib(found["supervisor_mib"])],
        ["memory of all agents and supervisors", _mib(found["agents_mib"])],
        ["memory of the sidecar", _mib(found["sidecar_mib"])],
        ["CPU of the sidecar for each agent", f"{found['sidecar_cpu_ms']:.0f} ms"],
        ["memory of the hub", _mib(found["hub_mib"])],
    ]
    table = "\n".join(report.markdown_table(["figure", "measured"], rows))
    return (
        f"# {found['agents']} agents at once, {found['day']}\n\n{found['machine']}; "
        f"load average {found['load']:.1f} before.\n\n"
        f"{found['runtime']} {found['version']} before a scripted model: one machine with "
        f"{found['agents']} slots, one repository. Every agent waits until all are at work; then "
        "each writes a file of its own and commits it. Run: `make bench-agents`\n\n"
        f"{table}\n\n## What was wrong\n\n{faults}\n"
    )


def _mib(size: float) -> str:
    return f"{size:.0f} MiB"


def _run(runtime: str, settings: dict[str, str], folder: Path, agents: int) -> dict[str, Any]:
    origin = folder / "origin.git"
    agent_checks.make_tree(folder / "seed")
    agent_checks.git(folder, "clone", "-q", "--bare", str(folder / "seed"), str(origin))
    driver, load = enrol.runtimes()[runtime], floors.load_average()
    go = folder / "go"
    with agent_fleet.fleet_of(driver, settings, folder / "machine", slots=agents) as fleet:
        began = time.monotonic()
        tasks = [
            fleet.submit(_prompt(folder, go, number), repo=str(origin)) for number in range(agents)
        ]
        agent_fleet.wait_for(
            lambda: len(list(folder.glob("at-work-*"))) == agents, patience_s=AT_WORK_S
        )
        started_s = time.monotonic() - began
        memory = _memory(fleet)
        go.touch()
        rows = [fleet.ended(task) for task in tasks]
        ended_s = time.monotonic() - began - started_s
        cpu_ms = cpu_s(fleet.sidecar_pid) * 1_000 / agents
        faults = _faults(origin, fleet, rows, agents)
    return {
        "day": dt.datetime.now(dt.UTC).date().isoformat(),
        "machine": report.machine_words(floors.machine()),
        "load": load,
        "runtime": runtime,
        "version": driver.preflight(settings).version,
        "agents": agents,
        "started_s": started_s,
        "ended_s": ended_s,
        "completed": sum(row["state"] == "completed" for row in rows),
        "sidecar_cpu_ms": cpu_ms,
        "faults": faults,
        **memory,
    }


def _prompt(folder: Path, go: Path, number: int) -> str:
    return scenario.render(
        [
            scenario.Shell(("touch", str(folder / f"at-work-{number}"))),
            scenario.WaitFor(str(go)),
            scenario.Write(f"agent-{number}.txt", f"agent {number}\n"),
            scenario.Commit(f"Add the file of agent {number}"),
            scenario.Say(f"Agent {number} is done."),
        ]
    )


def _memory(fleet: agent_fleet.Fleet) -> dict[str, Any]:
    """Return the memory of each agent's tree, of the sidecar and of the hub, in MiB."""
    ours = fleet.home.tag("").encode()
    trees: dict[bytes, float] = {}
    for pid in processes.read_table():
        given = processes.read_environment(pid)
        marks = [one for one in given if one.startswith(_ATTEMPT) and one.endswith(ours)]
        if marks:
            trees[marks[0]] = trees.get(marks[0], 0.0) + _pss_mib(pid)
    records = map(survivors.read_record, (fleet.home.root / "attempts").iterdir())
    supervisors = [_pss_mib(record.pid) for record in records if record is not None]
    sizes = sorted(trees.values())
    return {
        "agent_mib": {"median": statistics.median(sizes), "most": sizes[-1]},
        "agents_mib": sum(sizes) + sum(supervisors),
        "supervisor_mib": statistics.median(supervisors),
        "sidecar_mib": _pss_mib(fleet.sidecar_pid),
        "hub_mib": _pss_mib(fleet.hub.pid),
    }


def _pss_mib(pid: int) -> float:
    """Return a process's memory; what it shares with others counts in parts."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / _KIB
    return 0.0


def _faults(
    origin: Path, fleet: agent_fleet.Fleet, rows: list[dict[str, Any]], agents: int
) -> list[str]:
    faults = [
        f"task {number}: {row['state']} {row.get('failure')} {row.get('reason')}"
        for number, row in enumerate(rows)
        if row["state"] != "completed"
    ]
    names = agent_checks.git(origin, "for-each-ref", "--format=%(refname)", "refs/heads/agent")
    written: list[str] = []
    for name in names.split():
        changed = agent_checks.git(origin, "diff", "--name-only", "main", name).split()
        texts = [agent_checks.git(origin, "show", f"{name}:{one}") for one in changed]
        number = changed[0].removeprefix("agent-").removesuffix(".txt") if changed else ""
        written += changed
        if len(changed) != 1 or texts != [f"agent {number}"]:
            faults.append(f"{name} has {changed}")
    if sorted(written) != sorted(f"agent-{number}.txt" for number in range(agents)):
        faults.append(f"{len(written)} of {agents} files are at the origin")
    trees = [path for path in fleet.home.repositories.glob("*/worktrees/*") if path.is_dir()]
    return faults + [said for said in map(_unclean, trees) if said]


def _unclean(tree: Path) -> str:
    """Return what is wrong with a worktree; one that was removed meanwhile is well."""
    done = subprocess.run(
        ["git", "status", "--porcelain"], cwd=tree, capture_output=True, text=True, check=False
    )
    said = done.stdout.strip() or done.stderr.strip()
    return f"{tree.name} is not clean: {said}" if said and tree.exists() else ""


if __name__ == "__main__":
    sys.exit(main())
