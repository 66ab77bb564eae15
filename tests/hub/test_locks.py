"""Calls about locks on a real engine and a store in memory."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import msgspec
import pytest

from agentcom.core import facts
from agentcom.core.facts import Fact
from agentcom.hub.speaking import Speaker
from agentcom.model.errors import LockOver, NotAllowed, Stale
from agentcom.model.lock import Lock
from agentcom.model.replies import Done
from agentcom.protocol import calls, told
from agentcom.testing.waiting import until
from tests.hub.service_house import ANN, BOB, M1, MINUTE_MS, OLGA, ServiceHouse, person


class House(ServiceHouse):
    """With the calls of locks."""

    async def do(self, who: Speaker, call: calls.Call, key: str | None = None) -> Any:
        answer = await super().do(who, call, key)
        if isinstance(answer, msgspec.Raw):
            return msgspec.json.decode(answer, type=Done)
        return answer

    async def take(
        self, who: Speaker, *globs: str, key: str | None = None, **fields: Any
    ) -> told.LockShown:
        fields.setdefault("ttl_ms", None if who.task else MINUTE_MS)
        call = calls.LockAcquire(globs=globs, **fields)
        return cast("told.LockShown", await self.do(who, call, key))

    def taking(self, who: Speaker, *globs: str, **fields: Any) -> "asyncio.Task[told.LockShown]":
        """Let a call wait."""
        return asyncio.create_task(self.take(who, *globs, **fields))

    async def give(self, who: Speaker, lock: Lock, **fields: Any) -> Done:
        return cast("Done", await self.do(who, calls.LockRelease(lock=lock.id, **fields)))

    async def shown(self, who: Speaker, **fields: Any) -> list[tuple[str, bool]]:
        found = await self.do(who, calls.LockList(**fields))
        return [(one.lock.holder, one.held) for one in found.locks]

    async def waiting(self, count: int) -> None:
        rows = self.services.engine.view.gates.locks.rows
        await until(lambda: sum(row.granted_at is None for row in rows.values()) == count)

    async def agent(self, name: str = "coder") -> Speaker:
        """Return an agent at work."""
        await self.connect(name, ttl_ms=20_000)
        return await super().agent(name)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    async with house.at_work():
        yield house


async def test_a_call_that_waits_is_answered_when_it_is_its_turn(house: House) -> None:
    ann = await house.take(ANN, "deploy")
    bob = house.taking(BOB, "deploy", wait_ms=25_000)
    await house.waiting(1)
    assert not bob.done()

    await house.give(ANN, ann.lock)

    found = await bob
    assert found.held
    assert found.lock.number > ann.lock.number
    assert found.behind == ()


async def test_a_call_that_waited_long_enough_says_behind_whom_and_keeps_its_place(
    house: House,
) -> None:
    ann = await house.take(ANN, "deploy")

    first = await house.take(BOB, "deploy", wait_ms=1)
    again = await house.take(BOB, "deploy")

    assert (first.held, first.lock.id) == (False, again.lock.id)
    assert first.behind == (f"user:ann ({ann.lock.words})",)
    await house.give(ANN, ann.lock)
    assert await house.shown(BOB) == [("user:bob", True)]


async def test_who_loses_its_place_while_it_waits_is_told(house: House) -> None:
    await house.take(ANN, "deploy", ttl_ms=10 * MINUTE_MS)
    bob = house.taking(BOB, "deploy", wait_ms=25_000, queue_ms=1_000)
    await house.waiting(1)

    house.pass_time(1_000)

    with pytest.raises(LockOver):
        await bob


async def test_who_hangs_up_while_it_waits_is_not_looked_after_any_more(house: House) -> None:
    await house.take(ANN, "deploy")
    bob = house.taking(BOB, "deploy", wait_ms=25_000)
    await house.waiting(1)

    bob.cancel()
    await asyncio.gather(bob, return_exceptions=True)
    await house.take(ANN, "other")

    assert house.services.switchboard._waiting == []


async def test_a_repeat_gets_the_same_lock_until_that_is_over(house: House) -> None:
    ann = await house.take(ANN, "a", key="k1")
    bob = await house.take(BOB, "a", key="k1", queue_ms=10 * MINUTE_MS)
    assert (await house.take(ANN, "a", key="k1")).lock.id == ann.lock.id

    await house.give(ANN, ann.lock)

    with pytest.raises(LockOver):
        await house.take(ANN, "a", key="k1")
    again = await house.take(BOB, "a", key="k1", queue_ms=10 * MINUTE_MS)
    assert (again.held, again.lock.id) == (True, bob.lock.id)
    await house.give(BOB, again.lock)
    with pytest.raises(LockOver):
        await house.take(BOB, "a", key="k1", queue_ms=10 * MINUTE_MS)


async def test_an_agents_lock_is_its_attempts(house: House) -> None:
    coder = await house.agent()
    lock = await house.take(coder, "a", key="k1")
    ann = await house.take(ANN, "a", key="k1")
    assert (lock.held, lock.lock.holder, ann.held) == (True, "agent:coder", False)
    assert await house.shown(coder, mine=True) == [("agent:coder", True)]

    assert coder.task is not None
    assert coder.fence is not None
    stopped = facts.Declined(coder.task, coder.fence, "no")
    house.services.engine.put(Fact(body=stopped, actor=M1))

    await house.waiting(0)
    assert await house.shown(ANN) == [("user:ann", True)]
    with pytest.raises(Stale):
        await house.take(coder, "a", key="k2")


async def test_an_operator_breaks_what_others_may_not(house: House) -> None:
    ann = await house.take(ANN, "a")

    with pytest.raises(NotAllowed):
        await house.give(BOB, ann.lock, force=True)
    done = await house.give(OLGA, ann.lock, force=True)

    assert done == Done("broken; it was user:ann's")
    assert await house.shown(ANN) == []
    inbox = await house.do(ANN, calls.InboxRead())
    assert [letter.message.body for letter in inbox.letters] == [
        f"your {ann.lock.words} was broken by user:olga"
    ]


async def test_locks_are_listed_held_ones_first_and_only_ones_projects(house: House) -> None:
    await house.take(ANN, "a")
    await house.take(BOB, "a")
    await house.take(ANN, "b")
    await house.take(person("eve", project="other"), "a")

    assert await house.shown(BOB) == [("user:ann", True), ("user:ann", True), ("user:bob", False)]
    assert await house.shown(ANN, mine=True) == [("user:ann", True), ("user:ann", True)]
    found = await house.do(OLGA, calls.LockList(limit=1))
    assert (len(found.locks), found.left_out) == (1, 2)
