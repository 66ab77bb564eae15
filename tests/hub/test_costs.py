"""What people read of costs: sums by what they ask for, of what they may see."""

import pytest

from agentcom.core.prices import Price
from agentcom.hub import prices
from agentcom.hub.activities import Activities
from agentcom.hub.costs import CostAsked, CostBy, Costs
from agentcom.hub.cursors import Cursors
from agentcom.hub.queries import Queries
from agentcom.model.batch import Change
from agentcom.model.identity import Identity, Role
from agentcom.model.ids import AgentId, ProjectId, UserId
from agentcom.model.usage import DAY_MS, TurnUsage
from agentcom.protocol.shown import CostShown
from agentcom.store.memory import MemoryStore
from agentcom.testing.store_rows import batch, committed, new_task, usage

ADA = Identity(role=Role.SUBMITTER, user=UserId("ada"), credential="c1")
VIEWER = Identity(role=Role.VIEWER, user=UserId("vic"), credential="c2")
BEN = UserId("ben")


async def stored(*changes: Change) -> MemoryStore:
    store = MemoryStore()
    await store.open()
    await committed(store, batch("b1", *changes))
    return store


async def some() -> Costs:
    return Costs(
        await stored(
            usage("t1", 1, at=DAY_MS - 1, agent="al", cost_micros=5, input=10, wall_ms=7),
            usage("t1", 2, at=DAY_MS, agent="bo", cost_micros=9, output=1, late=True),
            usage("t2", 1, at=2 * DAY_MS, agent="bo", submitter=BEN, unpriced=True, cached=2),
            usage("t3", 1, at=2 * DAY_MS, included=True, submitter=BEN, written=3),
            usage("t4", 1, at=DAY_MS, project=ProjectId("else"), cost_micros=1_000),
        )
    )


async def test_costs_are_split_and_added_up() -> None:
    found = await (await some()).costs(VIEWER, CostAsked(by=CostBy.AGENT))

    assert found.groups == (
        CostShown("bo", 2, 9, cached=2, output=1, unpriced=1, late=1),
        CostShown("al", 1, 5, 10, wall_ms=7),
        CostShown("bob", 1, written=3, included=1),
    )
    assert (found.total.turns, found.total.cost_micros, found.more) == (4, 14, False)


async def test_days_are_those_of_utc_in_their_order() -> None:
    found = await (await some()).costs(VIEWER, CostAsked(by=CostBy.DAY))

    assert [(one.name, one.turns) for one in found.groups] == [
        ("1970-01-01", 1),
        ("1970-01-02", 1),
        ("1970-01-03", 2),
    ]


async def test_only_what_came_since_is_counted() -> None:
    costs = await some()

    found = await costs.costs(VIEWER, CostAsked(by=CostBy.TASK, since=DAY_MS))

    assert [one.name for one in found.groups] == ["t1", "t2", "t3"]
    assert found.total.turns == 3
    nothing = await costs.costs(VIEWER, CostAsked(since=5 * DAY_MS))
    assert (nothing.groups, nothing.total) == ((), CostShown())


async def test_a_submitter_sees_what_their_own_tasks_cost() -> None:
    found = await (await some()).costs(ADA, CostAsked(by=CostBy.SUBMITTER))

    assert [(one.name, one.turns) for one in found.groups] == [("ada", 2)]
    assert found.total.turns == 2


async def test_so_many_groups_are_shown_and_the_total_counts_all() -> None:
    found = await (await some()).costs(VIEWER, CostAsked(by=CostBy.TASK, limit=1))

    assert [one.name for one in found.groups] == ["t1"]
    assert (found.more, found.total.turns) == (True, 4)


async def test_an_account_that_nobody_named_is_unknown() -> None:
    found = await (await some()).costs(VIEWER, CostAsked(by=CostBy.ACCOUNT))

    assert [(one.name, one.turns) for one in found.groups] == [(None, 4)]


async def test_a_task_is_shown_with_what_it_cost_to_whom_it_may_concern() -> None:
    store = await stored(*new_task("t1"), *new_task("t2"), usage("t1", cost_micros=4))
    reads = Queries(store, Activities(), Cursors(b"k"))
    other = Identity(role=Role.SUBMITTER, user=BEN, credential="c3")

    shown = [(await reads.task(who, "t1")).cost for who in (ADA, VIEWER, other)]

    assert shown == [CostShown(None, 1, 4), CostShown(None, 1, 4), None]
    assert (await reads.task(ADA, "t2")).cost is None


def test_the_list_that_comes_with_the_hub_prices_known_models() -> None:
    known = prices.load({})

    def cost(model: str) -> int | None:
        return known.cost(TurnUsage(turn=1, agent=AgentId("a"), model=model, input=1_000_000))

    assert cost("claude-opus-4-1-20250805") == 15_000_000
    assert cost("claude-opus-4-8") == 5_000_000
    assert cost("claude-opus-5-5") == 4_000_000
    assert cost("claude-sonnet-5-5[1m]") == 2_000_000
    assert cost("gpt-5-codex") == 1_250_000
    assert cost("a-model-of-tomorrow") is None


@pytest.mark.parametrize("pattern", ["claude-opus-5-5", "*"])
def test_the_operators_own_prices_come_first(pattern: str) -> None:
    own = prices.load({pattern: Price(input=1, output=2)})

    assert own.price("claude-opus-5-5") == Price(input=1, output=2)
