"""What a hub keeps in memory of a task that has ended: nothing. Blocks are counted, not bytes."""

import gc
import random
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from agentcom.client.hub import HubClient
from agentcom.core import view
from agentcom.hub import bodies, feeds
from agentcom.model.agent import AgentSpec
from agentcom.model.ids import AgentId
from agentcom.model.result import Result, ResultStatus
from agentcom.model.task import TaskSpec
from agentcom.sidecar.machine_values import Record
from agentcom.store.sqlite import SqliteStore
from agentcom.testing.hub import running_hub
from agentcom.testing.light_machine import LightMachine, Tally
from agentcom.testing.waiting import until

TASKS = 300
ROUNDS = 4
DONE = Result(status=ResultStatus.DONE)


def blocks() -> int:
    gc.collect()
    return sys.getallocatedblocks()


async def kept_for_each_task(folder: Path) -> float:
    """Return how many blocks of memory a task leaves; what grows in each round is no noise."""
    tally = Tally()

    def finish(machine: LightMachine, record: Record) -> None:
        machine.finish(record.key, DONE)

    async with (
        running_hub(SqliteStore(folder / "hub.sqlite")) as hub,
        await HubClient.connect(hub.url, hub.admin_token) as client,
    ):
        machine = LightMachine(
            hub.url,
            (await hub.machine("box")).token,
            agents=(AgentSpec(name=AgentId("a"), runtime="x", slots=8),),
            start=finish,
            tally=tally,
            rng=random.Random(1),
        )
        machine.dial()
        levels = []
        for number in range(1, ROUNDS + 2):
            for _ in range(TASKS):
                await client.submit([TaskSpec(title="t", prompt="p")])
            await until(lambda done=number * TASKS: tally.acknowledged == done)
            tally.issued.clear()  # the machine's own books
            levels.append(blocks())
        machine.end()
    return min(after - before for before, after in pairwise(levels)) / TASKS


@pytest.mark.slow
@pytest.mark.parametrize(("remembered", "leaks"), [(100, False), (1_000_000, True)])
async def test_a_task_that_has_ended_leaves_nothing_in_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, remembered: int, leaks: bool
) -> None:
    """The second case shows that what is kept would be seen."""
    monkeypatch.setattr(view, "RECENT_KEYS", remembered)
    monkeypatch.setattr(feeds, "_PROJECTS_MAX", 100)
    monkeypatch.setattr(bodies, "CHARS_MAX", 10_000)

    assert (await kept_for_each_task(tmp_path) > 1.0) is leaks
