"""Specifications at hand for pushes."""

from agentcom.core.effects import Push
from agentcom.hub.bodies import Bodies
from agentcom.model.address import Address
from agentcom.model.agent import Assignment
from agentcom.model.ask import Ask, AskId
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


async def test_questions_that_ended_are_pushed_with_the_next_attempt() -> None:
    store = MemoryStore()
    await store.open()
    await store.acquire("default", "h")  # type: ignore[arg-type]  # a pool
    ask = Ask(id=AskId("q1"), asker=Address("agent:a"), question="which?", at=WallTime(1))
    await committed(store, batch("b1", Insert(Table.ASK, "q1", ask)))
    assignment = Assignment(
        TaskId("t1"), Fence(1, 2), AgentId("a"), WallTime(1), answered=(AskId("q1"), AskId("gone"))
    )
    push = Push(MachineId("m"), assignment, body("t1"))

    (attached,) = await Bodies(store).attach([push])

    assert isinstance(attached, Push)
    assert (attached.asks, attached.body) == ((ask,), push.body)
