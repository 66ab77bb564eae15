"""A machine's home, tasks for the test agent, and facts as they are told."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

from agentcom.model.agent import Assignment
from agentcom.model.ids import AgentId, Fence, TaskId, UserId, WallTime
from agentcom.model.result import Result
from agentcom.model.task import TaskBody, TaskSpec
from agentcom.sidecar import machine_values as values
from agentcom.sidecar import process, processes, supervise
from agentcom.sidecar.attempts import Attempts
from agentcom.sidecar.config import AgentConfig, Config, Home, MachineConfig, Settings
from agentcom.sidecar.confines import OPEN
from agentcom.sidecar.machine_values import Key, Record, Stage
from agentcom.sidecar.runtime import base
from agentcom.sidecar.runtime.command import PlainCommand
from agentcom.sidecar.runtime.testagent import TestAgent
from agentcom.testing.waiting import PATIENCE_S
from tests.client.fake_hub import TOKEN

ADA, BOB = AgentId("ada"), AgentId("bob")
TASK = TaskId("t1")
FIRST = Fence(7, 1)
RUNTIMES: Mapping[str, base.Runtime] = {"testagent": TestAgent(), "command": PlainCommand()}
QUICK = Settings(
    ttl_ms=4_000,
    checkpoint_interval_ms=60_000,
    progress_interval_ms=50,
    stop_grace_ms=500,
    checks=OPEN,
)


def config(root: Path, hub: str = "http://127.0.0.1:9", settings: Settings = QUICK) -> Config:
    home = Home(root / "machine")
    agents = (
        AgentConfig(name=ADA, runtime="testagent", confines=OPEN),
        AgentConfig(name=BOB, runtime="command", confines=OPEN),
    )
    machine = MachineConfig(hub=hub, machine="m1", agents=agents, settings=settings)  # type: ignore[arg-type] # a NewType of str
    home.save(machine, TOKEN)
    return home.load()


def end_all(home: Home) -> None:
    """End what a test left running in `home`, and in no other."""
    folders = home.root / "attempts"
    for folder in folders.iterdir() if folders.is_dir() else ():
        process.kill_survivors(home.tag(folder.name), folder)


def left_behind(home: Home, attempt: int = 1) -> bool:
    """Tell whether any process of an attempt lives."""
    tag = f"{supervise.ATTEMPT_VARIABLE}={home.tag(attempt_key(attempt).text)}".encode()
    return any(tag in processes.read_environment(pid) for pid in processes.read_table())


def prompt(*steps: Mapping[str, object]) -> str:
    lines = "\n".join(json.dumps(step) for step in steps)
    return f"<<mock:edit>>\n```steps\n{lines}\n```\n"


WRITE = {"write": {"path": "hello.txt", "text": "hello\n"}}


def record(
    spec: TaskSpec,
    *,
    attempt: int = 1,
    agent: AgentId = ADA,
    checkpoint: str | None = None,
    inputs: tuple[str, ...] = (),
    landing_only: bool = False,
    commit: str | None = None,
) -> Record:
    assignment = Assignment(
        task=TASK,
        fence=Fence(7, attempt),
        agent=agent,
        deadline_at=WallTime(0),
        checkpoint=checkpoint,
        inputs=inputs,
        landing_only=landing_only,
        commit=commit,
    )
    body = TaskBody(id=TASK, submitter=UserId("eve"), created_at=WallTime(0), cause="c1", spec=spec)
    return Record(assignment=assignment, body=body, stage=Stage.PREPARING)


class Told:
    """The facts that an attempt told, in order."""

    def __init__(self) -> None:
        self.facts: list[values.OwnWork] = []
        self._changed = asyncio.Condition()

    async def tell(self, fact: values.OwnWork) -> None:
        async with self._changed:
            self.facts.append(fact)
            self._changed.notify_all()

    async def wait_for(self, kind: type) -> None:
        async with asyncio.timeout(PATIENCE_S), self._changed:
            await self._changed.wait_for(lambda: any(isinstance(f, kind) for f in self.facts))

    def all(self, kind: type) -> list[values.OwnWork]:
        return [fact for fact in self.facts if isinstance(fact, kind)]

    @property
    def result(self) -> Result:
        ended = [fact for fact in self.facts if isinstance(fact, values.Ended)]
        assert len(ended) == 1, self.facts
        return ended[0].result

    @property
    def stopped(self) -> values.Stopped:
        stopped = [fact for fact in self.facts if isinstance(fact, values.Stopped)]
        assert len(stopped) == 1, self.facts
        return stopped[0]


def attempts(made: Config) -> tuple[Attempts, Told]:
    told = Told()
    return Attempts(made, runtimes=RUNTIMES, tell=told.tell), told


def attempt_key(attempt: int = 1) -> Key:
    return Key(TASK, Fence(7, attempt))
