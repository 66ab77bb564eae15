"""One attempt on a machine, beside a repository of its own."""

import asyncio
from collections.abc import Mapping

import msgspec

from agentcom.model.task import TaskSpec
from agentcom.sidecar.config import Config
from agentcom.sidecar.machine_values import Record
from tests.sidecar.git_origin import Origin
from tests.sidecar.sidecar_world import Told, attempts, prompt

BRANCH = "agent/ada/t1-a-task-7.1"


def spec(origin: Origin | None, *steps: Mapping[str, object], **fields: object) -> TaskSpec:
    repo = origin.url if origin is not None else None
    made = TaskSpec(title="A task", prompt=prompt(*steps), repo=repo)
    return msgspec.structs.replace(made, **fields)


async def run(machine: Config, made: Record, *, adopt: bool = False) -> Told:
    runner, told = attempts(machine)
    async with asyncio.timeout(50):
        await runner.run(made, adopt=adopt)
    return told
