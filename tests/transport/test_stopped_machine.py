"""A machine that a person has stopped: what it may still say before it is cut off, and hears."""

from collections.abc import AsyncIterator

import pytest

from agentcom.core import facts
from agentcom.core.facts import Fact
from agentcom.model.agent import Assignment
from agentcom.model.ids import AgentId, MachineId
from agentcom.model.task import StopReason, TaskState
from agentcom.protocol import frames
from agentcom.testing.hub_site import HubSite, hub_site
from agentcom.testing.world import person
from tests.transport.peers import SPEC, Peer, client, machine, peer


@pytest.fixture
async def hub() -> AsyncIterator[HubSite]:
    async with hub_site() as site:
        yield site


async def stopped(hub: HubSite, it: Peer) -> Assignment:
    """Stop a machine that has an attempt; return that."""
    async with client(hub) as ada:
        await ada.ask(frames.SubmitFrame(key="k", tasks=(SPEC,)))
    held = (await it.until(frames.Assign)).assignment
    await it.say(frames.Accept(task=held.task, fence=held.fence))
    pause = facts.Pause("machine:laptop", paused=True, reason="odd", stop=True)
    await hub.engine.ask(Fact(body=pause, actor=person("ann")))
    assert (await it.hear(frames.StopFrame)).reason is StopReason.REVOKED
    return held


async def test_what_a_stopped_machine_saves_is_known_and_then_it_is_cut_off(hub: HubSite) -> None:
    async with machine(hub) as it:
        held = await stopped(hub, it)

        await it.say(frames.Checkpoint(task=held.task, fence=held.fence, commit="c" * 40))
        await it.say(frames.StoppedFrame(task=held.task, fence=held.fence))

        assert (await it.until(frames.Ack)).commit == "c" * 40
        assert (await it.until(frames.Ack)).applied
        assert await it.close_code() == 4403

    task = hub.engine.view.tasks[held.task]
    assert (task.state, task.checkpoint) == (TaskState.QUEUED, "c" * 40)


async def test_a_stopped_machine_may_say_nothing_else_and_gets_nothing(hub: HubSite) -> None:
    token = await hub.machine("laptop")
    hub.switchboard.shut_out = hub.auth.shut_out = lambda machine: (
        "stopped" if f"machine:{machine}" in hub.engine.view.pauses else None
    )
    async with machine(hub, token=token) as it:
        held = await stopped(hub, it)
        sub = frames.SubmitFrame(key="s", tasks=(SPEC,), parent=held.task, fence=held.fence)

        for frame in (sub, frames.Accept(task=held.task, fence=held.fence)):
            error = await it.refusal(frame)
            assert (error.code, error.message) == (
                "not_allowed",
                "ann stopped the machine laptop: odd",
            )
        letter = frames.MailFrame(agent=AgentId("bob"))
        assert not hub.switchboard.bring(MachineId("laptop"), letter)
        async with peer(hub, token) as other:
            assert await other.close_code() == 4403
