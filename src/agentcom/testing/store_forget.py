"""Records that a batch takes out of the logs; part of the conformance suite."""

from msgspec.structs import replace

from agentcom.model.event import task_log
from agentcom.model.ids import TaskId
from agentcom.store.base import Store
from agentcom.testing.store_rows import batch, committed


class ForgetSuite:
    """Batches' records go whole, and numbers go on."""

    async def test_records_between_two_sequences_go(self, store: Store) -> None:
        for number, names in enumerate((["t1"], ["t1", "t2"], ["t2"], ["t3"], ["t1"])):
            await committed(store, batch(f"b{number}", appends=names))

        await committed(store, replace(batch("f1"), forgets=((2, 4),)))

        assert [record.seq for record in await store.read(None, 0, 10)] == [1, 5, 6]
        feeds = {name: await store.read(task_log(TaskId(name)), 0, 10) for name in ("t1", "t2")}
        assert [record.seq for record in feeds["t1"]] == [1, 6]
        assert feeds["t2"] == []
        assert await store.verify() == []

    async def test_a_batch_of_which_only_a_part_lies_between_keeps_its_records(
        self, store: Store
    ) -> None:
        for number in range(3):
            await committed(store, batch(f"b{number}", appends=["t1", "t2"]))

        await committed(store, replace(batch("f1"), forgets=((1, 3),)))

        assert [record.seq for record in await store.read(None, 0, 10)] == [3, 4, 5, 6]

    async def test_the_newest_batch_keeps_its_records_and_numbers_go_on(self, store: Store) -> None:
        for number in range(3):
            await committed(store, batch(f"b{number}", appends=["t1"]))

        await committed(store, replace(batch("f1"), forgets=((1, 99),)))
        await committed(store, batch("b4", appends=["t1"]))

        assert [record.seq for record in await store.read(None, 0, 10)] == [3, 4]
        assert await store.verify() == []
