"""Defect 3: failed or unverified work was recorded as completed."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agentcom.client.hub import HubClient
from agentcom.model.failure import FailureClass
from agentcom.model.result import Result, ResultStatus
from agentcom.model.task import TaskState
from agentcom.sidecar import processes
from agentcom.testing.hub import running_hub
from tests.defects.house import (
    WRITE,
    command,
    edit,
    ended,
    finish,
    machine_config,
    raw_machine,
    raw_task,
    sidecar_on,
)
from tests.sidecar.git_origin import Origin

pytestmark = pytest.mark.skipif(not processes.has_table(), reason="looks at /proc")


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[HubClient]:
    async with running_hub() as hub:
        home = machine_config(tmp_path, hub=hub.url, admitted=await hub.machine("m1"))
        async with sidecar_on(home), await HubClient.connect(hub.url, hub.admin_token) as client:
            yield client


async def test_a_command_that_fails_is_a_failed_task(client: HubClient) -> None:
    (task,) = (await client.submit([command("false", failures_max=1)])).tasks

    row = await ended(client, task)

    assert (row.state, row.failure) == (TaskState.FAILED, FailureClass.AGENT)


async def test_work_whose_check_fails_is_a_failed_task(client: HubClient, tmp_path: Path) -> None:
    origin = Origin(tmp_path / "forge")
    origin.push({"README.md": "x\n"})
    spec = edit(origin.url, WRITE, verify=("test -e missing.txt",), failures_max=1)
    (task,) = (await client.submit([spec])).tasks

    row = await ended(client, task)

    assert (row.state, row.failure) == (TaskState.FAILED, FailureClass.VERIFICATION)
    assert not row.verified


async def test_work_that_nobody_checked_is_called_unverified(
    client: HubClient, tmp_path: Path
) -> None:
    origin = Origin(tmp_path / "forge")
    origin.push({"README.md": "x\n"})
    (task,) = (await client.submit([edit(origin.url, WRITE)])).tasks

    row = await ended(client, task)

    assert (row.state, row.verified) == (TaskState.COMPLETED, False)


async def test_a_machine_that_claims_success_without_the_declared_check_is_not_believed() -> None:
    async with (
        running_hub() as hub,
        raw_machine(hub.url, (await hub.machine("m1")).token) as machine,
        await HubClient.connect(hub.url, hub.admin_token) as client,
    ):
        await machine.hello()
        spec = raw_task(verify=("true",), failures_max=1)
        (task,) = (await client.submit([spec])).tasks
        given = (await machine.accept()).assignment
        claim = Result(status=ResultStatus.DONE, summary="all tests pass, trust me")
        await machine.send(finish(task, given.fence, claim))

        row = await ended(client, task)

    assert (row.state, row.failure) == (TaskState.FAILED, FailureClass.VERIFICATION)
