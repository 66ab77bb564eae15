"""Defect 2: a short network blip discarded work and stalled the fleet for a minute."""

import asyncio
from pathlib import Path

import pytest

from agentcom.client.hub import HubClient
from agentcom.model.event import EventKind
from agentcom.model.task import TaskState
from agentcom.protocol import shown
from agentcom.sidecar import processes
from agentcom.testing.hub import running_hub
from agentcom.testing.proxy import fault_proxy
from tests.defects.house import (
    command,
    ended,
    machine_config,
    reaches,
    sidecar_on,
    starts,
    wait_for,
)

pytestmark = pytest.mark.skipif(not processes.has_table(), reason="looks at /proc")


async def test_a_blip_costs_no_attempt_and_the_next_task_starts_at_once(tmp_path: Path) -> None:
    go = tmp_path / "go"
    async with running_hub() as hub, fault_proxy("127.0.0.1", hub.info.port) as proxy:
        admitted = await hub.machine("m1")
        home = machine_config(tmp_path, hub=f"http://127.0.0.1:{proxy.port}", admitted=admitted)
        async with sidecar_on(home), await HubClient.connect(hub.url, hub.admin_token) as client:
            (task,) = (await client.submit([wait_for(go)])).tasks
            await reaches(client, task, lambda row: starts(go) == 1)

            for _ in range(3):
                proxy.reset()
                await asyncio.sleep(0)  # the sidecar hears of it, and dials again
            go.touch()
            row = await ended(client, task)
            (following,) = (await client.submit([command("true")])).tasks
            async with asyncio.timeout(15):  # long before a lease of 20 s would end
                then = await ended(client, following)

            events = await client.get(f"/tasks/{task}/events", shown.EventPage)
            kinds = {record.event.kind for record in events.events}
            assert (row.state, row.attempt, starts(go)) == (TaskState.COMPLETED, 1, 1)
            assert EventKind.RETURNED not in kinds
            assert then.state is TaskState.COMPLETED
