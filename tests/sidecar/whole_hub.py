"""A whole hub with all its doors, and one machine whose agents work for it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from agentcom.model.ids import AgentId
from agentcom.sidecar.config import AgentConfig, Config, Settings
from agentcom.sidecar.confines import OPEN
from agentcom.sidecar.runtime import base
from agentcom.sidecar.shell import Sidecar
from agentcom.testing.hub import RunningHub, running_hub
from agentcom.testing.waiting import until
from tests.sidecar.sidecar_world import QUICK, RUNTIMES, config, end_all, prompt

ENDED = ("completed", "failed", "cancelled", "dead")


class Quick:
    """No pause before the next dial."""

    def random(self) -> float:
        return 0.0


@dataclass
class World:
    hub: RunningHub
    machine: Config
    runtimes: Mapping[str, base.Runtime]
    sidecar: Sidecar | None = None
    running: asyncio.Task[int] | None = None

    def start(self) -> None:
        self.sidecar = Sidecar(self.machine, runtimes=self.runtimes, rng=Quick())
        self.running = asyncio.create_task(self.sidecar.run(handle_signals=False))

    async def stop(self) -> None:
        assert self.sidecar is not None
        assert self.running is not None
        self.sidecar.stop()
        await self.running

    async def call(self, name: str, /, **fields: Any) -> Any:
        """Make a call as the admin and return its answer."""
        answer = await self.hub.http.post(f"/api/v1/calls/{name}", json=fields)
        assert answer.is_success, answer.text
        return answer.json()

    async def submit(self, *steps: Mapping[str, object], **more: Any) -> str:
        asked = {"title": "A task", "prompt": prompt(*steps), **more}
        answer = await self.hub.http.post("/api/v1/tasks", json=asked)
        assert answer.is_success, answer.text
        return str(answer.json()["tasks"][0])

    async def task(self, task: str) -> Any:
        return (await self.hub.http.get(f"/api/v1/tasks/{task}")).json()["task"]

    async def ended(self, task: str) -> Any:
        async def over() -> bool:
            return (await self.task(task))["state"] in ENDED

        await until(over, patience_s=60)
        return await self.task(task)

    async def until_there(self, path: Path) -> None:
        await until(path.exists, patience_s=60)


@contextlib.asynccontextmanager
async def world(
    root: Path,
    *agents: AgentConfig,
    runtimes: Mapping[str, base.Runtime] = RUNTIMES,
    settings: Settings = QUICK,
    **hub_config: Any,
) -> AsyncIterator[World]:
    """Run a hub and a machine with `agents`; by default ada, who does what a prompt's steps say."""
    async with running_hub(home=root / "hub", **hub_config) as hub:
        token = (await hub.machine("m1")).token
        made = config(root, hub.url, settings)
        those = agents or (AgentConfig(name=AgentId("ada"), runtime="testagent", confines=OPEN),)
        machine = msgspec.structs.replace(made.machine, agents=those)
        made = msgspec.structs.replace(made, machine=machine, token=token)
        running = World(hub, made, runtimes)
        running.start()
        try:
            yield running
        finally:
            await running.stop()
            end_all(made.home)
