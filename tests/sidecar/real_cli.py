"""A bench for real agent CLIs: a git worktree, a scratch home, and a scripted model beside them."""

import asyncio
import contextlib
import os
import subprocess
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # it ships no types
import pytest

from agentcom.sidecar.runtime.base import (
    Exit,
    Job,
    Launch,
    Parser,
    Runtime,
    RuntimeEvent,
    Stop,
    Talker,
    TurnEnded,
    Verdict,
)
from agentcom.testing.mock_llm import server
from agentcom.testing.mock_llm.answers import Entry

REPOSITORY = Path(__file__).resolve().parents[2]

RUN_TIMEOUT_S = 120
"""Bounds every wait; a run takes a second, and half a minute on a machine that does much else."""
TEST_TIMEOUT_S = 300
"""Bounds a test of several runs."""


def installed(name: str) -> str:
    """Return the path of the CLI, or skip the test and say what to do."""
    binary = REPOSITORY / ".agent-clis" / name / "bin" / name
    if not binary.exists():
        pytest.skip(f"{name} IS NOT INSTALLED: run python tests/tools/install_clis.py")
    return str(binary)


@dataclass
class Run:
    """One running agent, and its parser."""

    process: asyncio.subprocess.Process
    parser: Parser

    async def read(self) -> None:
        """Feed the parser, and say what it has to say, until the output ends."""
        assert self.process.stdout is not None
        pending = b""
        self._talk([])
        while chunk := await self.process.stdout.read(65_536):
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                self._talk(self.parser.feed(line))

    def _talk(self, events: Sequence[RuntimeEvent]) -> None:
        stdin = self.process.stdin
        if stdin is None or not isinstance(self.parser, Talker):
            return
        for said in self.parser.drain():
            stdin.write(said.data)
        if any(isinstance(event, TurnEnded) for event in events):
            stdin.close()

    async def ended(self, stop: Stop | None = None) -> Verdict:
        """Wait for the exit and judge the run."""
        code = await asyncio.wait_for(self.process.wait(), RUN_TIMEOUT_S)
        signal = -code if code < 0 else None
        return self.parser.finish(Exit(code=code, signal=signal, stop=stop))

    def kill_tree(self) -> list[psutil.Process]:
        """Kill the agent and all it has started; return what still lives."""
        try:
            leader = psutil.Process(self.process.pid)
        except psutil.NoSuchProcess:  # it was buried, and only its exit code is not here yet
            return []
        tree = _frozen(leader)
        for process in tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        deadline = time.monotonic() + RUN_TIMEOUT_S
        alive = tree[1:]
        while alive and time.monotonic() < deadline:
            psutil.wait_procs(alive, timeout=0.05)
            alive = [process for process in alive if _lives(process)]
        return alive


@dataclass
class Bench:
    """Where agents run."""

    runtime: Runtime
    root: Path
    settings: Mapping[str, str]
    log: list[Entry]

    @property
    def worktree(self) -> Path:
        return self.root / "tree"

    def job(self, prompt: str, *, resume: str | None = None) -> Job:
        """Return a job in the worktree."""
        task_file = self.root / "task.md"
        task_file.write_text(prompt, "utf-8")
        return Job(
            task="t1",
            attempt="1",
            prompt=prompt,
            task_file=str(task_file),
            worktree=str(self.worktree),
            home=str(self.root / "home"),
            resume=resume,
            settings=self.settings,
            environment={
                "PATH": os.environ["PATH"],
                "GIT_CONFIG_GLOBAL": os.environ["GIT_CONFIG_GLOBAL"],
            },
        )

    @contextlib.asynccontextmanager
    async def start(self, prompt: str, *, resume: str | None = None) -> AsyncIterator[Run]:
        """Start the agent; it is dead, with all it started, when the context ends."""
        launch = self.runtime.launch(self.job(prompt, resume=resume))
        write_files(launch, self.root / "home")
        process = await asyncio.create_subprocess_exec(
            *launch.argv,
            env=dict(launch.environment),
            cwd=launch.cwd,
            stdin=asyncio.subprocess.PIPE if launch.talks else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        run = Run(process, self.runtime.parser())
        if isinstance(run.parser, Talker):
            run.parser.begin(launch.opening)
        reading = asyncio.create_task(run.read())
        try:
            yield run
            await asyncio.wait_for(reading, RUN_TIMEOUT_S)
        finally:
            if process.returncode is None:
                run.kill_tree()
            await process.wait()
            reading.cancel()

    async def run(self, prompt: str, *, resume: str | None = None) -> tuple[Run, Verdict]:
        """Run the agent to its end."""
        async with self.start(prompt, resume=resume) as run:
            await asyncio.wait_for(run.process.wait(), RUN_TIMEOUT_S)
        return run, await run.ended()

    def git(self, *arguments: str) -> str:
        """Return what git says in the worktree."""
        return git(self.worktree, *arguments)


def _frozen(leader: psutil.Process) -> list[psutil.Process]:
    """Stop a process and all below it, so that none is started while they are killed."""
    tree: list[psutil.Process] = []
    found = [leader]
    while found:
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
        tree += found
        found = []
        with contextlib.suppress(psutil.NoSuchProcess):
            found = [one for one in leader.children(recursive=True) if one not in tree]
    return tree


def _lives(process: psutil.Process) -> bool:
    """Tell whether a process does anything any more; one that waits for its burial does not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@contextlib.asynccontextmanager
async def bench(runtime: Runtime, binary: str, root: Path) -> AsyncIterator[Bench]:
    """Set up a repository with one worktree, and a model server."""
    base = root / "base"
    git(root, "init", "-q", str(base))
    git(base, "commit", "-q", "--allow-empty", "-m", "Start")
    git(base, "worktree", "add", "-q", str(root / "tree"), "-b", "agent/work")
    log: list[Entry] = []

    async with server.serve(log=log.append) as model:
        settings = {"binary": binary, "base_url": model.url, "model": "scripted"}
        yield Bench(runtime, root, settings, log)


def write_files(launch: Launch, home: Path) -> None:
    """Write the configuration as the sidecar would."""
    home.mkdir(exist_ok=True)
    for file in launch.files:
        target = home / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(file.text, "utf-8")
        target.chmod(0o600)


def git(folder: Path, *arguments: str) -> str:
    """Return what git says in `folder`."""
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def recorded(name: str) -> list[bytes]:
    """Return the lines of a recorded run."""
    return (Path(__file__).parent / "fixtures" / f"{name}.jsonl").read_bytes().splitlines()


def replay(runtime: Runtime, name: str, ended: Exit) -> tuple[list[RuntimeEvent], Verdict]:
    """Feed a recorded run to a fresh parser."""
    parser = runtime.parser()
    events = [event for line in recorded(name) for event in parser.feed(line)]
    return events, parser.finish(ended)
