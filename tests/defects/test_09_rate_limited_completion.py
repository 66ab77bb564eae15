"""Defect 9: a completion was dropped by its own progress rate limit."""

from agentcom.client.hub import HubClient
from agentcom.model.agent import Held, HeldStage
from agentcom.model.task import Phase, TaskState
from agentcom.protocol import frames
from agentcom.testing.hub import running_hub
from tests.defects.house import ended, finish, raw_machine, raw_task

FLOOD = 5_000
"""Five times what one machine may say of its progress at once."""


async def test_a_result_behind_a_flood_of_progress_is_taken() -> None:
    async with (
        running_hub() as hub,
        raw_machine(hub.url, (await hub.machine("m1")).token) as machine,
        await HubClient.connect(hub.url, hub.admin_token) as client,
    ):
        await machine.hello()
        (task,) = (await client.submit([raw_task()])).tasks
        fence = (await machine.accept()).assignment.fence
        for number in range(FLOOD):
            text = f"line {number}"
            news = frames.Progress(task=task, fence=fence, phase=Phase.WORKING, text=text)
            await machine.send(news)
        held = (Held(task, fence, HeldStage.FINISHED),)
        await machine.send(frames.HeartbeatFrame(session=machine.session, n=1, held=held))
        await machine.send(finish(task, fence))

        ack = await machine.get(frames.Ack)
        row = await ended(client, task)

    assert ack.applied
    assert (row.state, row.attempt) == (TaskState.COMPLETED, 1)
