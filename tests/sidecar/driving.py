"""Drivers as the sidecar runs them: a real supervisor, a real watch, and somebody at the desk."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from agentcom.model.ids import Fence, TaskId
from agentcom.sidecar import attempt_files, process, processes, supervise
from agentcom.sidecar.config import Settings
from agentcom.sidecar.machine_values import Key, Noted, Spent
from agentcom.sidecar.runtime import base
from agentcom.sidecar.runtime.acp import Acp
from agentcom.sidecar.runtime.claude import Claude
from agentcom.sidecar.runtime.codex import Codex
from agentcom.sidecar.runtime.testagent import TestAgent
from agentcom.sidecar.watching import Watch
from agentcom.testing.mock_llm import server
from tests.sidecar.real_cli import git, installed

KEY = Key(TaskId("t1"), Fence(1, 1))
QUICK = Settings(progress_interval_ms=20)


def acp(*faults: str, **settings: str) -> tuple[base.Runtime, dict[str, str]]:
    """Return the scripted agent of the Agent Client Protocol, with its faults."""
    words = [sys.executable, "-P", "-m", "agentcom.testing.acp_agent"]
    words += [f"--fault={fault}" for fault in faults]
    return Acp(), {"command": " ".join(words), **settings}


REAL: Mapping[str, type[base.Runtime]] = {"claude": Claude, "codex": Codex}


@dataclass
class Desk:
    """Has further prompts for an agent, and answers what it asks for."""

    prompts: list[str] = field(default_factory=list)
    answer: bool | None = None
    """None: nobody answers."""
    said: list[tuple[int, bool]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)
    waiting: dict[str, str] = field(default_factory=dict)
    """Words for the turn that runs, by key."""
    before: dict[str, str] = field(default_factory=dict)
    """Words of a sidecar before."""
    heards: list[tuple[str, bool]] = field(default_factory=list)
    tell: Callable[[], None] | None = None

    def listen(self, tell: Callable[[], None] | None) -> None:
        self.tell = tell

    def bring(self, key: str, text: str) -> None:
        self.waiting[key] = text
        if self.tell is not None:
            self.tell()

    async def word(self) -> tuple[str, str] | None:
        return self.waiting.popitem() if self.waiting else None

    async def words(self) -> dict[str, str]:
        return self.before

    async def heard(self, key: str, *, taken: bool) -> None:
        self.heards.append((key, taken))

    async def more(self, turn: int) -> str | None:
        return self.prompts[turn - 1] if turn <= len(self.prompts) else None

    async def settle(self, turn: int, *, said: bool) -> None:
        self.said.append((turn, said))

    async def allows(self, asked: base.PermissionAsked) -> bool:
        self.asked.append(asked.title)
        if self.answer is None:
            await asyncio.Event().wait()
        return bool(self.answer)

    async def withdraw(self, asked: base.PermissionAsked) -> None:
        self.withdrawn.append(asked.title)


@dataclass
class Track:
    """Where one driver runs."""

    name: str
    runtime: base.Runtime
    settings: dict[str, str]
    root: Path
    told: list[Noted | Spent] = field(default_factory=list)
    runs: int = 0
    grace_ms: int = 500
    """For who may not end by itself; the others are gone long before."""

    @property
    def tree(self) -> Path:
        return self.root / "tree"

    @property
    def talks(self) -> bool:
        return isinstance(self.runtime.parser(), base.Talker)

    def job(self, prompt: str, *, resume: str | None = None) -> base.Job:
        task_file = self.root / "task.json"
        task_file.write_bytes(msgspec.json.encode({"prompt": prompt}))
        return base.Job(
            task="t1",
            attempt=self.tag,
            prompt=prompt,
            task_file=str(task_file),
            worktree=str(self.tree),
            home=str(self.root / "home"),
            resume=resume,
            settings=self.settings,
            environment={
                "PATH": os.environ["PATH"],
                "GIT_CONFIG_GLOBAL": os.environ["GIT_CONFIG_GLOBAL"],
                "AGENTCOM_WORKTREE": str(self.tree),
            },
        )

    @property
    def tag(self) -> str:
        return f"driver-{os.getpid()}-{self.root.name}"

    async def start(self, prompt: str, *, resume: str | None = None) -> process.AgentProcess:
        """Start a run under a supervisor of its own."""
        self.runs += 1
        folder = self.root / f"run-{self.runs}"
        launch = self.runtime.launch(self.job(prompt, resume=resume))
        limits = process.ProcessLimits(grace_ms=self.grace_ms)
        return await process.start(folder, launch, limits=limits, attempt=self.tag)

    async def follow(
        self,
        running: process.AgentProcess,
        desk: Desk | None = None,
        *,
        settings: Settings = QUICK,
    ) -> base.Verdict:
        """Follow a run to its end."""
        self.told.clear()
        watch = Watch(KEY, self.runtime, settings, tell=self._tell, desk=desk)
        return await watch.follow(running)

    async def run(
        self, prompt: str, desk: Desk | None = None, *, resume: str | None = None
    ) -> base.Verdict:
        """Start a run and follow it."""
        return await self.follow(await self.start(prompt, resume=resume), desk)

    async def _tell(self, fact: Noted | Spent) -> None:
        self.told.append(fact)

    @property
    def tool(self) -> str | None:
        """The open tool call, as it was told last."""
        noted = [one.progress for one in self.told if isinstance(one, Noted)]
        return noted[-1].tool if noted else None

    def events(self) -> list[base.RuntimeEvent]:
        """Return the events of the newest run."""
        parser = self.runtime.parser()
        lines = (self.root / f"run-{self.runs}" / attempt_files.STDOUT).read_bytes().split(b"\n")
        return [event for line in lines for event in parser.feed(line)]

    def said(self) -> list[str]:
        """Return the keys of what was said in the newest run."""
        return (self.root / f"run-{self.runs}" / attempt_files.SAID).read_text().splitlines()

    def left(self) -> set[int]:
        """Return what lives of all runs."""
        mark = f"{supervise.ATTEMPT_VARIABLE}={self.tag}".encode()
        table = processes.read_table()
        return {pid for pid in table if mark in processes.read_environment(pid)}


@contextlib.asynccontextmanager
async def track(name: str, root: Path, **settings: str) -> AsyncIterator[Track]:
    """Set a driver up: `testagent`, `claude`, `codex`, or `acp` and its faults, comma separated."""
    tree = root / "tree"
    tree.mkdir()
    git(tree, "init", "-q")
    git(tree, "commit", "-q", "--allow-empty", "-m", "Start")
    async with contextlib.AsyncExitStack() as stack:
        runtime: base.Runtime
        if name == "testagent":
            runtime, own = TestAgent(), {}
        elif name in REAL:
            binary = installed(name)
            model = await stack.enter_async_context(server.serve(log=lambda _entry: None))
            own = {"binary": binary, "base_url": model.url, "model": "scripted"}
            runtime = REAL[name]()
        else:
            runtime, own = acp(*name.split(",")[1:])
        made = Track(name, runtime, {**own, **settings}, root)
        try:
            yield made
        finally:
            for number in range(1, made.runs + 1):
                process.kill_survivors(made.tag, root / f"run-{number}")


REAL_CLI = pytest.mark.cli
DRIVERS = (
    "testagent",
    "acp",
    "acp,noise,unknown,order,stays",
    pytest.param("claude", marks=REAL_CLI),
    pytest.param("codex", marks=REAL_CLI),
)
