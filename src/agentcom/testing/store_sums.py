"""What every store's sums must do; part of `StoreSuite`."""

from typing import Any

import pytest

from agentcom.model.batch import Table
from agentcom.model.errors import InvalidInput
from agentcom.store.base import Store
from agentcom.store.sums import Sum, Sums
from agentcom.testing.store_rows import batch, committed, usage

DAY_MS = 86_400_000


class SumsSuite:
    """Tests of `Store.sums`, over the suite's fixture `store`."""

    async def test_rows_are_added_up_by_a_column_the_largest_first(self, store: Store) -> None:
        rows = (
            usage("t1", 1, model="a", input=1, cost_micros=10),
            usage("t1", 2, model="b", input=2, cost_micros=7),
            usage("t2", 1, model="a", input=4, cost_micros=5),
            usage("t2", 2, model="c", input=8),
        )
        await committed(store, batch("b1", *rows))

        assert await sums(store, by="model") == [
            Sum("a", 2, (15, 5)),
            Sum("b", 1, (7, 2)),
            Sum("c", 1, (0, 8)),
        ]
        assert await sums(store, by="model", limit=1) == [Sum("a", 2, (15, 5))]

    async def test_one_sum_of_all_rows(self, store: Store) -> None:
        assert await sums(store) == []
        await committed(store, batch("b1", usage("t1", input=3), usage("t2", input=4)))

        assert await sums(store) == [Sum(None, 2, (0, 7))]

    async def test_sums_go_by_numbers_and_by_what_may_be_missing(self, store: Store) -> None:
        late, early = usage("t1", at=DAY_MS, input=1), usage("t2", at=DAY_MS - 1, input=2)
        await committed(store, batch("b1", late, early))

        assert await sums(store, "input", by="day") == [Sum(0, 1, (2,)), Sum(1, 1, (1,))]
        assert await sums(store, "input", by="account") == [Sum(None, 2, (3,))]

    async def test_equals_are_in_the_order_of_their_names(self, store: Store) -> None:
        rows = [usage(name, agent=agent) for name, agent in (("t1", "cy"), ("t2", "al"))]
        await committed(store, batch("b1", *rows))

        assert [one.value for one in await sums(store, by="agent")] == ["al", "cy"]

    async def test_only_what_was_asked_for_is_added_up(self, store: Store) -> None:
        rows = (
            usage("t1", 1, at=1, input=1),
            usage("t1", 2, at=5, input=2),
            usage("t2", 1, at=9, input=4, project="other"),
            usage("t2", 2, at=9, input=8, unpriced=True),
        )
        await committed(store, batch("b1", *rows))

        assert await sums(store, "input", least={"at": 5}) == [Sum(None, 3, (14,))]
        assert await sums(store, "input", where={"project": ["other"]}) == [Sum(None, 1, (4,))]
        assert await sums(store, "input", where={"project": []}) == []
        assert await sums(store, "unpriced", prefix="t2/") == [Sum(None, 2, (1,))]

    @pytest.mark.parametrize(
        "wrong",
        [
            {"by": "title"},
            {"columns": ("model",)},
            {"columns": ()},
            {"where": {"title": ["x"]}},
            {"least": {"title": 1}},
            {"limit": 0},
            {"table": Table.TASK},
        ],
    )
    async def test_sums_that_cannot_be_made_are_refused(
        self, store: Store, wrong: dict[str, Any]
    ) -> None:
        asked = {"table": Table.USAGE, "columns": ("input",), **wrong}

        with pytest.raises(InvalidInput):
            await store.sums(Sums(**asked))


async def sums(store: Store, *columns: str, **asked: Any) -> list[Sum]:
    """Return sums of usage; without columns of cost and input."""
    wanted = Sums(table=Table.USAGE, columns=columns or ("cost_micros", "input"), **asked)
    return list(await store.sums(wanted))
