"""Defect 4: a time to live of the queue killed backlog and dependants after ten minutes."""

import asyncio
from pathlib import Path

from agentcom import app
from agentcom.app import HubInfo
from agentcom.client.hub import HubClient
from agentcom.hub.clock import SystemClock
from agentcom.hub.config import HubConfig
from agentcom.model.graph import Dependency
from agentcom.model.ids import Instant, Now, UserId, WallTime
from agentcom.model.task import TaskState
from agentcom.store.sqlite import SMALL, SqliteStore
from agentcom.testing.hub import running_hub
from agentcom.testing.waiting import PATIENCE_S
from tests.defects.house import done, ended, finish, raw_machine, raw_task, shown_task

MONTH_MS = 30 * 86_400_000


class Later(SystemClock):
    """The clocks of a computer that was off for a month."""

    def now(self) -> Now:
        now = super().now()
        return Now(Instant(now.instant), WallTime(now.wall + MONTH_MS))


async def test_a_backlog_with_its_dependants_outlives_a_month(tmp_path: Path) -> None:
    async with (
        running_hub(_store(tmp_path), home=tmp_path) as hub,
        await HubClient.connect(hub.url, hub.admin_token) as client,
    ):
        specs = [raw_task(ref="first"), raw_task(depends_on=(Dependency("first"),))]
        first, second = (await client.submit(specs)).tasks
        machine_token = (await hub.machine("m1")).token
    config = HubConfig(home=tmp_path, port=0, admin=UserId("ann"))
    ready: asyncio.Future[HubInfo] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    running = asyncio.create_task(
        app.run_hub(
            config, ready=ready.set_result, stop=stop, store=_store(tmp_path), clock=Later()
        )
    )
    async with asyncio.timeout(PATIENCE_S):
        url = (await ready).url
        async with await HubClient.connect(url, hub.admin_token) as client:
            states = [(await shown_task(client, task)).state for task in (first, second)]

            async with raw_machine(url, machine_token) as machine:
                await machine.hello()
                for task in (first, second):
                    given = (await machine.accept()).assignment
                    await machine.send(finish(task, given.fence, done()))
                ends = [(await ended(client, task)).state for task in (first, second)]
        stop.set()
        await running

    assert states == [TaskState.QUEUED, TaskState.WAITING]
    assert ends == [TaskState.COMPLETED, TaskState.COMPLETED]


def _store(root: Path) -> SqliteStore:
    return SqliteStore(root / "hub.sqlite", options=SMALL)
