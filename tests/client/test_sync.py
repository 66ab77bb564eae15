"""The blocking client, from a thread of its own: as a program without a loop uses it."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from agentcom.client.dialling import NotReached
from agentcom.client.sync import SyncHubClient
from agentcom.model import errors
from agentcom.model.task import TaskSpec, TaskState
from agentcom.protocol import frames
from agentcom.testing.hub_site import HubSite, hub_site
from agentcom.testing.waiting import PATIENCE_S

SPEC = TaskSpec(title="t", prompt="p")


@pytest.fixture
async def hub() -> AsyncIterator[HubSite]:
    async with hub_site() as site:
        yield site


async def test_a_program_submits_cancels_and_waits(hub: HubSite) -> None:
    token = await hub.token()

    def program() -> None:
        with SyncHubClient.connect(hub.url, token, proxy=False) as client:
            (task,) = client.submit([SPEC], "k1").tasks
            assert client.submit([SPEC], "k1").tasks == (task,)
            assert client.cancel(task).state is TaskState.CANCELLED
            assert client.wait(task, timeout_s=PATIENCE_S).state is TaskState.CANCELLED
            with pytest.raises(errors.NotFound):
                client.get("/nothing", dict)
            with pytest.raises(errors.NotFound):
                client.post("/nothing", dict)
            with pytest.raises(errors.NotFound):
                client.patch("/nothing", dict, {})

    await asyncio.to_thread(program)


async def test_a_program_iterates_over_events(hub: HubSite) -> None:
    token = await hub.token()

    def program() -> list[str]:
        with SyncHubClient.connect(hub.url, token, proxy=False) as client:
            (task,) = client.submit([SPEC]).tasks
            client.cancel(task)
            seen = []
            for news in client.follow(task):
                assert isinstance(news, frames.EventFrame)
                seen.append(news.event.kind.value)
                if news.event.state.terminal:
                    break
            return seen

    assert await asyncio.to_thread(program) == ["submitted", "cancelled"]


async def test_no_hub_is_told_and_leaves_no_thread(hub: HubSite) -> None:
    token = await hub.token()
    await hub.unlisten()

    with pytest.raises(NotReached):
        await asyncio.to_thread(SyncHubClient.connect, hub.url, token, proxy=False)
