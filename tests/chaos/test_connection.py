"""Lines that break, with the product at both ends and a proxy between that misbehaves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agentcom.client.hub import HubClient
from agentcom.model.task import TaskState
from agentcom.sidecar import processes
from agentcom.testing.hub import RunningHub, running_hub
from agentcom.testing.proxy import FaultProxy, fault_proxy
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


@asynccontextmanager
async def lines(root: Path) -> AsyncIterator[tuple[RunningHub, FaultProxy, HubClient]]:
    """A hub, a machine that reaches it only by the proxy, and a client beside it."""
    async with running_hub() as hub, fault_proxy("127.0.0.1", hub.info.port) as proxy:
        admitted = await hub.machine("m1")
        home = machine_config(root, hub=f"http://127.0.0.1:{proxy.port}", admitted=admitted)
        async with (
            sidecar_on(home),
            await HubClient.connect(hub.url, hub.admin_token) as client,
        ):
            yield hub, proxy, client


async def test_a_line_that_is_dead_for_a_second_changes_nothing(tmp_path: Path) -> None:
    go = tmp_path / "go"
    async with lines(tmp_path) as (_, proxy, client):
        (task,) = (await client.submit([wait_for(go)])).tasks
        await reaches(client, task, lambda row: starts(go) == 1)

        await proxy.down_for(1_000)
        go.touch()
        row = await ended(client, task)

        assert (row.state, row.attempt, starts(go)) == (TaskState.COMPLETED, 1, 1)
        assert row.leases_lost == 0


async def test_an_agent_behind_a_half_open_line_comes_back_and_gets_work(tmp_path: Path) -> None:
    async with lines(tmp_path) as (_, proxy, client):
        (first,) = (await client.submit([command("true")])).tasks
        await ended(client, first)

        proxy.freeze()
        (task,) = (await client.submit([command("true")])).tasks
        row = await ended(client, task)

        assert row.state is TaskState.COMPLETED
        assert proxy.accepted >= 2


async def test_work_goes_on_over_a_line_that_tears_every_frame(tmp_path: Path) -> None:
    async with lines(tmp_path) as (_, proxy, client):
        proxy.chunk_bytes = 7
        proxy.latency_ms = 1
        proxy.reset()
        (task,) = (await client.submit([command("true")])).tasks
        row = await ended(client, task)

        assert (row.state, row.attempt) == (TaskState.COMPLETED, 1)


async def test_a_stalled_line_loses_nothing(tmp_path: Path) -> None:
    go = tmp_path / "go"
    async with lines(tmp_path) as (_, proxy, client):
        (task,) = (await client.submit([wait_for(go)])).tasks
        await reaches(client, task, lambda row: starts(go) == 1)

        proxy.stall()
        go.touch()
        resuming = asyncio.get_running_loop().call_later(1.0, proxy.resume)
        row = await ended(client, task)
        resuming.cancel()

        assert (row.state, row.attempt, starts(go)) == (TaskState.COMPLETED, 1, 1)
