"""Defect 1: a result was lost when the hub was down at completion."""

from pathlib import Path

import pytest

from agentcom.client.hub import HubClient
from agentcom.model.task import TaskState
from agentcom.sidecar import processes
from agentcom.store.sqlite import SMALL, SqliteStore
from agentcom.testing.hub import running_hub
from agentcom.testing.waiting import until
from tests.defects.house import (
    ended,
    machine_config,
    reaches,
    sidecar_on,
    starts,
    wait_for,
)

pytestmark = pytest.mark.skipif(not processes.has_table(), reason="looks at /proc")


async def test_a_result_that_finishes_while_the_hub_is_down_arrives(tmp_path: Path) -> None:
    go, stored = tmp_path / "go", tmp_path / "machine" / "outbox" / "held"
    async with running_hub(_store(tmp_path), home=tmp_path / "hub") as first:
        home = machine_config(tmp_path, hub=first.url, admitted=await first.machine("m1"))
        async with await HubClient.connect(first.url, first.admin_token) as client:
            sidecar = sidecar_on(home)
            await sidecar.__aenter__()
            (task,) = (await client.submit([wait_for(go)])).tasks
            await reaches(client, task, lambda row: starts(go) == 1)
    go.touch()
    # The agent has ended, the hub is gone, and the result is safe on the machine's disk.
    await until(lambda: any('"finished"' in path.read_text() for path in stored.glob("*.json")))

    token, port = first.admin_token, first.info.port
    async with (
        running_hub(_store(tmp_path), home=tmp_path / "hub", port=port, token=token) as again,
        await HubClient.connect(again.url, token) as client,
    ):
        row = await ended(client, task)
        await sidecar.__aexit__(None, None, None)

    assert (row.state, row.attempt, starts(go)) == (TaskState.COMPLETED, 1, 1)


def _store(root: Path) -> SqliteStore:
    return SqliteStore(root / "hub.sqlite", options=SMALL)
