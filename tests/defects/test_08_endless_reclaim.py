"""Defect 8: reclaim loops never counted attempts; an expired deadline looped for ever."""

from pathlib import Path

import pytest

from agentcom.client.hub import HubClient
from agentcom.model import limits
from agentcom.model.failure import FailureClass
from agentcom.model.task import TaskState
from agentcom.sidecar import processes
from agentcom.testing.hub import running_hub
from tests.defects.house import (
    command,
    ended,
    machine_config,
    raw_machine,
    raw_task,
    reaches,
    sidecar_on,
)


async def test_a_task_whose_machine_always_vanishes_is_given_up() -> None:
    async with running_hub() as hub:
        token = (await hub.machine("m1")).token
        async with await HubClient.connect(hub.url, hub.admin_token) as client:
            (task,) = (await client.submit([raw_task()])).tasks
            for attempt in range(1, limits.LEASES_LOST_MAX + 1):
                async with raw_machine(hub.url, token) as machine:
                    await machine.hello()  # it has nothing of what it was given before
                    given = (await machine.accept()).assignment
                    assert given.fence.attempt == attempt
                    await reaches(client, task, lambda row: row.state is TaskState.RUNNING)
            async with raw_machine(hub.url, token) as machine:
                await machine.hello()
                row = await ended(client, task)

    assert (row.state, row.failure) == (TaskState.FAILED, FailureClass.LEASE_LOST)
    assert row.attempt == limits.LEASES_LOST_MAX


@pytest.mark.skipif(not processes.has_table(), reason="looks at /proc")
async def test_a_deadline_ends_an_attempt_and_counts(tmp_path: Path) -> None:
    async with running_hub() as hub:
        home = machine_config(tmp_path, hub=hub.url, admitted=await hub.machine("m1"))
        async with sidecar_on(home), await HubClient.connect(hub.url, hub.admin_token) as client:
            spec = command("sleep", "60", deadline_ms=1_000, failures_max=1)
            (task,) = (await client.submit([spec])).tasks
            row = await ended(client, task)
            (after,) = (await client.submit([command("true")])).tasks
            then = await ended(client, after)

    assert (row.state, row.failure) == (TaskState.FAILED, FailureClass.DEADLINE)
    assert (row.attempt, row.failures) == (1, 1)
    assert then.state is TaskState.COMPLETED
