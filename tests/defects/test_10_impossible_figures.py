"""Defect 10: health and alert figures that could not be true."""

from collections import Counter
from collections.abc import Mapping

import httpx

from agentcom.client.hub import HubClient
from agentcom.model.task import TaskState
from agentcom.protocol import shown
from agentcom.testing.hub import running_hub
from tests.defects.house import ended, finish, raw_machine, raw_task


async def test_every_figure_agrees_with_the_rows_behind_it() -> None:
    async with running_hub() as hub:
        token = (await hub.machine("m1")).token
        async with (
            await HubClient.connect(hub.url, hub.admin_token) as client,
            raw_machine(hub.url, token) as machine,
        ):
            await machine.hello()
            tasks = (await client.submit([raw_task() for _ in range(4)])).tasks
            given = (await machine.accept()).assignment
            await machine.send(finish(given.task, given.fence))
            await ended(client, given.task)
            await client.cancel(tasks[-1])

            status = await client.get("/status", shown.HubStatus)
            page = await client.get("/tasks", shown.TaskPage)
            metrics = _parsed(await hub.http.get("/metrics"))

    states = Counter(task.state for task in page.tasks)
    live = {state.value: n for state, n in states.items() if not state.terminal}
    assert sum(states.values()) == 4
    assert {name: n for name, n in status.tasks.items() if n} == live
    assert status.ended[TaskState.COMPLETED] == states[TaskState.COMPLETED] == 1
    assert status.ended[TaskState.CANCELLED] == states[TaskState.CANCELLED] == 1
    assert status.machines_connected == 1
    assert 0 <= status.uptime_ms < 60_000
    shown_live = {k: v for k, v in metrics.items() if k.startswith("agentcom_tasks{")}
    assert sum(shown_live.values()) == sum(live.values())
    assert all(value >= 0 for value in metrics.values())


async def test_a_machine_that_left_is_not_counted_as_connected() -> None:
    async with (
        running_hub() as hub,
        await HubClient.connect(hub.url, hub.admin_token) as client,
    ):
        async with raw_machine(hub.url, (await hub.machine("m1")).token) as machine:
            await machine.hello()
            during = await client.get("/status", shown.HubStatus)
        await client.submit([raw_task()])  # decided after the end of the connection
        after = await client.get("/status", shown.HubStatus)

    assert (during.machines, during.machines_connected) == (1, 1)
    assert (after.machines, after.machines_connected) == (1, 0)


def _parsed(response: httpx.Response) -> Mapping[str, float]:
    lines = [line for line in response.text.splitlines() if line and not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}
