"""Defect 7: a half-open reconnect turned an agent into a black hole for tasks."""

from pathlib import Path

import pytest

from agentcom.client.hub import HubClient
from agentcom.model.task import TaskState
from agentcom.sidecar import processes
from agentcom.testing.hub import running_hub
from agentcom.testing.proxy import fault_proxy
from tests.defects.house import (
    command,
    ended,
    finish,
    machine_config,
    raw_machine,
    raw_task,
    sidecar_on,
)


@pytest.mark.skipif(not processes.has_table(), reason="looks at /proc")
async def test_tasks_that_meet_a_dead_line_are_done_after_the_reconnect(tmp_path: Path) -> None:
    async with running_hub() as hub, fault_proxy("127.0.0.1", hub.info.port) as proxy:
        admitted = await hub.machine("m1")
        home = machine_config(tmp_path, hub=f"http://127.0.0.1:{proxy.port}", admitted=admitted)
        async with sidecar_on(home), await HubClient.connect(hub.url, hub.admin_token) as client:
            (warm,) = (await client.submit([command("true")])).tasks
            await ended(client, warm)

            proxy.freeze()
            swallowed = (await client.submit([command("true"), command("true")])).tasks
            rows = [await ended(client, task) for task in swallowed]

    assert [row.state for row in rows] == [TaskState.COMPLETED] * 2


async def test_the_newest_connection_of_a_machine_gets_the_work_and_the_old_one_is_closed() -> None:
    async with running_hub() as hub:
        token = (await hub.machine("m1")).token
        async with (
            await HubClient.connect(hub.url, hub.admin_token) as client,
            raw_machine(hub.url, token) as old,
        ):
            await old.hello()
            async with raw_machine(hub.url, token) as new:
                await new.hello()
                (task,) = (await client.submit([raw_task()])).tasks
                given = (await new.accept()).assignment
                await new.send(finish(task, given.fence))
                row = await ended(client, task)
            await old.socket.wait_closed()

    assert row.state is TaskState.COMPLETED
    assert old.socket.close_code == 4409
