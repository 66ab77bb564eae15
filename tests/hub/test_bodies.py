"""Specifications at hand for pushes."""

from agentcom.core.effects import Push
from agentcom.hub.bodies import Bodies
from agentcom.model.agent import Assignment
from agentcom.model.batch import Insert, Table, Update
from agentcom.model.ids import AgentId, Fence, MachineId, TaskId, WallTime
from agentcom.store.memory import MemoryStore
from agentcom.testing.store_rows import batch, body, committed


async def test_an_edited_specification_is_pushed_as_it_is_now() -> None:
    store = MemoryStore()
    await store.open()
    await store.acquire("default", "h")  # type: ignore[arg-type]  # a pool
    bodies = Bodies(store)
    first = Insert(Table.BODY, "t1", body("t1", "old"))
    bodies.remember([first])
    edited = Update(Table.BODY, "t1", body("t1", "new"), expected=1)
    await committed(store, batch("b1", first))
    await committed(store, batch("b2", edited))

    bodies.remember([edited, Update(Table.BODY, "t2", body("t2"), expected=1)])
    assignment = Assignment(TaskId("t1"), Fence(1, 1), AgentId("a"), WallTime(1))
    (push,) = await bodies.attach([Push(MachineId("m"), assignment)])

    assert isinstance(push, Push)
    assert push.body is not None
    assert push.body.spec.prompt == "new"
    assert len(bodies) == 0
