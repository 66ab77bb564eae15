"""What every store's listings must do; part of `StoreSuite`."""

from collections.abc import Sequence

import pytest

from agentcom.model.batch import (
    Insert,
    Row,
    Table,
)
from agentcom.model.errors import InvalidInput
from agentcom.model.schedule import Schedule, schedule_key
from agentcom.model.task import Task, TaskState
from agentcom.store.base import Query, Store
from agentcom.testing.store_rows import batch, committed, new_task, one, schedule


class ListingSuite:
    """Tests of `Store.query`, over the suite's fixture `store`."""

    async def test_a_listing_goes_page_by_page_newest_first(self, store: Store) -> None:
        for name in ("t1", "t2", "t3", "t4", "t5"):
            await committed(store, batch(f"b{name}", *new_task(name)))

        first = await store.query(Query(table=Table.TASK, limit=2))
        second = await store.query(Query(table=Table.TASK, limit=2, before=first.next))
        third = await store.query(Query(table=Table.TASK, limit=2, before=second.next))

        assert [_ids(page.rows) for page in (first, second, third)] == [
            ["t5", "t4"],
            ["t3", "t2"],
            ["t1"],
        ]
        assert third.next is None

    async def test_a_full_last_page_has_no_next(self, store: Store) -> None:
        await committed(store, batch("b1", *new_task("t1"), *new_task("t2")))

        assert (await store.query(Query(table=Table.TASK, limit=2))).next is None

    async def test_a_listing_goes_upwards_from_a_key(self, store: Store) -> None:
        for name in ("t1", "t2", "t3", "t4", "t5"):
            await committed(store, batch(f"b{name}", *new_task(name)))

        first = await store.query(Query(table=Table.TASK, limit=2, after="t1"))
        second = await store.query(Query(table=Table.TASK, limit=2, after=first.next))
        bounded = await store.query(Query(table=Table.TASK, after="t1", before="t4"))

        assert [_ids(page.rows) for page in (first, second)] == [["t2", "t3"], ["t4", "t5"]]
        assert second.next is None
        assert _ids(bounded.rows) == ["t2", "t3"]

    async def test_a_listing_filters_by_columns(self, store: Store) -> None:
        states = (TaskState.QUEUED, TaskState.RUNNING, TaskState.FAILED)
        for number, state in enumerate(states):
            await committed(store, batch(f"b{number}", *new_task(f"t{number}", state)))

        async def ids(**where: list[str]) -> list[str]:
            return _ids((await store.query(Query(table=Table.TASK, where=dict(where)))).rows)

        assert await ids(state=["running", "queued"]) == ["t1", "t0"]
        assert await ids(state=["failed"], submitter=["ada"]) == ["t2"]
        assert await ids(submitter=["bob"]) == []
        assert await ids(state=[]) == []

    async def test_a_listing_filters_by_prefix_and_fragment(self, store: Store) -> None:
        for name in ("ab1", "ab2", "ac1", "a%_", "b"):
            await committed(store, batch(f"b{name}", *new_task(name)))

        async def ids(prefix: str | None = None, fragment: str | None = None) -> list[str]:
            asked = Query(table=Table.TASK, prefix=prefix, fragment=fragment)
            return _ids((await store.query(asked)).rows)

        assert await ids(prefix="ab") == ["ab2", "ab1"]
        assert await ids(fragment="C1") == ["ac1"]
        assert await ids(fragment="%_") == ["a%_"]
        assert await ids(prefix="a", fragment="1") == ["ac1", "ab1"]

    async def test_schedules_are_listed_by_project_and_owner(self, store: Store) -> None:
        for project, owner in (("default", "ann"), ("default", "bob"), ("web", "ann")):
            row = schedule(owner, project)
            key = schedule_key(project, owner)
            await committed(store, batch(f"b{key}", Insert(Table.SCHEDULE, key, row)))

        async def owners(**where: list[str]) -> list[str]:
            page = await store.query(Query(table=Table.SCHEDULE, where=dict(where)))
            return [row.owner for row in page.rows if isinstance(row, Schedule)]

        assert await owners(project=["default"]) == ["bob", "ann"]
        assert await owners(owner=["ann"]) == ["ann", "ann"]
        assert await one(store, Table.SCHEDULE, "default/bob") == schedule("bob")

    async def test_a_column_that_does_not_exist_is_refused(self, store: Store) -> None:
        with pytest.raises(InvalidInput):
            await store.query(Query(table=Table.TASK, where={"title": ["x"]}))


def _ids(rows: Sequence[Row]) -> list[str]:
    return [row.id for row in rows if isinstance(row, Task)]
