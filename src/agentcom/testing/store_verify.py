"""What every store finds when it is asked to verify itself; part of the conformance suite."""

from msgspec.structs import replace

from agentcom.model.batch import Insert, Table
from agentcom.model.graph import Edge
from agentcom.model.hold import Hold
from agentcom.model.ids import TaskId
from agentcom.model.task import TaskState
from agentcom.store.base import Store
from agentcom.testing.store_rows import batch, body, committed, task


class VerifySuite:
    """Broken invariants are found, and named."""

    async def test_broken_invariants_are_found(self, store: Store) -> None:
        hold = Hold(task=TaskId("t9"), attempt=1, key="slot")
        await committed(
            store,
            batch(
                "b1",
                Insert(Table.TASK, "t1", replace(task("t1", TaskState.RUNNING), agent=None)),
                Insert(Table.BODY, "t1", body("t1")),
                Insert(Table.TASK, "t2", task("t2", version=0)),
                Insert(Table.HOLD, "t9/slot", hold),
                Insert(Table.EDGE, "t9/t1", Edge(task=TaskId("t9"), on=TaskId("t1"))),
            ),
        )

        found = [problem.what for problem in await store.verify()]

        assert found == [
            "task t1 is under way, but nobody holds it",
            "task t2 has version 0",
            "hold t9/slot belongs to no attempt under way",
            "dependency t9/t1 belongs to no live task",
            "task t2 has no specification",
        ]
