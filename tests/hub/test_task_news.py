"""What is told of tasks: what is wanted, once, also by a hub that takes over from a dead one."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agentcom.core import facts
from agentcom.core.facts import Fact
from agentcom.hub.config import HubConfig
from agentcom.hub.services import Services
from agentcom.hub.task_news import LOG
from agentcom.model.batch import Table
from agentcom.model.graph import Approval
from agentcom.model.ids import TaskId, UserId, WallTime
from agentcom.model.notify import Destination, DestinationKind, Notice, Topic
from agentcom.model.replies import Submitted
from agentcom.model.task import TaskSpec
from agentcom.store.base import Query
from agentcom.store.memory import MemoryStore
from agentcom.testing.waiting import until
from tests.hub.doubles import EPOCH_MS, ManualClock
from tests.hub.service_house import ANN, OLGA, ServiceHouse

APPROVAL = TaskSpec(title="deploy", approval=Approval.PERSON)


def hook(*topics: Topic, **fields: Any) -> Destination:
    return Destination(
        name="hook",
        kind=DestinationKind.WEBHOOK,
        shown="x",
        owner=UserId("ann"),
        at=WallTime(EPOCH_MS),
        topics=topics,
        **fields,
    )


class House(ServiceHouse):
    def __init__(self, store: MemoryStore | None = None) -> None:
        self.clock = ManualClock()
        self.store = store or MemoryStore()
        config = HubConfig(home=Path("/nowhere"), store="memory")
        self.services = Services(config, self.store, self.clock)
        self.alerting = self.services.alerting

    async def submit(self, *specs: TaskSpec) -> Sequence[TaskId]:
        reply = await self.services.engine.ask(Fact(body=facts.Submit(specs), actor=ANN.identity))
        assert isinstance(reply, Submitted)
        return reply.tasks

    async def cancel(self, task: TaskId) -> None:
        await self.services.engine.ask(Fact(body=facts.Cancel(task), actor=ANN.identity))

    async def told(self) -> list[tuple[str, str]]:
        page = await self.store.query(Query(table=Table.NOTICE, after=""))
        return [(row.event, row.about) for row in page.rows if isinstance(row, Notice)]


@pytest.fixture
def house() -> House:
    return House()


async def test_nothing_is_looked_at_while_nobody_wants_to_know(house: House) -> None:
    async with house.at_work():
        (task,) = await house.submit(TaskSpec(title="t", prompt="p"))
        await house.cancel(task)
        await house.alerting.task_news.work()

    assert await house.told() == []
    assert await house.store.get([(Table.HEAD, LOG)]) == [None]


async def test_the_end_of_a_task_is_told_to_who_wants_tasks(house: House) -> None:
    async with house.at_work():
        await house.alerting.notifications.add(hook(Topic.TASKS))
        (task,) = await house.submit(TaskSpec(title="t", prompt="p"))
        await house.cancel(task)
        await house.alerting.task_news.work()
        await house.alerting.task_news.work()

    assert await house.told() == [("task.cancelled", f"task/{task}")]


async def test_what_waits_for_a_person_is_told_and_that_it_is_over(house: House) -> None:
    async with house.at_work():
        await house.alerting.notifications.add(hook(Topic.APPROVALS))
        (task,) = await house.submit(APPROVAL)
        await house.alerting.task_news.work()
        body = facts.Decide(task, approved=True)
        await house.services.engine.ask(Fact(body=body, actor=OLGA.identity))
        await house.alerting.task_news.work()

    about = f"task/{task}"
    assert await house.told() == [("approval.needed", about), ("approval.over", about)]


async def test_a_destination_of_another_project_hears_nothing(house: House) -> None:
    async with house.at_work():
        await house.alerting.notifications.add(hook(Topic.APPROVALS, projects=("web",)))
        await house.submit(APPROVAL)
        await house.alerting.task_news.work()

    assert await house.told() == []


async def test_a_hub_that_takes_over_tells_what_the_dead_one_did_not_come_to(house: House) -> None:
    async with house.at_work():
        await house.alerting.notifications.add(hook(Topic.TASKS, Topic.APPROVALS))
        first, second = await house.submit(
            TaskSpec(title="a", prompt="p"), TaskSpec(title="b", prompt="p")
        )
        await house.cancel(first)
        await house.alerting.task_news.work()
        await house.cancel(second)
        (asked,) = await house.submit(APPROVAL)  # committed, and not told: it dies here

    again = House(house.store)
    await again.alerting.load()
    async with again.at_work():
        await again.alerting.task_news.catch_up()
        await again.alerting.task_news.work()
        await again.alerting.task_news.work()

        assert await again.told() == [
            ("task.cancelled", f"task/{first}"),
            ("task.cancelled", f"task/{second}"),
            ("approval.needed", f"task/{asked}"),
        ]
        body = facts.Decide(asked, approved=False)
        await again.services.engine.ask(Fact(body=body, actor=OLGA.identity))
        await again.alerting.task_news.work()

    assert (await again.told())[-1] == ("approval.over", f"task/{asked}")


async def test_the_service_tells_by_itself(house: House) -> None:
    async with house.at_work():
        await house.alerting.notifications.add(hook(Topic.APPROVALS))
        running = asyncio.create_task(house.alerting.task_news.run())
        await house.submit(APPROVAL)
        await until(house.told)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
