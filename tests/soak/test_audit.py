"""The audit of a store finds what is lost, what nobody asked for, and what has not ended."""

from pathlib import Path

from agentcom.app import STORE_FILE
from agentcom.client.hub import HubClient
from agentcom.model.ids import TaskId
from agentcom.model.task import TaskSpec, TaskState
from agentcom.store.sqlite import SqliteStore
from agentcom.testing.hub import running_hub
from agentcom.testing.soak.audit import audit


async def hub_with_tasks(home: Path, *, cancel: int, leave: int) -> tuple[TaskId, ...]:
    """Leave a store in `home`, with tasks that were cancelled and tasks that wait."""
    async with (
        running_hub(SqliteStore(home / STORE_FILE)) as hub,
        await HubClient.connect(hub.url, hub.admin_token) as client,
    ):
        spec = TaskSpec(title="t", prompt="p")
        tasks = (await client.submit([spec] * (cancel + leave))).tasks
        for task in tasks[:cancel]:
            await client.cancel(task)
    return tasks


async def test_a_sound_store_has_no_problems(tmp_path: Path) -> None:
    tasks = await hub_with_tasks(tmp_path, cancel=3, leave=0)

    found = await audit(tmp_path, tasks)

    assert found.problems == []
    assert found.states == {TaskState.CANCELLED: 3}
    assert found.records >= 6


async def test_what_is_lost_or_foreign_or_open_is_named(tmp_path: Path) -> None:
    asked, foreign, waiting = await hub_with_tasks(tmp_path, cancel=2, leave=1)
    lost = TaskId("0lost")

    found = await audit(tmp_path, [asked, waiting, lost])

    assert sorted(found.problems) == sorted(
        [
            f"accepted task {lost} is lost",
            f"task {foreign} was never accepted",
            f"task {waiting} has not ended: queued ",
            "2 tasks have ended by the log, of 3",
        ]
    )
