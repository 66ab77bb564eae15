"""What every store's scan returns beside tasks; part of `StoreSuite`."""

import msgspec

from agentcom.model.address import Address
from agentcom.model.ask import Ask, AskId, AskState
from agentcom.model.batch import Insert, Table, Update
from agentcom.model.budget import Amounts, Budget, Period, ScopeBudget
from agentcom.model.ids import DEFAULT_POOL, DEFAULT_PROJECT, UserId, WallTime
from agentcom.model.limit import Limit
from agentcom.model.lock import Lock, LockId, numbers_log
from agentcom.model.message import Head
from agentcom.model.pause import Pause
from agentcom.store.base import Store
from agentcom.testing.store_rows import batch, committed


class ScanSuite:
    """Tests of `Store.scan`, over the suite's fixture `store`."""

    async def test_the_scan_returns_what_keeps_work_from_starting(self, store: Store) -> None:
        budget = ScopeBudget(
            project=DEFAULT_PROJECT,
            scope="agent:bob",
            period=Period.DAY,
            limits=Budget(turns=3),
            spent=Amounts(turns=1),
        )
        pause = Pause(key="project:api", by=UserId("ada"), at=WallTime(1))
        rule = Limit(scope="key:a", concurrency=1)
        lock = Lock(id=LockId("l"), holder=Address("user:ada"), at=WallTime(1))
        numbers = Head(log=numbers_log(DEFAULT_POOL), seq=7)
        await committed(
            store,
            batch(
                "b1",
                Insert(Table.BUDGET, "default/agent:bob/day", budget),
                Insert(Table.PAUSE, pause.key, pause),
                Insert(Table.RULE, rule.scope, rule),
                Insert(Table.LOCK, lock.id, lock),
                Insert(Table.HEAD, numbers.log, numbers),
            ),
        )

        found = await store.scan(DEFAULT_POOL)

        assert (list(found.budgets), list(found.pauses)) == ([budget], [pause])
        assert list(found.limits) == [rule]
        assert (list(found.locks), found.lock_numbers) == ([lock], numbers)

    async def test_the_scan_returns_questions_that_are_open(self, store: Store) -> None:
        asked = Ask(id=AskId("q1"), asker=Address("user:ada"), question="which?", at=WallTime(1))
        answered = msgspec.structs.replace(asked, state=AskState.ANSWERED, answer="a", version=2)
        other = msgspec.structs.replace(asked, id=AskId("q2"))
        puts = [Insert(Table.ASK, ask.id, ask) for ask in (asked, other)]
        await committed(store, batch("b1", *puts))
        assert list((await store.scan(DEFAULT_POOL)).asks) == [asked, other]

        await committed(store, batch("b2", Update(Table.ASK, "q1", answered, expected=1)))

        assert list((await store.scan(DEFAULT_POOL)).asks) == [other]
