"""A fact that the core fails on is refused by itself; nobody else notices."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest

from agentcom.core import due_facts, facts, pool
from agentcom.core.effects import SetTimer
from agentcom.core.facts import Fact
from agentcom.model.batch import Table
from agentcom.model.errors import Fault
from agentcom.model.ids import Fence, TaskId
from agentcom.model.task import Task, TaskState
from agentcom.store.base import Query
from tests.hub.engine_house import DONE, M1, GatedStore, Hub, running


class Bug(Exception):
    """What nobody thought of."""


@contextmanager
def failing(kind: type[facts.Body], on: Callable[[Any], bool], *, late: bool) -> Iterator[None]:
    """Let the core fail on some facts of a kind: at once, or `late`, when all has been changed."""
    handler = pool._HANDLERS[kind]

    def fails(turn: Any, fact: Fact, body: Any) -> Any:
        reply = handler(turn, fact, body) if late or not on(body) else None
        if on(body):
            raise Bug
        return reply

    with mock.patch.dict(pool._HANDLERS, {kind: fails}):
        yield


def poison(body: facts.Submit) -> bool:
    return body.specs[0].title == "poison"


@pytest.mark.parametrize("late", [False, True])
async def test_only_who_brings_what_the_core_fails_on_is_refused(late: bool) -> None:
    store = GatedStore()
    async with running(store) as hub:
        await hub.connect()
        task = await hub.submit("held")
        store.hang()
        asked = [asyncio.create_task(hub.submit("first"))]
        await store.asked.wait()
        with failing(facts.Submit, poison, late=late):
            asked += [asyncio.create_task(hub.submit(title)) for title in ("a", "poison", "b")]
            hub.engine.put(Fact(body=facts.Finished(task, _fence(hub, task), DONE), actor=M1))
            await asyncio.sleep(0)
            store.gate.set()
            answers = await asyncio.gather(*asked, return_exceptions=True)
            await hub.engine.drained()

        assert [type(answer) for answer in answers] == [str, str, Fault, str]
        assert (await hub.stored(task)).state is TaskState.COMPLETED
        rows = await hub.store.query(Query(table=Table.TASK))
        assert sorted(hub.engine.view.tasks) == sorted(
            {row.id for row in rows.rows if isinstance(row, Task)} - {task}
        )
        assert [ack.applied for ack in hub.outlet.acks()] == [True]
        assert await hub.submit("after") in hub.engine.view.tasks


async def test_a_report_that_the_core_fails_on_counts_when_it_comes_again() -> None:
    async with running(GatedStore()) as hub:
        await hub.connect()
        task = await hub.submit()
        finished = facts.Finished(task, _fence(hub, task), DONE)
        with failing(facts.Finished, lambda _body: True, late=True):
            await hub.tell(finished)
        assert (await hub.stored(task)).state is TaskState.ASSIGNED
        assert hub.outlet.acks() == []

        await hub.tell(finished)
        assert (await hub.stored(task)).state is TaskState.COMPLETED


async def test_a_timer_that_the_core_fails_on_rests_for_a_minute() -> None:
    async with running(GatedStore()) as hub:
        due = due_facts.DeadlineReached()
        with failing(due_facts.DeadlineReached, lambda _body: True, late=False):
            await hub.tell(due, facts.HUB)

        again = [e for e in hub.outlet.effects if isinstance(e, SetTimer) and e.body == due]
        assert again[-1].at == hub.clock.instant + 60_000


def _fence(hub: Hub, task: TaskId) -> Fence:
    return hub.engine.view.tasks[task].fence
