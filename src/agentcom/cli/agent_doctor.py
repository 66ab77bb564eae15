"""Checks of an installed agent CLI: real runs against the scripted model, in a scratch folder."""

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from agentcom.cli import background, enrol
from agentcom.cli.demo_project import git
from agentcom.cli.errors import CommandFailed, Exit
from agentcom.model.failure import FailureClass
from agentcom.sidecar import process, survivors
from agentcom.sidecar.runtime import base
from agentcom.testing.mock_llm import server

RUN_S: Final = 60.0
"""One scenario of a real program on a busy machine."""
GONE_S: Final = 5.0
"""A supervisor that has written down the end is gone in some milliseconds."""
CLI_FOLDER: Final = ".agent-clis"
_KEPT: Final = ("PATH", "LANG")


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happens to an agent, and what its driver must make of it."""

    name: str
    script: str
    expected: FailureClass | None
    stop_at: type[base.RuntimeEvent] | None = None
    stop: base.Stop = base.Stop.CANCELLED


SCENARIOS: Final = (
    Scenario(name="edit", script="edit", expected=None),
    Scenario(name="401", script="auth", expected=FailureClass.AUTH),
    Scenario(name="500", script="model-down", expected=FailureClass.MODEL_UNAVAILABLE),
    Scenario(
        name="hang",
        script="hang",
        expected=FailureClass.NO_PROGRESS,
        stop_at=base.SessionStarted,
        stop=base.Stop.NO_PROGRESS,
    ),
    Scenario(name="cancel", script="slow", expected=FailureClass.AGENT, stop_at=base.ToolStarted),
)


def check(cli: str | None, binary: str | None) -> list[dict[str, Any]]:
    """Return one row for each scenario of each wanted CLI.

    Raises:
        CommandFailed: none of them is installed.
    """
    found = {
        name: runtime for name, runtime in enrol.runtimes().items() if name not in enrol.NO_CLI
    }
    if cli is not None and cli not in found:
        raise CommandFailed(
            f"there is no runtime {cli}",
            hint=f"agentcom agent doctor {next(iter(sorted(found)))}",
            exit_code=Exit.MISSING,
            code="not_found",
        )
    wanted = [cli] if cli is not None else sorted(found)
    programs = {name: binary or program_of(name) for name in wanted}
    installed = {name: path for name, path in programs.items() if path is not None}
    if not installed:
        raise CommandFailed(
            f"{', '.join(wanted)}: not installed",
            hint="put it on PATH, or give --binary",
            exit_code=Exit.MISSING,
            code="not_installed",
        )
    return asyncio.run(_check_all({name: found[name] for name in installed}, installed))


def program_of(name: str) -> str | None:
    """Return where a CLI is: on PATH, else in `.agent-clis` here."""
    here = Path(CLI_FOLDER, name, "bin", name).absolute()
    return shutil.which(name) or (str(here) if here.exists() else None)


async def _check_all(
    runtimes: Mapping[str, base.Runtime], programs: Mapping[str, str]
) -> list[dict[str, Any]]:
    rows = []
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="agentcom-doctor-"))
    try:
        async with server.serve(log=lambda _entry: None) as model:
            settings = {"base_url": model.url, "model": "scripted"}
            for name, runtime in runtimes.items():
                bench = _Bench(runtime, {**settings, "binary": programs[name]}, folder / name)
                rows += [await bench.row(scenario) for scenario in SCENARIOS]
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    return rows


class _Bench:
    """Where one CLI runs."""

    def __init__(self, runtime: base.Runtime, settings: Mapping[str, str], folder: Path) -> None:
        self._runtime = runtime
        self._settings = settings
        self._folder = folder

    async def row(self, scenario: Scenario) -> dict[str, Any]:
        """Return what came of a scenario."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(RUN_S):
                found, problem = await self._run(scenario)
        except (process.NotStarted, TimeoutError) as error:
            found, problem = "", str(error) or f"no end in {RUN_S:.0f} s"
        expected = scenario.expected.value if scenario.expected is not None else "done"
        return {
            "runtime": self._runtime.name,
            "scenario": scenario.name,
            "passed": not problem and found == expected,
            "expected": expected,
            "found": problem or found,
            "duration_ms": int((time.monotonic() - began) * 1000),
        }

    async def _run(self, scenario: Scenario) -> tuple[str, str]:
        tree = self._folder / scenario.name / "tree"
        await asyncio.to_thread(_make_tree, tree)
        attempt = self._folder / scenario.name / "attempt"
        launch = self._runtime.launch(self._job(scenario, tree))
        tag = f"doctor-{self._runtime.name}-{scenario.name}"
        bounds = process.ProcessLimits(deadline_ms=int(RUN_S * 1000), grace_ms=1_000)
        running = await process.start(attempt, launch, limits=bounds, attempt=tag)
        try:
            verdict = await self._judge(running, scenario)
        finally:
            await running.stop(base.Stop.CANCELLED)
            left = await asyncio.to_thread(_left_over, tag, attempt)
        if left:
            return "", f"{left} processes were left"
        if scenario.expected is None and not (tree / "hello.txt").exists():
            return "", f"the file was not written: {verdict.message}"
        return verdict.failure.value if verdict.failure is not None else "done", ""

    async def _judge(self, running: process.AgentProcess, scenario: Scenario) -> base.Verdict:
        parser = self._runtime.parser()
        stopping: asyncio.Task[base.Exit] | None = None
        async for _, line in running.lines():
            events = parser.feed(line)
            if scenario.stop_at is None or stopping is not None:
                continue
            if any(isinstance(event, scenario.stop_at) for event in events):
                stopping = asyncio.create_task(running.stop(scenario.stop))
        if stopping is not None:
            await stopping
        return parser.finish(await running.wait())

    def _job(self, scenario: Scenario, tree: Path) -> base.Job:
        home = tree.parent / "home"
        home.mkdir(parents=True)
        task_file = tree.parent / "task.md"
        prompt = f"<<mock:{scenario.script}>> Do what the script says."
        task_file.write_text(prompt, "utf-8")
        return base.Job(
            task="doctor",
            attempt="1",
            prompt=prompt,
            task_file=str(task_file),
            worktree=str(tree),
            home=str(home),
            settings=self._settings,
            environment={name: os.environ[name] for name in _KEPT if name in os.environ},
        )


def _make_tree(tree: Path) -> None:
    tree.mkdir(parents=True)
    identity: Sequence[str] = ("-c", "user.name=Doctor", "-c", "user.email=doctor@agentcom.invalid")
    git(tree, "init", "-q")
    git(tree, *identity, "commit", "-q", "--allow-empty", "-m", "Start")


def _left_over(tag: str, attempt: Path) -> int:
    """Return how many processes had to be killed after the supervisor had gone."""
    record = survivors.read_record(attempt)
    if record is not None:
        background.wait_for(lambda: not survivors.supervisor_runs(record), timeout_s=GONE_S)
    return survivors.kill_survivors(tag, attempt)
