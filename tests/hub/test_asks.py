"""Calls about questions on a real engine and a store in memory."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from agentcom.core import facts
from agentcom.core.facts import Fact
from agentcom.hub import asks as module
from agentcom.hub.speaking import Speaker
from agentcom.model.ask import Ask, AskState
from agentcom.model.batch import Batch, Insert, Table
from agentcom.model.errors import AskOver, InvalidInput, NotFound, Stale
from agentcom.model.identity import Role, User
from agentcom.model.ids import (
    DEFAULT_POOL,
    BatchId,
    TaskId,
    UserId,
    WallTime,
)
from agentcom.model.result import Result, ResultStatus
from agentcom.model.task import Task, TaskState
from agentcom.protocol import calls, told
from agentcom.testing.waiting import until
from tests.hub.service_house import ANN, BOB, M1, MINUTE_MS, OLGA, ServiceHouse, person


class House(ServiceHouse):
    """With the calls of questions."""

    async def put(self, who: Speaker, key: str | None = None, **fields: Any) -> Ask:
        call = calls.AskPut(**{"question": "which?", **fields})
        return cast("told.AskShown", await self.do(who, call, key)).ask

    async def show(self, who: Speaker, ask: Ask, wait_ms: int = 0) -> Ask:
        call = calls.AskShow(ask=ask.id, wait_ms=wait_ms)
        return cast("told.AskShown", await self.do(who, call)).ask

    async def answer(self, who: Speaker, ask: Ask, text: str = "that") -> Ask:
        call = calls.AskAnswer(ask=ask.id, answer=text)
        return cast("told.AskShown", await self.do(who, call)).ask

    async def shown(self, who: Speaker, **fields: Any) -> list[str]:
        """Return the questions of a listing, page by page."""
        found: list[str] = []
        after = None
        while True:
            page = await self.do(who, calls.AskList(after=after, **fields))
            found += [ask.question for ask in page.asks]
            after = page.next
            if after is None:
                return found

    async def user(self, name: str) -> None:
        row = User(id=UserId(name), role=Role.SUBMITTER, created_at=WallTime(1))
        batch = Batch(
            id=BatchId(f"u{name}"), pool=DEFAULT_POOL, changes=(Insert(Table.USER, name, row),)
        )
        await self.services.store.commit(batch)

    async def task(self, task: TaskId | None) -> Task:
        (row,) = await self.services.store.get([(Table.TASK, task or "")])
        assert isinstance(row, Task)
        return row

    async def finish(self, who: Speaker) -> Task:
        assert who.task is not None
        assert who.fence is not None
        done = facts.Finished(who.task, who.fence, Result(status=ResultStatus.DONE))
        self.services.engine.put(Fact(body=done, actor=M1))
        await self.services.engine.drained()
        return await self.task(who.task)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    async with house.at_work():
        for name in ("ann", "bob", "olga"):
            await house.user(name)
        await house.connect("coder", "ann", ttl_ms=600_000)
        yield house


def asked(house: House) -> bool:
    return bool(house.services.engine.view.asks)


async def test_a_call_that_waits_brings_the_answer_and_the_task_goes_on(house: House) -> None:
    coder = await house.agent()
    waiting = asyncio.create_task(house.put(coder, wait_ms=25_000))
    await until(lambda: asked(house))
    (shown,) = (await house.do(ANN, calls.AskList())).asks
    assert (shown.asker, shown.task) == ("agent:coder", coder.task)

    await house.answer(ANN, shown, "blue")

    ask = await waiting
    assert (ask.state, ask.answer, ask.answered_by) == (AskState.ANSWERED, "blue", "user:ann")
    assert (await house.finish(coder)).state is TaskState.COMPLETED


async def test_an_agent_that_looks_later_gets_the_answer_too(house: House) -> None:
    coder = await house.agent()
    ask = await house.put(coder)
    looking = asyncio.create_task(house.show(coder, ask, wait_ms=25_000))

    await house.answer(OLGA, ask)

    assert (await looking).answer == "that"
    assert (await house.finish(coder)).state is TaskState.COMPLETED


async def test_a_task_is_not_done_before_its_agent_has_heard(house: House) -> None:
    coder = await house.agent()
    ask = await house.put(coder)
    await house.answer(ANN, ask)
    assert (await house.show(ANN, ask)).answer == "that"  # another's look does not count

    after = await house.finish(coder)

    assert (after.state, after.attempt) == (TaskState.ASSIGNED, 2)
    with pytest.raises(Stale):
        await house.show(coder, ask)


async def test_a_call_waits_only_as_long_as_it_says(house: House) -> None:
    coder = await house.agent()

    ask = await house.put(coder, wait_ms=1)

    assert ask.state is AskState.OPEN
    assert (await house.show(coder, ask, wait_ms=1)).state is AskState.OPEN


async def test_a_deadline_ends_the_wait(house: House) -> None:
    coder = await house.agent()
    waiting = asyncio.create_task(
        house.put(coder, deadline_ms=MINUTE_MS, fallback="red", wait_ms=25_000)
    )
    await until(lambda: asked(house))

    house.pass_time(MINUTE_MS)

    ask = await waiting
    assert (ask.answer, ask.answered_by) == ("red", "hub")


async def test_a_repeat_under_the_same_key_asks_once(house: House) -> None:
    coder = await house.agent()
    first = await house.put(coder, "k")
    await house.answer(ANN, first)

    again = await house.put(coder, "k")

    assert (again.id, again.answer) == (first.id, "that")
    other = await house.agent("ann")
    assert (await house.put(other, "k")).id != first.id


async def test_who_has_no_part_in_a_question_does_not_see_it(house: House) -> None:
    coder = await house.agent()
    ask = await house.put(coder, question="q")
    named = await house.put(coder, question="to bob", to="bob")

    for stranger in (BOB, person("olga", Role.ADMIN, "other")):
        with pytest.raises(NotFound):
            await house.show(stranger, ask)
        with pytest.raises(NotFound):
            await house.answer(stranger, ask)
    assert await house.shown(BOB) == ["to bob"]
    assert await house.shown(ANN) == ["to bob", "q"]
    assert await house.shown(OLGA) == ["to bob", "q"]
    assert await house.shown(coder, mine=True) == ["to bob", "q"]
    assert await house.shown(coder) == []
    with pytest.raises(NotFound):
        await house.do(ANN, calls.AskShow(ask="none"))
    await house.answer(BOB, named)


async def test_people_and_agents_ask_by_name(house: House) -> None:
    coder = await house.agent()
    ask = await house.put(BOB, to="coder", deadline_ms=MINUTE_MS)
    assert ask.to == "agent:coder"
    assert await house.shown(coder) == ["which?"]

    await house.answer(coder, ask, "a")

    assert (await house.show(BOB, ask)).answer == "a"
    with pytest.raises(AskOver):
        await house.answer(OLGA, ask, "b")
    with pytest.raises(NotFound):
        await house.put(BOB, to="nobody")
    with pytest.raises(InvalidInput, match="agent:ann or user:ann"):
        await house.put(BOB, to="ann")
    assert (await house.put(BOB, to="user:ann")).to == "user:ann"
    assert (await house.put(BOB, to="agent:ann")).to == "agent:ann"


async def test_a_question_is_taken_back_by_who_put_it(house: House) -> None:
    ask = await house.put(BOB, to="olga")
    with pytest.raises(NotFound):
        await house.do(OLGA, calls.AskWithdraw(ask=ask.id))

    shown = await house.do(BOB, calls.AskWithdraw(ask=ask.id))

    assert shown.ask.state is AskState.WITHDRAWN
    assert await house.shown(OLGA) == []
    assert await house.shown(OLGA, ended=True) == ["which?"]
    assert await house.shown(BOB, ended=True, mine=True) == ["which?"]


@pytest.mark.parametrize("limit", [1, 2, 5])
async def test_a_listing_goes_on_where_it_stopped(
    house: House, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAGE", 2)
    monkeypatch.setattr(module, "LOOKED_AT_MAX", 4)
    for number in range(5):
        await house.put(BOB, to="olga", question=f"q{number}")
        for _ in range(3):
            await house.put(ANN, to="bob", question="other")

    listed = await house.shown(BOB, mine=True, limit=limit)

    assert listed == ["q4", "q3", "q2", "q1", "q0"]
